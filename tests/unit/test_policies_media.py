"""What a request can make the vLLM server read: policies/rules/media.py."""

from typing import Any

import pytest

from policies import data
from policies.context import UNKNOWN, folder
from tests.support.policy_resources import flags, messages, only_message, serving

DOMAINS = {"allowed-media-domains": ["none.invalid"]}
ENTRYPOINT = ["vllm", "serve", "--allowed-local-media-path"]
# How a stack can name the folder that requests may read.
SPELLINGS: dict[str, Any] = {
    "vllm_media_dir": lambda path: serving(vllm_media_dir=path),
    "with dashes": lambda path: flags(allowed_local_media_path=path),
    "with underscores": lambda path: serving(vllm_flags={"allowed_local_media_path": path, **DOMAINS}),
    "in one word": lambda path: serving(vllm_flags={f"allowed-local-media-path={path}": True, **DOMAINS}),
    "in the entrypoint": lambda path: serving(vllm_entrypoint=[*ENTRYPOINT, path], vllm_media_dir=""),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "path", ["/", "//", "/srv/..", "/etc", "/etc/fleet/vllm", "/var/lib", "/var", "/home/me", "/proc/self"]
)
def test_a_path_with_secrets_is_refused_in_every_spelling(spelling: str, path: str) -> None:
    assert "remedy: a folder that holds only media" in only_message("media-path-narrow", SPELLINGS[spelling](path))


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize(
    "path", ["/srv/media", "/data/glm", "/var/lib/glm-media", "/mnt/nvme/media/", "/etcetera", "/runs"]
)
def test_a_separate_folder_passes(spelling: str, path: str) -> None:
    assert messages("media-path-narrow", SPELLINGS[spelling](path)) == []


@pytest.mark.parametrize("path", ["media", "./media", "{{ media }}", 7])
def test_a_path_that_is_not_absolute_is_refused(path: Any) -> None:
    assert "which is not an absolute path" in only_message("media-path-narrow", serving(vllm_media_dir=path))


def test_no_media_folder_passes() -> None:
    assert messages("media-path-narrow", serving(vllm_media_dir="")) == []
    assert messages("media-path-narrow", flags(allowed_local_media_path="")) == []


def test_the_message_has_the_reason_of_the_folder() -> None:
    message = only_message("media-path-narrow", serving(vllm_media_dir="/proc"))
    assert message.startswith("vllm_media_dir is /proc, which opens /proc: the environment of every process, ")


def test_every_private_folder_is_refused_and_has_a_reason() -> None:
    for private in data.private():
        assert private.why
        assert folder(private.path) == private.path
        assert messages("media-path-narrow", serving(vllm_media_dir=private.path)), private.path


@pytest.mark.parametrize("value", [None, [], "", True])
def test_a_stack_without_a_list_of_hosts_is_refused(value: Any) -> None:
    message = only_message("media-domains-named", flags(allowed_media_domains=value))
    assert message.startswith("vllm_flags.allowed-media-domains names no domain: vLLM otherwise fetches any URL")


@pytest.mark.parametrize("value", [["none.invalid"], ["media.example", "cdn.example"], "media.example", ["192.0.2.7"]])
def test_a_list_of_hosts_passes(value: Any) -> None:
    assert messages("media-domains-named", flags(allowed_media_domains=value)) == []


@pytest.mark.parametrize(
    "domain",
    ["https://media.example", "media.example/pictures", "*.example", "media.example:443", "a.example,b.example", "",
     "{{ host }}"],
)  # fmt: skip
def test_a_host_that_vllm_never_matches_is_refused(domain: str) -> None:
    message = only_message("media-domains-named", flags(allowed_media_domains=[domain]))
    assert f"has '{domain}', which is not a host name" in message


def test_the_rule_skips_an_unknown_host() -> None:
    assert messages("media-domains-named", flags(allowed_media_domains=["media.example", UNKNOWN])) == []


@pytest.mark.parametrize("domain", ["localhost", "127.0.0.1", "0.0.0.0", "169.254.169.254", "metadata.google.internal"])
def test_the_machine_itself_and_a_cloud_s_credentials_are_refused(domain: str) -> None:
    assert "or a cloud's credentials" in only_message("media-domains-named", flags(allowed_media_domains=[domain]))


def test_redirects_are_refused() -> None:
    name = "VLLM_MEDIA_URL_ALLOW_REDIRECTS"
    message = only_message("media-domains-named", serving(vllm_environment={name: "1"}))
    assert f"vllm_environment.{name} is on" in message
    assert messages("media-domains-named", serving(vllm_environment={name: "0"})) == []


def test_a_stack_without_a_template_is_refused() -> None:
    for about in (serving(vllm_chat_template=""), flags(chat_template="")):
        assert only_message("chat-template-given", about).startswith("no chat template is given: ")
    for about in (serving(), serving(vllm_chat_template="/srv/glm.jinja")):  # the role has a default
        assert messages("chat-template-given", about) == []


def test_trust_in_a_request_s_template_is_refused() -> None:
    assert "can bring its own template" in only_message("chat-template-given", flags(trust_request_chat_template=True))


@pytest.mark.parametrize("spelling", ["trust-remote-code", "trust_remote_code"])
def test_code_of_the_weights_is_refused(spelling: str) -> None:
    message = only_message("no-remote-code", serving(vllm_flags={**DOMAINS, spelling: True}))
    assert message.startswith("vllm_flags.trust-remote-code is on: ") and "CVE-2026-114053" in message
    assert messages("no-remote-code", serving(vllm_flags={**DOMAINS, spelling: False})) == []
    assert only_message("no-remote-code", serving(vllm_entrypoint=["vllm", "serve", "--trust-remote-code"]))


def test_one_spelling_does_not_hide_the_other() -> None:
    both = {"trust-remote-code": False, "trust_remote_code": True, **DOMAINS}
    assert only_message("no-remote-code", serving(vllm_flags=both))
