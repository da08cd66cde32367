"""A port of a pod on this machine's loopback: the frames of Kubernetes' websocket protocol against a server of the test's own."""

import base64
import hashlib
import http.client
import socket
import struct
import time
from collections.abc import Callable

import pytest

from fleet import errors
from fleet.cluster import Cluster, forward
from tests.support.http_server import Handler
from tests.support.scripted_api import TOKEN, ScriptedApi

PATH = "/api/v1/namespaces/glm/pods/glm-a/portforward"
PORT = 8000
GREETING = struct.pack("<H", PORT)
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000
KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # of the websocket protocol

Speak = Callable[[Handler], object]


def frame(channel: int, data: bytes) -> bytes:
    """Return an unmasked binary frame, as a server sends it."""
    payload = bytes([channel]) + data
    length = len(payload)
    head = struct.pack(">BB", 0x82, length) if length < 126 else struct.pack(">BBH", 0x82, 126, length)
    return (head if length < 1 << 16 else struct.pack(">BBQ", 0x82, 127, length)) + payload


def read_frame(handler: Handler) -> bytes:
    """Return the payload of the client's next frame, which is masked; b"" at the end."""
    head = handler.rfile.read(2)
    if not head:
        return b""
    length = head[1]
    length &= 0x7F
    if length == 126:
        [length] = struct.unpack(">H", handler.rfile.read(2))
    mask = handler.rfile.read(4)
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(handler.rfile.read(length)))


def upgraded(speak: Speak) -> Speak:
    """Return an answer that changes to websockets, and then speaks."""

    def answer(handler: Handler) -> None:
        key = handler.headers["Sec-WebSocket-Key"].encode()
        accept = base64.b64encode(hashlib.sha1(key + KEY).digest()).decode()
        handler.send_response(101)
        for name, value in {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Accept": accept,
            "Sec-WebSocket-Protocol": forward.PROTOCOL,
        }.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.flush()
        handler.close_connection = True
        speak(handler)

    return answer


def greet(handler: Handler) -> None:
    handler.wfile.write(frame(forward.DATA, GREETING) + frame(forward.ERROR, GREETING))


def serve(handler: Handler) -> None:
    """Answer one request as a pod does, in frames as a kubelet cuts them."""
    greet(handler)
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += read_frame(handler)[1:]
    for begin in range(0, len(ANSWER), 32_000):
        handler.wfile.write(frame(forward.DATA, ANSWER[begin : begin + 32_000]))
    read_frame(handler)  # the client's end


def get(port: int) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().read()
    finally:
        connection.close()


def test_a_request_goes_to_the_pod_and_its_whole_answer_comes_back(api: ScriptedApi, cluster: Cluster) -> None:
    api.answers[PATH] = upgraded(serve)
    with forward.Listener(cluster, "glm", "glm-a", PORT) as listener:
        bodies = [get(listener.port) for _ in range(3)]
    assert [len(body) for body in bodies] == [300_000] * 3
    assert api.asked == [f"{PATH}?ports={PORT}"] * 3
    assert set(api.tokens) == {f"Bearer {TOKEN}"}


def test_a_pod_that_does_not_listen_ends_the_connection_and_its_reason_is_kept(
    api: ScriptedApi, cluster: Cluster
) -> None:
    def refuse(handler: Handler) -> None:
        greet(handler)
        handler.wfile.write(frame(forward.ERROR, b"connection refused\x1b[2J"))

    api.answers[PATH] = upgraded(refuse)
    with forward.Listener(cluster, "glm", "glm-a", PORT) as listener:
        with pytest.raises((http.client.HTTPException, OSError)):
            get(listener.port)
        assert listener.seen == "connection refused\\x1b[2J"


STRANGE = {
    "a channel that was not asked for": b"\x82\x02\x07x",
    "an empty frame": b"\x82\x00",
    "a text": b"\x81\x02hi",
    "an end in the middle of a frame": b"\x82\x7e\xff\xff\x00abc",
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_not_the_protocol_ends_the_connection(api: ScriptedApi, cluster: Cluster, name: str) -> None:
    api.answers[PATH] = upgraded(lambda handler: handler.wfile.write(STRANGE[name]))
    with (
        forward.Listener(cluster, "glm", "glm-a", PORT) as listener,
        pytest.raises((http.client.HTTPException, OSError)),
    ):
        get(listener.port)


def test_the_end_of_the_listener_ends_a_connection_that_waits(api: ScriptedApi, cluster: Cluster) -> None:
    def wait(handler: Handler) -> None:
        greet(handler)
        read_frame(handler)

    api.answers[PATH] = upgraded(wait)
    with forward.Listener(cluster, "glm", "glm-a", PORT) as listener:
        client = socket.create_connection(("127.0.0.1", listener.port), 5)
        while not api.asked:
            time.sleep(0.01)
        begin = time.monotonic()
    assert time.monotonic() - begin < 3
    assert client.recv(1) == b""
    client.close()


def test_a_refusal_is_a_message_at_the_check(api: ScriptedApi, cluster: Cluster) -> None:
    words = 'pods "glm-a" is forbidden: User "u" cannot create resource "pods/portforward" in API group ""'
    api.answers[PATH] = (403, {"kind": "Status", "reason": "Forbidden", "message": words})
    with (
        forward.Listener(cluster, "glm", "glm-a", PORT) as listener,
        pytest.raises(errors.ClusterRefused, match="forward a port of pod glm-a") as caught,
    ):
        listener.check()
    assert caught.value.code == 403
    assert "fleet rights" in str(caught.value)


def test_an_api_server_that_is_gone_is_a_message_at_the_check(api: ScriptedApi, cluster: Cluster) -> None:
    api.close()
    with forward.Listener(cluster, "glm", "glm-a", PORT) as listener, pytest.raises(errors.ClusterUnreachable):
        listener.check()
