"""The probes of a replica, wherever it runs: sends them, counts, writes the evidence, and words a failure.

Needs fleet.probes. Called by serving.py and rollout.py, which make a replica reachable.
"""

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import errors
from fleet.provider.base import Request
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


class Tally:
    """Sends the probes to one replica after the other, and counts. The reports go into the folder `evidence`, if there is one."""

    def __init__(self, request: Request, run: RunProbes, evidence: Path | None) -> None:
        self._request, self._run, self._evidence = request, run, evidence
        self._passed = self._total = 0
        self._failures: list[str] = []

    @property
    def probed(self) -> Probed:
        """What all replicas have answered so far."""
        return Probed(self._passed, self._total, tuple(self._failures))

    def probe(self, inputs: Props, name: str, model: str, url: str) -> None:
        """Send the probes of the inputs to the replica at this URL."""
        request = self._request
        request.report(f"probing {name}", True)

        def note(text: str) -> None:
            request.report(f"probing {name}: {text}", True)

        results = self._run(url, inputs["api_key"], model, inputs["probes"], note)
        if self._evidence:
            _write_evidence(self._evidence, f"{request.name}-{name}", results)
        gating = [result for result in results if result.gates]
        self._passed += sum(result.passed for result in gating)
        self._total += len(gating)
        for result in results:
            if result.refused:
                self._failures.append(_line(name, result))
            elif not result.passed:
                request.warn(f"advisory probe failed, the replica is ready: {_line(name, result)}")
            elif result.earlier:
                request.report(f"passed at the second try: {_line(name, result)}", False)


def _write_evidence(folder: Path, name: str, results: Sequence[Any]) -> None:
    from fleet.probes import report

    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(report.to_json(results) + "\n")
    (folder / f"{name}.html").write_text(report.to_html(results))


def _line(name: str, result: Any) -> str:
    return f"{name}: {result.case.name}: answered {result.seen}"


def failed(request: Request, outputs: Props, probed: Probed) -> errors.ProbeFailed:
    """Return the error for wrong answers."""
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
