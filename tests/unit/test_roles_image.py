"""The build of the serving image refuses what the base image's vLLM does not take: roles/transformers/files/check_*.py.

Each script runs as in the build, beside the metadata of an image's packages; nothing of them is installed.
"""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
FILES = ROOT / "roles" / "transformers" / "files"
GOLDEN = Path(__file__).parent / "golden" / "roles_image"
COMMIT = "5f4cbd5e14bd7a3eb4ed0d6a58b18a2c0d4d1c7e"
ASKED = {
    "0.31.0": ["transformers<5.18.0,>=5.10.4"],
    "0.32.0": ["transformers<5.20.0,>=5.16.1", "huggingface_hub>=1.31.0", "tokenizers>=0.23.2"],
    "0.33.0": ["transformers<5.21.0,>=5.16.1"],
}
BESIDE = {"huggingface_hub": "2.4.0", "tokenizers": "0.23.3"}


def build(image: Path, packages: dict[str, str], requires: dict[str, list[str]]) -> subprocess.CompletedProcess[str]:
    """Run the check in an image of these packages, by name and version; `requires` is what each asks for."""
    for name, version in packages.items():
        folder = image / f"{name}-{version}.dist-info"
        folder.mkdir()
        asks = "".join(f"Requires-Dist: {one}\n" for one in requires.get(name, ()))
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{asks}")
    command = [sys.executable, str(FILES / "check_requirements.py"), COMMIT]
    return subprocess.run(command, env={"PYTHONPATH": str(image)}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("vllm", "transformers", "fits"),
    [
        ("0.31.0", "5.10.4", True),
        ("0.31.0", "5.10.3", False),
        ("0.31.0", "5.18.0", False),
        ("0.32.0", "5.19.0", True),
        ("0.32.0", "5.19.0.dev0", True),  # a source build, after 5.18
        ("0.32.0", "5.16.1.dev0", False),  # before 5.16.1
        ("0.32.0", "5.20.0.dev0", False),  # main after 5.19
        ("0.32.0", "5.20.0", False),
        ("0.33.0", "5.20.0.dev0", True),
    ],
)
def test_a_commit_outside_what_vllm_asks_for_ends_the_build(
    tmp_path: Path, vllm: str, transformers: str, fits: bool
) -> None:
    ran = build(tmp_path, {"vllm": vllm, "transformers": transformers, **BESIDE}, {"vllm": ASKED[vllm]})
    assert (ran.returncode == 0) is fits, ran.stderr


def test_the_message_names_both_versions_and_what_to_do(tmp_path: Path) -> None:
    packages = {"vllm": "0.32.0+rocm723", "transformers": "5.21.0.dev0", **BESIDE}
    ran = build(tmp_path, packages, {"vllm": ASKED["0.32.0"]})
    assert ran.stderr == (GOLDEN / "transformers-too-new.txt").read_text()


@pytest.mark.parametrize(("package", "version"), [("huggingface_hub", "1.30.9"), ("tokenizers", "0.23.1")])
def test_what_the_base_image_brings_for_transformers_is_compared_too(
    tmp_path: Path, package: str, version: str
) -> None:
    packages = {"vllm": "0.32.0", "transformers": "5.19.0", **BESIDE, package: version}
    ran = build(tmp_path, packages, {"vllm": ASKED["0.32.0"]})
    name = package.replace("_", "-")
    assert ran.stderr.startswith(
        f"{name} {version} in the base image does not fit vLLM 0.32.0 in it\nwanted: {name} >="
    )


def test_an_image_without_transformers_is_told(tmp_path: Path) -> None:
    ran = build(tmp_path, {"vllm": "0.32.0", **BESIDE}, {"vllm": ASKED["0.32.0"]})
    assert ran.returncode and ran.stderr.startswith("transformers none (commit 5f4cbd5e14bd) does not fit vLLM 0.32.0")


def test_what_another_platform_or_an_extra_asks_for_is_not_compared(tmp_path: Path) -> None:
    others = ['transformers<5; sys_platform == "win32"', 'tokenizers<0.1; extra == "bench"']
    packages = {"vllm": "0.32.0", "transformers": "5.19.0", **BESIDE}
    assert build(tmp_path, packages, {"vllm": ASKED["0.32.0"] + others}).returncode == 0


def test_of_several_lines_on_one_package_each_counts(tmp_path: Path) -> None:
    packages = {"vllm": "0.32.0", "transformers": "5.19.0", **BESIDE}
    ran = build(tmp_path, packages, {"vllm": ["transformers!=5.19.*", *ASKED["0.32.0"]]})
    assert "wanted: transformers !=5.19.*, as" in ran.stderr


def test_a_vllm_that_still_asks_for_a_transformers_without_the_model_is_not_believed(tmp_path: Path) -> None:
    ran = build(tmp_path, {"vllm": "0.18.0", "transformers": "5.4.0", **BESIDE}, {"vllm": ["transformers<5,>=4.56"]})
    assert (ran.returncode, ran.stdout.splitlines()[0]) == (
        0,
        "not compared: vLLM 0.18.0 asks for a transformers that has no GLM-4.6V",
    )


@pytest.mark.parametrize(("version", "asks"), ASKED.items())
def test_the_table_of_versions_says_what_the_metadata_says(version: str, asks: list[str]) -> None:
    table = yaml.safe_load((ROOT / "fleet" / "stack" / "rules" / "data" / "versions.yml").read_text())["transformers"]
    (row,) = [one for one in table if one["since"] == version]
    assert Requirement(f"transformers{row['asks']}").specifier == Requirement(asks[0]).specifier


def test_a_user_without_a_name_has_one_in_the_build_and_in_the_image() -> None:
    """Of the Dockerfile's own lines; the check that runs there as that user is proved by tests/roles/test_image.py."""
    lines = (FILES / "Dockerfile").read_text().splitlines()
    assert lines.index("ENV USER=vllm LOGNAME=vllm") < lines.index("USER ${RUN_AS}")


def test_every_check_of_the_recipe_is_copied_to_the_node_and_part_of_what_the_image_is_called_by() -> None:
    checks = sorted(file.name for file in FILES.glob("check_*.py"))
    (copied,) = [line for line in (FILES / "Dockerfile").read_text().splitlines() if line.startswith("COPY ")]
    assert sorted(copied.split()[1:-1]) == checks, (
        "the COPY of roles/transformers/files/Dockerfile names each check_*.py"
    )
    parts = yaml.safe_load((FILES.parent / "vars" / "main.yml").read_text())["_transformers_parts"]
    missing = [name for name in checks if not any(f"'{name}'" in part for part in parts)]
    assert missing == [], "add it to _transformers_parts in roles/transformers/vars/main.yml"
    tasks = yaml.safe_load((FILES.parent / "tasks" / "configure.yml").read_text())
    assert sorted(tasks[1]["loop"]) == ["Dockerfile", *checks], (
        "the loop in roles/transformers/tasks/configure.yml copies it"
    )
