"""Resolves tags and branches to digests and commits: registry, git server, model hub. One file a server; called by `fleet.cli.pin` only.

No answer is trusted before its form is checked; `bounded` has the limits.
"""
