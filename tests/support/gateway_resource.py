"""The resource Gateway without a machine: its inputs, a request, a stand-in for the runs of its playbook, the first day of its clock.

Called by tests/unit/conftest.py (travel), test_provider_gateway.py, test_provider_gateway_drains.py, test_provider_acme.py and
test_provider_weights.py.
"""

import datetime
import threading
from collections.abc import Callable, Mapping
from typing import Any

from fleet import errors
from fleet.ansible import converge
from fleet.managed import managed_set
from fleet.provider.authority import Authority
from fleet.provider.base import Request
from fleet.provider.properties import Props

NODE = {"name": "glm-1", "address": "192.0.2.11", "port": 22, "host_key": "ssh-ed25519 AAAA"}
NAMES = ["glm.example.com", "192.0.2.1"]
CLIENTS = {"team-a": {"sha256": "5f" * 32, "requests_per_minute": 600}}
START = datetime.datetime(2026, 12, 1, tzinfo=datetime.UTC)
Travel = Callable[[int], None]


class Runs:
    """Stands in for the runs of the playbook: keeps the jobs, reports `results`; raises an error where the test sets one."""

    def __init__(self, **results: Any) -> None:
        self.jobs: list[converge.Job] = []
        self.error: errors.FleetError | None = None
        self.results: Mapping[str, Any] = {"version": "2.8.16", **results}

    def __call__(self, job: converge.Job, *_: Any) -> converge.Outcome:
        self.jobs.append(job)
        if self.error:
            raise self.error
        return converge.Outcome({"fleet_gateway": self.results}, managed_set.Declared(), 0, 1, {"gateway": 3.0})


def request(kind: str = "Gateway", warnings: list[str] | None = None) -> Request:
    """Return a request for the resource of glm-1; its warnings go into the list."""
    urn = f"urn:pulumi:prod::glm-fleet::fleet:index:{kind}::glm-1"
    return Request(urn, lambda *_: None, threading.Event(), warn=([] if warnings is None else warnings).append)


def authority(old: Props | None = None) -> Props:
    """Return the state of the stack's authority after a create or an update."""
    return Authority().apply(request("Authority"), {}, old)


def inputs_of(signer: Props, *faces: str, **more: Any) -> Props:
    """Return the inputs of the proxies of glm-1."""
    variables = {"gateway_faces": list(faces), "gateway_address": "10.0.0.11", "gateway_clients": CLIENTS}
    keys = {"authority": signer["certificate"], "authority_key": signer["private"], "inner_key": "inner-0123456789"}
    return {"node": NODE, "roles": {"gateway": ""}, "vars": variables, "names": NAMES, **keys, **more}
