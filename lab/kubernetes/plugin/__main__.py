"""Start the process of the stand-in plugin. Called by the Pulumi engine through pulumi-resource-kubernetes."""

from fleet.sdk_patches import sdk_stub

sdk_stub.apply()

from fleet.provider import plugin  # noqa: E402, after it
from lab.kubernetes.plugin.servicer import Kubernetes  # noqa: E402

plugin.serve(None, Kubernetes)
