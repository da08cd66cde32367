"""What the reader on a node reports about a possible secret: a digest of a variable; of a file one that needs the node's own key."""

import hashlib
from pathlib import Path

import pytest

from fleet.managed import differences, on_node_read


@pytest.mark.parametrize(
    "name",
    ["VLLM_API_KEY", "HF_TOKEN", "CLIENT_SECRET", "DB_PASSWORD", "api_key", "hf_token", "my_secret_1", "Password"],
)
def test_the_reader_reports_a_digest_of_a_variable_that_may_be_a_secret(name: str) -> None:
    value = "a-value-that-nobody-may-read"
    assert on_node_read.without_secret(f"{name}={value}") == f"{name}={hashlib.sha256(value.encode()).hexdigest()[:12]}"


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE=1", "HOME=/run/vllm", "EMPTY="])
def test_the_reader_reports_any_other_variable_in_clear(variable: str) -> None:
    assert on_node_read.without_secret(variable) == variable


@pytest.fixture
def host_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The node's private host key, which a test may change."""
    key = tmp_path / "ssh_host_ed25519_key"
    key.write_text("private")
    monkeypatch.setattr(on_node_read, "HOST_KEYS", str(tmp_path / "ssh_host_*_key"))
    return key


def write_and_read(file: Path, text: str) -> dict[str, str]:
    file.write_text(text)
    return on_node_read.read_file(str(file))


@pytest.mark.parametrize("name", ["key.env", "hf-token", "password.txt"])
def test_nobody_can_try_a_guess_against_the_digest_of_a_file_that_may_hold_a_secret(
    tmp_path: Path, host_key: Path, name: str
) -> None:
    text = "VLLM_API_KEY=a-weak-key\n"
    state = write_and_read(tmp_path / name, text)
    assert "sha256" not in state
    assert hashlib.sha256(text.encode()).hexdigest() not in state.values()
    assert state != write_and_read(tmp_path / name, "VLLM_API_KEY=another\n")
    assert state == write_and_read(tmp_path / name, text)
    host_key.write_text("another node's")
    assert state["keyed_sha256"] != on_node_read.read_file(str(tmp_path / name))["keyed_sha256"]


def test_the_reader_reports_the_sha256_of_any_other_file(tmp_path: Path, host_key: Path) -> None:
    assert write_and_read(tmp_path / "config.yaml", "a")["sha256"] == hashlib.sha256(b"a").hexdigest()


KEY_FILE = "file /etc/fleet/vllm/key.env"


def test_a_changed_key_file_is_drift_in_the_words_of_any_file() -> None:
    before, after = {"type": "file", "keyed_sha256": "a" * 64}, {"type": "file", "keyed_sha256": "b" * 64}
    (difference,) = differences.drift({KEY_FILE: before}, {KEY_FILE: after})
    assert str(difference) == f"{KEY_FILE} (sha256 {'b' * 12}, wanted sha256 {'a' * 12})"


def test_the_digest_of_an_earlier_release_is_no_drift_and_restarts_nothing() -> None:
    before = {KEY_FILE: {"type": "file", "mode": "0600", "sha256": "a" * 64}}
    after = {KEY_FILE: {"type": "file", "mode": "0600", "keyed_sha256": "b" * 64}}
    assert differences.drift(before, after) == []
    after[KEY_FILE]["mode"] = "0644"
    (difference,) = differences.drift(before, after)
    assert (difference.attribute, difference.seen) == ("mode", "0644")
