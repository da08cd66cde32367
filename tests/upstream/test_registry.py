"""A registry with TLS and tokens resolves a tag to its digest; a hostile one gets neither a login nor a word into the stack file."""

import base64
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from fleet import errors
from fleet.upstream import bounded, registry
from tests.support.programs import write_program
from tests.support.upstream_servers import LOGIN, Registry

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with one image, which this machine trusts, without a login."""
    registry_server = Registry(tmp_path)
    registry_server.tags["glm/vllm:v1"] = DIGEST
    monkeypatch.setenv("SSL_CERT_FILE", str(registry_server.certificate))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield registry_server
    registry_server.close()


def configure_docker(home: Path, config: Mapping[str, Any]) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker" / "config.json").write_text(json.dumps(config))


def login(home: Path, server: Registry, user: str) -> None:
    """Write the file of `docker login`."""
    configure_docker(home, {"auths": {server.name: {"auth": base64.b64encode(user.encode()).decode()}}})


def test_a_tag_resolves_to_the_registry_s_digest(server: Registry) -> None:
    assert registry.digest(f"{server.name}/glm/vllm:v1") == DIGEST


def test_a_private_registry_gets_the_login_of_this_machine(server: Registry, tmp_path: Path) -> None:
    server.private = True
    image = f"{server.name}/glm/vllm:v1"
    with pytest.raises(errors.FleetError, match="the registry refuses us"):
        registry.digest(image)
    login(tmp_path, server, "robot:wrong")
    with pytest.raises(errors.FleetError, match="the registry refuses us"):
        registry.digest(image)
    login(tmp_path, server, LOGIN)
    assert registry.digest(image) == DIGEST


def test_the_credential_helper_in_docker_s_file_provides_the_login(
    server: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.private = True
    user, _, word = LOGIN.partition(":")
    answer = json.dumps({"Username": user, "Secret": word})
    write_program(tmp_path / "docker-credential-lab", f"""[ "$(cat)" = {server.name} ] && echo '{answer}'""")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    configure_docker(tmp_path, {"credHelpers": {server.name: "lab"}})
    assert registry.digest(f"{server.name}/glm/vllm:v1") == DIGEST


@pytest.mark.parametrize("image", ["vllm:v1", "glm/vllm:v1", "registry.example/glm/vllm"])
def test_an_image_without_a_registry_or_a_tag_causes_no_request(image: str) -> None:
    with pytest.raises(errors.FleetError, match="its name has no registry, or no tag"):
        registry.digest(image)


def test_an_image_that_does_not_exist_is_reported(server: Registry) -> None:
    with pytest.raises(errors.FleetError) as caught:
        registry.digest(f"{server.name}/glm/vllm:v2")
    assert str(caught.value) == (
        f"look for the digest of {server.name}/glm/vllm:v2: the registry has no such image\n"
        "  wanted: an image that exists\n"
        "  next:   look at its tags; a private one may need `docker login`"
    )


def test_a_failure_of_the_registry_is_reported(server: Registry) -> None:
    server.answer = 503
    with pytest.raises(errors.FleetError, match="503 from the registry"):
        registry.digest(f"{server.name}/glm/vllm:v1")
    with pytest.raises(errors.FleetError, match=r"no connection to 127\.0\.0\.1:1"):
        registry.digest("127.0.0.1:1/glm/vllm:v1")


def test_an_untrusted_certificate_is_reported(server: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(errors.FleetError, match="no authority that this machine trusts has signed"):
        registry.digest(f"{server.name}/glm/vllm:v1")


@pytest.mark.parametrize("realm", ["https://thief.example/token", "http://127.0.0.1/token", "", "file:///etc/passwd"])
def test_no_other_host_gets_the_login(server: Registry, tmp_path: Path, realm: str) -> None:
    server.private, server.realm = True, realm or f"https://localhost:{server.server_address[1]}/token"
    login(tmp_path, server, LOGIN)
    with pytest.raises(errors.FleetError, match="the registry sends us for a token to "):
        registry.digest(f"{server.name}/glm/vllm:v1")
    assert server.logins == [""]


@pytest.mark.parametrize(
    "token", [b"", b"[]", b"[" * 100_000, b'{"token": 1}', b'{"token": "a\\r\\nX-Evil: 1"}', b'{"token": null}']
)
def test_a_token_of_another_form_is_not_used(server: Registry, tmp_path: Path, token: bytes) -> None:
    server.private, server.token = True, token
    login(tmp_path, server, LOGIN)
    with pytest.raises(errors.FleetError, match="the registry refuses us"):
        registry.digest(f"{server.name}/glm/vllm:v1")
    assert not any(header.startswith("Bearer") for header in server.logins)


@pytest.mark.parametrize(
    "digest", ["sha256:ab", "{{ lookup('pipe', 'id') }}", DIGEST.upper(), f"{DIGEST} # x", "x" * 5000]
)
def test_a_digest_of_another_form_is_refused(server: Registry, digest: str) -> None:
    server.tags["glm/vllm:v1"] = digest
    with pytest.raises(errors.FleetError, match="the registry answers with the digest") as caught:
        registry.digest(f"{server.name}/glm/vllm:v1")
    assert len(str(caught.value)) < 500


def test_a_request_for_docker_hub_goes_to_its_api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    requests: list[tuple[str, str]] = []

    def answer(doing: str, method: str, url: str, headers: Mapping[str, str]) -> bounded.Answer:
        requests.append((url, headers.get("Authorization", "")))
        if url.startswith("https://auth.docker.io/"):
            return bounded.Answer(200, {}, b'{"token": "t"}')
        if not headers.get("Authorization"):
            realm = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:x:pull"'
            return bounded.Answer(401, {"www-authenticate": realm}, b"")
        return bounded.Answer(200, {"docker-content-digest": DIGEST}, b"")

    monkeypatch.setattr(bounded, "ask", answer)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert registry.digest("docker.io/ubuntu:24.04") == DIGEST
    manifest = "https://registry-1.docker.io/v2/library/ubuntu/manifests/24.04"
    token = "https://auth.docker.io/token?service=registry.docker.io&scope=repository%3Ax%3Apull"
    assert requests == [(manifest, ""), (token, ""), (manifest, "Bearer t")]


def test_a_registry_says_whether_it_has_an_image(server: Registry) -> None:
    server.tags[f"glm/vllm:{DIGEST}"] = DIGEST
    assert registry.exists(f"{server.name}/glm/vllm:v1") and registry.exists(f"{server.name}/glm/vllm@{DIGEST}")
    assert not registry.exists(f"{server.name}/glm/vllm:v2")
    assert not registry.exists(f"{server.name}/glm/vllm@{DIGEST.replace('ab', 'cd')}")


@pytest.mark.parametrize("image", ["glm", "registry.example/glm", "registry.example/glm@sha256:ab", "a b/glm:v1"])
def test_whether_an_image_exists_needs_its_whole_name(image: str) -> None:
    with pytest.raises(errors.FleetError, match="its name has no registry, or neither tag nor digest"):
        registry.exists(image)


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_registry_that_gives_no_clear_answer_is_no_no(server: Registry, status: int) -> None:
    server.answer = status
    with pytest.raises(errors.FleetError, match=f"{status} from the registry"):
        registry.exists(f"{server.name}/glm/vllm:v1")
