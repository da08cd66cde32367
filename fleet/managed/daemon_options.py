"""Options in Docker's daemon.json that somebody added after our first run: no run removes them; they are drift until the stack has them.

Pure. on_node_read.py reads the options that differ from the baseline (playbooks/files/baseline.py); this module accepts some of them.
Called by fleet.provider after a run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.managed.managed_set import State

FILE = "file /etc/docker/daemon.json"
OPTIONS = "options of /etc/docker/daemon.json"


def accepted(actual: State, old: State, declared: Mapping[str, Any]) -> State:
    """Return the expected state after a run: the actual one without options that the stack does not declare.

    Options of the old expected state remain accepted, as no role removes an option that a stack no longer declares. An old state of an
    earlier release has no options: then all are accepted.
    """
    if OPTIONS not in actual or (FILE in old and OPTIONS not in old):
        return actual
    allowed = {*names(declared), *old.get(OPTIONS, {}).get("later", ())}
    later = [name for name in actual[OPTIONS].get("later", ()) if isinstance(name, str) and name in allowed]
    return {**actual, OPTIONS: {**actual[OPTIONS], "later": later}}


def names(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the path of each option as in on_node_read.py: `log-opts.max-size`."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
