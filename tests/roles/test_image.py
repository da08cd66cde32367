"""Claims about the role transformers (playbooks/image.yml): it builds, checks, labels and pushes an image once, from a pinned commit; on Ubuntu 24.04."""

import json
from collections.abc import Callable, Iterator

import pytest

from lab import site
from tests.support.labs import Lab
from tests.support.role_node import SERVED, Place, Runs


def test_check_mode_reports_the_build(built: Runs) -> None:
    assert "Report the task that would run" in built.check.changed


def test_the_first_run_pulls_the_base_builds_and_pushes(built: Runs) -> None:
    steps = [name.partition(": ")[2].split()[0] for name in built.first.changed if name.startswith("Start: ")]
    assert steps == ["pull", "build", "push"]


def test_a_run_reports_the_image_by_the_registrys_digest(built: Runs, ready: Place) -> None:
    results = built.second.results["fleet_image"]
    assert results["image"].startswith(f"{SERVED['transformers_registry']}@sha256:")
    assert results["commit"] == ready.vars["transformers_commit"]
    assert results["version"]


def test_the_commit_is_a_label_of_the_image_and_its_installed_version(built: Runs, ready: Place) -> None:
    image = built.second.results["fleet_image"]["image"]
    labels = json.loads(ready.sh(f"docker image inspect -f '{{{{json .Config.Labels}}}}' {image}"))
    assert labels["glm-fleet.transformers.commit"] == ready.vars["transformers_commit"]
    find = "import importlib.metadata as m; print(m.distribution('transformers').read_text('direct_url.json'))"
    origin = json.loads(ready.sh(f'docker run --rm --network none --entrypoint python3 {image} -c "{find}"'))
    assert origin["vcs_info"]["commit_id"] == ready.vars["transformers_commit"]


def test_without_a_registry_the_image_stays_on_the_node_by_its_id(built: Runs, ready: Place) -> None:
    run = ready.run("image", **{**SERVED, "transformers_registry": ""})
    assert run.rc == 0, run.message
    assert run.results["fleet_image"]["image"].startswith("sha256:")
    assert not [name for name in run.changed if "push" in name]


def test_a_base_without_a_digest_stops_before_any_change(ready: Place) -> None:
    run = ready.run("image", **{**SERVED, "transformers_base_image": "registry.lab.internal:5000/lab/vllm:base"})
    assert run.changed == [] and "\nwanted: an image by digest" in run.message


def test_a_commit_that_the_source_does_not_have_ends_with_gits_own_words(built: Runs, ready: Place) -> None:
    run = ready.run("image", **{**SERVED, "transformers_commit": "0" * 40})
    assert run.rc != 0
    assert "build registry.lab.internal:5000/glm/serving:000000000000" in run.raw  # in the name of the task
    assert "not our ref" in run.message or "did not match" in run.message, run.message
    assert "\nnext: `git ls-remote" in run.message


def test_a_base_with_another_vllm_than_its_variable_ends_the_build(built: Runs, ready: Place) -> None:
    run = ready.run("image", **{**SERVED, "transformers_base_vllm": "0.1.0"})
    assert run.rc != 0
    assert "wanted 0.1.0 (transformers_base_vllm)" in run.message, run.message


def test_the_images_user_has_a_name_without_a_line_in_its_passwd(built: Runs, ready: Place) -> None:
    """Torch before 2.13 needs it at its import; so does the check at the end of the build, as that user."""
    image = built.second.results["fleet_image"]["image"]
    script = "import getpass, os; print(os.getuid(), getpass.getuser(), 'x:10001:' in open('/etc/passwd').read())"
    output = ready.sh(f'docker run --rm --network none --user 10001:10001 --entrypoint python3 {image} -c "{script}"')
    assert output.split() == ["10001", "vllm", "False"]


