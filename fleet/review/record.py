"""What the provider predicts in one preview, as data: the effects, the turns, and the facts that they were computed from.

Owns its form, in which the provider hands it to the Pulumi engine as one event (RECORD), and in which a report keeps it. Holds no secret:
digests leave out what SECRET names, and FACTS lists what is kept in clear. Written by fleet.provider.preview_record, read by events.py.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fleet import drift, errors
from fleet.drift import Difference
from fleet.impact import role_effects
from fleet.impact.effects import Effect
from fleet.impact.forecast import ORDER, Change
from fleet.impact.forecast_turns import Turns
from fleet.validators import Each, Either, Flag, Form, Nothing, Number, Record, Table, Text, Whole

# Environment variables of `pulumi`: the provider then records, or refuses what this report does not have.
RECORDS, APPROVED = "FLEET_RECORD_EFFECTS", "FLEET_APPROVED_REPORT"
# The first characters of the event's message.
RECORD = "fleet-effects "
# Outputs that are kept in clear, by kind: a diff of two reports then says what moved.
FACTS: Mapping[str, Sequence[str]] = {
    "Node": ("facts",),
    "Host": ("driver", "engine", "gpus"),
    "Image": ("image", "commit", "version"),
    "Weights": ("revision", "manifest"),
    "Rollout": ("image",),
}
# Properties that differ from run to run, or that are kept apart.
VOLATILE = ("log", "seconds", "took", "drift")
# Variables with a version that a reviewer knows by name, by kind.
VERSIONS: Mapping[str, Mapping[str, str]] = {
    "Host": {"driver": "rocm_driver_release", "ROCm": "rocm_version"},
    "Image": {
        "base image": "transformers_base_image",
        "vLLM": "transformers_base_vllm",
        "transformers": "transformers_commit",
    },
    "Weights": {"weights": "weights_revision", "weights from": "weights_repository"},
    "Rollout": {"vLLM": "transformers_base_vllm", "weights": "weights_revision"},
    "Member": {"Kubernetes": "kubernetes_version"},
}

LINE = Text(most=4096)
DIGEST = Text("16 hex digits, or nothing", "([0-9a-f]{16})?", most=16)
CHANGE = Record(
    {
        "node": LINE,
        "kind": LINE,
        "level": Text("a level of an effect", "|".join(ORDER)),
        "what": Each(LINE),
        "because": Each(LINE),
        "sure": Flag(),
        "manner": LINE,
        "seconds": Either((Number(), Nothing()), "seconds, or nothing"),
        "replicas": Whole(),
        "in_turn": Flag(),
    }
)
ANY: Form = Either((LINE, Flag(), Number(), Nothing(), Each(LINE)), "a value of a managed thing")
DIFFERENCE = Record({"kind": LINE, "name": LINE, "attribute": LINE, "expected": ANY, "seen": ANY})
BASIS = Record(
    {"inputs": DIGEST, "whole": Flag(), "state": DIGEST, "facts": Table(LINE, LINE), "drift": Each(DIFFERENCE)},
)
VERSION = Record({"node": LINE, "name": LINE, "old": LINE, "new": LINE})
FILE = Record({"path": LINE, "lines": Each(LINE), "whole": Flag(), "nodes": Each(LINE)})
TURNS = Record(
    {
        "order": Each(LINE),
        "at_once": Whole(1),
        "canary": Flag(),
        "hold": Number(),
        "drain": Number(),
        "proxies": Flag(),
    },
    {"planes": Each(LINE), "podless": Each(LINE)},  # of a cluster of own machines
)
FORM = Record(
    {
        "changes": Each(CHANGE, most=200_000),
        "basis": Table(LINE, BASIS, most=200_000),
        "versions": Each(VERSION, most=200_000),
        "files": Each(FILE, most=200_000),
        "unrendered": Whole(),
        "turns": Either((TURNS, Nothing()), "the turns, or nothing"),
        "parallel": Whole(1),
    }
)


@dataclass(frozen=True)
class Basis:
    """What the prediction about one resource was computed from: digests of its inputs and of its state, facts in clear, its drift.

    `whole` is whether the preview knew all inputs; else those of the update differ.
    """

    inputs: str
    whole: bool
    state: str
    facts: Mapping[str, str]
    drift: tuple[Difference, ...] = ()


@dataclass(frozen=True)
class VersionChange:
    """A version that a change moves on one node; "" for none."""

    node: str
    name: str
    old: str
    new: str


@dataclass(frozen=True)
class FileRecord:
    """The changed lines of one file as a role renders it, with the nodes where they change alike; not `whole` where the host or the run decides a part."""

    path: str
    lines: tuple[str, ...]
    whole: bool
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Prediction:
    """Everything that a preview predicts; `basis` is by urn, with the resources that do not change.

    `unrendered` resources differ from all whose `files` are here.
    """

    changes: tuple[Change, ...]
    basis: Mapping[str, Basis]
    versions: tuple[VersionChange, ...] = ()
    turns: Turns | None = None
    parallel: int = 4
    files: tuple[FileRecord, ...] = ()
    unrendered: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the form of FORM."""
        return {
            "changes": [_change_to_json(change) for change in self.changes],
            "basis": {
                urn: {**asdict(basis), "drift": [entry.to_json() for entry in basis.drift]}
                for urn, basis in self.basis.items()
            },
            "versions": [asdict(version) for version in self.versions],
            "files": [asdict(file) for file in self.files],
            "unrendered": self.unrendered,
            "turns": self.turns.to_json() if self.turns else None,
            "parallel": self.parallel,
        }

    @classmethod
    def of(cls, value: Any, where: str) -> "Prediction":
        """Return the prediction in a value of the form FORM. Raises OutputMalformed, which names `where`."""
        if mistake := FORM.mistake(value, ""):
            raise errors.OutputMalformed(
                doing=f"read {where}", seen=f"{mistake.at}: {mistake.seen}", wanted=mistake.wanted
            )
        turns = value["turns"]
        return cls(
            tuple(_change_of(entry) for entry in value["changes"]),
            {
                urn: Basis(**{**entry, "drift": tuple(drift.recorded({"drift": entry["drift"]}))})
                for urn, entry in value["basis"].items()
            },
            tuple(VersionChange(**entry) for entry in value["versions"]),
            Turns.from_json(turns) if turns else None,
            value["parallel"],
            tuple(_file_of(entry) for entry in value["files"]),
            value["unrendered"],
        )


