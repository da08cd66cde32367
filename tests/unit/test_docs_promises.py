"""Pages written by hand name files that exist, in SECURITY.md tests, and in docs/first-machine.md role variables, in docs/ports.md all ports."""

import re
from pathlib import Path

import pytest

from fleet.stack import role_vars

ROOT = Path(__file__).parents[2]
PAGES = ["ARCHITECTURE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "README.md"]
PAGES += [f"docs/{name}.md" for name in ("first-machine", "serving", "disks", "probes", "kubernetes")]
FOLDERS = "docs|tests|stacks|roles|bootstrap|lab|policies|fleet|playbooks"


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./*-]+)`", (ROOT / page).read_text())
    patterns = {path: re.sub(r"(?<![A-Za-z])[A-Z]{3,}\b", "*", path.rstrip("/")) for path in paths}  # NAME is any name
    missing = [path for path, pattern in patterns.items() if not list(ROOT.glob(pattern))]
    assert missing == [], f"{page} names it, and it does not exist: correct the page"


def test_every_promise_names_a_test() -> None:
    rows = re.findall(r"^\|(.+)\|$", (ROOT / "SECURITY.md").read_text().split("what holds | test |")[1], re.M)[1:]
    assert len(rows) > 10, "the table `what holds | test` of SECURITY.md has another head"
    assert [row for row in rows if "`tests/" not in row.split("|")[-1]] == [], (
        "a promise without a test is not in that list"
    )


@pytest.mark.parametrize("page", ["docs/first-machine.md", "docs/serving.md", "docs/kubernetes.md", "CHANGELOG.md"])
def test_every_variable_that_a_page_sets_is_a_role_s(page: str) -> None:
    text = (ROOT / page).read_text().replace("weights_tries", "")
    variables = set(re.findall(r"`((?:host|docker|rocm|transformers|weights|vllm)_[a-z_]+)", text))
    secrets = {"weights_token", "vllm_api_key"}
    assert variables - secrets - {*role_vars.load(ROOT / "roles").options} == set(), f"no role has it: correct {page}"


def test_every_variable_of_a_port_is_in_the_table_of_ports() -> None:
    page, roles = (ROOT / "docs" / "ports.md").read_text(), role_vars.load(ROOT / "roles")
    for name in sorted(name for name in roles.options if name.endswith("_port")):
        named = name in page or f"127.0.0.1:{roles.defaults[name]}" in page
        assert named, f"say in docs/ports.md who listens on {name} and who must reach it"
