"""What the roles docker and rocm read of a machine that a vendor set up: sources, pins, loaders, engines, modules.

Each program is loaded up to where it reads its query, with a root folder in place of / and answers in place of commands.
"""

import json
import pathlib
import types
from collections.abc import Mapping
from typing import Any

import pytest

from fleet import preflight

ROLES = pathlib.Path(__file__).parents[2] / "roles"
AMD = "https://repo.radeon.com/amdgpu/30.30.4/ubuntu"
URLS = [AMD, "https://repo.radeon.com/rocm/apt/7.2.4/"]


def program(
    file: str, end: str, root: pathlib.Path, answers: Mapping[str, str] | None = None, query: Any = None
) -> types.SimpleNamespace:
    """Return the functions of a role's program: paths are below `root`, a command says what `answers` has for its words."""

    def path(first: Any, *rest: Any) -> pathlib.Path:
        joined = pathlib.Path(first, *rest)
        return root / str(joined).lstrip("/") if joined.is_absolute() and not joined.is_relative_to(root) else joined

    def out(*command: str) -> str:
        return (answers or {}).get(" ".join(command), "")

    text = (ROLES / "host/files/openpgp.py").read_text() + (ROLES / file).read_text()
    found: dict[str, Any] = {}
    exec(text[: text.index(end)], found)
    found |= {"pathlib": types.SimpleNamespace(Path=path), "query": query, "out": out}
    return types.SimpleNamespace(**found)


def preflight_script() -> types.ModuleType:
    """Return the functions of the preflight's script, loaded as on a node: all its files as one."""
    readers = types.ModuleType("preflight_script")
    exec(preflight.script(), readers.__dict__)
    return readers


def rocm(root: pathlib.Path, answers: Mapping[str, str] | None = None, **query: Any) -> types.SimpleNamespace:
    query = {"source": str(root / "etc/apt/sources.list.d/rocm.sources"), "urls": URLS, "loaders": [], **query}
    return program("rocm/files/read.py", "query = json.load", root, answers, query)


def put(root: pathlib.Path, path: str, text: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


SOURCES = {
    "a line": (f"deb [arch=amd64 signed-by=/etc/apt/keyrings/rocm.gpg] {AMD} noble main", "list", "/etc/apt/keyrings/rocm.gpg", True),
    "a line with a slash at its end": (f"deb [signed-by=/k.gpg] {AMD}/ noble main", "list", "/k.gpg", True),
    "a line without a key": (f"deb {AMD} noble main", "list", "", True),
    "another release": ("deb [signed-by=/k.gpg] https://repo.radeon.com/amdgpu/30.10/ubuntu noble main", "list", "/k.gpg", False),
    "the quick start's graphics": ("deb https://repo.radeon.com/graphics/7.2/ubuntu noble main", "list", "", False),
    "a mirror of another release": ("deb https://mirror.example/radeon/rocm/apt/6.4 noble main", "list", "", False),
    "a stanza": (f"Types: deb\nURIs: {AMD}\nSuites: noble\nComponents: main\nSigned-By: /k.asc", "sources", "/k.asc", True),
    "a stanza with its key": (
        f"Types: deb\nURIs: {AMD}\nSuites: noble\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDME", "sources", "inline", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("claim", SOURCES)
def test_a_source_of_amds_packages_is_read_with_its_key(tmp_path: pathlib.Path, claim: str) -> None:
    text, kind, key, same = SOURCES[claim]
    put(tmp_path, f"/etc/apt/sources.list.d/amd.{kind}", f"# a comment\n{text}\n")
    (found,) = rocm(tmp_path).repositories()
    assert (found["suite"], found["key"], found["same"], found["fingerprint"]) == ("noble", key, same, "")


@pytest.mark.parametrize(
    "text",
    [
        f"# deb {AMD} noble main",
        f"deb-src {AMD} noble main",
        "deb https://mirror.example/ubuntu noble main",
        "deb https://mirror.example/rocm-tools noble main",
    ],
)
def test_what_brings_none_of_amds_packages_is_left_alone(tmp_path: pathlib.Path, text: str) -> None:
    put(tmp_path, "/etc/apt/sources.list", f"{text}\n")
    put(tmp_path, "/etc/apt/sources.list.d/off.sources", f"Enabled: no\nTypes: deb\nURIs: {AMD}\nSuites: noble\n")
    put(tmp_path, "/etc/apt/sources.list.d/rocm.sources", f"Types: deb\nURIs: {AMD}\nSuites: noble\n")
    assert rocm(tmp_path).repositories() == []


POLICY = "linux-headers-1:\n  Installed: (none)\n  Candidate: {}\n  Version table:\n     6.8 {}\n        500 file:/x ./ Packages\n"


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ("", "unknown"),
        (POLICY.format("6.8", "500"), "installable"),
        (POLICY.format("(none)", "-1"), "pinned"),
        ("x:\n  Installed: (none)\n  Candidate: (none)\n  Version table:\n", "unknown"),
    ],
)
def test_a_package_that_a_preference_forbids_is_told_from_one_that_is_not_there(
    tmp_path: pathlib.Path, answer: str, state: str
) -> None:
    assert rocm(tmp_path, {"apt-cache policy linux-headers-1": answer}).policy("linux-headers-1") == state


def test_headers_come_with_each_later_kernel_that_may_come(tmp_path: pathlib.Path) -> None:
    names = (
        "linux-image-generic-hwe-24.04",
        "linux-image-azure",
        "linux-image-6.8.0-87-generic",
        "linux-image-unsigned-6.8.0-87",
    )
    known = {f"apt-cache policy {name.replace('image', 'headers')}": POLICY.format("1", "500") for name in names}
    answers = {**known, "apt-mark showhold": "linux-image-azure\n"}
    assert rocm(tmp_path, answers).headers(dict.fromkeys(names, "1")) == ["linux-headers-generic-hwe-24.04"]


def test_a_vendors_unit_counts_where_it_is_enabled(tmp_path: pathlib.Path) -> None:
    answers = {"systemctl is-enabled a.service": "disabled\n", "systemctl is-enabled b.service": "enabled\n"}
    assert rocm(tmp_path, answers, loaders=["a.service", "b.service"]).loader() == "b.service"
    assert rocm(tmp_path, {}, loaders=["a.service"]).loader() == ""


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("1:6.16.13.30300400-2341068.24.04", "30.30.4"),
        ("6.14.14.30100200-1", "30.10.2"),
        ("6.16.13", ""),
        ("1:5.4.0-1", ""),
    ],
)
def test_the_release_of_a_driver_is_read_of_its_version(tmp_path: pathlib.Path, version: str, release: str) -> None:
    assert rocm(tmp_path).release_of(version) == release


