"""The interface of a resource, and one request about it. Called by the servicer, which knows gRPC and no machine.

Implemented by one class a kind, in the files beside this one and in the lab's plugins, which know machines and no gRPC.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fleet import errors
from fleet.impact.effects import Effect
from fleet.provider.properties import UNKNOWN, Props

ROOT = Path(__file__).resolve().parents[2]
# Inputs that are outputs of other resources. After a failure, the Pulumi engine omits them, requests check and diff all the same, and then
# skips the resource. Check therefore uses their old values; otherwise the diff would replace the resource.
FROM_RESOURCES = (
    *("address", "host_key", "install", "node", "vars", "image", "weights"),
    *("authority", "authority_key", "acme_key", "cluster", "control_plane", "neighbours"),
)

# Properties whose values must not appear in a message or a log.
SECRET = (
    *("api_key", "token", "private", "username", "password"),
    *("authority_key", "inner_key", "gateway_key", "acme_key", "certificates"),
)


@dataclass(frozen=True)
class Request:
    """One request of the Pulumi engine about one resource; `report` and `warn` show a line beside it.

    `keep` registers a function that returns the state to save if the work ends in an unexpected exception; the last one counts.
    """

    urn: str
    report: Callable[[str, bool], None]  # text, ephemeral
    cancelled: threading.Event
    warn: Callable[[str], None] = lambda text: None
    keep: Callable[[Callable[[], Props]], None] = lambda state: None

    @property
    def stack(self) -> str:
        """Return the stack's name: urn:pulumi:STACK::PROJECT::TYPE::NAME."""
        return self.urn.split("::")[0].rpartition(":")[2]

    @property
    def project(self) -> str:
        """Return the project's name."""
        return self.urn.split("::")[1]

    @property
    def name(self) -> str:
        """Return the resource's name in the program."""
        return name_of(self.urn)

    @property
    def kind(self) -> str:
        """Return BareMetal, HostKey, Authority, Account, Node, Host, Image, Weights, Serving, Gateway, Member or Rollout."""
        return kind_of(self.urn)


class InitFailed(Exception):
    """The resource exists, but its set-up failed with `error`; the state saves `properties`."""

    def __init__(self, properties: Props, error: errors.FleetError) -> None:
        super().__init__(str(error))
        self.properties, self.error = properties, error


@contextlib.contextmanager
def on_failure(end: Callable[[errors.FleetError | None], None]) -> Iterator[None]:
    """Call `end` where the work fails, with its error; with None for one that is no FleetError."""
    error: errors.FleetError | None = None
    ended = False
    try:
        yield
        ended = True
    except InitFailed as failure:
        error = failure.error
        raise
    except errors.FleetError as failure:
        error = failure
        raise
    finally:
        if not ended:
            end(error)


class Resource(Protocol):
    """One kind of resource. Its properties are its inputs and outputs together, as in Pulumi's state."""

    @property
    def computed(self) -> Collection[str]:
        """Return the outputs that are not inputs."""

    @property
    def replace(self) -> Collection[str]:
        """Return the property paths whose change replaces the resource."""

    @property
    def ignored_inputs(self) -> Collection[str]:
        """Return the inputs that Diff ignores; they apply with the next update."""

    def check(self, inputs: Props) -> Mapping[str, str]:
        """Return {property: problem}."""

    def due(self, properties: Props) -> Mapping[str, str]:
        """Return {output: reason} for each output that time alone makes old, such as a certificate that ends: an update renews it."""

    def one_at_a_time(self, old_inputs: Props, inputs: Props, old: Props) -> Sequence[str]:
        """Return the replicas that an update can change one after the other while the others serve; none for most kinds."""

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return the properties after a create (old is None) or update, UNKNOWN where a preview cannot know them.

        After a failed update, `old` has the inputs of that update, `old_inputs` those of the last success.
        """

    def create_effects(self, inputs: Props) -> Sequence[Effect]:
        """Return what a create does to an existing machine, the strongest effect first; usually nothing."""

    def effects(self, old_inputs: Props, inputs: Props, old: Props) -> list[Effect]:
        """Return what an update will do to the machine, the strongest effect first."""

    def apply(self, request: Request, inputs: Props, old: Props | None) -> Props:
        """Create or update the resource; return its properties. Raises InitFailed or FleetError."""

    def read(self, request: Request, properties: Props) -> Props | None:
        """Return the properties as they are on the machine now, or None if the resource no longer exists. Raises FleetError."""

    def delete(self, request: Request, properties: Props) -> None:
        """Remove what the resource created. Raises FleetError."""


class BaseResource:
    """Base for resources whose inputs all take part in the diff, and whose create affects no existing machine."""

    computed: Collection[str]
    ignored_inputs: Collection[str] = ()

    def due(self, properties: Props) -> Mapping[str, str]:
        """Return nothing: time alone changes nothing."""
        return {}

    def one_at_a_time(self, old_inputs: Props, inputs: Props, old: Props) -> Sequence[str]:
        """Return nothing: an update hits the whole machine."""
        return ()

    def planned_outputs(self, inputs: Props, old_inputs: Props, old: Props | None) -> Props:
        """Return the inputs with the old outputs, UNKNOWN before the create."""
        return {**inputs, **{key: (old or {}).get(key, UNKNOWN) for key in self.computed}}

    def create_effects(self, inputs: Props) -> Sequence[Effect]:
        """Return nothing."""
        return ()


def kind_of(urn: str) -> str:
    """Return the kind in a urn: the last part of its type, after the types of its parents."""
    return urn.split("::")[2].rpartition(":")[2]


def name_of(urn: str) -> str:
    """Return the resource's name in a urn, which is its machine's name where it is on one."""
    return urn.rpartition("::")[2]


def state_dir() -> Path:
    """Return the folder for logs and evidence: FLEET_STATE (bootstrap/env.sh), or .pulumi of the project."""
    return Path(os.environ.get("FLEET_STATE") or ROOT / ".pulumi")
