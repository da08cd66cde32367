"""A registry that says anything gets nothing: roles/transformers/files/read.py against a registry over TLS, and the grammar that it reads by.

The reader runs as on a node, with a stand-in of `docker` that knows one image; what the registry says is the test's (tests/support/hostile_registry.py).
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tests.support import image_references
from tests.support.hostile_registry import (
    LOGIN,
    OTHER,
    PUSHED,
    READ,
    RECIPE,
    Answer,
    Handler,
    Node,
    Server,
    certify,
    gives,
)

LOOKUP = "{{ lookup('pipe', 'touch /tmp/owned') }}"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def registry(certificate: Path) -> Iterator[Server]:
    made = Server(certificate)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def elsewhere(certificate: Path) -> Iterator[Server]:
    """Another host, which the registry names, and which this node trusts as well."""
    made = Server(certificate)
    made.answer = lambda request: request.say(200, b'{"token": "stolen"}', Docker_Content_Digest=PUSHED)
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def node(tmp_path: Path, certificate: Path, registry: Server) -> Node:
    return Node(tmp_path, certificate, registry)


def test_an_image_is_named_by_the_digest_under_which_it_was_pushed(node: Node, registry: Server) -> None:
    registry.answer = gives(PUSHED)
    seen = node.read()
    assert (seen["registry"], seen["image"]) == ("has it", f"{node.repository}@{PUSHED}")


@pytest.mark.parametrize("digest", [digest for digest, right in image_references.DIGESTS.items() if not right])
def test_a_digest_of_another_form_is_not_believed_and_not_repeated(node: Node, registry: Server, digest: str) -> None:
    registry.answer = gives(digest)
    seen = node.read()
    assert seen["image"] == "" and ": 200 from the registry with " in seen["registry"]
    assert seen["wanted"] == "the header Docker-Content-Digest: sha256:<64 hex digits>"
    assert not {"{", "}", "<", "'"} & set(seen["registry"])


def test_an_answer_without_a_digest_is_told_with_what_came(node: Node, registry: Server) -> None:
    registry.answer = lambda request: request.say(200, Content_Type="text/html; charset=utf-8")
    assert node.message() == (
        "https://registry/v2/glm/serving/manifests/v1: 200 from the registry with no digest (text/html; charset=utf-8)"
    )


def test_another_digest_than_this_node_pushed_stops_the_run(node: Node, registry: Server) -> None:
    registry.answer = gives(OTHER)
    seen = node.read()
    assert (seen["registry"], seen["image"]) == (f"its tag is {OTHER}", "")
    assert seen["wanted"] == f"{PUSHED}, which this node pushed or pulled for it"
    assert seen["next"].endswith(f"`transformers_accepted_digest: {OTHER}` in the stack file")


def test_another_digest_than_the_state_has_of_this_recipe_stops_the_run(node: Node, registry: Server) -> None:
    registry.answer = gives(OTHER)
    node.known, node.image = f"{node.repository}@{PUSHED}", None  # another machine builds now
    assert node.message() == f"its tag is {OTHER} now"
    assert node.read()["wanted"] == f"{PUSHED}, which the state has of the same recipe"
    node.image = {"Config": {"Labels": {"glm-fleet.recipe": RECIPE}}, "RepoDigests": [f"{node.repository}@{OTHER}"]}
    assert node.message() == f"its tag is {OTHER} now"  # though it was pulled here, by hand


def test_another_digest_is_taken_where_the_user_says_so(node: Node, registry: Server) -> None:
    registry.answer = gives(OTHER)
    node.known, node.accepted = f"{node.repository}@{PUSHED}", OTHER
    assert (node.read()["registry"], node.read()["image"]) == ("has it", "")  # so it is pulled
    assert node.image
    node.image["RepoDigests"].append(f"{node.repository}@{OTHER}")
    assert node.read()["image"] == f"{node.repository}@{OTHER}"
    registry.answer = gives("sha256:" + "01" * 32)
    assert "01" * 32 in node.message()  # that one and no other


def test_what_the_state_has_is_pulled_where_the_node_has_an_older_one(node: Node, registry: Server) -> None:
    registry.answer = gives(OTHER)
    node.known = f"{node.repository}@{OTHER}"
    assert (node.read()["registry"], node.read()["image"]) == ("has it", "")


def test_what_the_state_has_of_another_repository_is_not_compared(node: Node, registry: Server) -> None:
    registry.answer = gives(PUSHED)
    node.known = f"registry.example/glm/serving@{OTHER}"
    assert node.read()["registry"] == "has it"


def test_an_image_that_was_never_pushed_does_not_stand_for_the_registrys(node: Node, registry: Server) -> None:
    registry.answer = gives(OTHER)
    assert node.image
    node.image["RepoDigests"] = [f"registry.example/glm/other@{OTHER}"]
    assert (node.read()["registry"], node.read()["image"]) == ("has it", "")


def test_an_image_of_another_recipe_is_not_served(node: Node, registry: Server) -> None:
    registry.answer = gives(PUSHED)
    assert node.image
    node.image["Config"]["Labels"]["glm-fleet.recipe"] = "34" * 32
    assert (node.read()["registry"], node.read()["image"]) == ("has it", "")


def test_an_image_that_the_registry_does_not_have_is_the_nodes_own_until_it_is_pushed(node: Node) -> None:
    seen = node.read()
    assert (seen["registry"], seen["image"]) == ("has it not", "sha256:" + "ef" * 32)


def test_a_redirect_elsewhere_is_not_followed(node: Node, registry: Server, elsewhere: Server) -> None:
    registry.answer = lambda request: request.say(307, Location=f"https://{elsewhere.name}/v2/")
    assert "307 from the registry, which sends us to https://127.0.0.1:" in node.message()
    registry.answer = lambda request: request.say(302, Location="file:///etc/passwd")
    assert node.message().endswith("302 from the registry")
    assert elsewhere.asked == []


def test_a_redirect_within_the_registry_is_followed(node: Node, registry: Server) -> None:
    def answer(request: Handler) -> None:
        if request.path.startswith("/v2/"):
            request.say(307, Location="/mirror/v1")
        else:
            request.say(200, Docker_Content_Digest=PUSHED)

    registry.answer = answer
    assert node.read()["registry"] == "has it"
    registry.answer = lambda request: request.say(307, Location=f"{request.path}x")
    assert "307" in node.message() and len(registry.asked) < 12  # not for ever


def challenge(realm: str) -> Answer:
    """A registry that wants a token of the service at a realm; that service is its own where it is on the same host."""

    def answer(request: Handler) -> None:
        if request.command == "GET":
            right = request.headers.get("Authorization") == f"Basic {LOGIN}"
            request.say(*((200, b'{"token": "right"}') if right else (401, b"")))
        elif request.headers.get("Authorization") == "Bearer right":
            request.say(200, Docker_Content_Digest=PUSHED)
        else:
            request.say(401, WWW_Authenticate=f'Bearer realm="{realm}",service="registry",scope="pull"')

    return answer


def test_the_registrys_own_token_service_gets_the_login(node: Node, registry: Server) -> None:
    registry.answer = challenge(f"https://{registry.name}/token")
    assert node.read()["registry"] == "has it"
    assert registry.asked[1][:2] == ("GET", "/token?service=registry&scope=pull")


def test_another_host_gets_neither_login_nor_request(node: Node, registry: Server, elsewhere: Server) -> None:
    realm = f"https://localhost:{elsewhere.server_address[1]}/token"
    registry.answer = challenge(realm)
    assert node.message().endswith(f"401 from the registry, whose token service would be {realm}")
    assert node.read()["wanted"] == "a token service of the registry's own domain, over https: the login goes there"
    registry.answer = challenge(f"http://{registry.name}/token")
    assert "whose token service would be http://" in node.message()
    assert (elsewhere.asked, registry.logins()) == ([], [])


def test_a_token_service_that_redirects_takes_no_login_along(node: Node, registry: Server, elsewhere: Server) -> None:
    def answer(request: Handler) -> None:
        if request.command == "GET":
            request.say(302, Location=f"https://{elsewhere.name}/token")
        else:
            request.say(401, WWW_Authenticate=f'Bearer realm="https://{registry.name}/token"')

    registry.answer = answer
    assert "302 from the registry, which sends us to" in node.message()
    assert elsewhere.asked == []


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b'{"token": 7}',
        b'{"token": "a\\r\\nX: y"}',
        b'{"token": ""}',
        b"[" * 30000,
        b'{"token": "' + b"x" * 70000,
    ],
    ids=["html", "list", "number", "lines", "empty", "deep", "huge"],
)
def test_a_token_of_another_form_is_none(node: Node, registry: Server, body: bytes) -> None:
    def answer(request: Handler) -> None:
        if request.command == "GET":
            request.say(200, body)
        else:
            request.say(401, WWW_Authenticate=f'Bearer realm="https://{registry.name}/token"')

    registry.answer = answer
    message = node.message()
    assert "no token from" in message or "more than 65536 bytes from its token service" in message
    assert (len(body) > 65536) is ("more than" in message)


def test_a_registry_that_speaks_another_protocol_is_told(node: Node, registry: Server) -> None:
    registry.answer = lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n") and None
    assert node.message().startswith("https://registry/v2/glm/serving/manifests/v1: ")


def test_a_repository_of_another_form_is_asked_of_nobody(node: Node, registry: Server) -> None:
    node.repository = f"{registry.name}/{LOOKUP}"
    seen = node.read()
    assert seen["registry"].endswith("is no name of an image in a registry") and "{" not in seen["registry"]
    assert seen["next"] == "correct transformers_registry"
    assert registry.asked == []


@pytest.fixture(scope="module")
def reader() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transformers_read", READ)
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


@pytest.mark.parametrize(("name", "right"), image_references.TAGS.items())
def test_a_name_has_the_grammar_of_references(reader: ModuleType, name: str, right: bool) -> None:
    assert bool(reader.TAGGED.fullmatch(name)) is right


@pytest.mark.parametrize(("pair", "right"), image_references.REALMS.items())
def test_a_login_goes_to_the_registrys_own_token_service(
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
def test_the_engine_leaves_docker_io_out(reader: ModuleType, registry: str, names: list[str]) -> None:
    image = {"RepoDigests": [f"{name}@{PUSHED}" for name in [*names, "registry.example/another"]]}
    assert reader.own_digests(image, registry) == {PUSHED}
    assert (
        reader.own_digests({"RepoDigests": [f"{names[0]}@sha256:short", f"evil/{names[0]}@{OTHER}"]}, registry) == set()
    )
