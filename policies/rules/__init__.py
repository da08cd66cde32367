"""Every rule of the pack, in the order of docs/policies.md.

To add a rule: a function and a ResourceRule in one of these modules, a test in tests/unit/test_policies_MODULE.py, then `make docs`.
"""

from collections.abc import Sequence

from policies.rule import ResourceRule
from policies.rules import access, container, daemon, endpoint, machines, media, namespaces, pins, versions

RULES: Sequence[ResourceRule] = (
    *pins.RULES,
    *versions.RULES,
    *container.RULES,
    *namespaces.RULES,
    *daemon.RULES,
    *access.RULES,
    *endpoint.RULES,
    *media.RULES,
    *machines.RULES,
)
