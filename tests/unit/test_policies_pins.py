"""A deployment is pinned, and nothing in it is from the lab: policies/rules/pins.py."""

import pytest

from policies.context import UNKNOWN
from policies.stack import Stack
from tests.support.policy_resources import COMMIT, DIGEST, context, messages, only_message


@pytest.mark.parametrize("image", ["registry.example/glm:latest", "registry.example/glm", "glm@sha256:ab"])
def test_an_image_without_digest_is_refused(image: str) -> None:
    assert f"image is '{image}'" in only_message("image-by-digest", context(image=image))
    assert f"vllm_image is '{image}'" in only_message("image-by-digest", context(vars={"vllm_image": image}))
    base = context("Image", vars={"transformers_base_image": image})
    assert f"transformers_base_image is '{image}'" in only_message("image-by-digest", base)


def test_the_id_of_an_image_that_never_left_its_node_passes() -> None:
    assert messages("image-by-digest", context(image="sha256:" + "ab" * 32)) == []


def test_a_stack_without_a_base_image_is_refused() -> None:
    image = context("Image", vars={"transformers_base_image": ""})
    assert "transformers_base_image is not set" in only_message("image-by-digest", image)


@pytest.mark.parametrize(
    ("rule", "kind", "variable"),
    [
        ("transformers-by-commit", "Image", "transformers_commit"),
        ("weights-by-revision", "Weights", "weights_revision"),
    ],
)
def test_a_branch_a_tag_or_a_short_commit_is_refused(rule: str, kind: str, variable: str) -> None:
    for value in ("main", "v5.3.0", COMMIT[:12], COMMIT.upper().replace("1", "A")):
        assert f"{variable} is '{value}'" in only_message(rule, context(kind, vars={variable: value}))
    assert f"{variable} is not set" in only_message(rule, context(kind, vars={variable: ""}))
    assert messages(rule, context(kind, vars={variable: COMMIT})) == []


@pytest.mark.parametrize(
    ("kind", "variable", "value"),
    [
        ("Host", "rocm_repository_url", "http://packages.lab.internal"),
        ("Host", "docker_registry_certificates", {"registry.lab.internal:5000": "-----BEGIN"}),
        ("Image", "transformers_base_image", f"registry.lab.internal:5000/lab/{DIGEST}"),
        ("Image", "transformers_repository", "http://git.lab.internal/transformers.git"),
        ("Image", "transformers_registry", "registry.lab.internal:5000/glm/serving"),
        ("Weights", "weights_endpoint", "http://hub.lab.internal"),
        ("Weights", "weights_endpoint", "http://me:word@hub.lab.internal/"),
    ],
)
def test_an_address_of_the_lab_is_refused_in_another_stack(kind: str, variable: str, value: object) -> None:
    message = only_message("nothing-of-the-lab", context(kind, vars={variable: value}))
    assert message.startswith(f"{variable} names ")
    assert ".lab.internal: " in message
    assert "word" not in message  # a URL may hold a login
    assert messages("nothing-of-the-lab", context(kind, stack=Stack(source="lab"), vars={variable: value})) == []


@pytest.mark.parametrize("endpoint", ["https://hub.example", "http://huggingface.co", "https://me:word@hub.example/x"])
def test_weights_of_another_hub_or_without_tls_need_a_manifest(endpoint: str) -> None:
    message = only_message("weights-by-manifest", context("Weights", vars={"weights_endpoint": endpoint}))
    assert message.startswith("weights_manifest is empty, and the weights come from http") and "word" not in message
    own = {"weights_endpoint": endpoint, "weights_manifest": {"config.json": "ab" * 32}}
    assert messages("weights-by-manifest", context("Weights", vars=own)) == []


@pytest.mark.parametrize("endpoint", ["https://huggingface.co", "https://huggingface.co/", UNKNOWN])
def test_weights_of_upstream_s_hub_over_tls_need_no_manifest(endpoint: object) -> None:
    assert messages("weights-by-manifest", context("Weights")) == []
    assert messages("weights-by-manifest", context("Weights", vars={"weights_endpoint": endpoint})) == []


def test_an_image_of_the_lab_s_registry_is_refused_in_another_stack() -> None:
    image = "registry.lab.internal:5000/glm/serving@sha256:" + "ab" * 32
    assert only_message("nothing-of-the-lab", context(image=image)).startswith("image names registry.lab.internal: ")


@pytest.mark.parametrize("host", ["hub.collab.internal", "lab.internal.example", "hub-lab.internal", "hub.example"])
def test_a_host_with_a_name_like_the_lab_s_passes(host: str) -> None:
    assert messages("nothing-of-the-lab", context("Weights", vars={"weights_endpoint": f"https://{host}/mirror"})) == []


def test_the_images_of_a_member_s_system_pods_are_named_by_digest() -> None:
    assert messages("image-by-digest", context("Member")) == []
    message = only_message("image-by-digest", context("Member", vars={"kubernetes_labeller_image": "amd:labeller"}))
    assert message.startswith("kubernetes_labeller_image is 'amd:labeller'")
    own = {"kubernetes_network_manifest": "https://x/y", "kubernetes_network_images": {"node:v3": "node:v4"}}
    assert "kubernetes_network_images.node:v3" in only_message("image-by-digest", context("Member", vars=own))


def test_a_member_with_the_lab_s_packages_is_refused_in_another_stack() -> None:
    own = {"kubernetes_repository_url": "http://packages.lab.internal/kubernetes"}
    assert only_message("nothing-of-the-lab", context("Member", vars=own)).startswith("kubernetes_repository_url names")
