"""A stack on a cluster without the SDK of Kubernetes: the program says how to get it."""

import importlib.abc
import signal
import sys
from typing import Any

import pytest

from fleet.program import kubernetes
from tests.support import cluster_stack, program_mocks


class Absent(importlib.abc.MetaPathFinder):
    """Finds one package missing."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_missing_sdk_stops_the_program_before_anything_is_declared(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)  # the program's own handler
    monkeypatch.delitem(sys.modules, "fleet.program.kubernetes.declare", raising=False)
    monkeypatch.delattr(kubernetes, "declare", raising=False)  # an import of an earlier test
    monkeypatch.setattr(sys, "meta_path", [Absent("pulumi_kubernetes"), *sys.meta_path])
    for name in [name for name in sys.modules if name.partition(".")[0] == "pulumi_kubernetes"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(SystemExit):
        program_mocks.run("prod", {f"glm-fleet:{name}": value for name, value in cluster_stack.keys().items()})
    assert "cluster: import its SDK: the Python package pulumi-kubernetes is not installed\n" in caplog.text
    assert "  next:   `make python STACK=prod`: it installs what the stack files name" in caplog.text
