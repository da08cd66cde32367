"""The lab plugin's process; speaks Pulumi's protocol through the fleet's own servicer (fleet/provider/plugin.py)."""

from fleet.provider import plugin
from lab.provider.resources import Machine, Site

plugin.serve({"Site": Site(), "Machine": Machine()})
