"""roles/transformers/files/read.py against a hostile registry over TLS, and the grammar of names that it accepts.

The reader runs as on a node, with a stand-in for `docker` that has one image; tests/support/hostile_registry.py is the registry.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import hostile_registry, image_references
from tests.support.hostile_registry import (
    LOGIN,
    OTHER,
    PUSHED,
    RECIPE,
    Answer,
    Handler,
    Node,
    Server,
    answer_digest,
    certify,
)

LOOKUP = "{{ lookup('pipe', 'touch /tmp/owned') }}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def registry(certificate: Path) -> Iterator[Server]:
    with Server(certificate) as server:
        yield server
        server.shutdown()


@pytest.fixture
def elsewhere(certificate: Path) -> Iterator[Server]:
    """Another host, which the registry names, and which this node trusts as well."""
    with Server(certificate) as server:
        server.answer = lambda request: request.reply(200, b'{"token": "stolen"}', Docker_Content_Digest=PUSHED)
        yield server
        server.shutdown()


@pytest.fixture
def node(tmp_path: Path, certificate: Path, registry: Server) -> Node:
    return Node(tmp_path, certificate, registry)


def result(node: Node) -> tuple[str, str]:
    """Return what the reader says about the registry, and the image that it serves."""
    report = node.read()
    return report["registry"], report["image"]


def test_an_image_has_the_digest_of_its_push(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(PUSHED)
    assert result(node) == ("has it", f"{node.repository}@{PUSHED}")


@pytest.mark.parametrize("digest", [digest for digest, right in image_references.DIGESTS.items() if not right])
def test_a_digest_of_another_form_is_refused_and_not_repeated(node: Node, registry: Server, digest: str) -> None:
    registry.answer = answer_digest(digest)
    report = node.read()
    assert report["image"] == "" and ": 200 from the registry with " in report["registry"]
    assert report["wanted"] == "the header Docker-Content-Digest: sha256:<64 hex digits>"
    assert not {"{", "}", "<", "'"} & set(report["registry"])


def test_an_answer_without_a_digest_is_reported_with_its_content_type(node: Node, registry: Server) -> None:
    registry.answer = lambda request: request.reply(200, Content_Type="text/html; charset=utf-8")
    assert node.message() == (
        "https://registry/v2/glm/serving/manifests/v1: 200 from the registry with no digest (text/html; charset=utf-8)"
    )


def test_another_digest_than_this_node_pushed_stops_the_run(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(OTHER)
    report = node.read()
    assert (report["registry"], report["image"]) == (f"its tag is {OTHER}", "")
    assert report["wanted"] == f"{PUSHED}, which this node pushed or pulled for it"
    assert report["next"].endswith(f"`transformers_accepted_digest: {OTHER}` in the stack file")


def test_another_digest_than_the_state_has_of_this_recipe_stops_the_run(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(OTHER)
    node.known, node.image = f"{node.repository}@{PUSHED}", None  # another machine builds now
    assert node.message() == f"its tag is {OTHER} now"
    assert node.read()["wanted"] == f"{PUSHED}, which the state has of the same recipe"
    node.image = {"Config": {"Labels": {"glm-fleet.recipe": RECIPE}}, "RepoDigests": [f"{node.repository}@{OTHER}"]}
    assert node.message() == f"its tag is {OTHER} now"  # though it was pulled here, by hand


def test_another_digest_is_accepted_where_the_stack_names_it(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(OTHER)
    node.known, node.accepted = f"{node.repository}@{PUSHED}", OTHER
    assert result(node) == ("has it", "")  # so it is pulled
    assert node.image
    node.image["RepoDigests"].append(f"{node.repository}@{OTHER}")
    assert node.read()["image"] == f"{node.repository}@{OTHER}"
    registry.answer = answer_digest("sha256:" + "01" * 32)
    assert "01" * 32 in node.message()  # that one and no other


def test_the_image_of_the_state_is_pulled_where_the_node_has_an_older_one(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(OTHER)
    node.known = f"{node.repository}@{OTHER}"
    assert result(node) == ("has it", "")


def test_an_image_of_another_repository_in_the_state_is_not_compared(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(PUSHED)
    node.known = f"registry.example/glm/serving@{OTHER}"
    assert node.read()["registry"] == "has it"


def test_an_image_that_was_never_pushed_does_not_count_as_the_registrys(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(OTHER)
    assert node.image
    node.image["RepoDigests"] = [f"registry.example/glm/other@{OTHER}"]
    assert result(node) == ("has it", "")


def test_an_image_of_another_recipe_is_not_served(node: Node, registry: Server) -> None:
    registry.answer = answer_digest(PUSHED)
    assert node.image
    node.image["Config"]["Labels"]["glm-fleet.recipe"] = "34" * 32
    assert result(node) == ("has it", "")


def test_the_nodes_own_image_counts_until_it_is_pushed(node: Node) -> None:
    assert result(node) == ("has it not", "sha256:" + "ef" * 32)


def test_a_redirect_elsewhere_is_not_followed(node: Node, registry: Server, elsewhere: Server) -> None:
    registry.answer = lambda request: request.reply(307, Location=f"https://{elsewhere.name}/v2/")
    assert "307 from the registry, which sends us to https://127.0.0.1:" in node.message()
    registry.answer = lambda request: request.reply(302, Location="file:///etc/passwd")
    assert node.message().endswith("302 from the registry")
    assert elsewhere.requests == []


def test_a_redirect_within_the_registry_is_followed(node: Node, registry: Server) -> None:
    redirect, answer = {"Location": "/mirror/v1"}, {"Docker_Content_Digest": PUSHED}
    registry.answer = lambda request: (
        request.reply(307, **redirect) if request.path.startswith("/v2/") else request.reply(200, **answer)
    )
    assert node.read()["registry"] == "has it"
    registry.answer = lambda request: request.reply(307, Location=f"{request.path}x")
    assert "307" in node.message() and len(registry.requests) < 12  # not for ever


def challenge(realm: str, token: Answer | None = None) -> Answer:
    """Return a registry that wants a token of the service at a realm; `token` is that service where it is on this host."""

    def service(request: Handler) -> None:
        right = request.headers.get("Authorization") == f"Basic {LOGIN}"
        request.reply(*((200, b'{"token": "right"}') if right else (401, b"")))

    def answer(request: Handler) -> None:
        if request.command == "GET":
            (token or service)(request)
        elif request.headers.get("Authorization") == "Bearer right":
            request.reply(200, Docker_Content_Digest=PUSHED)
        else:
            request.reply(401, WWW_Authenticate=f'Bearer realm="{realm}",service="registry",scope="pull"')

    return answer


def test_the_registrys_own_token_service_gets_the_login(node: Node, registry: Server) -> None:
    registry.answer = challenge(f"https://{registry.name}/token")
    assert node.read()["registry"] == "has it"
    assert registry.requests[1][:2] == ("GET", "/token?service=registry&scope=pull")


def test_another_host_receives_neither_login_nor_request(node: Node, registry: Server, elsewhere: Server) -> None:
    realm = f"https://localhost:{elsewhere.server_address[1]}/token"
    registry.answer = challenge(realm)
    assert node.message().endswith(f"401 from the registry, whose token service would be {realm}")
    assert node.read()["wanted"] == "a token service of the registry's own domain, over https: the login goes there"
    registry.answer = challenge(f"http://{registry.name}/token")
    assert "whose token service would be http://" in node.message()
    assert (elsewhere.requests, registry.logins()) == ([], [])


def test_a_redirect_of_the_token_service_sends_no_login(node: Node, registry: Server, elsewhere: Server) -> None:
    location = f"https://{elsewhere.name}/token"
    registry.answer = challenge(f"https://{registry.name}/token", lambda request: request.reply(302, Location=location))
    assert "302 from the registry, which sends us to" in node.message()
    assert elsewhere.requests == []


@pytest.mark.parametrize(
    "body",
    [
        *(b"<html>", b"[]", b'{"token": 7}', b'{"token": "a\\r\\nX: y"}', b'{"token": ""}', b"[" * 30000),
        b'{"token": "' + b"x" * 70000,
    ],
    ids=["html", "list", "number", "lines", "empty", "deep", "huge"],
)
def test_a_token_of_another_form_is_refused(node: Node, registry: Server, body: bytes) -> None:
    registry.answer = challenge(f"https://{registry.name}/token", lambda request: request.reply(200, body))
    message = node.message()
    assert "no token from" in message or "more than 65536 bytes from its token service" in message
    assert (len(body) > 65536) is ("more than" in message)


def test_a_registry_with_another_protocol_is_reported(node: Node, registry: Server) -> None:
    registry.answer = lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") and None
    assert node.message().startswith("https://registry/v2/glm/serving/manifests/v1: ")


def test_a_repository_of_another_form_causes_no_request(node: Node, registry: Server) -> None:
    node.repository = f"{registry.name}/{LOOKUP}"
    report = node.read()
    assert report["registry"].endswith("is no name of an image in a registry") and "{" not in report["registry"]
    assert report["next"] == "correct transformers_registry"
    assert registry.requests == []


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transformers_read", hostile_registry.READ)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("name", "right"), image_references.TAGS.items())
def test_a_name_has_the_grammar_of_references(reader: ModuleType, name: str, right: bool) -> None:
    assert bool(reader.TAGGED.fullmatch(name)) is right


@pytest.mark.parametrize(("pair", "right"), image_references.REALMS.items())
def test_a_token_service_of_the_registrys_own_domain_is_its_own(
    reader: ModuleType, pair: tuple[str, str], right: bool
) -> None:
    assert reader.own_service(*pair) is right


@pytest.mark.parametrize(
    ("registry", "names"),
    [
        ("docker.io/glm/serving", ["glm/serving"]),
        ("docker.io/library/serving", ["serving"]),
        ("registry.example/glm", ["registry.example/glm"]),
    ],
)
def test_digests_of_docker_io_have_no_host(reader: ModuleType, registry: str, names: list[str]) -> None:
    image = {"RepoDigests": [f"{name}@{PUSHED}" for name in [*names, "registry.example/another"]]}
    assert reader.own_digests(image, registry) == {PUSHED}
    image = {"RepoDigests": [f"{names[0]}@sha256:short", f"evil/{names[0]}@{OTHER}"]}
    assert reader.own_digests(image, registry) == set()
