"""The list of verbs in fleet/cli/main.py agrees with the files beside it, and `fleet --help` imports none of them."""

import subprocess
import sys
from pathlib import Path

import click

from fleet.cli import main

FOLDER = Path(main.__file__).parent
SHARED = {
    "__init__",
    "main",
    "common",
    "table",
    "stack_outputs",
    "stack_edit",
    "stack_entries",
    "endpoint",
    "accept_report",
    "node_rotation",
    "pods",
    "pod_drain",
    "pod_nodes",
    "pod_verify",
    "cluster_requirements",
    "backup_age",
    "backup_timer",
    "object_store",
    "drill_identity",
    "drill_report",
    "good_states",
    "served_edit",
    "rollback_costs",
    "preview",
    "signature",
}


def test_each_verb_is_a_file() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - SHARED
    assert sorted(main.VERBS) == sorted(files), (
        "a verb is a file fleet/cli/VERB.py and a line in VERBS of fleet/cli/main.py; what verbs share goes into SHARED here"
    )


def test_the_list_of_verbs_has_the_first_sentence_of_each_help() -> None:
    for name, line in main.VERBS.items():
        command = main.main.get_command(click.Context(main.main), name)
        assert command and command.help
        assert command.name == name
        assert command.help.partition("\n\n")[0] == line, f"copy the first sentence of fleet/cli/{name}.py to VERBS"


def test_fleet_help_lists_the_verbs_and_imports_none() -> None:
    show = "import sys; from fleet.cli import main; main.main(['--help'], standalone_mode=False)"
    print_imports = "print(*[name for name in sys.modules if name.startswith('fleet.')])"
    output = subprocess.check_output([sys.executable, "-c", f"{show}; {print_imports}"], text=True)
    assert output.splitlines()[-1].split() == ["fleet.cli", "fleet.cli.main"]
    assert all(f"\n  {name} " in output for name in main.VERBS)
