"""Values of an earlier state go into the text of a stack file; comments and every other line stay."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from fleet import errors
from fleet.cli import served_edit, stack_edit
from fleet.stack import served_values

ROOT = Path(__file__).resolve().parents[2]
VARS = "glm-fleet:vars"
STACKS = ["dev", "dr", "lab", "lab-kubernetes", "prod", "staging"]
TEXT = """\
config:
  glm-fleet:vars: # all
    # the image
    transformers_commit: "v2" # v5.3.0, 2026-11-29
    rocm_version: "7.2" # stays
    vllm_flags:
      # of the model
      max-model-len: 1 # tokens; v1, 2026-11-29
      last: [a] # one

    # what follows
    vllm_environment: {A: "1"}
  # the end
  glm-fleet:parallel: "4"
"""


def edited(text: str, folder: Path, **variables: Any) -> str:
    """Return the text with exactly these served variables of the stack."""
    file = folder / "Pulumi.test.yaml"
    file.write_text(text)
    wanted: dict[served_values.Path, Any] = {(VARS, name): value for name, value in variables.items()}
    return served_edit.edited(stack_edit.Document(file), wanted, "stacks/Pulumi.test.yaml")


def present(text: str) -> dict[str, Any]:
    return {path[-1]: value for path, value in served_values.of(yaml.safe_load(text)["config"]).items()}


@pytest.mark.parametrize("stack", STACKS)
def test_the_same_values_change_no_character(stack: str) -> None:
    path = ROOT / "stacks" / f"Pulumi.{stack}.yaml"
    values = copy.deepcopy(served_values.of(yaml.safe_load(path.read_text())["config"]))
    assert served_edit.edited(stack_edit.Document(path), values, str(path)) == path.read_text()


def test_a_value_changes_alone_and_loses_the_label_of_pin(tmp_path: Path) -> None:
    now = present(TEXT)
    now["transformers_commit"], now["vllm_flags"]["max-model-len"] = "v1", 2
    expected = TEXT.replace('"v2" # v5.3.0, 2026-11-29', '"v1"').replace("1 # tokens; v1, 2026-11-29", "2 # tokens")
    assert [line.rstrip() for line in edited(TEXT, tmp_path, **now).splitlines()] == expected.splitlines()


def test_a_removed_key_leaves_the_comment_on_what_follows(tmp_path: Path) -> None:
    now = present(TEXT)
    del now["vllm_flags"]["last"]
    assert edited(TEXT, tmp_path, **now) == TEXT.replace("      last: [a] # one\n", "")
    del now["vllm_environment"]
    assert "  # the end\n  glm-fleet:parallel" in edited(TEXT, tmp_path, **now)


def test_an_added_key_stands_before_the_others(tmp_path: Path) -> None:
    now = present(TEXT)
    now["vllm_flags"] = {**now["vllm_flags"], "seed": 7}
    text = edited(TEXT, tmp_path, **now)
    assert "      # of the model\n      seed: 7\n      max-model-len" in text


def test_a_value_that_an_alias_shares_is_refused(tmp_path: Path) -> None:
    text = "config:\n  glm-fleet:vars:\n    vllm_flags: &x {a: 1}\n    host_sysctls: *x\n"
    with pytest.raises(errors.SettingsError, match="is shared by an alias"):
        edited(text, tmp_path, vllm_flags={"a": 2})
