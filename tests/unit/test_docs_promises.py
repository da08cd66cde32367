"""Pages written by hand name what exists: the tests of SECURITY.md, the pages and variables of docs/first-machine.md."""

import re
from pathlib import Path

import pytest

from fleet.stack import role_vars

ROOT = Path(__file__).parents[2]
PAGES = ["SECURITY.md", "CHANGELOG.md", "README.md"]
PAGES += [f"docs/{name}.md" for name in ("first-machine", "serving", "disks", "probes")]
FOLDERS = "docs|tests|stacks|roles|bootstrap|lab|policies|fleet|playbooks"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./*-]+)`", (ROOT / page).read_text())
    missing = [path for path in paths if not list(ROOT.glob(path.rstrip("/")))]
    assert missing == [], f"{page} names it: correct the page"


def test_every_promise_names_a_test() -> None:
    rows = re.findall(r"^\|(.+)\|$", (ROOT / "SECURITY.md").read_text().split("what holds | test |")[1], re.M)[1:]
    assert len(rows) > 10
    assert [row for row in rows if "`tests/" not in row.split("|")[-1]] == [], (
        "a promise without a test is not in that list"
    )


@pytest.mark.parametrize("page", ["docs/first-machine.md", "docs/serving.md", "CHANGELOG.md"])
def test_every_variable_that_a_page_sets_is_a_role_s(page: str) -> None:
    text = (ROOT / page).read_text().replace("weights_tries", "")
    variables = set(re.findall(r"`((?:host|docker|rocm|transformers|weights|vllm)_[a-z_]+)", text))
    secrets = {"weights_token", "vllm_api_key"}
    assert variables - secrets - {*role_vars.load(ROOT / "roles").options} == set(), f"no role has it: correct {page}"
