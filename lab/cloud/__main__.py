"""The plugin's process. It speaks Pulumi's protocol through the fleet's servicer (fleet/provider/plugin.py)."""

from fleet.sdk_patches import sdk_stub

sdk_stub.apply()

from fleet.provider import plugin  # noqa: E402, after it
from lab.cloud.api import Api  # noqa: E402
from lab.cloud.resources import Droplet, Kept  # noqa: E402

plugin.serve(
    {
        "Tag": Kept(),
        "SshKey": Kept("fingerprint"),
        "Firewall": Kept("status"),
        "Droplet": Droplet(),
    },
    Api,
)
