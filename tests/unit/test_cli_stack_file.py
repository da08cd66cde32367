"""Each verb that reads a stack file reports its mistakes and ends: fleet/cli/common.py."""

import re
import shutil
from pathlib import Path

import pytest
from click import testing

from fleet.cli import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("verb", ["plan", "mirrors", "preflight", "pin"])
def test_an_unknown_variable_is_refused_with_the_nearest_name(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "stacks", tmp_path / "stacks")
    (tmp_path / "Pulumi.yaml").touch()
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "stacks" / "Pulumi.prod.yaml"
    file.write_text(re.sub("rocm_version:", "rocm_versoin:", file.read_text()))
    result = testing.CliRunner().invoke(main.main, [verb, "-s", "prod"])
    assert result.exit_code in (1, 2) and isinstance(result.exception, SystemExit)
    assert "vars.rocm_versoin: no role knows this variable" in result.output
    assert "did you mean rocm_version?" in result.output
