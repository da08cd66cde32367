"""The stack of an earlier release previews empty: its whole state keeps its meaning. Needs `pulumi` on PATH."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from tests.support.environment import expect_success
from tests.support.pulumi_project import link_project, make_stack, pulumi
from tests.support.recorded_state import RECORDED, today


@pytest.mark.parametrize("folder", RECORDED, ids=lambda folder: str(folder.name))
def test_a_recorded_stack_previews_empty(folder: Path, tmp_path: Path) -> None:
    project = link_project(tmp_path)
    shutil.copy(folder / "Pulumi.lab.yaml", project / "stacks")
    (project / "state").mkdir()
    salt = yaml.safe_load(make_stack(project, "lab").read_text())["encryptionsalt"]
    state = today(json.loads((folder / "state.json").read_text()))
    state["deployment"]["secrets_providers"] = {"type": "passphrase", "state": {"salt": salt}}
    (project / "state.json").write_text(json.dumps(state))
    expect_success(pulumi(project, "stack", "import", "--file", str(project / "state.json"), "-s", "lab"))
    expect_success(pulumi(project, "preview", "--diff", "--expect-no-changes", "-s", "lab", "--color", "never"))
