"""Prepares what `__main__.py` declares: the validated stack, and the inputs and outputs of each resource.

Joins the stack's configuration (program.config), the roles' variables (stack.role_vars) and the machines of the sources (program.machines);
opens no connection. A mistake in the stack file raises SettingsError before any resource is declared. Called by `__main__.py`.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi

from fleet import address, resources
from fleet.program import config, gateway, machines, openings, sharing, turns
from fleet.sdk_patches import debug_log, failure_isolation, output_wait
from fleet.stack import requirements, role_vars, settings, validate

if TYPE_CHECKING:
    from fleet.program import kubernetes

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Plan:
    """One validated stack: its settings, the roles' variables, each machine's own values of them, the machines of its sources."""

    settings: settings.Settings
    roles: role_vars.Roles
    variables: Mapping[str, Mapping[str, Any]]
    whole: Mapping[str, Mapping[str, Any]]  # the same with the roles' defaults
    fleet: pulumi.ProviderResource
    machines: Mapping[str, resources.Machine]  # by name, in the order of the stack file

    @functools.cached_property
    def builds(self) -> tuple[str, ...]:
        """The names of the machines that build an image, each once."""
        return tuple(dict.fromkeys(self.builders.values()))

    @property
    def builders(self) -> Mapping[str, str]:
        """The machine that builds the image, by machine: one for all if the stack names a registry, else each its own."""
        if self.settings.vars.get("transformers_registry"):
            return dict.fromkeys(self.settings.serving, self.settings.builder)
        return {name: name for name in self.settings.serving}

    @property
    def order(self) -> list[str]:
        """The order of the machines' turns, the canary first; empty in a stack without turns: one machine that serves, and no gateway.

        Of a cluster of own machines the control planes are first.
        """
        if self.settings.cluster:
            return self.settings.cluster.order(self.settings.present)
        alone = len(self.settings.serving) < 2 and not self.settings.gateway
        return [] if alone else turns.order(self.settings.serving, self.builds)

    @property
    def planes(self) -> list[str]:
        """The control planes of a cluster of own machines; [] without one."""
        return self.settings.cluster.control_planes if self.settings.cluster else []

    @property
    def owner(self) -> str:
        """The name of this stack, by which it owns machines and namespaces: [ORGANIZATION/]PROJECT/STACK."""
        return "/".join(filter(None, (pulumi.get_organization(), pulumi.get_project(), pulumi.get_stack())))

    @functools.cached_property
    def on_cluster(self) -> "kubernetes.Stack":
        """The stack on its Kubernetes cluster; one for the whole program, because it renders each model's variables once."""
        from fleet.program import kubernetes  # only stacks on a cluster need it

        assert self.settings.kubernetes
        return kubernetes.Stack(self.settings, self.settings.kubernetes, self.roles, self.owner)

    def node_requirements(self, machine: str) -> str:
        """Return the requirements of the preflight for one machine and the name of its owner, this stack, as JSON."""
        return json.dumps(requirements.of_machine(self.settings, self.roles, machine, self.owner))

    def inputs(self, kind: str, machine: str, **program: pulumi.Input[Any]) -> dict[str, Any]:
        """Return the inputs of one kind of resource on one machine: `roles` (digests of their files) and `vars` (of these roles).

        `program` are variables that only the program knows, such as the image that another resource built.
        """
        own, gpus, member = self.variables[machine], self.settings.gpus(machine), bool(self.settings.cluster)
        from_source = self.machines[machine].vars
        variables: pulumi.Input[dict[str, Any]]
        if isinstance(from_source, Mapping):
            variables = {**self.roles.variables_of(kind, role_vars.merge(from_source, own), gpus, member), **program}
        else:
            # The variables of `program` stay outputs of their own: a preview that does not know one of them knows the others.
            variables = pulumi.Output.all(from_source).apply(
                lambda known: {**self.roles.variables_of(kind, role_vars.merge(known[0], own), gpus, member), **program}
            )
        return {"roles": self.roles.files(kind, gpus, member), "vars": variables}

    def weights(self, machine: str, authority: resources.Authority | None) -> dict[str, Any]:
        """Return the inputs of Weights, with the hub's token if the stack has one, and with the neighbours of a machine that shares them."""
        token = pulumi.Config().get_secret("weights_token")
        names = sharing.group(self.settings, self.whole, machine)
        shared: dict[str, Any] = {}
        if names and authority:
            shared = {
                "neighbours": sharing.neighbours(names, self.machines, self.whole, machine),
                "authority": authority.certificate,
                "authority_key": pulumi.Output.secret(authority.private),
            }
        variables = sharing.variables_of(names, self.machines, machine)
        return {**self.inputs("weights", machine, **variables), **({} if token is None else {"token": token}), **shared}

    def serving(
        self, machine: str, host: resources.Host, image: resources.Image, weights: resources.Weights
    ) -> dict[str, Any]:
        """Return the inputs of Serving: image, weights, API key, the probes that gate it, and the start id of the Docker daemon.

        A run of Host that restarts the Docker daemon ends the replicas: a new start id makes Serving wait for them and probe them again.
        """
        built = {"vllm_image": image.image, "vllm_model_dir": weights.path, "vllm_model_manifest": weights.manifest}
        return {
            **self.inputs("serving", machine, **built),
            "image": image.image,
            "weights": {"path": weights.path, "revision": weights.revision},
            "engine": host.engine,
            "api_key": api_key(),
            "probes": self.probes,
        }

    def gateway(
        self,
        machine: str,
        authority: resources.Authority,
        account: resources.Account | None,
        serving: resources.Serving | None,
    ) -> dict[str, Any]:
        """Return the inputs of Gateway: the variables that only the program has, the authority, the inner API key, the certificate's names."""
        replicas: pulumi.Input[Any] = serving.replicas if serving else []
        variables = gateway.variables(self.settings, self.machines, machine, replicas, account)
        return {
            **self.inputs("gateway", machine, **variables),
            **gateway.names(self.settings, machine, account),
            "authority": authority.certificate,
            "authority_key": pulumi.Output.secret(authority.private),
            "inner_key": api_key(),
        }

    def endpoint(self, authority: resources.Authority | None) -> dict[str, pulumi.Input[str]]:
        """Return the outputs about the gateway: the URL for clients, and the certificate that they trust if it is not public; else {}."""
        form = self.settings.gateway
        if form is None or authority is None:
            return {}
        port = self.whole[form.nodes[0]]["gateway_port"]
        trusted = {"authority": authority.certificate} if form.certificate == "authority" else {}
        return {"endpoint": gateway.url(form, port), **trusted}

    @functools.cached_property
    def probes(self) -> dict[str, Any]:
        """The probes that gate the service, and a digest of the case files: a changed case runs the probes again."""
        probes = self.settings.probes
        return {**probes.model_dump(exclude_none=True), "digest": probes_digest(probes.extra)}


