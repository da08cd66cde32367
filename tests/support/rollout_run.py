"""The resource Rollout without a kubelet: what stands in the place of port-forwards and probes, and its inputs.

Used by the tests of tests/kubernetes.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.provider.properties import Props
from tests.support.api_server import ApiServer
from tests.support.model_rollout import SELECTOR


@dataclass(frozen=True)
class Case:
    name: str = "bottle-grounding"


@dataclass(frozen=True)
class Result:
    """The result of a probe, as fleet.probes has it."""

    passed: bool = True
    case: Case = Case()
    seen: str = "'a cat'"
    gates: bool = True
    earlier: None = None

    @property
    def refused(self) -> bool:
        return not self.passed


class Listener(contextlib.AbstractContextManager["Listener"]):
    """In the place of a port-forward, which needs a kubelet."""

    port = 8000

    def __init__(self, *_: Any) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def check(self) -> None: ...


class Probes:
    """Answers rightly for pods of the templates that are not `blind`."""

    def __init__(self) -> None:
        self.blind = False
        self.asked = 0

    def __call__(self, url: str, key: str, model: str, options: Mapping[str, Any], note: Any) -> Sequence[Any]:
        self.asked += 1
        return [Result(passed=not self.blind)]


def inputs(gpu_server: ApiServer, namespace: str, template: str, **more: Any) -> Props:
    """Return the inputs of a Rollout with this template."""
    return {
        "cluster": {"context": "admin", "kubeconfig": str(gpu_server.kubeconfig)},
        "namespace": namespace,
        "deployment": "glm",
        "template": template,
        "replicas": 2,
        "deadline": 60,
        "selector": SELECTOR,
        "model": "zai-org/GLM-4.6V",
        "probes": {"cases": [], "min_iou": 0.5},
        "api_key": "a-key",
        "vars": {},
        **more,
    }
