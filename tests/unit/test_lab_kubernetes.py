"""Claims about the programs and definitions of the lab's Kubernetes: built once for a content, locked, and an error has go's words."""

import json
import pathlib
import shutil

import pytest

from lab import cache
from lab.commands import LabError
from lab.kubernetes import build, crds, pki
from tests.support.programs import write_program

MODULES = (build.PRESENT, build.PREVIOUS)
GO = """[ "$1" = env ] && { echo go1.26.8; exit; }
echo "$@" >> "$LOG"
while [ "$1" != -o ]; do shift; done
echo built > "$2"
"""


@pytest.fixture(autouse=True)
def sources(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """A copy of the sources, an empty cache, and a stand-in for go, which writes its arguments to `log`."""
    copy = tmp_path / "binaries"
    shutil.copytree(build.SOURCES, copy)
    monkeypatch.setattr(build, "SOURCES", copy)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    write_program(tmp_path / "go", GO)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return copy


def test_a_part_is_built_once(tmp_path: pathlib.Path) -> None:
    first, again = build.ensure("node"), build.ensure("node")
    assert first == again and first[0].read_text() == "built\n"
    [arguments] = (tmp_path / "log").read_text().splitlines()
    assert "-mod=readonly" in arguments and arguments.endswith("/node ./node")
    assert f"-X k8s.io/component-base/version.gitVersion={build.version()}" in arguments


@pytest.mark.parametrize(
    ("file", "parts"),
    [
        ("deviceplugin/plugin.go", {"node", "addons"}),
        ("programs/programs.go", {"min", "cp", "node", "addons"}),
        ("kubeadm/main.go", {"kubeadm"}),
        ("go.sum", {"min", "cp", "node", "pause", "kubeadm", "addons"}),
    ],
)
def test_a_change_of_a_source_builds_the_parts_that_have_it(sources: pathlib.Path, file: str, parts: set[str]) -> None:
    before = {part: build.binary(part) for part in build.PARTS}
    (sources / file).write_text((sources / file).read_text() + "// more\n")
    assert {part for part in build.PARTS if build.binary(part) != before[part]} == parts


def test_the_previous_version_is_one_minor_before_and_is_built_beside_the_present(tmp_path: pathlib.Path) -> None:
    present, previous = ([int(number) for number in build.version(module)[1:].split(".")] for module in MODULES)
    assert (previous[0], previous[1] + 1) == (present[0], present[1]), (
        "go.mod has another minor version: previous.mod, too"
    )
    programs = [build.ensure("kubeadm", module=module)[0] for module in MODULES]
    assert programs[0] != programs[1] and all(program.exists() for program in programs)
    first, second = (tmp_path / "log").read_text().splitlines()
    assert "-modfile" not in first and "-modfile=previous.mod" in second
    assert f"version.gitVersion={build.version(build.PREVIOUS)}" in second


def test_a_change_of_the_previous_version_builds_nothing_of_the_present(sources: pathlib.Path) -> None:
    before = [build.binary("cp", module) for module in MODULES]
    (sources / "previous.sum").write_text("")
    assert [build.binary("cp", module) == old for module, old in zip(MODULES, before, strict=True)] == [True, False]


def test_another_go_builds_again(tmp_path: pathlib.Path) -> None:
    before = build.binary("min")
    write_program(tmp_path / "go", GO.replace("1.26.8", "1.26.9"))
    assert build.binary("min") != before


def test_the_error_of_a_build_has_the_words_of_go_and_nothing_stays(tmp_path: pathlib.Path) -> None:
    write_program(tmp_path / "go", '[ "$1" = env ] && exit 0; echo "min/main.go:9: undefined: etcd" >&2; exit 1')
    with pytest.raises(LabError, match=r"part min: go exited with 1: min/main\.go:9: undefined: etcd$"):
        build.ensure("min")
    assert not list(cache.folder().glob("*min*"))


def test_definitions_with_another_sum_are_refused(tmp_path: pathlib.Path) -> None:
    reply = json.dumps({"Dir": str(tmp_path), "Sum": "h1:another="})
    write_program(tmp_path / "go", f"echo '{reply}'")
    with pytest.raises(LabError) as caught:
        crds.definitions()
    assert str(caught.value) == (
        "fetch sigs.k8s.io/gateway-api@v1.6.3: its sum is h1:another=\n"
        "  wanted: h1:lKpJa5bGlraC/QeACvCpsHLdmO6y0iKfzVl6gzaFEYc="
    )
    assert not list(cache.folder().glob("*crds*"))


def test_every_user_has_a_token_of_its_own_that_nobody_else_can_read(tmp_path: pathlib.Path) -> None:
    keys = pki.make(tmp_path / "keys", ["127.0.0.1"], {"system:node:k1": "system:nodes"})
    tokens = {user: keys.token(user) for user in (pki.ADMIN, "system:node:k1")}
    assert len(set(tokens.values())) == 2
    assert {file.stat().st_mode & 0o777 for file in keys.folder.iterdir()} == {0o600}
    assert ',"system:nodes"' in keys.tokens.read_text()
