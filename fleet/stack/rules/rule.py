"""The types of a rule that needs no connection: a pure function from a machine's plan to findings (fleet.findings.Rule).

Used by the modules of this folder, which have the rules, and by fleet.stack.validate, which reports the findings.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fleet import findings
from fleet.stack.rules import models


@dataclass(frozen=True, kw_only=True)
class StackFinding(findings.Finding):
    """A finding about one role variable: its `value`, where the message shows it, and the `verb` of `fleet` that corrects it.

    `machine`: `key` is not a role variable, but a key of the machine or of its source.
    """

    key: str
    value: Any = ""
    verb: str = ""
    machine: bool = False


def at_key(key: str, seen: str, wanted: str, value: Any = "", verb: str = "", machine: bool = False) -> StackFinding:
    """Return the finding of a rule at one key of the stack file."""
    return StackFinding(seen, wanted, key=key, value=value, verb=verb, machine=machine)


@dataclass(frozen=True)
class Disk:
    """The size of the system's disk in GB (10^9 bytes). `named`: it is from the stack file, not the source's default."""

    gb: int
    named: bool


@dataclass(frozen=True)
class MachinePlan:
    """The plan of one machine: its role variables, with the right types and with defaults, and its number of GPUs.

    `disk` is the system's, None when only the machine knows it. `pod`: not a machine, but one replica on a cluster, with its own GPUs.
    `member`: a machine of the stack's own cluster, on which no replica is set up. `gateway`: clients reach its replicas by its node proxy.
    """

    values: Mapping[str, Any]
    gpus: int
    disk: Disk | None = None
    pod: bool = False
    member: bool = False
    gateway: bool = False

    @functools.cached_property  # every rule asks
    def flags(self) -> dict[str, Any]:
        """The flags of `vllm serve`, by name with dashes: those of vllm_flags win over those in vllm_entrypoint."""
        words = [str(word) for word in self._list("vllm_entrypoint")]
        flags: dict[str, Any] = {}
        for word, after in zip(words, [*words[1:], "--"], strict=False):
            if word.startswith("--") and len(word) > len("--"):
                flag, equals, value = word.partition("=")
                flags[_dashes(flag)] = value if equals else (True if after.startswith("-") else after)
        return flags | {_dashes(str(flag)): value for flag, value in self._mapping("vllm_flags").items()}

    @property
    def replicas(self) -> list[Mapping[str, Any]]:
        """The replicas, each with its name, and `port` and `gpus` if set."""
        return [replica for replica in self._list("vllm_replicas") if isinstance(replica, Mapping)]

    @property
    def network(self) -> str:
        """The network of the replicas' containers: none, bridge or host (vllm_network, or vllm_host_network)."""
        return "host" if on(self.values.get("vllm_host_network")) else str(self.values.get("vllm_network") or "none")

    @property
    def repository(self) -> str:
        """The hub's name of the weights."""
        return str(self.values.get("weights_repository", ""))

    @property
    def model(self) -> models.Model | None:
        """The shape of the model, if known."""
        return models.shapes().get(self.repository)

    @property
    def environment(self) -> Mapping[str, Any]:
        """The environment variables that the stack adds to the role's own."""
        return self._mapping("vllm_environment")

    def _mapping(self, name: str) -> Mapping[str, Any]:
        """Return a variable that is a mapping; {} for an expression, whose value is known only when Ansible runs."""
        value = self.values.get(name)
        return value if isinstance(value, Mapping) else {}

    def _list(self, name: str) -> list[Any]:
        """Return a variable that is a list; [] for an expression, whose value is known only when Ansible runs."""
        value = self.values.get(name)
        return value if isinstance(value, list) else []

    def count(self, flag: str, default: int = 1) -> int:
        """Return a flag that is a whole number; the default when it is malformed, which the rule `numbers` reports."""
        return whole(self.flags.get(flag, default)) or default

    @property
    def ranks(self) -> int:
        """The number of GPUs that each layer is split over (tensor-parallel-size)."""
        return self.count("tensor-parallel-size")

    @property
    def context(self) -> int:
        """The longest request in tokens: max-model-len, or the model's own context; 0 when neither is known."""
        return self.count("max-model-len", self.model.context if self.model else 0)

    @property
    def room(self) -> models.Room | None:
        """The memory of a replica's GPU, if the model is known."""
        return self.room_over(self.ranks)

    def room_over(self, ranks: int) -> models.Room | None:
        """Return the memory of a GPU with the model split over `ranks` GPUs and otherwise the same flags."""
        if self.model is None:
            return None
        utilization = self.flags.get("gpu-memory-utilization", models.UTILIZATION)
        return models.room(
            self.model,
            ranks,
            data_encoder=self.flags.get("mm-encoder-tp-mode") == "data",
            utilization=float(utilization) if number(utilization) else models.UTILIZATION,
            width=models.WIDTHS.get(str(self.flags.get("kv-cache-dtype", "")), 2),
        )


Rule = findings.Rule[MachinePlan, StackFinding]
Check = Callable[[MachinePlan], Iterator[StackFinding]]


def rule(reason: str, source: str, level: findings.Level = "error") -> Callable[[Check], Rule]:
    """Return a decorator that makes a check a rule: the check's name with dashes is its name, the docstring its statement."""

    def decorate(check: Check) -> Rule:
        name, holds = check.__name__.replace("_", "-"), check.__doc__ or ""
        return Rule(name=name, holds=holds, reason=reason, source=source, check=check, level=level)

    return decorate


def on(value: Any) -> bool:
    """Whether a switch is on, as vLLM reads it from its configuration file."""
    return value is not None and str(value).strip().lower() not in ("", "0", "false", "no", "off", "none")


def whole(value: Any) -> int | None:
    """Return a whole number of at least 1, also from text; None for anything else."""
    text = str(value).strip()
    return int(text) if text.isdecimal() and int(text) >= 1 else None


def number(value: Any) -> bool:
    """Whether a value is a number, also as text."""
    text = str(value).strip()
    return text.replace(".", "", 1).isdecimal()


def _dashes(flag: str) -> str:
    return flag.lstrip("-").replace("_", "-")
