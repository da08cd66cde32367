"""What the reader on a node tells of what may be a secret: of a variable a digest, of a file one that only this node can make."""

import hashlib
from pathlib import Path

import pytest

from fleet.managed import differences, on_node_read


@pytest.mark.parametrize(
    "name",
    ["VLLM_API_KEY", "HF_TOKEN", "CLIENT_SECRET", "DB_PASSWORD", "api_key", "hf_token", "my_secret_1", "Password"],
)
def test_a_variable_that_may_be_a_secret_is_told_as_a_digest(name: str) -> None:
    value = "a-value-that-nobody-may-read"
    assert on_node_read.without_secret(f"{name}={value}") == f"{name}={hashlib.sha256(value.encode()).hexdigest()[:12]}"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE=1", "HOME=/run/vllm", "EMPTY="])
def test_any_other_variable_is_told_as_it_is(variable: str) -> None:
    assert on_node_read.without_secret(variable) == variable


@pytest.fixture
def host_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's private host key, which a test may change."""
    key = tmp_path / "ssh_host_ed25519_key"
    key.write_text("private")
    monkeypatch.setattr(on_node_read, "HOST_KEYS", str(tmp_path / "ssh_host_*_key"))
    return key


def wrote(folder: Path, name: str, text: str) -> dict[str, str]:
    path = folder / name
    path.write_text(text)
    return on_node_read.read_file(str(path))


@pytest.mark.parametrize("name", ["key.env", "hf-token", "password.txt"])
def test_a_file_that_may_hold_a_secret_is_told_by_no_digest_that_a_guess_can_be_tried_against(
    tmp_path: Path, host_key: Path, name: str
) -> None:
    text = "VLLM_API_KEY=a-weak-key\n"
    seen = wrote(tmp_path, name, text)
    assert "sha256" not in seen
    assert hashlib.sha256(text.encode()).hexdigest() not in seen.values()
    assert seen == wrote(tmp_path, name, text)
    assert seen != wrote(tmp_path, name, "VLLM_API_KEY=another\n")
    wrote(tmp_path, name, text)
    host_key.write_text("another node's")
    assert seen["keyed_sha256"] != on_node_read.read_file(str(tmp_path / name))["keyed_sha256"]


def test_any_other_file_is_told_by_its_sha256(tmp_path: Path, host_key: Path) -> None:
    assert wrote(tmp_path, "config.yaml", "a")["sha256"] == hashlib.sha256(b"a").hexdigest()


def test_a_key_file_that_was_changed_is_drift_in_the_words_of_any_file() -> None:
    before, after = {"type": "file", "keyed_sha256": "a" * 64}, {"type": "file", "keyed_sha256": "b" * 64}
    what = "file /etc/fleet/vllm/key.env"
    (found,) = differences.drift({what: before}, {what: after})
    assert str(found) == f"{what} (sha256 {'b' * 12}, wanted sha256 {'a' * 12})"


def test_the_digest_of_an_earlier_release_is_no_drift_and_restarts_nothing() -> None:
    what = "file /etc/fleet/vllm/key.env"
    before = {what: {"type": "file", "mode": "0600", "sha256": "a" * 64}}
    after = {what: {"type": "file", "mode": "0600", "keyed_sha256": "b" * 64}}
    assert differences.drift(before, after) == []
    after[what]["mode"] = "0644"
    assert [(one.attribute, one.seen) for one in differences.drift(before, after)] == [("mode", "0644")]
