"""The road from machines that answer SSH to a verified GLM-4.6V endpoint. Run by `pulumi preview` and `pulumi up`.

   Node        where it comes from: the stack's source. Ends when SSH answers with the pinned key
     ▼
   Host        roles host, docker, rocm
   ╱    ╲
Image  Weights  role transformers · role weights: side by side
   ╲    ╱
  Serving      role vllm, then the probes: ready means "it sees"
     ▼
  Gateway      role gateway, where the stack has one: the one endpoint, with certificates of the stack's Authority

On a Kubernetes cluster: namespace, weights, a Deployment a model, then its Rollout, with the same rules, policies and probes.
To a cluster of own machines: Node, Host, then Member; another stack puts models there.
"""

import os
import signal
import sys

import pulumi

from fleet import errors, program
from fleet.program import cluster, own_cluster
from fleet.resources import Account, Authority, Gateway, Host, Image, Member, Node, Rollout, Serving, Weights

EXPLAINED = 32  # exit code: the error is already on the screen
# When a step fails, and on ^C, the language host sends SIGINT: the Pulumi engine has shown the reason, which a traceback would hide.
signal.signal(signal.SIGINT, lambda *_: os._exit(EXPLAINED))


def road(plan: program.Plan) -> None:
    """Declare every machine's resources; those of different machines do not depend on each other."""
    nodes = {
        name: Node(name, machine, plan.node_requirements(name), plan.fleet, plan.settings.protected(name))
        for name, machine in plan.machines.items()
    }
    hosts = {name: Host(name, node, plan.inputs("host", name)) for name, node in nodes.items()}
    builds = {name: Image(name, hosts[name], nodes[name], plan.inputs("image", name)) for name in plan.builds}
    images = {name: builds[builder] for name, builder in plan.builders.items()}
    protected = {name: plan.settings.proxy_protected(name) for name in plan.settings.gateways}
    authority = Authority(plan.fleet, any(protected.values())) if protected else None
    weights = {
        name: Weights(name, hosts[name], nodes[name], plan.weights(name, authority)) for name in plan.settings.serving
    }
    servings = {
        name: Serving(name, image, weights[name], nodes[name], plan.serving(name, hosts[name], image, weights[name]))
        for name, image in images.items()
    }
    account = Account(plan.fleet) if plan.settings.by_acme else None
    gateways = {
        name: Gateway(
            name, after, nodes[name], plan.gateway(name, authority, account, servings.get(name)), protected[name]
        )
        for name, after in {**hosts, **servings}.items()
        if authority and name in protected
    }

    replicas = {
        name: program.evidence(
            plan.machines[name].place, nodes[name], hosts[name], images[name], weights[name], serving
        )
        for name, serving in servings.items()
    }
    pulumi.export("endpoints", program.endpoints(replicas))
    pulumi.export("replicas", replicas)
    pulumi.export("api_key", program.api_key())
    for name, value in plan.endpoint(authority).items():
        pulumi.export(name, value)
    program.forecast(plan, [*hosts.values(), *servings.values(), *gateways.values()])
    program.turns.follow(plan.fleet, plan.order, nodes, servings)


def road_onto_cluster(plan: program.Plan) -> None:
    """Declare the objects of a stack on a Kubernetes cluster, and the rollout of each model's pods."""
    rollouts = {
        model: Rollout(
            model, deployment.resource, cluster.rollout(plan, deployment), plan.fleet, cluster.protected(plan, model)
        )
        for model, deployment in cluster.deployments(plan).items()
    }
    pulumi.export("models", {model: cluster.evidence(plan, model, rollout) for model, rollout in rollouts.items()})
    pulumi.export("api_key", program.api_key())
    program.forecast(plan, rollouts.values())


def road_to_cluster(plan: program.Plan) -> None:
    """Declare every machine as a member of one Kubernetes cluster: the control planes one after the other, then the workers."""
    nodes = {
        name: Node(name, machine, plan.node_requirements(name), plan.fleet, plan.settings.protected(name))
        for name, machine in plan.machines.items()
    }
    hosts = {name: Host(name, node, own_cluster.host(plan, name)) for name, node in nodes.items()}
    members: dict[str, Member] = {}
    for name in plan.order:
        after = [hosts[name], *own_cluster.after(plan, name, members)]
        members[name] = Member(name, after, nodes[name], own_cluster.member(plan, name, members))
    for name, value in own_cluster.outputs(plan, members).items():
        pulumi.export(name, value)
    program.forecast(plan, [*hosts.values(), *members.values()])
    program.turns.follow(plan.fleet, plan.order, nodes, members, plan.planes)


try:
    plan = program.read()
    if plan.settings.kubernetes:
        road_onto_cluster(plan)
    elif plan.settings.cluster:
        road_to_cluster(plan)
    else:
        road(plan)
except errors.FleetError as error:
    for text in (str(error), *getattr(error, "__notes__", ())):
        pulumi.log.error(text)
    sys.exit(EXPLAINED)