def read() -> Plan:
    """Read and validate the stack that Pulumi runs, and let its sources declare the machines. Raises SettingsError."""
    debug_log.apply()
    failure_isolation.apply()
    output_wait.apply()
    roles = role_vars.load(ROOT / "roles")
    stack = config.read(roles, ROOT)
    own = {name: roles.coerce(validate.variables(stack, roles, name)) for name in stack.present}
    # A change of the provider's inputs causes no run on a machine.
    purge = {"purge": " ".join(stack.purge)} if stack.purge else {}
    approval = {"approval": True} if stack.review else {}
    inputs = {"parallel": stack.parallel, **purge, **approval, **turns.setting(stack)}
    fleet = pulumi.ProviderResource("fleet", "fleet", inputs)
    whole = {name: {**roles.defaults, **values} for name, values in own.items()}
    return Plan(stack, roles, own, whole, fleet, machines.supply(stack, whole, pulumi.get_stack(), fleet))


def probes_digest(extra: str | None = None) -> str:
    """Return a digest of names and contents of the probes' cases and pictures, and of a stack's own in the folder `extra`."""
    ours = ROOT / "fleet" / "probes"
    folders = [ours / "cases", ours / "media", *([Path(extra)] if extra else [])]
    whole = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        whole.update(hashlib.sha256(path.name.encode() + b"\0" + path.read_bytes()).digest())
    return whole.hexdigest()[:16]


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
    """Return what `fleet show` and `fleet probe` need of one machine, with its location; None after a failure on it."""
    parts = {
        "connection": node.connection,
        "image": image.image,
        "commit": image.commit,
        "revision": weights.revision,
        "replicas": serving.replicas,
        "probes": serving.verdict,
    }

    def shape(values: Sequence[Any]) -> dict[str, Any]:
        seconds = {role: duration for run in values[len(parts) :] for role, duration in (run or {}).items()}
        return {**dict(zip(parts, values, strict=False)), "seconds": seconds, **({"place": place} if place else {})}

    runs = (host.seconds, image.seconds, weights.seconds, serving.seconds)
    return failure_isolation.together(shape, *parts.values(), *runs)


def endpoints(replicas: Mapping[str, pulumi.Output[dict[str, Any] | None]]) -> pulumi.Output[dict[str, str]]:
    """Return {NODE/REPLICA: its URL on that node}, from the `evidence` of each node; `fleet forward` makes it reachable for the caller."""
    return pulumi.Output.all(**replicas).apply(
        lambda by_node: {
            f"{node}/{replica['name']}": address.url(replica)
            for node, node_evidence in by_node.items()
            for replica in (node_evidence or {}).get("replicas") or ()
        }
    )


def forecast(plan: Plan, last: Iterable[pulumi.Resource]) -> None:
    """Let a preview end with a summary of its effects, beside the stack, after the resources `last` are previewed.

    A function call and not a resource: it adds nothing to the state or the counts. Updates do not call it.
    """

    async def call_forecast() -> bool:
        for resource in last:
            await resource.urn.future()
        stack = pulumi.runtime.get_root_resource()
        options = pulumi.InvokeOptions(provider=plan.fleet)
        ports = openings.by_hand(plan.settings, plan.whole)
        proxies = plan.settings.gateway is not None
        podless = [name for name in plan.planes if not plan.settings.gpus(name)]
        turns_of = {"order": plan.order, "proxies": proxies, "planes": plan.planes, "podless": podless}
        arguments = {"beside": stack.urn if stack else "", "ports": ports, **turns_of}
        await pulumi.runtime.invoke_async("fleet:index:forecast", arguments, options)
        return True

    if pulumi.runtime.is_dry_run():
        pulumi.Output.all(call_forecast())  # as an output: the program waits for it
