"""A stack file that is broken is told with file and place, by whichever verb reads it: fleet/plan/stackfile.py."""

from pathlib import Path

import pytest

from fleet import errors
from fleet.plan import stackfile

FORM = "\n  wanted: YAML with `config`, and below it keys as glm-fleet:nodes"


def read(root: Path, content: bytes) -> str:
    (root / "stacks").mkdir()
    (root / "stacks" / "Pulumi.prod.yaml").write_bytes(content)
    with pytest.raises(errors.SettingsError) as caught:
        stackfile.read("prod", root)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"config:\n  a: [\n",
            "stacks/Pulumi.prod.yaml: line 3: expected the node content, but found '<stream end>'" + FORM,
        ),
        (b"- config\n", "stacks/Pulumi.prod.yaml: is no mapping" + FORM),
        (b"config\n", "stacks/Pulumi.prod.yaml: is no mapping" + FORM),
        (b"config: 5\n", "stacks/Pulumi.prod.yaml: config: is no mapping" + FORM),
        (b"config: [glm-fleet:nodes]\n", "stacks/Pulumi.prod.yaml: config: is no mapping" + FORM),
        (b"config: {a: \xff}\n", "stacks/Pulumi.prod.yaml: byte 12: is not UTF-8\n  wanted: text in UTF-8"),
        (
            b"config: {a: \x1b}\n",
            "stacks/Pulumi.prod.yaml: unacceptable character #x001b: special characters are not allowed" + FORM,
        ),
    ],
)
def test_a_broken_file_is_told_with_its_place(tmp_path: Path, content: bytes, message: str) -> None:
    assert read(tmp_path, content) == message


@pytest.mark.parametrize("content", [b"", b"config:\n", b"encryptionsalt: v1\n"])
def test_a_file_without_keys_misses_its_machines(tmp_path: Path, content: bytes) -> None:
    assert "nodes: this key is missing" in read(tmp_path, content)
