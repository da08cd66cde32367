"""The forms of the node sources, one file each: what may stand under `glm-fleet:nodes`. A new source is one line here.

Pure; what becomes of them is in fleet/plan/nodes, in files of the same names. Used by `settings`.
"""

from fleet.plan.pools.azure import AzureNodes
from fleet.plan.pools.cloud import Cloud
from fleet.plan.pools.digitalocean import DigitalOceanNodes
from fleet.plan.pools.lab import LabNodes
from fleet.plan.pools.oci import OciNodes
from fleet.plan.pools.pool import Member, Pool
from fleet.plan.pools.redfish import RedfishNodes
from fleet.plan.pools.ssh import SshNodes

__all__ = [
    "AzureNodes",
    "Cloud",
    "DigitalOceanNodes",
    "LabNodes",
    "Member",
    "Nodes",
    "OciNodes",
    "Pool",
    "RedfishNodes",
    "SshNodes",
]

Nodes = SshNodes | LabNodes | RedfishNodes | DigitalOceanNodes | AzureNodes | OciNodes
