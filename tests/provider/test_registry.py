"""A tag in the stack file is resolved to its digest at preview, over a registry with TLS and tokens; what cannot be is told there."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet import errors
from fleet.machine import registry as machine
from tests import reference
from tests.provider.conftest import Launch
from tests.provider.hub import LOGIN, Registry
from tests.provider.plugin import Engine, plain

DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A registry with one image, which this machine trusts; no login is configured."""
    made = Registry(tmp_path)
    made.tags["glm/vllm:v1"] = DIGEST
    monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
    monkeypatch.setenv("HOME", str(tmp_path))
    yield made
    made.close()


def login(home: Path, hub: Registry, who: str) -> None:
    """Write what `docker login` writes."""
    (home / ".docker").mkdir(exist_ok=True)
    auth = {"auths": {hub.name: {"auth": base64.b64encode(who.encode()).decode()}}}
    (home / ".docker" / "config.json").write_text(json.dumps(auth))


def test_a_tag_is_what_the_registry_says_it_is(hub: Registry) -> None:
    assert machine.pinned(f"{hub.name}/glm/vllm:v1") == f"{hub.name}/glm/vllm@{DIGEST}"


def test_a_digest_is_not_asked_about(hub: Registry) -> None:
    image = f"{hub.name}/glm/vllm@{DIGEST}"
    assert (machine.pinned(image), hub.asked) == (image, [])


def test_a_private_registry_is_asked_with_the_login_of_this_machine(hub: Registry, tmp_path: Path) -> None:
    hub.private = True
    image = f"{hub.name}/glm/vllm:v1"
    with pytest.raises(errors.FleetError, match="the registry refuses us"):
        machine.pinned(image)
    login(tmp_path, hub, "robot:wrong")
    with pytest.raises(errors.FleetError, match="the registry refuses us"):
        machine.pinned(image)
    login(tmp_path, hub, LOGIN)
    assert machine.pinned(image) == f"{hub.name}/glm/vllm@{DIGEST}"


