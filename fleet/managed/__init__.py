"""The things that we manage on a host: read their state, find drift, revert it, mark the host as ours. Called by fleet.provider."""
