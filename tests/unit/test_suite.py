"""What the suite promises about itself: two labs of one name never stand at once, it runs in a checkout that is deployed, a test that
cannot run is a failure under CI, every golden text belongs to a test, and `make check` works with any decimal sign."""

import ast
import collections
import os
import pathlib
import re
import subprocess
import sys

import pytest
import yaml

from tests.support.environment import forget_secrets

TESTS = pathlib.Path(__file__).parents[1]


@pytest.mark.slow
def test_the_tests_of_a_folder_that_shares_a_lab_all_go_to_one_worker(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\nmarkers =\n    docker: -\n    e2e: -\n")
    for folder in ("provider", "machine"):
        home = tmp_path / "tests" / folder
        home.mkdir(parents=True)
        for number in range(3):
            (home / f"test_{folder}_{number}.py").write_text("".join(f"def test_{n}(): pass\n" for n in range(6)))
    (tmp_path / "tests" / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "--numprocesses=2", "--no-loadscope-reorder", "--verbose"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    workers = collections.defaultdict(list)
    for worker, folder in re.findall(r"^\[(gw\d)\].*PASSED tests/(\w+)/", ran.stdout, re.M):
        workers[folder].append(worker)
    assert {folder: len(set(gone)) for folder, gone in workers.items()} == {"provider": 1, "machine": 1}
    assert len(workers["provider"]) == len(workers["machine"]) == 18


def test_in_a_checkout_that_is_deployed_the_tests_copy_no_secret_and_all_else(tmp_path: pathlib.Path) -> None:
    before = "config:\n  glm-fleet:probes: {min_iou: 0.5}\n"
    after = "  glm-fleet:vars:\n    vllm_flags: {seed: 0}\n"
    key = "  glm-fleet:vllm_api_key:\n    secure: v1:FJC2:nxGP=\n"
    (tmp_path / "stacks").mkdir()
    file = tmp_path / "stacks" / "Pulumi.lab.yaml"
    file.write_text(f"{before}{key}{after}encryptionsalt: v1:V9QR:v1:6K+j:qrb6\n")
    forget_secrets(tmp_path)
    assert file.read_text() == before + after


@pytest.mark.parametrize(
    ("marker", "ci", "outcome"),
    [
        ("needs('no-such-program')", "true", "ERROR|no no-such-program on PATH"),
        ("needs('no-such-program')", "", "SKIPPED|no no-such-program on PATH"),
        ("needs('pulumi')", "true", "ERROR|no pulumi on PATH: `make setup` brings it"),
        ("needs('bash')", "true", "PASSED|"),
    ],
)
def test_a_test_without_its_program_is_skipped_and_under_ci_fails(
    tmp_path: pathlib.Path, marker: str, ci: str, outcome: str
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    needs: -\n")
    (tmp_path / "conftest.py").write_text((TESTS / "conftest.py").read_text())
    (tmp_path / "test_it.py").write_text(f"import pytest\n@pytest.mark.{marker}\ndef test_it(): pass\n")
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CI": ci},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    verdict, reason = outcome.split("|")
    assert re.search(rf"(?m)^{verdict}.*{re.escape(reason)}", ran.stdout), ran.stdout + ran.stderr
    assert (ran.returncode != 0) == (verdict == "ERROR")


def test_no_test_skips_itself() -> None:
    """A skip that conftest.py does not know of is silent under CI, where a test that cannot run is a failure."""
    skips = {"skip", "skipif", "importorskip", "xfail"}
    found = [
        f"{file.relative_to(TESTS)}:{node.lineno}: {node.attr}"
        for file in TESTS.rglob("*.py")
        if file != TESTS / "conftest.py"
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in skips and "pytest" in ast.unparse(node.value)
    ]
    assert found == [], "mark the test with `needs`, `docker` or `engine` instead (pyproject.toml, tests/conftest.py)"


def test_no_test_imports_another_test() -> None:
    """What two test files share belongs in tests/support, where a reader looks for it."""
    modules = re.compile(
        r"(?m)^from (tests\.[\w.]*\b(?:test_\w+|conftest)|tests(?:\.\w+)* import (?:test_\w+|conftest))\b"
    )
    imports = [
        f"{file.relative_to(TESTS)}: {name}"
        for file in TESTS.rglob("*.py")
        for name in modules.findall(file.read_text())
    ]
    assert imports == [], "move what they share to tests/support"


def test_every_golden_text_belongs_to_a_test() -> None:
    """A test names its golden text by its stem, whole or as a folder whose files it lists; so does a row of its table."""
    named = {
        pathlib.PurePath(node.value).name.split(".")[0]
        for file in TESTS.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    named |= {row["name"] for row in yaml.safe_load((TESTS / "vendors" / "machines.yml").read_text())}
    golden = [file for file in TESTS.rglob("*") if file.is_file() and "golden" in file.parts]
    assert golden
    unused = [str(file.relative_to(TESTS)) for file in golden if file.name.split(".")[0] not in named]
    assert unused == [], "no test names it: remove it"


def test_make_check_measures_time_where_the_decimal_sign_is_a_comma(tmp_path: pathlib.Path) -> None:
    """BASH_ENV gives every bash of the script the clock of such a locale, or of a bash that has none."""
    (tmp_path / "ruff").write_text("#!/bin/sh\n")
    (tmp_path / "ruff").chmod(0o755)
    (tmp_path / "comma.sh").write_text("unset EPOCHREALTIME\nEPOCHREALTIME=1700000000,098765\n")
    ran = subprocess.run(
        ["bootstrap/check.sh", "format"],
        cwd=TESTS.parent,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "BASH_ENV": str(tmp_path / "comma.sh")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.fullmatch(r"ok +format +\d+ s\n", ran.stdout)
