"""Stands in for Pulumi's Kubernetes plugin, in the lab and in tests: not the vendor's, which users get with its SDK.

    servicer     Pulumi's protocol
    store        the objects on their API server: apply, find, delete
    inputs       what a program says: read back from the server, compared, hidden where secret
    awaiting     when an object does what it is for, and what to say until then

It does what fleet.program.kubernetes needs, as the vendor's was seen to do it. It has no names of its own making, no Helm, no YAML files,
and no upgrade of old states. Knows nothing of the fleet but the client fleet.cluster. Found by PATH: this folder first.
"""
