"""The lab plugin's process. It speaks Pulumi's protocol through the fleet's servicer (fleet/provider/plugin.py)."""

from fleet.sdk_patches import sdk_stub

sdk_stub.apply()

from fleet.provider import plugin  # noqa: E402, after it
from lab.provider.resources import Cluster, Machine, Site  # noqa: E402

plugin.serve({"Site": Site(), "Machine": Machine(), "Cluster": Cluster()})
