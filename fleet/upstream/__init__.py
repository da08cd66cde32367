"""What a registry, a git server and a model hub answer to "what does this name stand for now?". Called by `fleet.cli.pin` alone.

One file a server. Each answer is hostile until its form was checked; `bounded` has the limits.
"""
