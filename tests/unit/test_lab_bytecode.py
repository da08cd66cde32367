"""A lab node compiles what Ansible sends in a zip once (lab/images/node/lab_bytecode.py)."""

import subprocess
import sys
import zipfile
from pathlib import Path

KEEPER = Path(__file__).parents[2] / "lab/images/node/lab_bytecode.py"
# Runs in a separate Python: the keeper stays in the process that imports it.
PROGRAM = """
import os, sys, zipimport
folder, cache, archive = sys.argv[1:]
compiled = []
compile_source = zipimport._compile_source
zipimport._compile_source = lambda path, source: compiled.append(path) or compile_source(path, source)
sys.path[:0] = [archive, folder]
import lab_bytecode
lab_bytecode.FOLDER = cache
os.geteuid = lambda: 0
import module
print(module.VALUE, len(compiled))
"""


def import_from(tmp_path: Path, archive: str, value: int) -> str:
    """Return the value of a module in a zip, and how many files Python compiles for it."""
    with zipfile.ZipFile(tmp_path / archive, "w") as file:
        file.writestr("module.py", f"VALUE = {value}\n")
    command = [sys.executable, "-c", PROGRAM, str(KEEPER.parent), str(tmp_path / "cache"), str(tmp_path / archive)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_python_compiles_the_same_source_of_another_zip_once(tmp_path: Path) -> None:
    assert [import_from(tmp_path, "first.zip", 1), import_from(tmp_path, "second.zip", 1)] == ["1 1", "1 0"]


def test_python_compiles_another_source(tmp_path: Path) -> None:
    assert [import_from(tmp_path, "first.zip", 1), import_from(tmp_path, "first.zip", 2)] == ["1 1", "2 1"]
