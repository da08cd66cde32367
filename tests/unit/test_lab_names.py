"""The name server of the lab's site, asked as a resolver asks it."""

import importlib.util
import socket
import struct
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).resolve().parents[2] / "lab" / "images" / "site" / "names.py"
A, AAAA = 1, 28


@pytest.fixture(scope="module")
def names() -> ModuleType:
    """The module, which is no part of a package: in its image it lies beside the site's others."""
    spec = importlib.util.spec_from_file_location("names", FILE)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def query(name: str, kind: int = A) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!6H", 7, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", kind, 1)


@pytest.mark.parametrize("name", ["hub.lab.internal", "registry.lab.internal", "HUB.Lab.Internal"])
def test_a_name_of_the_site_has_its_address(names: ModuleType, name: str) -> None:
    response = names.answer(query(name), "lab.internal", "10.77.0.2")
    number, flags, _, answers, *_ = struct.unpack_from("!6H", response)
    assert (number, flags & 0xF, answers) == (7, 0, 1)
    assert socket.inet_ntoa(response[-4:]) == "10.77.0.2" and response[12:].startswith(query(name)[12:])


@pytest.mark.parametrize(
    ("name", "kind", "code"),
    [
        ("hub.lab.internal", AAAA, 0),
        ("example.com", A, 3),
        ("hub.lab.internal.glm.svc.cluster.local", A, 3),  # a pod tries the search list first
    ],
)
def test_no_other_name_or_kind_has_an_answer(names: ModuleType, name: str, kind: int, code: int) -> None:
    _, flags, _, answers, *_ = struct.unpack_from("!6H", names.answer(query(name, kind), "lab.internal", "10.77.0.2"))
    assert (flags & 0xF, answers) == (code, 0)


@pytest.mark.parametrize("data", [b"", b"\0" * 11, query("hub.lab.internal")[:-2], b"\xff" * 40])
def test_what_is_no_query_has_no_answer(names: ModuleType, data: bytes) -> None:
    assert names.answer(data, "lab.internal", "10.77.0.2") == b""
