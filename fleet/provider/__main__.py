"""The plugin's process (plugin.py), started by the engine through pulumi-resource-fleet."""

from fleet.provider import lean

lean.load()

from fleet.provider import plugin  # noqa: E402, after it

plugin.serve()
