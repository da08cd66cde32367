"""The road from machines that answer SSH to a verified GLM-4.6V endpoint. Run by `pulumi preview` and `pulumi up`.

   Node        where it comes from: the stack's source. Ends when SSH answers with the pinned key
     ▼
   Host        roles host, docker, rocm
   ╱    ╲
Image  Weights  role transformers · role weights: side by side
   ╲    ╱
  Serving      role vllm, then the probes: ready means "it sees"
"""

import os
import signal
import sys

import pulumi

from fleet import errors, program
from fleet.resources import Host, Image, Node, Serving, Weights

EXPLAINED = 32  # exit code: the error is already on the screen
# When a step fails, and on ^C, the language host sends SIGINT: the Pulumi engine has shown the reason, which a traceback would hide.
signal.signal(signal.SIGINT, lambda *_: os._exit(EXPLAINED))


def road() -> None:
    """Declare every machine's resources; those of different machines do not depend on each other."""
    plan = program.read()
    nodes = {
        name: Node(name, machine, plan.node_requirements(name), plan.fleet, plan.settings.protected(name))
        for name, machine in plan.machines.items()
    }
    hosts = {name: Host(name, node, plan.inputs("host", name)) for name, node in nodes.items()}
    builds = {name: Image(name, hosts[name], nodes[name], plan.inputs("image", name)) for name in plan.builds}
    images = {name: builds[builder] for name, builder in plan.builders.items()}
    weights = {name: Weights(name, hosts[name], node, plan.weights(name)) for name, node in nodes.items()}
    servings = {
        name: Serving(
            name, images[name], weights[name], node, plan.serving(name, hosts[name], images[name], weights[name])
        )
        for name, node in nodes.items()
    }

    replicas = {
        name: program.evidence(
            plan.machines[name].place, node, hosts[name], images[name], weights[name], servings[name]
        )
        for name, node in nodes.items()
    }
    pulumi.export("endpoints", program.endpoints(replicas))
    pulumi.export("replicas", replicas)
    pulumi.export("api_key", program.api_key())
    program.forecast(plan.fleet, servings.values())
    program.turns.follow(plan.fleet, plan.order, nodes, servings)


try:
    road()
except errors.FleetError as error:
    for text in (str(error), *getattr(error, "__notes__", ())):
        pulumi.log.error(text)
    sys.exit(EXPLAINED)
