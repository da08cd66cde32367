"""Where a replica listens: on a socket, or on a port of an older state. Anything else is refused."""

from typing import Any

import pytest

from fleet import address, errors


def test_a_replica_listens_on_its_socket() -> None:
    replica = {"name": "glm-0", "socket": "/run/fleet/glm-0/sock", "model": "m"}
    assert address.socket_or_port(replica) == "/run/fleet/glm-0/sock"
    assert address.url(replica) == "unix:/run/fleet/glm-0/sock"


@pytest.mark.parametrize("port", [8000, 8000.0])
def test_a_replica_of_an_older_state_listens_on_its_port(port: float) -> None:
    assert address.socket_or_port({"name": "glm-0", "port": port}) == 8000
    assert address.url({"name": "glm-0", "port": port}) == "http://127.0.0.1:8000/v1"


@pytest.mark.parametrize(
    "replica",
    [
        {},
        {"port": 0},
        {"port": 65536},
        {"port": "8000"},
        {"port": True},
        {"port": [8000]},
        {"port": float("nan")},
        {"socket": "", "port": None},
        {"socket": "/run/fleet/../docker.sock", "port": 8000},
        {"socket": "/run/docker.sock"},
        {"socket": "/run/fleet/glm-0/sock\n"},
        {"socket": "/run/fleet/" + "a" * 200 + "/sock"},
        {"socket": "/run/fleet/a'); import os; ('/sock"},
        {"socket": ["/run/fleet/glm-0/sock"]},
        {"socket": {"a": 1}, "port": 8000},
    ],
)
def test_any_other_answer_of_a_node_is_refused(replica: dict[str, Any]) -> None:
    with pytest.raises(errors.FleetError, match="a socket /run/fleet/NAME/sock, or a port"):
        address.socket_or_port({"name": "glm-0", **replica})
