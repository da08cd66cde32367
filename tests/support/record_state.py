"""Keeps the state of a lab stack as this release writes it, for tests/unit/test_state.py: what a later release must be able to read.

Needs a stack that is up, and the environment of its project (`eval "$(make env)"`). Usage, in that project, once a release:
python -m tests.support.record_state lab FOLDER, with FOLDER as tests/unit/recorded/state/RELEASE of the repository. Writes state.json and Pulumi.STACK.yaml.
"""

import json
import pathlib
import subprocess
import sys
from typing import Any

from tests.support.environment import without_secrets
from tests.support.pulumi_project import KEY

# How Pulumi marks a secret in a state; next to it, in an export with --show-secrets, `plaintext`.
MARK = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
PLACE = "/srv/glm-fleet"  # in place of the folder that the project stands in


def readable(export: Any, root: str) -> Any:
    """Return the export with KEY in place of each secret, and nothing of the machine where it was made."""
    deployment = export["deployment"]
    kept = {key: value for key, value in deployment.items() if key not in ("secrets_providers", "manifest")}
    text = json.dumps({**export, "deployment": _shown(kept)})
    return json.loads(text.replace(root, PLACE))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        if MARK.items() <= value.items():
            return {**MARK, "plaintext": json.dumps(KEY)}
        return {key: _shown(item) for key, item in value.items() if key not in ("created", "modified")}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Write both files."""
    stack, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    command = ["pulumi", "stack", "export", "--show-secrets", "--stack", stack]
    export = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    text = without_secrets(pathlib.Path("stacks", f"Pulumi.{stack}.yaml").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    kept = readable(export, str(pathlib.Path.cwd()))
    (folder / "state.json").write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    (folder / f"Pulumi.{stack}.yaml").write_text(text)


if __name__ == "__main__":
    main()