@pytest.mark.exhaustive
def test_a_transformers_that_the_bases_vllm_refuses_ends_the_build(built: Runs, ready: Place) -> None:
    narrow, base = "registry.lab.internal:5000/lab/vllm:narrow", ready.vars["transformers_base_image"]
    edit = "sed -i 's/^Requires-Dist: transformers.*/Requires-Dist: transformers<5.18.0,>=5.10.4/' /opt/venv/lib/python3.11/site-packages/vllm-*.dist-info/METADATA"
    ready.sh(f"docker build --quiet --tag {narrow} - && docker push --quiet {narrow}", f"FROM {base}\nRUN {edit}\n")
    digest = ready.sh(f"docker image inspect --format '{{{{index .RepoDigests 0}}}}' {narrow}").strip()
    run = ready.run("image", **{**SERVED, "transformers_base_image": digest})
    assert run.rc != 0
    version, commit = built.second.results["fleet_image"]["version"], ready.vars["transformers_commit"][:12]
    assert f"transformers {version} (commit {commit}) does not fit vLLM 0.32.0+cpu in the base image" in run.message
    assert "wanted: transformers <5.18.0,>=5.10.4, as the metadata of that vLLM says" in run.message


@pytest.mark.exhaustive
def test_another_image_under_the_tag_in_the_registry_stops_the_run(built: Runs, ready: Place) -> None:
    image = built.second.results["fleet_image"]["image"]
    tags = ready.sh(f"docker image inspect --format '{{{{join .RepoTags \" \"}}}}' {image}").split()
    (tag,) = [tag for tag in tags if tag.startswith(image.partition("@")[0])]
    ready.sh(
        f"docker tag {tag} ours && docker build --quiet --tag {tag} - && docker push --quiet {tag}",
        f"FROM {tag}\nLABEL other=yes\n",
    )
    other = ready.sh(f"docker image inspect --format '{{{{index .RepoDigests 0}}}}' {tag}").strip().partition("@")[2]
    try:
        ready.sh(f"docker tag ours {tag}")
        here = ready.run("image", **SERVED)
        ready.sh(f"docker image rm {tag}")
        recipe = built.second.results["fleet_image"]["recipe"]
        elsewhere = ready.run("image", **SERVED, image_of_state={"image": image, "recipe": recipe})
        accepted = ready.run("image", **{**SERVED, "transformers_accepted_digest": other})
    finally:
        ready.sh(f"docker tag ours {tag} && docker push --quiet {tag} && docker image rm ours")
    ours = image.partition("@")[2]
    assert here.rc != 0 and f"its tag is {other}\nwanted: {ours}, which this node pushed" in here.message
    assert elsewhere.rc != 0 and f"its tag is {other} now\nwanted: {ours}, which the state has" in elsewhere.message
    assert accepted.rc == 0 and accepted.results["fleet_image"]["image"].endswith(other), accepted.message


@pytest.mark.exhaustive
def test_a_run_builds_and_pushes_an_image_again_that_the_registry_has_lost(built: Runs, ready: Place) -> None:
    """The digest of its own build differs from the state's, and is right."""
    emptied, recipe = "registry.lab.internal:5000/glm/emptied", built.second.results["fleet_image"]["recipe"]
    lost = {"image": f"{emptied}@sha256:{'cd' * 32}", "recipe": recipe}
    run = ready.run("image", **{**SERVED, "transformers_registry": emptied}, image_of_state=lost)
    assert run.rc == 0, run.message
    image = run.results["fleet_image"]["image"]
    assert image.startswith(f"{emptied}@sha256:") and image != lost["image"]


@pytest.fixture
def broken_registry(lab: Lab, ready: Place, until: Callable[..., None]) -> Iterator[None]:
    status = "curl -sk -o /dev/null -w %{http_code} https://registry.lab.internal:5000/v2/"
    site.break_registry(lab.name)
    until(lambda: ready.sh(f"{status} || true").strip() == "500")
    yield
    site.mend_registry(lab.name)
    until(lambda: ready.sh(f"{status} || true").strip() == "200")


def test_a_run_names_a_registry_that_answers_500(broken_registry: None, ready: Place) -> None:
    run = ready.run("image", **SERVED)
    assert run.changed == [] and "500 from the registry\nwanted: " in run.message
