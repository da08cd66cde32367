"""A lab node compiles what Ansible sends in a zip once (lab/images/node/lab_bytecode.py)."""

import subprocess
import sys
import zipfile
from pathlib import Path

KEEPER = Path(__file__).parents[2] / "lab/images/node/lab_bytecode.py"
# In a Python of its own: the keeper stays in the one that imports it.
PROGRAM = """
import os, sys, zipimport
folder, kept, archive = sys.argv[1:]
compiled = []
anew = zipimport._compile_source
zipimport._compile_source = lambda path, source: compiled.append(path) or anew(path, source)
sys.path[:0] = [archive, folder]
import lab_bytecode
lab_bytecode.FOLDER = kept
os.geteuid = lambda: 0
import sent
print(sent.VALUE, len(compiled))
"""


def sent(tmp_path: Path, archive: str, value: int) -> str:
    """Return the value of a module that a zip brings, and how many files were compiled for it."""
    with zipfile.ZipFile(tmp_path / archive, "w") as made:
        made.writestr("sent.py", f"VALUE = {value}\n")
    command = [sys.executable, "-c", PROGRAM, str(KEEPER.parent), str(tmp_path / "kept"), str(tmp_path / archive)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_the_same_source_in_another_zip_is_not_compiled_again(tmp_path: Path) -> None:
    assert [sent(tmp_path, "first.zip", 1), sent(tmp_path, "second.zip", 1)] == ["1 1", "1 0"]


def test_another_source_is_compiled(tmp_path: Path) -> None:
    assert [sent(tmp_path, "first.zip", 1), sent(tmp_path, "first.zip", 2)] == ["1 1", "2 1"]