def basis(
    kind: str, inputs: Mapping[str, Any], state: Mapping[str, Any], leave_out: Collection[str], whole: bool
) -> Basis:
    """Return what a prediction is computed from; `leave_out` are properties that are secret, or that no run depends on."""
    facts = {
        f"{name}.{part}" if part else name: str(value)
        for name in FACTS.get(kind, ())
        for part, value in _parts(state.get(name))
        if value not in (None, "")
    }
    return Basis(
        digest({name: value for name, value in inputs.items() if name not in leave_out}),
        whole,
        digest({name: value for name, value in state.items() if name not in (*leave_out, *VOLATILE)}) if state else "",
        facts,
        tuple(drift.recorded(state)),
    )


def versions(node: str, kind: str, old: Mapping[str, Any], new: Mapping[str, Any], roles: Path) -> list[VersionChange]:
    """Return the versions that differ between two inputs of a resource; a variable that is not set has its role's default."""
    defaults: dict[str, Any] = {}
    for role in new.get("roles") or {}:
        defaults |= role_effects.read_statement(roles, role).defaults
    sides = [{**defaults, **_mapping(side.get("vars"))} for side in (old, new)]
    pairs = [(name, *(str(side.get(key) or "") for side in sides)) for name, key in VERSIONS.get(kind, {}).items()]
    return [VersionChange(node, name, before, after) for name, before, after in pairs if before != after]


def digest(value: Any) -> str:
    """Return 16 hex digits that stand for a value of JSON."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _parts(value: Any) -> list[tuple[str, Any]]:
    return [*value.items()] if isinstance(value, Mapping) else [("", value)]


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _change_to_json(change: Change) -> dict[str, Any]:
    effect = change.effect
    return {
        "node": change.node,
        "kind": change.kind,
        "level": effect.level,
        "what": [*effect.what],
        "because": [*effect.because],
        "sure": effect.sure,
        "manner": effect.manner,
        "seconds": change.seconds,
        "replicas": change.replicas,
        "in_turn": change.in_turn,
    }


def _change_of(entry: Mapping[str, Any]) -> Change:
    effect = Effect(
        entry["level"], tuple(entry["what"]), tuple(entry["because"]), entry["sure"], manner=entry["manner"]
    )
    return Change(entry["node"], effect, entry["seconds"], entry["kind"], entry["in_turn"], entry["replicas"])


def _file_of(entry: Mapping[str, Any]) -> FileRecord:
    return FileRecord(entry["path"], tuple(entry["lines"]), entry["whole"], tuple(entry["nodes"]))
