"""A Kubernetes cluster that exists: its API server through a named context, nodes, pods, GPUs, rollouts, port-forwards.

    kubeconfig, client    a context, never the current one; bounded requests, whose replies are checked by form
    nodes, pods, gpus     what is there, and which pods hold which GPUs
    workloads, managers   a Deployment with its templates, and the change to another one
    rollout, verdicts     follow a change; why it does not get on
    dry_run               what the server would say of an object and its pods
    drain                 a node without the pods of a stack, by hand
    forward               a port of a pod on this machine's loopback

Knows no Pulumi and nothing of the stack file. Called by fleet.provider and fleet.cli.
"""

from fleet.cluster.client import Cluster
from fleet.cluster.kubeconfig import Access

__all__ = ["Access", "Cluster"]
