"""The image of a pod's first process, as an OCI archive that containerd imports.

Pure. Called by lab.kubernetes.cluster and lab.kubernetes.own_cluster.
"""

from lab.kubernetes import oci

NAME = "lab.internal/pause:1"  # as in lab/images/kubernetes/containerd.toml


def image(program: bytes) -> oci.Image:
    """Return the image with its one program, which is its entry point."""
    return oci.Image({"pause": program}, {"Entrypoint": ["/pause"]})


def archive(program: bytes) -> bytes:
    """Return the archive of that image."""
    return oci.archive(image(program), NAME)
