"""What a control plane is asked: over a connection that answers as kubeadm and kubectl do, and as somebody else would."""

import base64
from collections.abc import Mapping
from typing import Any, cast

import pytest

from fleet import errors, ssh
from fleet.managed import membership

TOKEN, KEY = "abcdef.0123456789abcdef", "5f" * 32
CERTIFICATE = "-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n"
PRIVATE = "-----BEGIN RSA PRIVATE KEY-----\nAwQF\n-----END RSA PRIVATE KEY-----\n"
KUBECONFIG = f"""apiVersion: v1
users:
- name: admin
  user:
    client-certificate-data: {base64.b64encode(CERTIFICATE.encode()).decode()}
    client-key-data: {base64.b64encode(PRIVATE.encode()).decode()}
"""


class ControlPlane:
    """A connection whose commands give what `answers` has by a part of the command: text, or an exit code with words on stderr."""

    target = ssh.Target.from_inputs(
        {"name": "cp-1", "address": "10.0.0.1", "port": 22, "user": "root", "identity": "", "host_key": "ssh-ed25519 A"}
    )

    def __init__(self, answers: Mapping[str, str | tuple[int, str]]) -> None:
        self.answers, self.commands = answers, []  # type: ignore[var-annotated]

    def run(self, command: str, stdin: str = "", timeout: float = 60) -> ssh.Result:
        self.commands.append(command)
        answer = next((answer for part, answer in self.answers.items() if part in command), "")
        return ssh.Result(0, answer, "") if isinstance(answer, str) else ssh.Result(answer[0], "", answer[1])


def asked(answers: Mapping[str, Any]) -> tuple[ControlPlane, ssh.Connection]:
    plane = ControlPlane(answers)
    return plane, cast(ssh.Connection, plane)


def test_a_worker_gets_a_token_of_minutes_and_no_certificates() -> None:
    plane, connection = asked({"token create": f"{TOKEN}\n"})
    assert membership.ticket(connection, "gpu-1", False) == membership.Ticket(TOKEN)
    assert len(plane.commands) == 1 and "--ttl=1200s" in plane.commands[0]


def test_a_control_plane_that_joins_gets_the_key_of_the_certificates_too() -> None:
    _, connection = asked({"token create": f"{TOKEN}\n", "upload-certs": f"[upload-certs] Storing\n{KEY}\n"})
    assert membership.ticket(connection, "cp-2", True) == membership.Ticket(TOKEN, KEY)


@pytest.mark.parametrize("text", ["", "token: abcdef", f"{TOKEN}; reboot", "x" * 10_000])
def test_another_answer_than_a_token_is_refused_and_not_repeated(text: str) -> None:
    _, connection = asked({"token create": text})
    with pytest.raises(errors.CommandFailed) as caught:
        membership.ticket(connection, "gpu-1", False)
    assert (caught.value.seen == "another text" and not text.strip()) or text not in str(caught.value)


def test_a_control_plane_that_does_not_answer_is_named_with_its_words() -> None:
    _, connection = asked({"token create": (1, "timed out waiting for the condition\n")})
    with pytest.raises(errors.CommandFailed) as caught:
        membership.ticket(connection, "gpu-1", False)
    assert (caught.value.node, caught.value.seen) == ("cp-1", "timed out waiting for the condition")


def test_a_login_is_a_certificate_with_its_key_that_ends() -> None:
    plane, connection = asked({"kubeconfig user": KUBECONFIG})
    assert membership.login(connection, "glm-fleet/cluster", 30) == membership.Login(CERTIFICATE, PRIVATE)
    assert "--validity-period=720h" in plane.commands[0] and "--org=kubeadm:cluster-admins" in plane.commands[0]


@pytest.mark.parametrize(
    "text", ["", KUBECONFIG.replace("client-key-data", "token"), "    client-certificate-data: QUFB\n"]
)
def test_a_login_without_certificate_or_key_is_refused(text: str) -> None:
    _, connection = asked({"kubeconfig user": text})
    with pytest.raises(errors.CommandFailed, match="no certificate, or no key"):
        membership.login(connection, "glm-fleet/cluster", 30)


def test_a_member_is_drained_before_its_node_is_removed() -> None:
    plane, connection = asked({})
    membership.take_out(connection, "gpu-1")
    assert [command.split()[2:4] for command in plane.commands] == [["drain", "gpu-1"], ["delete", "node"]]


def test_a_member_whose_pods_stay_is_not_removed() -> None:
    plane, connection = asked({"drain": (1, 'error when evicting pods/"glm-0": violate the disruption budget\n')})
    with pytest.raises(errors.CommandFailed, match="violate the disruption budget"):
        membership.take_out(connection, "gpu-1")
    assert len(plane.commands) == 1


def test_a_member_that_is_gone_already_is_no_failure() -> None:
    missing = (1, 'Error from server (NotFound): nodes "gpu-1" not found\n')
    membership.take_out(asked({"drain": missing, "delete": missing})[1], "gpu-1")
