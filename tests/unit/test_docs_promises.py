"""Pages that are written by hand name files that exist, in SECURITY.md tests, and in docs/first-machine.md role variables."""

import re
from pathlib import Path

import pytest

from fleet.stack import role_vars

ROOT = Path(__file__).parents[2]
HAND = [
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "README.md",
    "docs/first-machine.md",
    "docs/serving.md",
    "docs/disks.md",
    "docs/probes.md",
]


@pytest.mark.parametrize("page", HAND)
def test_every_file_that_a_page_names_is_there(page: str) -> None:
    named = re.findall(
        r"`((?:docs|tests|stacks|roles|bootstrap|lab|policies|fleet|playbooks)/[\w./*-]+)`", (ROOT / page).read_text()
    )
    missing = [
        name for name in named if not list(ROOT.glob(re.sub(r"(?<![A-Za-z])[A-Z]{3,}\b", "*", name.rstrip("/"))))
    ]
    assert missing == [], f"{page} names it, and it does not exist: correct the page"


def test_every_promise_names_a_test() -> None:
    rows = re.findall(r"^\|(.+)\|$", (ROOT / "SECURITY.md").read_text().split("what holds | test |")[1], re.M)[1:]
    assert len(rows) > 10, "the table `what holds | test` of SECURITY.md has another head"
    assert [row for row in rows if "`tests/" not in row.split("|")[-1]] == [], (
        "a promise without a test is not in that list"
    )


@pytest.mark.parametrize("page", ["docs/first-machine.md", "docs/serving.md", "CHANGELOG.md"])
def test_every_variable_that_a_page_sets_is_a_role_s(page: str) -> None:
    known = role_vars.load(ROOT / "roles").options
    text = (ROOT / page).read_text().replace("weights_tries", "")
    named = set(re.findall(r"`((?:host|docker|rocm|transformers|weights|vllm)_[a-z_]+)", text))
    secrets = {"weights_token", "vllm_api_key"}
    assert named - secrets - set(known) == set(), f"no role has it: correct {page}"
