"""PyPI's torch, which is linked to CUDA, made into a wheel torch+cpu of a third of its size: vLLM's CPU build wants that version.

A CPU process calls nothing of CUDA, but torch's libraries name CUDA's as needed, so the loader wants them. Here the CUDA
kernels (518 MB) are left out, and each library that is still needed is a stand-in of some kB with exactly the symbols that
the others want from it. The rules of `_body` were found by trial on torch 2.13.0: another version needs a new trial.

Needs gcc, nm and libstdc++ (Debian's g++). Called by torch.py.
"""

import base64
import hashlib
import stat
import tempfile
import zipfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from lab.commands import LabError, run

LIBRARIES = "torch/lib/"
VISION = "torchvision/_C.so"  # wants symbols of CUDA too
KERNELS = "libtorch_cuda.so"
LEFT_OUT = (KERNELS, "libtorch_cuda_linalg.so", "libtorch_nvshmem.so", "libcaffe2_nvrtc.so")
# NVIDIA's libraries, and how the names of their functions begin.
NVIDIA = {
    "libcudart.so.13": ("cuda", "__cuda"),
    "libcupti.so.13": ("cupti",),
    "libcudnn.so.9": ("cudnn",),
    "libcufile.so.0": ("cuFile",),
    "libnccl.so.2": ("nccl",),
}
UNNEEDED = ("Requires-Dist: cuda-", "Requires-Dist: nvidia-", "Requires-Dist: triton")
TYPEINFO = "_ZTVN10__cxxabiv117__class_type_infoE+16"  # what every C++ typeinfo begins with
# What the symbols jump to (x86-64). 100 is cudaErrorNoDevice. `inert` is a constructor: its object has a table of methods
# that all return 0. `slot` is the address of a pointer that torch's loader writes to. `die` prints the symbol and aborts.
ASSEMBLY = f"""
.text
no: mov $100, %eax; ret
false: xor %eax, %eax; ret
text: lea word(%rip), %rax; ret
slot: lea room(%rip), %rax; ret
inert: lea table+16(%rip), %rax; mov %rax, (%rdi); ret
die: sub $8, %rsp; call perror@PLT; call abort@PLT
.data
word: .asciz "no CUDA in this build"
.balign 8
room: .quad 0
table: .quad 0, kind; .rept 64; .quad false; .endr
kind: .quad {TYPEINFO}, word
.section .note.GNU-stack,"",@progbits
"""


class Symbol(NamedTuple):
    """A dynamic symbol; NVIDIA's libraries give theirs a version, which is the library's own name."""

    name: str
    version: str


def slim(whole: Path, vision: Path, out_dir: Path) -> Path:
    """Write torch VERSION+cpu into `out_dir` and return it.

    `whole` is PyPI's wheel torch VERSION for x86-64, `vision` the wheel of the torchvision that belongs to it. LabError
    when gcc or nm fails, or when the wheel wants symbols from CUDA's libraries of another generation.
    """
    version = whole.name.split("-")[1]
    target = out_dir / whole.name.replace(f"-{version}-", f"-{version}+cpu-")
    with tempfile.TemporaryDirectory(dir=out_dir) as made, zipfile.ZipFile(whole) as source:
        work = Path(made)
        wanted, kernels = _symbols(source, vision, work)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as file:
            wheel = _Wheel(file)
            _copy(source, wheel, version)
            for library in (KERNELS, *NVIDIA):
                names = _of(library, wanted, kernels)
                if not names:
                    raise LabError(
                        f"{whole.name}: wants nothing from {library}\n  wanted: a torch that is linked to it, as 2.13.0 is"
                        "\n  next:   adapt NVIDIA in lab/images/slim_torch.py to this version"
                    )
                versioned = any(symbol.version == library for symbol in wanted)
                wheel.add(LIBRARIES + library, _stand_in(library, names, versioned, work), 0o755)
            wheel.close(f"torch-{version}+cpu.dist-info/RECORD")
    return target


class _Wheel:
    """A wheel being written, with the lines of its RECORD. Files carry no date, so the same input gives the same wheel."""

    def __init__(self, file: zipfile.ZipFile) -> None:
        self._file = file
        self._record: list[str] = []

    def add(self, name: str, content: bytes, mode: int) -> None:
        self._write(name, content, mode)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        self._record.append(f"{name},sha256={digest},{len(content)}")

    def close(self, record: str) -> None:
        self._write(record, "\n".join([*self._record, f"{record},,", ""]).encode(), 0o644)

    def _write(self, name: str, content: bytes, mode: int) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = (stat.S_IFREG | mode) << 16  # a Unix mode is in the upper half
        info.compress_type = zipfile.ZIP_DEFLATED
        self._file.writestr(info, content)


