"""What `__main__.py` needs to tell the road on one page: the validated stack, and the inputs of each resource.

Brings together what `stack` has read, what `rolevars` knows of the roles and what the node source supplies; opens no
connection. A mistake in the stack file raises SettingsError before any resource is declared.
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pulumi

from fleet import address, resources
from fleet.program import config, machines
from fleet.sdk_patches import debug_log, failure_isolation, output_wait
from fleet.stack import requirements, role_vars, settings, validate

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """One stack, validated: its settings, what the roles know, each machine's own variables, the machines of its sources."""

    settings: settings.Settings
    roles: role_vars.Roles
    variables: Mapping[str, Mapping[str, Any]]
    fleet: pulumi.ProviderResource
    machines: Mapping[str, resources.Machine]  # by name, in the order of the stack file

    @functools.cached_property
    def builds(self) -> tuple[str, ...]:
        """The machines that build an image, each once."""
        return tuple(dict.fromkeys(self.builders.values()))

    @property
    def builders(self) -> Mapping[str, str]:
        """Which machine builds the image of which: one for all when it is pushed to a registry, else each its own."""
        if self.settings.vars.get("transformers_registry"):
            return dict.fromkeys(self.machines, self.settings.builder)
        return {name: name for name in self.machines}

    def wants(self, machine: str) -> str:
        """Return what must be so of a machine before anything on it is touched, and whose it is then."""
        name = "/".join(filter(None, (pulumi.get_organization(), pulumi.get_project(), pulumi.get_stack())))
        return json.dumps(requirements.wants(self.settings, self.roles, machine, name))

    def inputs(self, kind: str, machine: str, **program: pulumi.Input[Any]) -> dict[str, Any]:
        """Return roles (their files, by digest) and vars (those that these roles know) of one kind of resource on one machine.

        `program` holds variables that only the program can know, such as the image that another resource built.
        """
        own = self.variables[machine]
        supplied = self.machines[machine].vars
        known: pulumi.Input[dict[str, Any]]
        if isinstance(supplied, Mapping):
            known = {**self.roles.part(kind, role_vars.merge(supplied, own)), **program}
        else:
            known = pulumi.Output.all(supplied, program).apply(
                lambda both: {**self.roles.part(kind, role_vars.merge(both[0], own)), **both[1]}
            )
        return {"roles": self.roles.files(kind), "vars": known}

    def weights(self, machine: str) -> dict[str, Any]:
        """Return the inputs of Weights: with the hub's token where the stack has one."""
        token = pulumi.Config().get_secret("weights_token")
        return {**self.inputs("weights", machine), **({} if token is None else {"token": token})}

    def serving(
        self, machine: str, host: resources.Host, image: resources.Image, weights: resources.Weights
    ) -> dict[str, Any]:
        """Return the inputs of Serving: what it serves, the API key, which probes gate it, and the engine below it.

        A run of Host that restarts the engine takes the replicas down: then Serving waits for them, and probes them again.
        """
        made = {"vllm_image": image.image, "vllm_model_dir": weights.path, "vllm_model_manifest": weights.manifest}
        return {
            **self.inputs("serving", machine, **made),
            "image": image.image,
            "weights": {"path": weights.path, "revision": weights.revision},
            "engine": host.engine,
            "api_key": api_key(),
            "probes": self.probes,
        }

    @functools.cached_property
    def probes(self) -> dict[str, Any]:
        """The probes that gate the service, and a digest of the case files: when a case changes, it is asked again."""
        asked = self.settings.probes
        return {**asked.model_dump(exclude_none=True), "digest": probes_digest(asked.extra)}


def read() -> Plan:
    """Read and validate the stack that Pulumi runs, and ask its source for the machines."""
    debug_log.apply()
    failure_isolation.apply()
    output_wait.apply()
    roles = role_vars.load(ROOT / "roles")
    stack_settings = config.read(roles, ROOT)
    own = {name: roles.coerced(validate.variables(stack_settings, roles, name)) for name in stack_settings.present}
    fleet = pulumi.ProviderResource("fleet", "fleet", _provider(stack_settings))
    return Plan(stack_settings, roles, own, fleet, machines.supply(stack_settings, pulumi.get_stack(), fleet))


def _provider(stack_settings: settings.Settings) -> dict[str, Any]:
    """Return the settings of the provider itself, which concern no machine until something is done there."""
    purge = " ".join(stack_settings.purge)
    return {"parallel": stack_settings.parallel, **({"purge": purge} if purge else {})}


def probes_digest(extra: str | None = None) -> str:
    """Return a digest of the probes' cases and pictures, with those of a stack's own folder."""
    ours = ROOT / "fleet" / "probes"
    folders = [ours / "cases", ours / "media", *([Path(extra)] if extra else [])]
    return role_vars.digest([path for folder in folders for path in folder.rglob("*") if path.is_file()])


def api_key() -> pulumi.Output[str]:
    """Return the API key of the stack; `read` has checked that it is set and secret."""
    return pulumi.Config().require_secret("vllm_api_key")


def evidence(
    place: Mapping[str, str],
    node: resources.Node,
    host: resources.Host,
    image: resources.Image,
    weights: resources.Weights,
    serving: resources.Serving,
) -> pulumi.Output[dict[str, Any] | None]:
    """Return what `fleet show` and `fleet probe` need to know of one machine, and where it stands; None after a failure on it."""
    parts = {
        "connection": node.connection,
        "image": image.image,
        "commit": image.commit,
        "revision": weights.revision,
        "replicas": serving.replicas,
        "probes": serving.verdict,
    }

    def shape(seen: Sequence[Any]) -> dict[str, Any]:
        seconds = {role: taken for run in seen[len(parts) :] for role, taken in (run or {}).items()}
        return {**dict(zip(parts, seen, strict=False)), "seconds": seconds, **({"place": place} if place else {})}

    runs = (host.seconds, image.seconds, weights.seconds, serving.seconds)
    return failure_isolation.together(shape, *parts.values(), *runs)


def endpoints(found: Mapping[str, pulumi.Output[dict[str, Any] | None]]) -> pulumi.Output[dict[str, str]]:
    """Return {NODE/REPLICA: where it listens on that node}; `fleet forward` brings it to the caller's loopback."""
    return pulumi.Output.all(**found).apply(
        lambda by_node: {
            f"{node}/{replica['name']}": address.url(replica)
            for node, seen in by_node.items()
            for replica in (seen or {}).get("replicas") or ()
        }
    )


def forecast(provider: pulumi.ProviderResource, last: Iterable[pulumi.Resource]) -> None:
    """Let a preview end with a few lines, beside the stack, of all that it foretells: once the resources `last` are previewed.

    A call and not a resource: it leaves nothing in the state, counts nowhere, and is not made during an update.
    """

    async def tell() -> bool:
        for resource in last:
            await resource.urn.future()
        stack = pulumi.runtime.get_root_resource()
        options = pulumi.InvokeOptions(provider=provider)
        await pulumi.runtime.invoke_async("fleet:index:forecast", {"beside": stack.urn if stack else ""}, options)
        return True

    if pulumi.runtime.is_dry_run():
        pulumi.Output.all(tell())  # an output: the program ends only when it is there
