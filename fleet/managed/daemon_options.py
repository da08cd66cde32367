"""Options of Docker's daemon.json that somebody added after our first run: they stay there, and are drift until the stack declares them.

Pure. on_node_read.py reads which options differ from the baseline (playbooks/files/baseline.py); this module decides which of them are accepted.
Called by `fleet.provider` after a run.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from fleet.managed.managed_set import State

FILE = "file /etc/docker/daemon.json"
OPTIONS = "options of /etc/docker/daemon.json"


def accepted(seen: State, before: State, declared: Mapping[str, Any]) -> State:
    """Return the state that is expected from now on: without the options that nobody declared.

    `before` is what was expected until now: an option that a stack declared once stays accepted, for no role takes it out again. A state
    that an earlier release wrote knows no options: then all are accepted.
    """
    if OPTIONS not in seen or (FILE in before and OPTIONS not in before):
        return seen
    known = {*names(declared), *before.get(OPTIONS, {}).get("later", ())}
    later = [name for name in seen[OPTIONS].get("later", ()) if isinstance(name, str) and name in known]
    return {**seen, OPTIONS: {**seen[OPTIONS], "later": later}}


def names(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the path of each option, as on_node_read.py names it: `log-opts.max-size`."""
    for key, value in options.items():
        if isinstance(value, Mapping) and value:
            yield from names(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
