"""The resources of this provider by kind. Called by the servicer."""

from collections.abc import Collection

from fleet.provider.account import Account
from fleet.provider.authority import Authority
from fleet.provider.baremetal import BareMetal
from fleet.provider.base import Resource
from fleet.provider.gateway import Gateway
from fleet.provider.hostkey import HostKey
from fleet.provider.image import Image
from fleet.provider.member import Member
from fleet.provider.node import Node
from fleet.provider.playbook import Playbook
from fleet.provider.rollout import Rollout
from fleet.provider.serving import Serving
from fleet.provider.slots import Slots
from fleet.provider.weights import Weights


def kinds(slots: Slots, purge: Collection[str] = ()) -> dict[str, Resource]:
    """Return the resources of this provider by kind; `purge` names what Host and Weights also remove on delete."""
    return {
        "BareMetal": BareMetal(),
        "HostKey": HostKey(),
        "Authority": Authority(),
        "Account": Account(),
        "Node": Node(),
        "Host": Playbook("Host", ("gpus", "driver", "engine"), slots, purge=purge),
        "Image": Image("Image", ("image", "commit", "version", "recipe"), slots),
        "Weights": Weights(
            "Weights",
            ("path", "revision", "bytes", "files", "manifest", "certificates", "ends"),
            slots,
            purge=purge,
        ),
        "Serving": Serving("Serving", ("replicas", "verdict"), slots),
        "Gateway": Gateway("Gateway", ("version", "certificates", "ends", "acme"), slots),
        "Member": Member("Member", ("part", "version", "endpoint", "authority", "ends"), slots),
        "Rollout": Rollout(),
    }