def _copy(source: zipfile.ZipFile, wheel: _Wheel, version: str) -> None:
    """Copy all but the CUDA kernels, under the version's new name and without NVIDIA's requirements."""
    old, new = f"torch-{version}.dist-info/", f"torch-{version}+cpu.dist-info/"
    for info in source.infolist():
        if info.is_dir() or info.filename == f"{old}RECORD" or info.filename.removeprefix(LIBRARIES) in LEFT_OUT:
            continue
        content = source.read(info)
        if info.filename == f"{old}METADATA":
            content = _metadata(content.decode(), version).encode()
        mode = info.external_attr >> 16 & 0o777
        wheel.add(info.filename.replace(old, new), content, mode or 0o644)


def _metadata(text: str, version: str) -> str:
    kept = "\n".join(line for line in text.split("\n") if not line.startswith(UNNEEDED))
    return kept.replace(f"\nVersion: {version}\n", f"\nVersion: {version}+cpu\n")


def _symbols(source: zipfile.ZipFile, vision: Path, work: Path) -> tuple[set[Symbol], set[str]]:
    """Return what the remaining libraries want from outside, and the names that the CUDA kernels define."""
    extracted = [
        Path(source.extract(name, work))
        for name in source.namelist()
        if name.startswith(LIBRARIES) and name.endswith(".so")
    ]
    remaining = [path for path in extracted if path.name not in LEFT_OUT]
    with zipfile.ZipFile(vision) as wheel:
        remaining.append(Path(wheel.extract(VISION, work)))
    kernels = {symbol.name for path in extracted if path.name in LEFT_OUT for symbol in _defined(path)}
    present = {symbol.name for path in remaining for symbol in _defined(path)}
    wanted = {symbol for path in remaining for symbol in _undefined(path) if symbol.name not in present}
    return wanted, kernels


def _of(library: str, wanted: Collection[Symbol], kernels: Collection[str]) -> list[str]:
    """Return the names that are wanted from one library: by version, and for those without one by name."""

    def belongs(symbol: Symbol) -> bool:
        if library not in NVIDIA:
            return not symbol.version and symbol.name in kernels
        return symbol.version == library or (not symbol.version and symbol.name.startswith(NVIDIA[library]))

    return sorted({symbol.name for symbol in wanted if belongs(symbol)})


def _defined(library: Path) -> Iterator[Symbol]:
    return (symbol for _, symbol in _nm("--defined-only", library))


def _undefined(library: Path) -> Iterator[Symbol]:
    # Weak ones (w, v) may stay absent.
    return (symbol for kind, symbol in _nm("--undefined-only", library) if kind == "U")


def _nm(which: str, library: Path) -> Iterator[tuple[str, Symbol]]:
    """Return (nm's letter, symbol) of a library's dynamic symbols; a line ends with `U name@version` or `T name@@version`."""
    for line in run("nm", "-D", which, str(library)).splitlines():
        kind, text = line.split()[-2:]
        name, _, version = text.partition("@")
        yield kind, Symbol(name, version.strip("@"))


def _stand_in(library: str, names: Sequence[str], versioned: bool, work: Path) -> bytes:
    """Return a shared library of this name that defines exactly these symbols."""
    source, exports, built = work / "stand_in.s", work / "exports.map", work / library
    source.write_text(ASSEMBLY + "\n".join(_definition(name) for name in names) + "\n")
    exports.write_text(f"{library if versioned else ''} {{ global: {'; '.join(names)}; local: *; }};")
    run(
        *("gcc", "-s", "-shared", "-fPIC", "-o", str(built), str(source)),
        *(f"-Wl,-soname,{library}", f"-Wl,--version-script={exports}", "-Wl,--no-as-needed", "-lstdc++"),
    )
    return built.read_bytes()


def _definition(name: str) -> str:
    """Return the assembly of one symbol; _ZTI and _ZTV are C++'s mangling of typeinfo and of a table of methods."""
    if name.startswith("_ZTI"):
        return _data(name, f'.quad {TYPEINFO}, 1f; 1: .asciz "{name.removeprefix("_ZTI")}"')
    if name.startswith("_ZTV"):
        return _data(name, ".fill 64, 8, 0")
    return f".text; .globl {name}; .type {name}, @function; {name}: {_body(name)}"


def _data(name: str, content: str) -> str:
    return f".data; .balign 8; .globl {name}; .type {name}, @object; {name}: {content}"


def _body(name: str) -> str:
    """Return what a function does: what importing torch calls answers "no CUDA", anything else says its name and aborts."""
    if name.startswith("cudaGetError"):
        return "jmp text"
    if "get_gil_checker" in name:
        return "jmp slot"
    if "available" in name:
        return "jmp false"
    if name.endswith(("C1Ev", "C1Eb")):  # constructors without arguments, or of a bool
        return "jmp inert"
    if name.startswith(("cu", "__cu", "nccl")):
        return "jmp no"
    return f'lea 1f(%rip), %rdi; jmp die; 1: .asciz "{name}"'
