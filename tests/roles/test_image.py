"""Claims about the role transformers (playbooks/image.yml): built once from a pinned commit, checked, labelled, pushed; on Ubuntu 24.04."""

import json
from collections.abc import Callable, Iterator

import pytest

from lab import site
from tests.lab import Lab
from tests.roles.conftest import SERVED, Place, Runs


def test_check_mode_tells_of_the_build_and_changes_nothing(built: Runs) -> None:
    assert built.told.rc == 0, built.told.message
    assert "Ensure check mode tells of the work" in built.told.changed
    assert built.there_after_told == []


def test_the_first_run_pulls_the_base_builds_and_pushes(built: Runs) -> None:
    assert built.first.rc == 0, built.first.message
    work = [name.partition(": ")[2].split()[0] for name in built.first.changed if name.startswith("Ensure this runs")]
    assert work == ["pull", "build", "push"]


def test_a_second_run_changes_nothing(built: Runs) -> None:
    assert (built.second.rc, built.second.changed) == (0, [])


def test_check_mode_on_a_built_image_tells_of_nothing(built: Runs) -> None:
    assert (built.told_again.rc, built.told_again.changed) == (0, [])


def test_the_run_tells_the_image_by_the_registrys_digest(built: Runs, ready: Place) -> None:
    told = built.second.results["fleet_image"]
    assert told["image"].startswith(f"{SERVED['transformers_registry']}@sha256:")
    assert told["commit"] == ready.vars["transformers_commit"]
    assert told["version"]


def test_the_commit_is_a_label_of_the_image_and_what_is_installed_in_it(built: Runs, ready: Place) -> None:
    image = built.second.results["fleet_image"]["image"]
    labels = json.loads(ready.sh(f"docker image inspect -f '{{{{json .Config.Labels}}}}' {image}"))
    assert labels["glm-fleet.transformers.commit"] == ready.vars["transformers_commit"]
    find = "import importlib.metadata as m; print(m.distribution('transformers').read_text('direct_url.json'))"
    origin = json.loads(ready.sh(f'docker run --rm --network none --entrypoint python3 {image} -c "{find}"'))
    assert origin["vcs_info"]["commit_id"] == ready.vars["transformers_commit"]


def test_without_a_registry_the_image_stays_on_the_node_by_its_id(built: Runs, ready: Place) -> None:
    seen = ready.run("image", **{**SERVED, "transformers_registry": ""})
    assert seen.rc == 0, seen.message
    assert seen.results["fleet_image"]["image"].startswith("sha256:")
    assert not [name for name in seen.changed if "push" in name]


def test_a_base_without_a_digest_stops_before_any_change(ready: Place) -> None:
    seen = ready.run("image", **{**SERVED, "transformers_base_image": "registry.lab.internal:5000/lab/vllm:base"})
    assert seen.changed == [] and "\nwanted: an image by digest" in seen.message


def test_a_commit_that_the_source_does_not_have_ends_with_gits_own_words(built: Runs, ready: Place) -> None:
    seen = ready.run("image", **{**SERVED, "transformers_commit": "0" * 40})
    assert seen.rc != 0
    assert (
        "build registry.lab.internal:5000/glm/serving:000000000000" in seen.raw
    )  # the name of the task says what it was
    assert "not our ref" in seen.message or "did not match" in seen.message, seen.message
    assert "\nnext: `git ls-remote" in seen.message


def test_a_base_with_another_vllm_than_was_said_ends_the_build(built: Runs, ready: Place) -> None:
    seen = ready.run("image", **{**SERVED, "transformers_base_vllm": "0.1.0"})
    assert seen.rc != 0
    assert "wanted 0.1.0 (transformers_base_vllm)" in seen.message, seen.message


@pytest.fixture
def broken_registry(lab: Lab, ready: Place, until: Callable[..., None]) -> Iterator[None]:
    status = "curl -sk -o /dev/null -w %{http_code} https://registry.lab.internal:5000/v2/"
    site.break_registry(lab.name)
    until(lambda: ready.sh(f"{status} || true").strip() == "500")
    yield
    site.mend_registry(lab.name)
    until(lambda: ready.sh(f"{status} || true").strip() == "200")


def test_a_registry_that_answers_500_is_named(broken_registry: None, ready: Place) -> None:
    seen = ready.run("image", **SERVED)
    assert seen.changed == [] and "500 from the registry\nwanted: " in seen.message
