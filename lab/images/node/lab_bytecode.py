# ruff: noqa: PTH103, PTH105, PTH123 - pathlib costs more than this whole file, and every Python of the node starts with it
"""Keeps the bytecode of what Python imports from zip files, as Python itself does for every other file.

Ansible sends each of its modules as a zip, of which the node compiles the same fifty files again: a third of a module's CPU time,
and the tests run thousands of them. Only on lab nodes: setup.sh lets every Python of the image import it at its start.
"""

import _imp
import marshal
import os
import zipimport

FOLDER = "/run/lab-bytecode"
compile_anew = zipimport._compile_source  # type: ignore[attr-defined]


def compile_source(path: str, source: bytes) -> object:
    """Return the code of a file in a zip; from FOLDER, where the same source was compiled before. Only root's is kept."""
    # The hash by which Python knows the source of its own bytecode files.
    kept = f"{FOLDER}/{_imp.source_hash(0, source).hex()}"
    try:
        with open(kept, "rb") as file:
            return marshal.load(file)
    except OSError:
        code = compile_anew(path, source)
    if os.geteuid() == 0:
        os.makedirs(FOLDER, mode=0o700, exist_ok=True)
        with open(f"{kept}.{os.getpid()}", "wb") as new:
            marshal.dump(code, new)
        os.replace(new.name, kept)
    return code


zipimport._compile_source = compile_source  # type: ignore[attr-defined]
