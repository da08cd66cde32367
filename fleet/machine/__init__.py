"""The half that knows machines and no Pulumi: ssh (reach), converge (change), managed (read).

Called by `fleet.provider`, `fleet.probes` and `fleet.cli`. Imports nothing but `fleet.errors` of this repository.
"""
