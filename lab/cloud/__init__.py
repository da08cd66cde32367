"""The lab's cloud: a stand-in for DigitalOcean's plugin. Its droplets are lab nodes with the real cloud-init.

It has the package name and the types of the real plugin, so the source `digitalocean` and its SDK run against it unchanged. Only
the projects of tests/cloud name it; in any other project the name means the real plugin.
"""
