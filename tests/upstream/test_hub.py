"""The hub's API resolves a branch of a model repository; an answer of another form, length, host or time is refused."""

import socket
import threading
from collections.abc import Iterator

import pytest

from fleet import errors
from fleet.upstream import bounded, hub
from tests.support.upstream_servers import Plain

COMMIT = "12" * 20
PATH = "/api/models/zai-org/GLM-4.6V/revision/main"


@pytest.fixture
def server() -> Iterator[Plain]:
    server = Plain()
    yield server
    server.close()


def ask(server: Plain, revision: str = "main") -> str:
    return hub.commit(server.url, "zai-org/GLM-4.6V", revision)


def test_a_branch_resolves_to_the_hub_s_commit(server: Plain) -> None:
    server.json(PATH, {"sha": COMMIT, "siblings": [{"rfilename": "config.json"}]})
    assert ask(server) == COMMIT


def test_a_branch_with_a_slash_is_one_part_of_the_path(server: Plain) -> None:
    server.json("/api/models/zai-org/GLM-4.6V/revision/refs%2Fpr%2F1", {"sha": COMMIT})
    assert ask(server, "refs/pr/1") == COMMIT


def test_only_redirects_within_the_hub_are_followed(server: Plain) -> None:
    server.json("/renamed", {"sha": COMMIT})
    server.answers[PATH] = (307, {"Location": "/renamed"}, b"")
    assert ask(server) == COMMIT
    other = Plain()
    server.answers[PATH] = (307, {"Location": f"{other.url}/x"}, b"")
    with pytest.raises(errors.FleetError, match=f"redirects to 127.0.0.1:{other.server_address[1]}"):
        ask(server)
    other.close()
    assert other.requests == []
    server.answers[PATH] = (307, {"Location": PATH}, b"")
    with pytest.raises(errors.FleetError, match="redirects more than 3 times"):
        ask(server)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        b"[" * 200_000,
        b'{"sha": null}',
        b'{"sha": ["' + COMMIT.encode() + b'"]}',
        b'{"sha": "main"}',
        b'{"sha": "' + COMMIT.encode() + b'\n"}',
        b'{"sha": "' + b"\\u001b[2J" * 1000 + b'"}',
        b'{"sha": ' + b"9" * 10_000 + b"}",
        b"\xff\xfe",
    ],
)
def test_an_answer_of_another_form_is_refused_in_a_short_message(server: Plain, body: bytes) -> None:
    server.answers[PATH] = (200, {}, body)
    with pytest.raises(errors.FleetError) as caught:
        ask(server)
    assert len(str(caught.value)) < 500 and "\x1b" not in str(caught.value)
    assert "wanted: 40 hex digits" in str(caught.value)


def test_a_body_without_an_end_is_cut(server: Plain) -> None:
    server.json(PATH, {})
    server.endless = True
    with pytest.raises(errors.FleetError, match="sends more than 8 MiB"):
        ask(server)


def test_a_request_to_a_server_that_never_ends_its_answer_ends_in_time(server: Plain) -> None:
    silent = socket.create_server(("127.0.0.1", 0))
    end = threading.Event()

    def drip() -> None:
        connection, _ = silent.accept()
        with connection:
            connection.sendall(b"HTTP/1.1 200 OK\r\n")
            while not end.wait(0.05):  # each byte arrives in time, the whole answer never
                try:
                    connection.sendall(b"X")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
    with pytest.raises(errors.FleetError, match="no complete answer within 1 s"):
        bounded.ask("look", "GET", url, {}, seconds=0.6)
    end.set()
    thread.join()
    silent.close()


@pytest.mark.parametrize(
    ("status", "message"), [(401, "to nobody without a token"), (404, "no such revision"), (500, "500 from")]
)
def test_a_refusal_of_the_hub_is_reported(server: Plain, status: int, message: str) -> None:
    server.json(PATH, {}, status)
    with pytest.raises(errors.FleetError, match=message):
        ask(server)


@pytest.mark.parametrize("revision", ["", "-x", "a b", "main\n"])
def test_what_is_no_name_causes_no_request(server: Plain, revision: str) -> None:
    with pytest.raises(errors.FleetError, match="no name of a branch"):
        ask(server, revision)
    assert server.requests == []
