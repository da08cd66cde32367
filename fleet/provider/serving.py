"""The resource Serving: runs the role vllm, then the probes: each replica must answer questions about pictures correctly.

Called by the servicer. Needs fleet.probes, and fleet.ssh to forward a replica to loopback.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet import address, errors, ssh
from fleet.impact import effects
from fleet.provider import base, probing
from fleet.provider.base import InitFailed, Request
from fleet.provider.playbook import Playbook
from fleet.provider.probing import Probed, RunProbes, Tally, run_probes
from fleet.provider.properties import Props


class Serving(Playbook):
    """Replicas that pass their probes; `verdict` has the number of probes and the folder of the evidence."""

    def __init__(self, *arguments: Any, run_probes: RunProbes = run_probes, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._run_probes = run_probes

    def one_at_a_time(self, old_inputs: Props, inputs: Props, old: Props) -> Sequence[str]:
        """Return the replicas that restart, where that is certain and all that happens, and the others can serve meanwhile; else nothing.

        Replicas with another API key, address or GPUs do not fit beside their predecessors.
        """
        olds, names = (old_inputs, old), [str(replica["name"]) for replica in old.get("replicas") or ()]
        variables = inputs.get("vars")
        if len(names) < 2 or old.get("drift") or not isinstance(variables, Mapping):
            return ()
        same = all(
            side.get("api_key") == inputs.get("api_key")
            and (side.get("vars") or {}).get("vllm_replicas") == variables.get("vllm_replicas")
            for side in olds
        )
        planned = [effect for effect in self.effects(old_inputs, inputs, old) if effect.level not in ("none", "await")]
        restarts = {name for effect in planned for name in effect.what}
        if not same or effects.decides(olds, inputs, base.ROOT / "roles") or not restarts <= {*names}:
            return ()
        if not all(effect.level == "restart" and effect.sure for effect in planned):
            return ()
        return [name for name in names if name in restarts]

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Run the role, then probe each replica. Raises InitFailed, also for a replica that answers /health and fails a probe."""
        return self.change(request, inputs, old, ())

    def change(self, request: Request, inputs: Props, old: Props | None, only: Sequence[str]) -> Props:
        """Do what `apply` does, but restart these replicas and no others, and probe them; () leaves it to the role. Raises InitFailed."""
        outputs = self.run(request, inputs, old, {"fleet_restarts": [*only]} if only else {})
        folder = base.state_dir() / "evidence" / request.stack
        try:
            replicas = [replica for replica in outputs["replicas"] if not only or replica["name"] in only]
            probed = self.probe(request, inputs, replicas, folder)
        except errors.FleetError as error:
            raise InitFailed(outputs, error) from error
        outputs["verdict"] = {"passed": probed.passed, "total": probed.total, "evidence": str(folder)}
        if probed.failures:
            raise InitFailed(outputs, probing.failed(request, outputs, probed))
        text = f"{probed.passed} of {probed.total} probes passed" if outputs["replicas"] else "drained: no replica runs"
        request.report(text, False)
        return outputs

    def probe(self, request: Request, inputs: Props, replicas: Sequence[Props], evidence: Path | None = None) -> Probed:
        """Send the probes of the inputs to each replica; write the reports to the folder `evidence`. Raises FleetError if it cannot ask."""
        tally = Tally(request, self._run_probes, evidence)
        with ssh.connect(ssh.Target.from_inputs(inputs["node"])) as connection:
            for replica in replicas:
                with connection.forward(address.socket_or_port(replica)) as port:
                    tally.probe(inputs, replica["name"], replica["model"], f"http://127.0.0.1:{port}")
        return tally.probed
