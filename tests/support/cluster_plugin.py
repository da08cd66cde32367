"""The fleet's plugin with pods that no kubelet runs: a Rollout's port-forward leads nowhere, and its probes pass. All else is the real one.

Started by the Pulumi engine. Used by tests/kubernetes. Usage: python -m tests.support.cluster_plugin ENGINE_ADDRESS.
"""

from fleet.sdk_patches import sdk_stub

sdk_stub.apply()

import contextlib  # noqa: E402, after it
from collections.abc import Callable, Mapping, Sequence  # noqa: E402
from typing import Any  # noqa: E402

from fleet import probes  # noqa: E402
from fleet.cluster import rollout as following  # noqa: E402
from fleet.probes.answer import Answer  # noqa: E402
from fleet.provider import kinds, plugin, rollout  # noqa: E402
from fleet.provider.slots import Slots  # noqa: E402


class Listener(contextlib.AbstractContextManager["Listener"]):
    """In the place of a port-forward, which needs a kubelet."""

    port = 8000

    def __init__(self, *_: Any) -> None: ...

    def __exit__(self, *_: object) -> None: ...

    def check(self) -> None: ...


def run_probes(
    url: str, key: str, model: str, options: Mapping[str, Any], note: Callable[[str], None]
) -> Sequence[probes.ProbeResult]:
    """Return right answers to the cases of the stack."""
    return [
        probes.ProbeResult(case, Answer(200, "right"), (), 0.1)
        for case in probes.load(options["cases"], options["min_iou"])
    ]


following.INTERVAL = 0.2
plugin.serve({**kinds.kinds(Slots()), "Rollout": rollout.Rollout(run_probes, listen=Listener)})  # type: ignore[arg-type]
