"""Start the plugin's process (plugin.py). Called by the Pulumi engine through pulumi-resource-fleet."""

from fleet.sdk_patches import sdk_stub

sdk_stub.apply()

from fleet.provider import plugin  # noqa: E402, after it

plugin.serve()
