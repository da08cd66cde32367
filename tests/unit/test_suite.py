"""What the suite's own conftest.py promises: two labs of one name never stand at once, because a folder's tests share a worker."""

import collections
import pathlib
import re
import subprocess
import sys

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
