"""What every resource of the provider can do, and the surroundings it works in. One class a kind is beside this file.

Used by the servicer, which knows gRPC and no machine; implemented by node.py and playbook.py, which know machines and no gRPC.
"""

import os
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet import errors
from fleet.impact.effects import Effect
from fleet.provider.properties import UNKNOWN, Props

ROOT = Path(__file__).resolve().parents[2]
# Inputs that other resources give. During an update the engine leaves out those that a failure left unknown, asks for a check
# and a diff all the same, and then skips the resource: until then they count as they were, or a node would seem to be gone.
GIVEN = ("address", "host_key", "install", "node", "vars", "image", "weights")


@dataclass(frozen=True)
class Request:
    """One request of the engine about one resource: its urn, how to speak and to warn beside it, whether the run was cancelled.

    `keep` takes what the state should be if the work ends in an exception that nobody foresaw; the last one counts.
    """

    urn: str
    say: Callable[[str, bool], None]  # text, ephemeral
    cancelled: threading.Event
    warn: Callable[[str], None] = lambda text: None
    keep: Callable[[Callable[[], Props]], None] = lambda so_far: None

    @property
    def stack(self) -> str:
        """The stack's name: urn:pulumi:STACK::PROJECT::TYPE::NAME."""
        return self.urn.split("::")[0].rpartition(":")[2]

    @property
    def project(self) -> str:
        """The project's name."""
        return self.urn.split("::")[1]

    @property
    def name(self) -> str:
        """The resource's name in the program."""
        return name_of(self.urn)

    @property
    def kind(self) -> str:
        """BareMetal, HostKey, Node, Host, Image, Weights or Serving."""
        return kind_of(self.urn)


class InitFailed(Exception):
    """The resource exists and is not right: `properties` are what is known of it, `error` is why."""

    def __init__(self, properties: Props, error: errors.FleetError) -> None:
        super().__init__(str(error))
        self.properties, self.error = properties, error


class Resource(Protocol):
    """One kind of resource. Properties are inputs and outputs together, as Pulumi's state holds them."""

    @property
    def computed(self) -> Collection[str]:
        """Outputs that are no inputs."""

    @property
    def replace(self) -> Collection[str]:
        """Property paths whose change makes another resource of it."""

    @property
    def ignored_inputs(self) -> Collection[str]:
        """Inputs whose change is none: they are kept, and count at the next update that has another reason."""

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Return {property: what is wrong with it}."""

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return the properties after a create (old is None) or update, as far as they are known before it.

        After a failed update the state `old` has what that one tried, `old_inputs` are those of the last success.
        """

    def create_effects(self, inputs: Props) -> Sequence[Effect]:
        """Return what making it does to a machine that is there, the strongest first; nothing, when it is only new."""

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return what an update will do to the machine, the strongest first."""

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Make it so; return the properties. Raises InitFailed or FleetError."""

    def read(self, request: Request, properties: Props) -> Props | None:
        """Return the properties as they are on the machine now; None when the thing is gone."""

    def delete(self, request: Request, properties: Props) -> None:
        """Take off what was put on."""


class BaseResource:
    """Base for resources whose inputs all take part in the diff, and whose create has no effect on the machine."""

    computed: Collection[str]
    ignored_inputs: Collection[str] = ()

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return what is computed as it is; it is not known before there is anything."""
        return {**inputs, **{key: (old or {}).get(key, UNKNOWN) for key in self.computed}}

    def create_effects(self, inputs: Props) -> Sequence[Effect]:
        """Return nothing."""
        return ()


def kind_of(urn: str) -> str:
    """Return the kind of a urn: the last part of its type, past the types of its parents."""
    return urn.split("::")[2].rpartition(":")[2]


def name_of(urn: str) -> str:
    """Return the name of a resource: of a fleet's, its machine's."""
    return urn.rpartition("::")[2]


def state_dir() -> Path:
    """Where logs and evidence go: .pulumi of the project, or what FLEET_STATE names (bootstrap/env.sh)."""
    return Path(os.environ.get("FLEET_STATE") or ROOT / ".pulumi")
