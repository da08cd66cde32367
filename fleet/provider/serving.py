"""The resource Serving: runs the role vllm, then the probes: each replica must answer questions about pictures correctly.

Called by the servicer. Needs fleet.probes, and fleet.ssh to forward a replica to loopback.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import address, errors, ssh
from fleet.impact import effects
from fleet.provider import base
from fleet.provider.base import InitFailed, Request
from fleet.provider.playbook import Playbook
from fleet.provider.properties import Props

# (base URL, API key, model, probes: {cases, min_iou, extra}, note) -> the results of fleet.probes.
RunProbes = Callable[[str, str, str, Mapping[str, Any], Callable[[str], None]], Sequence[Any]]


def run_probes(
    url: str, key: str, model: str, options: Mapping[str, Any], note: Callable[[str], None]
) -> Sequence[Any]:
    """Run the probes of `options` (no cases means all) against a vLLM server."""
    from fleet import probes  # imports httpx and Pillow, which most runs do not need

    extra = Path(options["extra"]) if options.get("extra") else None  # relative to the project, where Pulumi starts us
    results: Sequence[Any] = probes.run(url, key, model, probes.load(options["cases"], options["min_iou"], extra), note)
    return results


@dataclass(frozen=True)
class Probed:
    """The probes of all replicas: those that gate readiness, and a line for each that refuses it."""

    passed: int
    total: int
    failures: Sequence[str]


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
            raise InitFailed(outputs, _probe_failed(request, outputs, probed))
        text = f"{probed.passed} of {probed.total} probes passed" if outputs["replicas"] else "drained: no replica runs"
        request.report(text, False)
        return outputs

    def probe(self, request: Request, inputs: Props, replicas: Sequence[Props], evidence: Path | None = None) -> Probed:
        """Send the probes of the inputs to each replica; write the reports to the folder `evidence`. Raises FleetError if it cannot ask."""
        failures: list[str] = []
        passed = total = 0
        with ssh.connect(ssh.Target.from_inputs(inputs["node"])) as connection:
            for replica in replicas:
                with connection.forward(address.socket_or_port(replica)) as port:
                    results = self._probe(request, inputs, replica, f"http://127.0.0.1:{port}")
                if evidence:
                    _write_evidence(evidence, f"{request.name}-{replica['name']}", results)
                gating = [result for result in results if result.gates]
                passed += sum(result.passed for result in gating)
                total += len(gating)
                for result in results:
                    if result.refused:
                        failures.append(_line(replica, result))
                    elif not result.passed:
                        request.warn(f"advisory probe failed, the replica is ready: {_line(replica, result)}")
                    elif result.earlier:
                        request.report(f"passed at the second try: {_line(replica, result)}", False)
        return Probed(passed, total, failures)

    def _probe(self, request: Request, inputs: Props, replica: Props, url: str) -> Sequence[Any]:
        request.report(f"probing {replica['name']}", True)
        return self._run_probes(
            url,
            inputs["api_key"],
            replica["model"],
            inputs["probes"],
            lambda text: request.report(f"probing {replica['name']}: {text}", True),
        )


def _write_evidence(folder: Path, name: str, results: Sequence[Any]) -> None:
    from fleet.probes import report

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(report.to_json(results) + "\n")
    (folder / f"{name}.html").write_text(report.to_html(results))


def _line(replica: Props, result: Any) -> str:
    return f"{replica['name']}: {result.case.name}: answered {result.seen}"


def _probe_failed(request: Request, outputs: Props, probed: Probed) -> errors.ProbeFailed:
    failures = probed.failures
    shown = [line if len(line) <= 200 else f"{line[:197]}..." for line in failures[:4]]
    more = [f"and {len(failures) - 4} more"] if len(failures) > 4 else []
    passed = f"{probed.passed} of {probed.total} passed"
    return errors.ProbeFailed(
        node=request.name,
        doing="probes",
        seen="\n".join([f"{passed}: the vLLM server answers, and its answers are wrong", *shown, *more]),
        wanted="all probes passed",
        next=f"open {shlex.quote(outputs['verdict']['evidence'])}/{shlex.quote(request.name)}-*.html; is it the right model and revision?",
    )
