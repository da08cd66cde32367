"""Which parts of a role differ between two listings of it, and what counts of a file."""

from pathlib import Path

import pytest

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
    assert role_digest.changed(old, new) == changed, claim


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
    assert role_digest.changed(before, listed(tmp_path, {name: content})) == changed, claim
