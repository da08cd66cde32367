"""A pod of a Deployment or Job on this machine: the files that it mounts, in a folder, and its containers' commands as processes.

A path of the pod becomes one of this machine by `places`. Called by the tests of the programs in fleet/program/kubernetes/pod.
"""

import base64
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

FILES = "/opt/fleet"


class Pod:
    """The pod of one manifest among the `objects` of a stack, in `folder`; `places` are text in its commands → text in their place."""

    def __init__(self, folder: Path, objects: Mapping[str, Any], key: str, places: Mapping[str, str]) -> None:
        metadata, template = objects[key]["metadata"], objects[key]["spec"]["template"]
        self.spec = template["spec"]
        self.places = {FILES: str(folder), **places}
        [volume] = [volume["configMap"] for volume in self.spec["volumes"] if volume["name"] == "files"]
        content = objects[f"ConfigMap/{metadata['namespace']}/{volume['name']}"]
        for item in volume["items"]:
            file = folder / item["path"]
            file.parent.mkdir(parents=True, exist_ok=True)
            if item["key"] in content["data"]:
                file.write_text(content["data"][item["key"]])
            else:
                file.write_bytes(base64.b64decode(content["binaryData"][item["key"]]))

    def container(self, name: str) -> dict[str, Any]:
        """Return a container, also one of those that run before."""
        containers = [*self.spec.get("initContainers", []), *self.spec["containers"]]
        return next(container for container in containers if container["name"] == name)

    def run(self, command: list[str], variables: Sequence[Mapping[str, str]] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command of the pod, as the kubelet does, with these variables and no other."""
        words = [self._here(word) for word in command]
        assert words[0] == "python3", "a program of ours"
        environment = {"PATH": "/usr/bin:/bin", **{each["name"]: self._here(each["value"]) for each in variables}}
        return subprocess.run(
            [sys.executable, *words[1:]], capture_output=True, text=True, timeout=60, env=environment, cwd="/"
        )

    def _here(self, word: str) -> str:
        for place, here in self.places.items():
            word = word.replace(place, here)
        return word.replace("$$(", "$(")
