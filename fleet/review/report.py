"""The report of a change: one model for all its forms, its verdict, its digests.

Owns its form as JSON, which `fleet apply` reads back. Built by build.py from a preview; shown by outline.py, markdown.py and html.py.
Holds op, urn and type of what the Pulumi engine does, and what this project words itself; no property's value from an event.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from fleet import errors
from fleet.impact.forecast import natural
from fleet.review import record
from fleet.review.record import Prediction
from fleet.validators import Each, Flag, Record, Text

FORM_NUMBER = "glm-fleet review 1"
# What a signature of a report is for (ssh-keygen -n): one for another purpose does not count.
NAMESPACE = "glm-fleet-review"
# Verdicts, the worst first, and the exit code of each.
REFUSED, DESTRUCTIVE, WINDOW, SAFE, NOTHING = (
    "refused",
    "destructive",
    "needs a window",
    "safe",
    "nothing to do",
)
EXIT_CODES = {NOTHING: 0, SAFE: 10, WINDOW: 11, DESTRUCTIVE: 12, REFUSED: 13}
# What the Pulumi engine calls a step that changes nothing, and one that takes something away.
UNCHANGED = ("same", "read", "refresh", "read-discard")
REPLACES = ("replace", "create-replacement", "delete-replaced", "read-replacement", "import-replacement")
DELETES = ("delete", *REPLACES, "discard-replaced", "remove-pending-replace")
KNOWN = (*UNCHANGED, *DELETES, "create", "update", "import")
MODEL = "fleet:index:Rollout"
NODES = ("fleet:index:Node", MODEL)
PROVIDERS = "pulumi:providers:"
# Objects of a cluster that are made from the stack file alone, some with a digest in their name: another one takes their place.
DERIVED = ("kubernetes:core/v1:ConfigMap", "kubernetes:core/v1:Secret", "kubernetes:batch/v1:Job")
# Categories of nodes, the worst first, with the levels of effects that put a node there.
CATEGORIES: Mapping[str, Sequence[str]] = {
    "deleted": (),  # by the operation
    "replaced": ("replace", "recreate", "reinstall"),
    "reboot": ("reboot",),
    "upgrade": ("upgrade",),
    "restart": ("restart", "stop"),
    "reload": ("reload",),
    "new": ("new",),
    "changed": ("start", "await", "repair", "none"),
}
# Those whose nodes are out of service for a while.
INTERRUPTED = ("reboot", "upgrade", "restart")
UNTOUCHED = "untouched"


@dataclass(frozen=True)
class Operation:
    """One step of the Pulumi engine that is not in UNCHANGED; `causes` are the property paths for which it replaces something."""

    urn: str
    type: str
    op: str
    causes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """Return `Serving`, or `provider fleet` of a provider's settings."""
        kind = self.type.rpartition(":")[2]
        return f"provider {kind}" if self.type.startswith(PROVIDERS) else kind

    @property
    def node(self) -> str:
        """Return the name of the resource, which is that of its node where it is about one."""
        return self.urn.rpartition("::")[2]

    @property
    def name(self) -> str:
        """Return `Serving prod-3`."""
        return f"{self.kind} {self.node}"

    @property
    def is_node(self) -> bool:
        """Return whether it is about a node, or a model on a cluster."""
        return self.type in NODES

    @property
    def destroys(self) -> bool:
        """Return whether something is lost: not with a provider of the engine, which is a setting, nor with what is made again."""
        return self.op in DELETES and not self.type.startswith((PROVIDERS, *DERIVED))


@dataclass(frozen=True)
class Remark:
    """What a policy or a rule of the stack file remarks, once for all resources that share it; only a `mandatory` one stops a change."""

    rule: str
    words: str
    mandatory: bool
    about: tuple[str, ...] = ()


@dataclass(frozen=True)
class Waiver:
    """A waiver of the stack file with its last day, inclusive."""

    rule: str
    reason: str
    until: str


@dataclass(frozen=True)
class Vulnerability:
    """A known vulnerability of vLLM that a change of its version closes, or opens."""

    name: str
    what: str
    closed: bool


@dataclass(frozen=True)
class Evidence:
    """From what the report was made: the commit of the files ("" without git), whether they differ from it, the digest of the stack file.

    `hosts` is whether the hosts were read; else their drift and facts are those of the last refresh.
    """

    commit: str
    modified: bool
    stack_file: str
    hosts: bool


