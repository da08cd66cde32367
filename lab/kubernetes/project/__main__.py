"""A Kubernetes cluster with two nodes of 8 stand-in GPUs. Run by bootstrap/lab-cluster.sh, whose stack gives the lab its name."""

import pulumi

OUTPUTS = ("kubeconfig", "context", "address", "image", "authority", "render_group")
GPUS = {"glm-1": 8, "glm-2": 8}


class Cluster(pulumi.CustomResource):
    """A lab with its site, a control plane and nodes."""

    def __init__(self, name: str, gpus: dict[str, int]) -> None:
        super().__init__("lab:index:Cluster", name, {"name": name, "gpus": gpus, **dict.fromkeys(OUTPUTS)})


cluster = Cluster(pulumi.get_stack(), GPUS)
for output in OUTPUTS:
    pulumi.export(output, getattr(cluster, output))
