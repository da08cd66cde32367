"""Which parts of a role differ between two listings of it, and what counts of a file."""

import ast
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from fleet.stack import role_digest


@pytest.mark.parametrize(
    ("claim", "old", "new", "changed"),
    [
        ("the same", "1  a\n2  b", "1  a\n2  b", []),
        ("an edited one", "1  a\n2  b", "1  a\n3  b", ["b"]),
        ("a new one", "2  b", "1  a\n2  b", ["a"]),
        ("one that went", "1  a\n2  b", "2  b", ["a"]),
        ("a role that is new to the resource", "", "2  b\n1  a", ["a", "b"]),
        ("a name with a space", "1  a b", "2  a b", ["a b"]),
    ],
)
def test_the_files_that_differ_are_named(claim: str, old: str, new: str, changed: list[str]) -> None:
    assert role_digest.changed_paths(old, new) == changed, claim


def listed(folder: Path, files: dict[str, str]) -> str:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content)
    return role_digest.listing(folder)


ROLE = {
    "defaults/main.yml": "# knobs\na: 1\nb: [x]\n",
    "vars/main.yml": "_c: 1\n",
    "tasks/main.yml": "# tasks\n- name: one\n",
    "templates/a.j2": "# text\n",
}


@pytest.mark.parametrize(
    ("claim", "name", "content", "changed"),
    [
        ("a comment in a file of YAML is no change", "tasks/main.yml", "# other words\n- name: one # so\n", []),
        ("a task is one", "tasks/main.yml", "# tasks\n- name: two\n", ["tasks/main.yml"]),
        ("nor a comment between defaults", "defaults/main.yml", "a: 1\n# why\nb: [x]\n", []),
        ("a default is one of its own", "defaults/main.yml", "a: 1\nb: [y]\n", ["defaults/main.yml: b"]),
        ("so is a name of the role's", "vars/main.yml", "_c: 2\n_d: 1\n", ["vars/main.yml: _c", "vars/main.yml: _d"]),
        ("of a template every byte counts", "templates/a.j2", "# Text\n", ["templates/a.j2"]),
        ("a number and the same as text are two", "vars/main.yml", "_c: '1'\n", ["vars/main.yml: _c"]),
        ("what is no YAML is another file", "tasks/main.yml", "- name: [\n", ["tasks/main.yml"]),
        ("what describes a role is none of it", "meta/effects.yml", "variables: {}\n", []),
    ],
)
def test_what_counts_of_a_file_is_what_it_says(
    tmp_path: Path, claim: str, name: str, content: str, changed: list[str]
) -> None:
    before = listed(tmp_path, ROLE)
    assert role_digest.changed_paths(before, listed(tmp_path, {name: content})) == changed, claim


FETCHER = Path(__file__).parents[2] / "fleet" / "weights_fetcher"
WEIGHTS = Path(__file__).parents[2] / "roles" / "weights"


def test_a_role_depends_on_each_module_of_the_weights_fetcher(tmp_path: Path) -> None:
    """The role has links to them: what it sends, and what its digest counts, are the files of the package."""
    links = WEIGHTS / "files" / "weights_fetcher"
    sent = {path.name: path.resolve() for path in links.glob("*.py")}
    assert sent == {path.name: path for path in FETCHER.glob("*.py")}, "make a link to each module"
    role = Path(shutil.copytree(WEIGHTS, tmp_path / "weights"))
    before = role_digest.listing(role)
    assert before == role_digest.listing(WEIGHTS)
    for name in sent:
        file = f"files/weights_fetcher/{name}"
        (role / file).write_text((role / file).read_text() + "# changed\n")
        assert role_digest.changed_paths(before, role_digest.listing(role)) == [file]
        before = role_digest.listing(role)


def test_a_node_gets_every_module_of_the_weights_fetcher_that_it_imports() -> None:
    modules = set(yaml.safe_load((WEIGHTS / "vars" / "main.yml").read_text())["_weights_modules"])
    assert modules == {path.name for path in FETCHER.glob("*.py")} - {"mounted.py"}, (
        "_weights_modules in roles/weights/vars/main.yml lists the modules of fleet/weights_fetcher"
    )


@pytest.mark.parametrize("module", sorted(FETCHER.glob("*.py")), ids=lambda module: str(module.name))
def test_the_weights_fetcher_needs_the_standard_library_and_itself_alone(module: Path) -> None:
    """It runs on a node, where nothing else of fleet is."""
    imports = [
        node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    inside = [node for node in imports if isinstance(node, ast.ImportFrom) and node.level == 1]
    names = [
        name
        for node in imports
        if node not in inside
        for name in ([one.name for one in node.names] if isinstance(node, ast.Import) else [node.module or "."])
    ]
    foreign = [name for name in names if name.partition(".")[0] not in sys.stdlib_module_names]
    assert foreign == [], "import the standard library, or a module of fleet/weights_fetcher with a dot"
    assert module.name != "model.py" or not inside, "root runs it alone, as text"
