"""What the bootstrap downloads (bootstrap/pulumi.sh, uv.sh) has a hash in this repository, or the operator chose it.

Nothing is downloaded or built here."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.programs import write_program

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "bootstrap").glob("**/*.sh"))
VERSION = re.findall(r"^VERSION=(.*)$", (ROOT / "bootstrap" / "pulumi" / "recipe.sh").read_text(), re.M)[0]


def commands() -> list[str]:
    """Return every line of code of the bootstrap, joined with its continuations."""
    text = "\n".join(script.read_text() for script in SCRIPTS).replace("\\\n", " ")
    return [line for line in text.splitlines() if not line.lstrip().startswith("#")]


def test_every_install_from_the_package_index_requires_hashes() -> None:
    """The repository itself is no package of the index."""
    installs = [line for line in commands() if re.search(r"\bpip (install|sync)\b(?!.*--editable \.)", line)]
    assert len(installs) == 3, "the bootstrap installs in other lines than before: correct the number"
    assert [line for line in installs if "--require-hashes" not in line] == [], "add --require-hashes"


def test_no_command_downloads_a_script_or_an_archive_by_its_address_alone() -> None:
    downloads = [line for line in commands() if re.search(r"\b(curl|wget)\b.*https?://", line)]
    assert downloads == [], "fetch it by a hash that this repository has"


def test_the_lock_of_uv_has_one_version_and_the_files_of_every_platform() -> None:
    lock = (ROOT / "bootstrap" / "uv.txt").read_text()
    assert len(re.findall(r"^uv==[\d.]+ ", lock, re.M)) == 1 == len(re.findall(r"==", lock))
    assert len(set(re.findall(r"--hash=sha256:[0-9a-f]{64}", lock))) >= 15


def pulumi(folder: Path, way: str, version: str = "", host: bool = True) -> subprocess.CompletedProcess[str]:
    """Run pulumi.sh with a cache of its own and, for a version, that Pulumi on PATH."""
    tools = folder / "tools"
    tools.mkdir()
    for name in ("pulumi", *(["pulumi-language-python"] if host else [])) if version else ():
        write_program(tools / name, f"echo v{version}")
    bare = [part for part in os.environ["PATH"].split(":") if not Path(part, "pulumi").exists()]
    own = {"PATH": ":".join([str(tools), *bare]), "XDG_CACHE_HOME": str(folder / "cache"), "FLEET_PULUMI": way}
    script = str(ROOT / "bootstrap" / "pulumi.sh")
    return subprocess.run([script], env={**os.environ, **own}, capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize("version", [VERSION, "3.999.0"])
def test_the_operator_may_choose_the_pulumi_on_path(tmp_path: Path, version: str) -> None:
    result = pulumi(tmp_path, "path", version)
    assert result.returncode == 0, result.stderr
    (link,) = tmp_path.glob("cache/glm-fleet/pulumi-*/bin")
    assert link.resolve() == tmp_path / "tools"


@pytest.mark.parametrize(("version", "host"), [("3.1.0", True), ("4.0.0", True), (VERSION, False), ("", True)])
def test_another_pulumi_on_path_is_refused(tmp_path: Path, version: str, host: bool) -> None:
    result = pulumi(tmp_path, "path", version, host)
    assert result.returncode == 1 and f"wanted: Pulumi {VERSION} or newer" in result.stderr
    assert list(tmp_path.glob("cache/glm-fleet/pulumi-*")) == []


def test_the_vendor_s_installer_is_refused(tmp_path: Path) -> None:
    result = pulumi(tmp_path, "vendor", VERSION)
    assert result.returncode == 1 and "wanted: build or path" in result.stderr
