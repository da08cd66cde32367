"""Hooks for all tests: a test without its Docker Engine or program is skipped with the reason, and fails under CI=true.

Owns the meaning of the markers `docker`, `e2e` and `needs` (pyproject.toml) and their time limits; a test's own `timeout` marker wins.
A test's folder decides whether it needs a Docker Engine or Pulumi. No test skips itself: tests/unit/test_suite.py refuses that.
"""

import functools
import os
import shutil
import subprocess
from collections.abc import Iterable

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support import records

DOCKER, E2E = (pytest.mark.docker,), (pytest.mark.docker, pytest.mark.e2e)
FOLDERS = {
    **dict.fromkeys(("e2e", "faults", "changes", "cloud"), E2E),
    **dict.fromkeys(("roles", "matrix", "vendors"), DOCKER),
    "preview": (pytest.mark.engine, pytest.mark.needs("pulumi")),
    "kubernetes": (pytest.mark.needs("go"), pytest.mark.slow),
}
# Folders whose tests share a lab or a plugin: each goes whole to one worker, the longest of `make test-all` first.
TOGETHER = ("changes", "faults", "e2e", "matrix", "roles", "cloud", "provider", "machine", "kubernetes")
BROUGHT_BY = {
    "pulumi": "`make setup` brings it",
    "go": "`make go` brings it",
}  # where a program of `needs` comes from
LIMITS = {"e2e": 1800, "docker": 900}  # seconds a test, its fixtures included; the rest has pyproject.toml's

for own in ("FLEET_STATE", "FLEET_BACKEND", "FLEET_PASSPHRASE_FILE"):
    os.environ.pop(own, None)  # the user's state and backend are never the tests'


@functools.cache
def engine_missing() -> str:
    """Return why no Docker Engine can be used, or nothing when one answers."""
    command = ["docker", "info", "--format", "{{.ServerVersion}}"]
    try:
        info = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return "there is no docker command here"
    except subprocess.TimeoutExpired:
        return "docker info gave no answer within 30 s"
    answers = info.returncode == 0 and info.stdout.strip()
    return "" if answers else f"docker info: {info.stderr.strip() or 'no server'}"


def missing_needs(names: Iterable[str]) -> list[str]:
    """Return a reason for each name that this machine lacks: a program on PATH, or "root" for the user."""
    reasons = []
    for name in names:
        if name == "root":
            reasons += ["the user is not root"] if os.geteuid() else []
        elif shutil.which(name) is None:
            reasons.append(f"no {name} on PATH" + (f": {BROUGHT_BY[name]}" if name in BROUGHT_BY else ""))
    return reasons


def folder_of(nodeid: str) -> str:
    """Return a test's folder below tests/."""
    return nodeid.removeprefix("tests/").split("/")[0]


class ByFolder(LoadScopeScheduling):
    """Gives a worker a whole folder of TOGETHER, or one file of any other.

    xdist's own groups (`--dist loadgroup`) do nothing with pytest 9.2: xdist 3.8 writes them into an attribute that is no longer read.
    """

    def _split_scope(self, nodeid: str) -> str:
        folder = folder_of(nodeid)
        return folder if folder in TOGETHER else nodeid.split("::")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFolder:
    """Hook of xdist: whatever --dist says, the folders stay whole."""
    return ByFolder(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--exhaustive", action="store_true", help="run what is marked `exhaustive`, too (hours)")
    parser.addoption(
        "--stale", action="store_true", help="of changes and faults, run what no run has shown since it last changed"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark by folder, then give each marked test its time limit; the longest run first."""
    if not config.getoption("--exhaustive"):
        more = [item for item in items if item.get_closest_marker("exhaustive")]
        config.hook.pytest_deselected(items=more)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]
    if config.getoption("--stale"):
        shown = [item for item in items if _is_shown(item)]
        config.hook.pytest_deselected(items=shown)
        items[:] = [item for item in items if item not in shown]
    items.sort(
        key=lambda item: TOGETHER.index(folder_of(item.nodeid)) if folder_of(item.nodeid) in TOGETHER else len(TOGETHER)
    )
    for item in items:
        for marker in FOLDERS.get(folder_of(item.nodeid), ()):
            item.add_marker(marker)
        if item.get_closest_marker("timeout") is None:
            for marker, seconds in LIMITS.items():
                if item.get_closest_marker(marker):
                    item.add_marker(pytest.mark.timeout(seconds))
                    break


def _is_shown(item: pytest.Item) -> bool:
    """Return whether a run has shown every row of a test as it is now."""
    marker = item.get_closest_marker("recorded")
    return marker is not None and all(records.holds(marker.args[0], *row) for row in marker.args[1].items())


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or under CI fail, a test whose Docker Engine does not answer or whose program is missing."""
    reasons = missing_needs(name for marker in item.iter_markers("needs") for name in marker.args)
    if item.get_closest_marker("docker") and (reason := engine_missing()):
        reasons.append(f"{reason} (a Docker Engine: bootstrap/docker.sh)")
    if reasons and os.environ.get("CI") == "true":
        pytest.fail("; ".join(reasons), pytrace=False)
    if reasons:
        pytest.skip("; ".join(reasons))
