"""What the suite promises about itself: two labs of one name never stand at once, and it runs in a checkout that is deployed."""

import collections
import pathlib
import re
import subprocess
import sys

from tests.environment import forget_secrets

TESTS = pathlib.Path(__file__).parents[1]


def test_the_tests_of_a_folder_that_shares_a_lab_all_go_to_one_worker(tmp_path: pathlib.Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\ntestpaths = tests\nmarkers =\n    docker: -\n    road: -\n")
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