@dataclass(frozen=True)
class Report:
    """One change of one stack."""

    stack: str
    prediction: Prediction
    operations: tuple[Operation, ...]
    evidence: Evidence
    remarks: tuple[Remark, ...] = ()
    waivers: tuple[Waiver, ...] = ()
    vulnerabilities: tuple[Vulnerability, ...] = ()
    failures: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    unchanged: int = field(default=0)

    @property
    def verdict(self) -> str:
        """Return the worst verdict that holds; an operation that this release does not know needs a window."""
        if self.failures or any(remark.mandatory for remark in self.remarks):
            return REFUSED
        categories = self.categories
        if categories["deleted"] or categories["replaced"] or any(operation.destroys for operation in self.operations):
            return DESTRUCTIVE
        unknown = any(operation.op not in KNOWN for operation in self.operations)
        if unknown or any(categories[name] for name in INTERRUPTED):
            return WINDOW
        return SAFE if self.operations or self.prediction.changes else NOTHING

    @property
    def nodes(self) -> list[str]:
        """Return the names of the stack's nodes, or of its models on a cluster."""
        urns = [*self.prediction.basis, *(operation.urn for operation in self.operations)]
        names = {urn.rpartition("::")[2] for urn in urns if urn.split("::")[2].endswith(NODES)}
        return sorted(names | {change.node for change in self.prediction.changes}, key=natural)

    @property
    def beside(self) -> list[Operation]:
        """Return the steps without a predicted effect that take nothing away: objects of a cluster, a cloud's things, settings."""
        predicted = {(change.kind, change.node) for change in self.prediction.changes}
        return [step for step in self.operations if (step.kind, step.node) not in predicted and not step.destroys]

    @property
    def of_models(self) -> bool:
        """Return whether the nodes are models on a cluster."""
        urns = [*self.prediction.basis, *(operation.urn for operation in self.operations)]
        return any(urn.split("::")[2].endswith(MODEL) for urn in urns)

    @property
    def categories(self) -> dict[str, list[str]]:
        """Return the nodes by category: each node in the worst one that may come."""
        levels: dict[str, set[str]] = {}
        for change in self.prediction.changes:
            levels.setdefault(change.node, set()).add(change.effect.level)
        categories: dict[str, list[str]] = {name: [] for name in (*CATEGORIES, UNTOUCHED)}
        gone = {step.urn.rpartition("::")[2]: step.op for step in self.operations if step.destroys and step.is_node}
        for node in self.nodes:
            hit = levels.get(node, set())
            category = next((name for name, those in CATEGORIES.items() if hit.intersection(those)), UNTOUCHED)
            if node in gone:
                category = "replaced" if gone[node] in REPLACES else "deleted"
            categories[category].append(node)
        return categories

    def sure(self, category: str, nodes: Collection[str]) -> bool:
        """Return whether one of the nodes in a category is certainly there."""
        levels = CATEGORIES.get(category, ())
        effects = [change.effect for change in self.prediction.changes if change.node in nodes]
        hits = [effect for effect in effects if effect.level in levels]
        return not hits or any(effect.sure for effect in hits)

    @property
    def effects_digest(self) -> str:
        """Return the digest of what will happen: operations and effects, without the times, which each run measures again."""
        changes = [{**entry, "seconds": None} for entry in self.prediction.to_json()["changes"]]
        return record.digest([changes, [asdict(operation) for operation in self.operations]])

    @property
    def facts_digest(self) -> str:
        """Return the digest of what the effects were computed from: inputs, states, facts and drift of each resource, and the turns."""
        prediction = self.prediction.to_json()
        return record.digest([prediction["basis"], prediction["turns"], self.evidence.stack_file])

    def to_json(self) -> dict[str, Any]:
        """Return the whole report as JSON, with the verdict and the digests for readers that only want these."""
        return {
            "form": FORM_NUMBER,
            "stack": self.stack,
            "verdict": self.verdict,
            "nodes": {name: len(nodes) for name, nodes in self.categories.items()},
            "effects_digest": self.effects_digest,
            "facts_digest": self.facts_digest,
            "operations": [asdict(operation) for operation in self.operations],
            "unchanged": self.unchanged,
            "prediction": self.prediction.to_json(),
            "remarks": [asdict(remark) for remark in self.remarks],
            "waivers": [asdict(waiver) for waiver in self.waivers],
            "vulnerabilities": [asdict(vulnerability) for vulnerability in self.vulnerabilities],
            "failures": [*self.failures],
            "unchecked": [*self.unchecked],
            "evidence": asdict(self.evidence),
        }


NAME, WORDS, FLAG = Text(most=4096), Text(most=20_000, lines=True), Flag()
FORM = Record(
    {
        "form": Text(f"the form {FORM_NUMBER}", FORM_NUMBER),
        "stack": NAME,
        "operations": Each(Record({"urn": NAME, "type": NAME, "op": NAME, "causes": Each(NAME)}), most=200_000),
        "prediction": record.FORM,
        "remarks": Each(Record({"rule": NAME, "words": WORDS, "mandatory": FLAG, "about": Each(NAME)})),
        "waivers": Each(Record({"rule": NAME, "reason": WORDS, "until": NAME})),
        "vulnerabilities": Each(Record({"name": NAME, "what": WORDS, "closed": FLAG})),
        "failures": Each(WORDS),
        "unchecked": Each(WORDS),
        "evidence": Record({"commit": NAME, "modified": FLAG, "stack_file": NAME, "hosts": FLAG}),
    },
    open=True,
)


def read(text: str, where: str) -> Report:
    """Return the report in a text that `to_json` made. Raises OutputMalformed, which names the place `where`."""
    try:
        value = json.loads(text)
    except ValueError:
        raise errors.OutputMalformed(doing=f"read {where}", seen="it is no JSON", wanted=FORM_NUMBER) from None
    if mistake := FORM.mistake(value, ""):
        raise errors.OutputMalformed(
            doing=f"read {where}", seen=f"{mistake.at}: {mistake.seen}".removeprefix(": "), wanted=mistake.wanted
        )
    report = Report(
        value["stack"],
        Prediction.of(value["prediction"], where),
        tuple(Operation(**_tuples(entry)) for entry in value["operations"]),
        Evidence(**value["evidence"]),
        tuple(Remark(**_tuples(entry)) for entry in value["remarks"]),
        tuple(Waiver(**entry) for entry in value["waivers"]),
        tuple(Vulnerability(**entry) for entry in value["vulnerabilities"]),
        tuple(value["failures"]),
        tuple(value["unchecked"]),
        int(value.get("unchanged") or 0),
    )
    if (report.verdict, report.effects_digest) != (value.get("verdict"), value.get("effects_digest")):
        raise errors.OutputMalformed(
            doing=f"read {where}",
            seen=f"its verdict and digest say {value.get('verdict')}, {value.get('effects_digest')}",
            wanted=f"those of its effects: {report.verdict}, {report.effects_digest}",
        )
    return report


def _tuples(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in entry.items()}
