"""The lab's cloud: a stand-in for DigitalOcean's plugin, whose droplets are lab nodes with the real cloud-init.

Has the package name and the types of the real plugin, so the source `digitalocean` and its SDK run against it unchanged. Only a
project that the tests make names it (tests/cloud): in anybody else's, the name is the real plugin's.
"""
