"""The files that pods mount: the role's own programs, the startup probe with its cases, the fetcher of the weights.

Needs the repository's files. A ConfigMap has keys without slashes; its volume gives each file its path again.
"""

import base64
import functools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fleet.program.kubernetes.objects import Object, Stack, digest, made

ROOT = Path(__file__).resolve().parents[3]
HERE = Path(__file__).parent / "pod"
PLACE = "/opt/fleet"  # in a pod
# The cases of the startup probe: a drawn picture and a photograph, each a question without a thought.
STARTUP = ("bottle-grounding", "photograph")
PROBES = ("__init__", "answer", "case", "checks", "picture", "runner")
MODULES = ("__init__", "download", "fetch", "hub", "model")  # of the fetcher


@dataclass(frozen=True)
class Files:
    """Files by path, for one ConfigMap, whose name has a digest of them: another content is another object."""

    name: str
    namespace: str
    texts: Mapping[str, str]
    media: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def object(self) -> Object:
        """The ConfigMap."""
        data = {_key(path): text for path, text in sorted(self.texts.items())}
        binary = {_key(path): base64.b64encode(content).decode() for path, content in sorted(self.media.items())}
        content = {"data": data, **({"binaryData": binary} if binary else {})}
        name = f"{self.name}-{digest(content)}"
        manifest = made("v1", "ConfigMap", name, self.namespace, immutable=True, **content)
        return Object(manifest, (f"Namespace/{self.namespace}",))

    @property
    def volume(self) -> dict[str, Any]:
        """The volume of a pod, in which each file has its path."""
        items = [{"key": _key(path), "path": path} for path in sorted([*self.texts, *self.media])]
        return {"name": "files", "configMap": {"name": self.object.manifest["metadata"]["name"], "items": items}}


def serving(stack: Stack, values: Mapping[str, Any]) -> Files:
    """Return the files of a model's pods."""
    role = stack.role("vllm", values)
    texts = {name: role.text(f"{name}.j2") for name in ("start.sh", "prepare.py")}
    texts |= {"weights_ready.py": (HERE / "weights_ready.py").read_text()}
    texts |= {"startup_probe.py": (ROOT / "fleet" / "probes" / "startup.py").read_text()}
    texts |= _texts(["fleet/__init__.py", "fleet/errors.py", "fleet/printable.py"])
    texts |= _texts(f"fleet/probes/{name}.py" for name in PROBES)
    texts |= {**fetcher(["__init__", "model"]), **wanted(values)}
    media = {}
    for name in cases(stack):
        texts |= _texts([path := f"fleet/probes/cases/{name}.yaml"])
        for file in _media(texts[path]):
            media[f"fleet/probes/media/{file}"] = (ROOT / "fleet" / "probes" / "media" / file).read_bytes()
    return Files("serving", stack.cluster.namespace, texts, media)


@functools.cache  # the same cases for each model
def _media(case: str) -> tuple[str, ...]:
    """Return the files of media that a case names."""
    read = yaml.safe_load(case)
    return tuple(filter(None, ((read.get("picture") or {}).get("file"), read.get("video"))))


def cases(stack: Stack) -> list[str]:
    """Return the cases that the startup probe asks: those of STARTUP among the stack's probes, else all of them that are ours."""
    chosen = stack.settings.probes.cases
    shipped = {path.stem for path in (ROOT / "fleet" / "probes" / "cases").glob("*.yaml")}
    quick = [name for name in STARTUP if not chosen or name in chosen]
    return quick or [name for name in chosen if name in shipped] or list(STARTUP)


def fetcher(modules: Iterable[str] = MODULES) -> dict[str, str]:
    """Return the fetcher's modules by their path beside the programs of a pod."""
    return {
        path.removeprefix("fleet/"): text
        for path, text in _texts(f"fleet/weights_fetcher/{name}.py" for name in modules).items()
    }


def wanted(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the sums that the stack wants of the weights, as a file; {} where nothing of ours fetches them."""
    sums = values.get("weights_manifest")
    return {} if sums is None else {"wanted.json": json.dumps(sums, sort_keys=True)}


def _texts(paths: Iterable[str]) -> dict[str, str]:
    """Return files of the repository by path."""
    return {path: (ROOT / path).read_text() for path in paths}


def _key(path: str) -> str:
    return path.replace("/", ".")
