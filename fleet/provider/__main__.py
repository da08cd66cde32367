"""The plugin's process (plugin.py), started by the engine through pulumi-resource-fleet."""

from fleet.provider import plugin

plugin.serve()
