"""A mistake in a stack file is reported with file and place, by each verb that reads it: fleet/stack/stack_file.py."""

import contextlib
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet import errors
from fleet.stack import inventory, stack_file, user_file

FORM = "\n  wanted: YAML with `config`, and below it keys as glm-fleet:nodes"


def read(root: Path, content: bytes) -> str:
    (root / "stacks").mkdir()
    (root / "stacks" / "Pulumi.prod.yaml").write_bytes(content)
    with pytest.raises(errors.SettingsError) as caught:
        stack_file.read("prod", root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"config:\n  a: [\n", "line 3: did not find expected node content" + FORM),
        (b"- config\n", "is not a mapping" + FORM),
        (b"config\n", "is not a mapping" + FORM),
        (b"config: 5\n", "config: is not a mapping" + FORM),
        (b"config: [glm-fleet:nodes]\n", "config: is not a mapping" + FORM),
        (b"config: {a: \xff}\n", "byte 12: is not UTF-8\n  wanted: text in UTF-8"),
        (b"config: {a: \x1b}\n", "unacceptable character #x001b: control characters are not allowed" + FORM),
    ],
)
def test_a_malformed_file_is_reported_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    assert read(tmp_path, content) == f"stacks/Pulumi.prod.yaml: {message}"


@pytest.mark.parametrize("deep", [b"[" * 100_000, b"- " * 50_000, b"{a: " * 50_000], ids=["lists", "items", "mappings"])
def test_a_deeply_nested_file_ends_in_a_message(tmp_path: Path, deep: bytes) -> None:
    """libyaml's reader would end the process."""
    assert "is nested deeper than 50 levels" in read(tmp_path, b"config:\n  " + deep)
    (tmp_path / "machines.yaml").write_bytes(deep)
    with pytest.raises(errors.SettingsError) as caught:
        inventory.expand({"nodes": {"machines": "machines.yaml"}}, tmp_path, "stacks/Pulumi.prod.yaml")
    assert str(caught.value).startswith("stacks/machines.yaml: line 1: is nested deeper than 50 levels")


@pytest.mark.parametrize(
    "name", ["../secret.yaml", "{folder}/../secret.yaml", "/proc/self/environ", "more/../../secret.yaml"]
)
def test_a_file_of_machines_is_in_the_stack_file_s_folder(tmp_path: Path, name: str) -> None:
    """A review takes the stack file of a stranger, and its messages may quote what they read."""
    folder = tmp_path / "stacks"
    folder.mkdir()
    (tmp_path / "secret.yaml").write_text("machine: {address: 192.0.2.1}")
    with pytest.raises(errors.SettingsError, match="is outside the folder"):
        inventory.expand({"nodes": {"machines": name.format(folder=folder)}}, folder, "stacks/Pulumi.prod.yaml")


@given(
    st.one_of(st.binary(max_size=200), st.text(alphabet="ab:-[]{}#&*!|>'\"%@`?, \n\t0", max_size=120).map(str.encode))
)
def test_any_file_is_read_or_reported(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file, contextlib.suppress(errors.SettingsError):
        file.write(content)
        file.flush()
        user_file.read(Path(file.name), "stacks/any.yaml", "YAML")


@pytest.mark.parametrize("content", [b"", b"config:\n", b"encryptionsalt: v1\n"])
def test_a_file_without_keys_lacks_its_nodes(tmp_path: Path, content: bytes) -> None:
    assert "nodes: this key is missing" in read(tmp_path, content)