def test_a_credential_helper_is_asked_where_docker_s_file_names_one(
    hub: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.private = True
    user, _, word = LOGIN.partition(":")
    helper = tmp_path / "docker-credential-lab"
    helper.write_text(
        f"""#!/bin/sh\n[ "$(cat)" = {hub.name} ] && echo '{json.dumps({"Username": user, "Secret": word})}'\n"""
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_text(json.dumps({"credHelpers": {hub.name: "lab"}}))
    assert machine.pinned(f"{hub.name}/glm/vllm:v1") == f"{hub.name}/glm/vllm@{DIGEST}"


@pytest.mark.parametrize("image", ["vllm:v1", "glm/vllm:v1", "registry.example/glm/vllm"])
def test_an_image_without_a_registry_or_a_tag_is_asked_of_nobody(image: str) -> None:
    with pytest.raises(errors.FleetError, match="its name has no registry, or no tag"):
        machine.pinned(image)


def test_an_image_that_is_not_there_is_told_before_any_machine_is_touched(hub: Registry) -> None:
    with pytest.raises(errors.FleetError) as caught:
        machine.pinned(f"{hub.name}/glm/vllm:v2")
    assert str(caught.value) == (
        f"look for the digest of {hub.name}/glm/vllm:v2: the registry has no such image\n"
        "  wanted: an image that is there\n"
        "  next:   look at its tags; a private one may need `docker login`"
    )


def test_a_registry_that_fails_is_told(hub: Registry) -> None:
    hub.answer = 503
    with pytest.raises(errors.FleetError, match="503 from the registry"):
        machine.pinned(f"{hub.name}/glm/vllm:v1")
    with pytest.raises(errors.FleetError, match="the registry cannot be reached"):
        machine.pinned("127.0.0.1:1/glm/vllm:v1")


def test_a_certificate_that_nobody_here_trusts_is_told(hub: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(errors.FleetError, match="its certificate is signed by nobody that this machine trusts"):
        machine.pinned(f"{hub.name}/glm/vllm:v1")


@pytest.mark.parametrize("digest", [digest for digest, right in reference.DIGESTS.items() if digest and not right])
def test_a_digest_of_another_form_is_none(hub: Registry, digest: str) -> None:
    hub.tags["glm/vllm:v1"] = digest
    with pytest.raises(errors.FleetError, match="the registry tells no digest") as caught:
        machine.pinned(f"{hub.name}/glm/vllm:v1")
    assert digest not in str(caught.value)


def test_a_redirect_to_another_host_is_not_followed(hub: Registry, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Registry(tmp_path / "other")
    try:
        hub.redirect = f"https://{other.name}/v2/glm/vllm/manifests/v1"
        with pytest.raises(errors.FleetError, match="307 from the registry, which sends us to another host"):
            machine.pinned(f"{hub.name}/glm/vllm:v1")
        assert other.asked == []
    finally:
        other.close()
    hub.redirect = f"https://{hub.name}/v2/elsewhere"
    with pytest.raises(errors.FleetError, match="3 redirects, and no end"):
        machine.pinned(f"{hub.name}/glm/vllm:v1")


@pytest.mark.parametrize("realm", ["https://localhost:{port}/token", "http://127.0.0.1:{port}/token", ""])
def test_a_login_goes_to_no_other_host(hub: Registry, tmp_path: Path, realm: str) -> None:
    login(tmp_path, hub, LOGIN)
    hub.private, hub.realm = True, realm.format(port=hub.server_address[1]) or "nowhere"
    with pytest.raises(errors.FleetError) as caught:
        machine.pinned(f"{hub.name}/glm/vllm:v1")
    assert hub.logins == []
    assert str(caught.value) == (
        f"look for the digest of {hub.name}/glm/vllm:v1: 401 from the registry, whose token service would be on another host\n"
        "  wanted: a token service of the registry's own domain, over https: the login goes there\n"
        "  next:   write the digest into the stack file: then nobody is asked"
    )


@pytest.mark.parametrize("said", [b"<html>", b"[]", b'{"token": 7}', b'{"token": "a b"}', b"[" * 30000])
def test_a_token_of_another_form_is_none(hub: Registry, tmp_path: Path, said: bytes) -> None:
    login(tmp_path, hub, LOGIN)
    hub.private, hub.token = True, said
    with pytest.raises(errors.FleetError, match="the registry refuses us"):
        machine.pinned(f"{hub.name}/glm/vllm:v1")
    assert len(hub.asked) == 1  # it goes nowhere


def test_an_answer_without_end_is_cut(hub: Registry, tmp_path: Path) -> None:
    login(tmp_path, hub, LOGIN)
    hub.private, hub.token = True, b"x" * 100_000
    with pytest.raises(errors.FleetError, match="more than 65536 bytes from the registry"):
        machine.pinned(f"{hub.name}/glm/vllm:v1")


def test_a_preview_shows_the_digest_in_the_place_of_the_tag(
    hub: Registry, launch: Launch, shared_engine: Engine
) -> None:
    plugin = launch(shared_engine)  # its environment is that of now
    news = {
        "node": {"name": "glm-1"},
        "roles": {"transformers": ""},
        "vars": {"transformers_base_image": f"{hub.name}/glm/vllm:v1"},
    }
    answer = plugin.check("Image", news)
    pinned = f"{hub.name}/glm/vllm@{DIGEST}"
    assert list(answer.failures) == []
    assert plain(answer.inputs)["vars"] == {"transformers_base_image": pinned}
    assert plain(answer.inputs)["resolved"] == {"transformers_base_image": f"{hub.name}/glm/vllm:v1"}
    plugin.engine.hear(f"{hub.name}/glm/vllm:v1 is {pinned} now")
    news["vars"] = {"transformers_base_image": f"{hub.name}/glm/vllm:v9"}
    (failure,) = plugin.check("Image", news).failures
    assert "the registry has no such image" in failure.reason
