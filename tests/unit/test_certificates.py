"""The stack's authority and what it signs, as OpenSSL judges it, and when a certificate must be replaced."""

import datetime
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509

from fleet import certificates
from fleet.certificates import Wanted

LATER = certificates.now()
NOW = LATER - datetime.timedelta(days=1)
NODE = Wanted("server", "glm-1", ("glm-1", "192.0.2.11"))
CLIENT = Wanted("client", "glm-2")
SERVER = Wanted("server", "glm.example.com", ("glm.example.com", "2001:DB8::1"))


@pytest.fixture(scope="module")
def authority() -> tuple[str, str]:
    """Certificate and key of an authority."""
    return certificates.new_authority("glm-fleet prod", NOW)


def context(folder: Path, authority: str, own: str = "", server: bool = False) -> ssl.SSLContext:
    """Return a strict TLS context that trusts one authority, and has a certificate of its own."""
    result = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    result.verify_flags |= ssl.VERIFY_X509_STRICT
    result.load_verify_locations(cadata=authority)
    if own:
        file = folder / ("server.pem" if server else "client.pem")
        file.write_text(own)
        result.load_cert_chain(file)
    if server:
        result.verify_mode = ssl.CERT_REQUIRED
    return result


def handshake(folder: Path, trusted: str, server: str, client: str, host: str) -> str:
    """Return the common name that a server sees of its client. Raises SSLError as the client sees it, ConnectionError from the server."""
    near, far = socket.socketpair()
    names: list[str] = []

    def accept() -> None:
        try:
            with context(folder, trusted, server, server=True).wrap_socket(far, server_side=True) as peer:
                subject = dict(pair[0] for pair in (peer.getpeercert() or {})["subject"])
                names.append(subject["commonName"])
                peer.send(b"1")
        except OSError:
            far.close()

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        with near, context(folder, trusted, client).wrap_socket(near, server_hostname=host) as peer:
            if not peer.recv(1):
                raise ConnectionError("the server refuses the client")
    finally:
        thread.join()
    return names[0]


@pytest.mark.parametrize("host", ["glm-1", "192.0.2.11"])
def test_a_gateway_and_a_node_recognise_each_other(authority: tuple[str, str], tmp_path: Path, host: str) -> None:
    node, client = (certificates.issue(wanted, *authority, NOW) for wanted in (NODE, CLIENT))
    assert handshake(tmp_path, authority[0], node, client, host) == "glm-2"


@pytest.mark.parametrize(
    ("server", "client", "host", "other"),
    [
        (NODE, CLIENT, "glm-3", False),
        (NODE, NODE, "glm-1", False),
        (CLIENT, CLIENT, "glm-2", False),
        (NODE, CLIENT, "glm-1", True),
    ],
    ids=["another name", "a node as a client", "a client as a node", "another authority"],
)
def test_they_accept_nothing_else(
    authority: tuple[str, str], tmp_path: Path, server: Wanted, client: Wanted, host: str, other: bool
) -> None:
    trusted = certificates.new_authority("glm-fleet prod", NOW)[0] if other else authority[0]
    pems = [certificates.issue(wanted, *authority, NOW) for wanted in (server, client)]
    with pytest.raises(OSError, match=r"verify failed|refuses the client|alert|reset|Broken pipe"):
        handshake(tmp_path, trusted, *pems, host)


def test_a_renewed_authority_still_vouches_for_what_it_signed(authority: tuple[str, str], tmp_path: Path) -> None:
    node, client = (certificates.issue(wanted, *authority, NOW) for wanted in (NODE, CLIENT))
    renewed = certificates.renewed_authority(*authority, LATER)
    assert certificates.ends(renewed) > certificates.ends(authority[0])
    assert handshake(tmp_path, renewed, node, client, "glm-1") == "glm-2"
    assert certificates.reason_to_issue(node, NODE, renewed, NOW) == ""
    again = certificates.issue(NODE, renewed, authority[1], LATER)
    assert handshake(tmp_path, authority[0], again, client, "glm-1") == "glm-2", "a client with the old one goes on"


def test_each_certificate_has_its_own_key_its_names_and_ninety_days(authority: tuple[str, str]) -> None:
    first, second = (certificates.issue(SERVER, *authority, NOW) for _ in range(2))
    assert first.partition("PRIVATE KEY")[2] != second.partition("PRIVATE KEY")[2]
    assert certificates.hosts(first) == ["glm.example.com", "2001:db8::1"]
    assert certificates.ends(first) == NOW.date() + datetime.timedelta(days=90)
    assert certificates.ends(authority[0]) == NOW.date() + datetime.timedelta(days=3650)
    assert certificates.has_key(first, first[first.index("-----BEGIN PRIVATE") :])
    assert not certificates.has_key(first, authority[1])


def test_no_certificate_outlives_its_authority(authority: tuple[str, str]) -> None:
    late = NOW + datetime.timedelta(days=3640)
    assert certificates.ends(certificates.issue(NODE, *authority, late)) == certificates.ends(authority[0])


def test_a_name_that_is_too_long_for_a_subject_is_only_an_alternative_name(authority: tuple[str, str]) -> None:
    host = ".".join(["a" * 40] * 4)
    pem = certificates.issue(Wanted("server", host, (host,)), *authority, NOW)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    assert (list(certificate.subject), certificates.hosts(pem)) == ([], [host])


@pytest.mark.parametrize(
    ("days", "wanted", "reason"),
    [
        (0, SERVER, ""),
        (59, SERVER, ""),
        (60, SERVER, "its certificate ends DAY, renewed"),
        (200, SERVER, "its certificate ends DAY, renewed"),
        (
            0,
            Wanted("server", "glm.example.com", ("glm.example.com",)),
            "the names of its certificate change from glm.example.com, 2001:db8::1 to glm.example.com",
        ),
    ],
)
def test_a_certificate_is_replaced_a_month_before_its_end_and_for_other_names(
    authority: tuple[str, str], days: int, wanted: Wanted, reason: str
) -> None:
    pem = certificates.issue(SERVER, *authority, NOW)
    at = NOW + datetime.timedelta(days=days)
    expected = reason.replace("DAY", str(certificates.ends(pem)))
    assert certificates.reason_to_issue(pem, wanted, authority[0], at) == expected


def test_a_certificate_of_another_authority_or_of_none_is_replaced(authority: tuple[str, str]) -> None:
    for name in ("glm-fleet prod", "glm-fleet dev"):  # the same name and another key; another name
        other = certificates.issue(SERVER, *certificates.new_authority(name, NOW), NOW)
        reason = certificates.reason_to_issue(other, SERVER, authority[0], NOW)
        assert reason == "another authority has signed its certificate"
    assert certificates.reason_to_issue("", SERVER, authority[0], NOW) == "it has no certificate"
    assert certificates.reason_to_issue("x", SERVER, authority[0], NOW) == "its certificate cannot be read"
