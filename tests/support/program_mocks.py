"""Runs `__main__.py` against Pulumi's mocks and returns what it declared. Opens no connection."""

import functools
import hashlib
import json
import runpy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pulumi
import yaml
from pulumi.runtime import mocks as mocks_module
from pulumi.runtime.proto import resource_pb2

ROOT = Path(__file__).resolve().parents[2]
STACKS = ("lab", "dev", "staging", "prod", "dr")
KEY = "0123456789abcdef0123456789abcdef"
FINAL_KEY = {"public": "ssh-ed25519 C", "private": "another key"}
SECRET, SECRET_SIGN = (
    "4dabf18193072939515e22adb298388d",
    "1b47061264138c4ac30d75fd1eb44270",
)  # the form of a secret input
NODES = "fleet:index:cluster_nodes"
SITE_VARS = {"transformers_base_image": "registry.lab.internal:5000/lab/vllm@sha256:" + "ab" * 32, "unheard_of": 1}


@dataclass
class Declared:
    """A program's declarations: inputs by (kind, name), in order, protected resources, outputs, calls (token, arguments, resources before it).

    `after` has the resources that each one depends on, `providers` the name of the provider of each.
    """

    inputs: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    calls: list[tuple[str, dict[str, Any], int]] = field(default_factory=list)
    protected: set[tuple[str, str]] = field(default_factory=set)
    after: dict[tuple[str, str], set[tuple[str, str]]] = field(default_factory=dict)
    providers: dict[tuple[str, str], str] = field(default_factory=dict)

    def names(self, kind: str) -> list[str]:
        """Return the names of all resources of a kind."""
        return [name for other, name in self.inputs if other == kind]


class Mocks(pulumi.runtime.Mocks):
    """Answers as the plugins would, without machines; `nodes` is the answer about a cluster's."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self.declared, self.nodes = Declared(), nodes

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str | None, dict[Any, Any]]:
        kind = args.typ.rpartition(":")[2]
        self.declared.inputs[kind, args.name] = args.inputs
        name = args.inputs.get("node", {}).get("name", args.name)
        outputs: dict[str, dict[str, Any]] = {
            "Site": {"vars": SITE_VARS},
            "Machine": {
                "address": "192.0.2.99",
                "port": 22,
                "user": "root",
                "identity": "/k",
                "host_key": "ssh-ed25519 A",
            },
            "Authority": {"certificate": "a certificate", "private": "an authority's key", "ends": "2036-11-28"},
            "Account": {"private": "an account's key", "thumbprint": "THUMBPRINT"},
            "HostKey": {"public": "ssh-ed25519 B", "private": "a key", "final": FINAL_KEY},
            "BareMetal": {"installed": args.inputs.get("reinstall", "")},
            "Node": {"connection": {"name": args.name, "address": args.inputs.get("address")}, "facts": {}},
            "Host": {"gpus": 8, "seconds": {"host": 1.0, "docker": 2.0}},
            "Image": {
                "image": f"registry.example/glm@sha256:{hashlib.sha256(name.encode()).hexdigest()}",
                "commit": "c",
            },
            "Weights": {"path": "/srv/models/glm", "revision": "r", "manifest": "ab12", "seconds": {"weights": 3.0}},
            "Rollout": {
                "pods": [{"name": f"{args.name}-1", "node": "glm-1"}],
                "verdict": {"passed": 12, "total": 12},
                "seconds": {"rollout": 4.0},
            },
            "Member": {"part": "worker", "seconds": {"kubernetes": 5.0}},
            "Serving": {
                "replicas": [{"name": "glm-0", "port": 8000, "model": "m"}],
                "verdict": {"passed": 10, "total": 10},
                "seconds": {"vllm": 4.0},
            },
        }
        return f"{kind}/{args.name}", {**args.inputs, **outputs.get(kind, {})}

    def call(self, args: pulumi.runtime.MockCallArgs) -> dict[Any, Any]:
        self.declared.calls.append((args.token, dict(args.args), len(self.declared.inputs)))
        return self.nodes if args.token == NODES else {}


def config(stack: str) -> dict[str, Any]:
    """Return the configuration in a stack's file."""
    values: dict[str, Any] = yaml.safe_load((ROOT / "stacks" / f"Pulumi.{stack}.yaml").read_text())["config"]
    return {key: value for key, value in values.items() if not key.endswith(("vllm_api_key", "weights_token"))}


class FailingMonitor(mocks_module.MockMonitor):
    """A Pulumi engine in which some resources fail: it answers as the real one does with --continue-on-error."""

    def __init__(self, mocks: Mocks, failing: tuple[str, ...]) -> None:
        super().__init__(mocks)
        self.failing = failing

    def RegisterResource(self, request: Any) -> Any:
        name = f"{request.type.rpartition(':')[2]}/{request.name}"
        key = (request.type.rpartition(":")[2], request.name)
        self.mocks.declared.after[key] = {
            (of.rpartition("::")[0].rpartition(":")[2], of.rpartition("::")[2]) for of in request.dependencies
        }
        self.mocks.declared.providers[key] = request.provider.rpartition("::")[0].rpartition("::")[2]
        if request.protect:
            self.mocks.declared.protected.add(key)
        if name not in self.failing:
            return super().RegisterResource(request)
        urn = self.make_urn(request.parent, request.type, request.name)
        self.mocks.declared.inputs[key] = {}
        return resource_pb2.RegisterResourceResponse(urn=urn, result=resource_pb2.Result.FAIL)


def run(
    stack: str,
    values: dict[str, Any],
    secrets: dict[str, str] | None = None,
    failing: tuple[str, ...] = (),
    preview: bool = False,
    nodes: dict[str, Any] | None = None,
) -> Declared:
    """Run `__main__.py` as the language host does, with `values` as the configuration of `stack`."""
    secret_config = {
        f"glm-fleet:{name}": text for name, text in ({"vllm_api_key": KEY} if secrets is None else secrets).items()
    }
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}
    mocks = Mocks({"nodes": ["glm-1", "glm-2"], "left": []} if nodes is None else nodes)
    pulumi.runtime.set_mocks(
        mocks, project="glm-fleet", stack=stack, preview=preview, monitor=FailingMonitor(mocks, failing)
    )
    pulumi.runtime.set_all_config({**texts, **secret_config}, list(secret_config))

    exported: dict[str, Any] = {}

    @pulumi.runtime.test  # type: ignore[untyped-decorator]
    def program() -> pulumi.Output[None]:
        with mock.patch.object(pulumi, "export", exported.__setitem__):
            runpy.run_path(str(ROOT / "__main__.py"), run_name="__main__")
        return pulumi.Output.all(**exported).apply(mocks.declared.outputs.update)

    program()
    return mocks.declared


@functools.cache
def run_as_written(stack: str) -> Declared:
    """Return what a stack's own file declares, of one run for all tests: none of them changes it."""
    return run(stack, config(stack))
