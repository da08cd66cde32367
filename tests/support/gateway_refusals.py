"""Requests that a gateway refuses, each with the statuses that are right for it. Called by tests/roles/test_gateway.py."""

import hashlib

from tests.support.gateway_fleet import KEYS, request
from tests.support.role_node import KEY

CHAT, MODELS = "/v1/chat/completions", "/v1/models"
PLENTY = KEYS["plenty"]
# What a client sends: bytes of a request, and the status that it gets.
CHUNK = b"1\r\n{\r\n0\r\n\r\n"
PATHS = (
    *(
        "/tokenize",
        "/v1/../tokenize",
        "/v1/%2e%2e/tokenize",
        "//v1/models",
        "/v1/models/",
        "/metrics",
        "/health",
        "/ready",
    ),
    *("/v1/responses", "/v1/load_lora_adapter", "/pause", "/v1/chat/completions;x", "http://x/tokenize"),
)
REFUSED: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "no key": (request("GET", MODELS), (401,)),
    "another key": (request("GET", MODELS, "sk-no"), (401,)),
    "the digest of a key": (request("GET", MODELS, hashlib.sha256(PLENTY.encode()).hexdigest()), (401,)),
    "the replica's own key": (request("GET", MODELS, KEY), (401,)),
    "a key by another scheme": (request("GET", MODELS, headers=(f"Authorization: Basic {PLENTY}",)), (401,)),
    **{f"path {path}": (request("GET", path, PLENTY), (404,)) for path in PATHS},
    "path with a null": (request("GET", "/v1/models%00", PLENTY), (400, 404)),
    "GET of a completion": (request("GET", CHAT, PLENTY), (405,)),
    "OPTIONS of a completion": (request("OPTIONS", CHAT, PLENTY), (405,)),
    "DELETE of the models": (request("DELETE", MODELS, PLENTY), (405,)),
    "a chunked body": (request("POST", CHAT, PLENTY, ("Transfer-Encoding: chunked",), CHUNK), (411,)),
    "a chunked body with a length": (
        request("POST", CHAT, PLENTY, ("Transfer-Encoding: chunked", "Content-Length: 3"), CHUNK),
        (400, 411),
    ),
    "no length and no body": (request("POST", CHAT, PLENTY), (411,)),
    "80 MB": (request("POST", CHAT, PLENTY, ("Content-Length: 80000000",), b"x" * 200_000), (413,)),
    "80 MB with a GET": (request("GET", MODELS, PLENTY, ("Content-Length: 80000000",), b"x" * 200_000), (413,)),
    "a length below nothing": (request("POST", CHAT, PLENTY, ("Content-Length: -1",)), (0, 400)),
    "two lengths": (request("POST", CHAT, PLENTY, ("Content-Length: 1", "Content-Length: 99999999")), (0, 400)),
    "no HTTP at all": (b"\x16\x03\x01 nothing\r\n\r\n", (400,)),
}
