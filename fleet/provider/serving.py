"""The resource Serving: the role vllm, and then the probes. Ready means that every replica sees what is in the pictures.

Used by the servicer. Needs fleet.probes and an SSH connection that brings a replica to loopback.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fleet import address, errors, ssh
from fleet.provider import base
from fleet.provider.base import InitFailed, Request
from fleet.provider.playbook import Playbook
from fleet.provider.properties import Props

# (base URL, API key, served model, which probes: {cases, min_iou, extra}, note) -> results, as fleet.probes gives them.
Ask = Callable[[str, str, str, Mapping[str, Any], Callable[[str], None]], Sequence[Any]]


def ask(url: str, key: str, model: str, which: Mapping[str, Any], note: Callable[[str], None]) -> Sequence[Any]:
    """Put the wanted probes to a server (no names means all)."""
    from fleet import probes  # httpx and Pillow cost start-up time that most runs need not pay

    # Pulumi starts the provider in the project's folder.
    extra = Path(which["extra"]) if which.get("extra") else None
    results: Sequence[Any] = probes.run(url, key, model, probes.load(which["cases"], which["min_iou"], extra), note)
    return results


class Serving(Playbook):
    """Replicas that have passed their probes; `verdict` says how many and where the evidence is."""

    def __init__(self, *arguments: Any, ask: Ask = ask, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._ask = ask

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Serve, then ask. A replica that answers /health and sees wrongly is not ready."""
        known = super().apply(request, inputs, old)
        wrong: list[str] = []
        passed = total = 0
        folder = base.state_dir() / "evidence" / request.stack
        try:
            with ssh.connect(ssh.Target.from_inputs(inputs["node"])) as connection:
                for replica in known["replicas"]:
                    with connection.forward(address.socket_or_port(replica)) as port:
                        results = self._probe(request, inputs, replica, f"http://127.0.0.1:{port}")
                    _keep(folder, f"{request.name}-{replica['name']}", results)
                    gating = [one for one in results if one.gates]
                    passed += sum(one.passed for one in gating)
                    total += len(gating)
                    wrong += [_told(replica, one) for one in results if one.refused]
                    for one in results:
                        if not one.passed and not one.refused:
                            request.warn(f"advisory probe, the replica is ready all the same: {_told(replica, one)}")
                        elif one.passed and one.earlier:
                            request.say(f"passed when asked once more: {_told(replica, one)}", False)
        except errors.FleetError as error:
            raise InitFailed(known, error) from error
        known["verdict"] = {"passed": passed, "total": total, "evidence": str(folder)}
        if wrong:
            raise InitFailed(known, _refused(request, known, wrong, passed, total))
        request.say(f"{passed} of {total} probes passed" if known["replicas"] else "drained: it serves nothing", False)
        return known

    def _probe(self, request: Request, inputs: Props, replica: Props, url: str) -> Sequence[Any]:
        request.say(f"probing {replica['name']}", True)
        return self._ask(
            url,
            inputs["api_key"],
            replica["model"],
            inputs["probes"],
            lambda text: request.say(f"probing {replica['name']}: {text}", True),
        )


def _keep(folder: Path, name: str, results: Sequence[Any]) -> None:
    from fleet.probes import report

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(report.to_json(results) + "\n")
    (folder / f"{name}.html").write_text(report.to_html(results))


def _told(replica: Props, result: Any) -> str:
    return f"{replica['name']}: {result.case.name}: answered {result.seen}"


def _refused(request: Request, known: Props, wrong: list[str], passed: int, total: int) -> errors.ProbeFailed:
    shown = [line if len(line) <= 200 else f"{line[:197]}..." for line in wrong[:4]]
    more = [f"and {len(wrong) - 4} more"] if len(wrong) > 4 else []
    return errors.ProbeFailed(
        node=request.name,
        doing="probes",
        seen="\n".join([f"{passed} of {total} passed: the server answers, and sees wrongly", *shown, *more]),
        wanted="all probes passed",
        next=f"open {shlex.quote(known['verdict']['evidence'])}/{shlex.quote(request.name)}-*.html; is it the right model and revision?",
    )
