"""The machines of a stack as members of one Kubernetes cluster: the inputs of each Member, and the stack's outputs about the cluster.

Pure: settings and machines in. Called by `__main__.py`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi

from fleet import program, resources

# The host's own list of signs of another manager, without the kubelet, which is this stack's here.
FOREIGN = "host_foreign_services"
KUBELET = "kubelet"


def host(plan: program.Plan, machine: str) -> dict[str, Any]:
    """Return the inputs of Host on a member: without Docker, and with a kubelet that is no sign of another manager."""
    foreign = [name for name in plan.whole[machine][FOREIGN] if name != KUBELET]
    return plan.inputs("host", machine, **{FOREIGN: foreign})


def member(plan: program.Plan, machine: str, members: Mapping[str, resources.Member]) -> dict[str, Any]:
    """Return the inputs of a Member; `members` has those that are declared before it, the first control plane among them."""
    form = plan.settings.cluster
    assert form
    first = members.get(form.first)
    variables = {
        "kubernetes_part": form.part(machine),
        "kubernetes_name": machine,
        "kubernetes_address": plan.machines[machine].internal_address,
        "kubernetes_gpus": plan.settings.gpus(machine),
        "kubernetes_endpoint": endpoint(plan),
        "kubernetes_names": names(plan),
        "kubernetes_authority": first.authority if first else "",
    }
    asked = {"control_plane": first.node} if first else {}
    return {**plan.inputs("member", machine, **variables), **asked}


def after(plan: program.Plan, machine: str, members: Mapping[str, resources.Member]) -> Sequence[pulumi.Resource]:
    """Return the members that a machine waits for: a control plane for the one before it, as etcd takes one at a time; a worker for all of them."""
    assert plan.settings.cluster
    planes = plan.settings.cluster.control_planes
    before = planes[: planes.index(machine)][-1:] if machine in planes else planes
    return [members[name] for name in before]


def endpoint(plan: program.Plan) -> pulumi.Input[str]:
    """Return HOST:PORT of the API servers: the stack's name for them, or the address of the only one."""
    form = plan.settings.cluster
    assert form
    port = plan.whole[form.first]["kubernetes_port"]
    if form.endpoint:
        return f"{form.endpoint}:{port}"
    return pulumi.Output.concat(plan.machines[form.first].internal_address, f":{port}")


def names(plan: program.Plan) -> list[pulumi.Input[str]]:
    """Return more names for the certificates of the API servers: what the stack calls them, and how this controller reaches them."""
    form = plan.settings.cluster
    assert form
    addresses = [plan.machines[name].inputs["address"] for name in form.control_planes]
    return [*([form.endpoint] if form.endpoint else []), *addresses]


def outputs(plan: program.Plan, members: Mapping[str, resources.Member]) -> dict[str, pulumi.Input[Any]]:
    """Return the stack's outputs: where the cluster is, by which authority it is known, its members. `fleet kubeconfig` makes a login."""
    assert plan.settings.cluster
    first = members[plan.settings.cluster.first]
    parts = {name: member.part for name, member in members.items()}
    return {
        "cluster": {"endpoint": first.endpoint, "authority": first.authority, "version": first.version},
        "members": parts,
    }
