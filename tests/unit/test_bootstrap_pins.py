"""Claims about what the bootstrap takes from elsewhere (bootstrap/pulumi.sh, uv.sh): by a hash that stands in this repository, or by the
operator's own word. Nothing is downloaded or built here."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "bootstrap").glob("**/*.sh"))
VERSION = re.findall(r"^VERSION=(.*)$", (ROOT / "bootstrap" / "pulumi" / "recipe.sh").read_text(), re.M)[0]


def commands() -> list[str]:
    """Every line of code of the bootstrap, with those that it goes on in."""
    text = "\n".join(script.read_text() for script in SCRIPTS).replace("\\\n", " ")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_what_is_installed_from_the_package_index_has_a_hash() -> None:
    """The repository itself is no package of the index."""
    installs = [
        line for line in commands() if re.search(r"\bpip (install|sync)\b", line) and "--editable ." not in line
    ]
    assert len(installs) == 3, "the bootstrap installs in other lines than before: correct the number"
    assert [line for line in installs if "--require-hashes" not in line] == [], "add --require-hashes"


def test_no_script_and_no_archive_is_downloaded_by_its_address_alone() -> None:
    downloads = [line for line in commands() if re.search(r"\b(curl|wget)\b.*https?://", line)]
    assert downloads == [], "fetch it by a hash that this repository has"


def test_the_lock_of_uv_has_one_version_and_the_files_of_every_platform() -> None:
    lock = (ROOT / "bootstrap" / "uv.txt").read_text()
    assert len(re.findall(r"^uv==[\d.]+ ", lock, re.M)) == 1 == len(re.findall(r"==", lock))
    assert len(set(re.findall(r"--hash=sha256:[0-9a-f]{64}", lock))) >= 15


def pulumi(folder: Path, way: str, version: str = "", host: bool = True) -> subprocess.CompletedProcess[str]:
    """Run pulumi.sh with a cache of its own and, where it is given a version, such a Pulumi on PATH."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("pulumi", *(["pulumi-language-python"] if host else [])) if version else ():
        (tools / name).write_text(f"#!/bin/sh\necho v{version}\n")
        (tools / name).chmod(0o755)
    bare = [part for part in os.environ["PATH"].split(":") if not Path(part, "pulumi").exists()]
    own = {"PATH": ":".join([str(tools), *bare]), "XDG_CACHE_HOME": str(folder / "cache"), "FLEET_PULUMI": way}
    script = str(ROOT / "bootstrap" / "pulumi.sh")
    return subprocess.run([script], env={**os.environ, **own}, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("version", [VERSION, "3.999.0"])
def test_a_pulumi_on_path_is_taken_where_the_operator_says_so(tmp_path: Path, version: str) -> None:
    done = pulumi(tmp_path, "path", version)
    assert done.returncode == 0, done.stderr
    (link,) = tmp_path.glob("cache/glm-fleet/pulumi-*/bin")
    assert link.resolve() == tmp_path / "tools"


@pytest.mark.parametrize(("version", "host"), [("3.1.0", True), ("4.0.0", True), (VERSION, False), ("", True)])
def test_another_pulumi_on_path_is_refused(tmp_path: Path, version: str, host: bool) -> None:
    done = pulumi(tmp_path, "path", version, host)
    assert done.returncode == 1 and f"wanted: Pulumi {VERSION} or newer" in done.stderr
    assert list(tmp_path.glob("cache/glm-fleet/pulumi-*")) == []


def test_the_vendors_installer_is_no_way_any_more(tmp_path: Path) -> None:
    done = pulumi(tmp_path, "vendor", VERSION)
    assert done.returncode == 1 and "wanted: build or path" in done.stderr
