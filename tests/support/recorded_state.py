"""Records the state of a lab stack as this release writes it, and reads the records of earlier releases, which later ones must accept.

Needs, to record, a stack that is up and the environment of its project (`eval "$(make env)"`). Usage, in that project, once a release:
python -m tests.support.recorded_state lab FOLDER, with FOLDER as tests/unit/recorded/state/RELEASE of the repository. Writes state.json and
Pulumi.STACK.yaml. Used by tests/unit/test_state.py and tests/preview/test_state.py.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from fleet import program
from fleet.stack import resource_roles, role_vars
from tests.support.environment import without_secrets
from tests.support.pulumi_project import KEY, ROOT

RECORDED = sorted((ROOT / "tests" / "unit" / "recorded" / "state").iterdir())  # a folder a release
# How Pulumi marks a secret in a state; next to it, in an export with --show-secrets, `plaintext`.
MARK = {"4dabf18193072939515e22adb298388d": "1b47061264138c4ac30d75fd1eb44270"}
PLACE = "/srv/glm-fleet"  # instead of the project's folder


def readable(export: Any, root: str) -> Any:
    """Return the export with KEY instead of each secret, and without paths of its machine."""
    deployment = export["deployment"]
    fields = {key: value for key, value in deployment.items() if key not in ("secrets_providers", "manifest")}
    text = json.dumps({**export, "deployment": _shown(fields)})
    return json.loads(text.replace(root, PLACE))


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        if MARK.items() <= value.items():
            return {**MARK, "plaintext": json.dumps(KEY)}
        return {key: _shown(item) for key, item in value.items() if key not in ("created", "modified")}
    return [_shown(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Write both files."""
    stack, folder = sys.argv[1], Path(sys.argv[2])
    command = ["pulumi", "stack", "export", "--show-secrets", "--stack", stack]
    export = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    text = without_secrets(Path("stacks", f"Pulumi.{stack}.yaml").read_text())
    folder.mkdir(parents=True, exist_ok=True)
    record = readable(export, str(Path.cwd()))
    (folder / "state.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    (folder / f"Pulumi.{stack}.yaml").write_text(text)


def today(state: Any) -> Any:
    """Return the state as if its runs had used today's role files and probes."""
    roles = role_vars.load(ROOT / "roles")
    for item in state["deployment"]["resources"]:
        kind = item["type"].rpartition(":")[2].lower()
        for side in (item.get("inputs") or {}, item.get("outputs") or {}):
            if kind in resource_roles.ROLES and item["type"].startswith("fleet:"):
                side["roles"] = roles.files(kind)
            if "probes" in side and kind == "serving":
                side["probes"]["digest"] = program.probes_digest()
    return state


def plain(value: Any) -> Any:
    """Return properties as a plugin gets them: secrets in clear."""
    if isinstance(value, dict):
        return KEY if MARK.items() <= value.items() else {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def resources(folder: Path) -> list[dict[str, Any]]:
    """Return the fleet's resources in a recorded state: type, urn, inputs, outputs."""
    state = json.loads((folder / "state.json").read_text())
    return [plain(item) for item in state["deployment"]["resources"] if item["type"].startswith("fleet:index:")]


if __name__ == "__main__":
    main()