@pytest.mark.parametrize(
    ("module", "package", "is_of"),
    [
        ("6.16.13 AB", "1:6.16.13.30300400-2341068", True),
        ("6.16.6 AB", "1:6.16.13.30300400-2341068", False),
        ("6.16.1 AB", "1:6.16.13.30300400-2341068", False),
        ("6.16.13 AB", "6.16.13.30300400-2341068", True),
        ("6.16.13 AB", "", True),
        ("", "1:6.16.13.30300400-2341068", False),
    ],
)
def test_a_module_belongs_to_the_installed_package(
    tmp_path: pathlib.Path, module: str, package: str, is_of: bool
) -> None:
    assert program("rocm/files/gpus.py", "count, end =", tmp_path).of_package(module, package) is is_of


def test_a_module_of_the_distribution_is_no_driver(tmp_path: pathlib.Path) -> None:
    gpus = program("rocm/files/gpus.py", "count, end =", tmp_path)
    assert gpus.built("/lib/modules/6.8/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko") == ""
    file = tmp_path / "updates/dkms/amdgpu.ko"
    put(tmp_path, "updates/dkms/amdgpu.ko", "version=6.16.13\nsrcversion=AB\n")
    assert gpus.built(str(file)) == "6.16.13 AB"


@pytest.mark.parametrize(
    ("record", "names", "there"),
    [(None, ["docker-ce"], True), (["docker-ce"], ["docker-ce"], True), (["bash"], ["docker-ce"], False)],
)
def test_an_engine_is_adopted_that_was_there_before_us(
    tmp_path: pathlib.Path, record: list[str] | None, names: list[str], there: bool
) -> None:
    file = tmp_path / "before.json"
    if record is not None:
        file.write_text(json.dumps({"packages": record}))
    docker = program("docker/files/read.py", "query = json.load", tmp_path)
    assert docker.was_there(names, file) is there


def test_amd_smi_is_found_where_amds_packages_put_it(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(tmp_path, "/opt/rocm-7.2.4/bin/amd-smi", "")
    readers = preflight_script()
    monkeypatch.setattr(readers.shutil, "which", lambda _name: None)
    monkeypatch.setattr(readers.pathlib, "Path", lambda first: tmp_path / str(first).lstrip("/"))
    assert readers.amd_smi() == str(tmp_path / "opt/rocm-7.2.4/bin/amd-smi")


@pytest.mark.parametrize(
    ("engine", "config", "places"),
    [
        ({"version": ""}, "", ["/var/lib/docker", "/var/lib/containerd"]),
        ({"version": "28", "root": "/mnt/docker", "storage": "[[Backing Filesystem extfs]]"}, "", ["/mnt/docker"]),
        (
            {"version": "29", "root": "/mnt/docker", "storage": "[[driver-type io.containerd.snapshotter.v1]]"},
            "",
            ["/var/lib/containerd"],
        ),
        (
            {"version": "29", "root": "/mnt/docker", "storage": "[[driver-type io.containerd.snapshotter.v1]]"},
            "version = 3\nroot = '/mnt/containerd'\n",
            ["/mnt/containerd"],
        ),
    ],
)
def test_images_lie_where_the_engine_says(
    monkeypatch: pytest.MonkeyPatch, engine: dict[str, str], config: str, places: list[str]
) -> None:
    readers = preflight_script()
    monkeypatch.setattr(readers, "output", lambda *_command: config)
    assert readers.image_folders(engine) == places


ENROLLED = """[key 1]
SHA1 Fingerprint: 76:a0:92:06:58:00:bf:37:69:01:c3:72:cd:55:a9:0e:1f:de:d2:e0
Certificate:
    Data:
        Serial Number:
            b9:41:24:a0:18:2c:92:67
        Subject: C=GB, O=Canonical Ltd., CN=Canonical Ltd. Master Certificate Authority
[key 2]
        Serial Number: 11 (0xb)
        Subject: CN = gpu-1 Secure Boot Module Signature key
"""


def test_the_enrolled_keys_are_read_of_mokutil_and_of_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = "0b1c2d3e I------     1 perm 1f030000     0     0 asymmetri Build time autogenerated kernel key: 17eb: X509.rsa 36a1 []"
    readers = preflight_script()
    monkeypatch.setattr(readers, "output", lambda *command: ENROLLED if command[1] == "--list-enrolled" else "")
    monkeypatch.setattr(readers, "read_text", lambda _path: keys)
    found = readers.enrolled()
    assert found["serials"] == ["B", "B94124A0182C9267"]
    assert "Canonical Ltd. Master Certificate Authority" in found["names"]
    assert "gpu-1 Secure Boot Module Signature key" in found["names"]
    assert "Build time autogenerated kernel key" in found["names"]
    assert found["dkms"] is False
