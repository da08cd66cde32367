"""Forms of all node sources: the keys of a stack file below `glm-fleet:nodes`.

Finds the sources: each is a folder beside this file, and no other place lists them. Its form.py has the class `Nodes`, and may have `FORMS`,
descriptions of its patterns; its machines.py has `supply`. Pure. Used by `fleet.stack`.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Union

import fleet.sources
from fleet.sources.pool import Pool

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(fleet.sources.__path__) if module.ispkg))
_MODULES = [importlib.import_module(f"fleet.sources.{name}.form") for name in NAMES]
POOLS: tuple[type[Pool], ...] = tuple(module.Nodes for module in _MODULES)
# Descriptions of patterns, for messages.
FORMS: dict[str, str] = {
    pattern: words for module in _MODULES for pattern, words in getattr(module, "FORMS", {}).items()
}
# Secrets of the stack that a source needs.
SECRETS = tuple(dict.fromkeys(name for pool in POOLS for name in pool.SECRETS))

if TYPE_CHECKING:
    Nodes = Pool
else:
    Nodes = Union[POOLS]  # noqa: UP007, of a tuple; pydantic chooses by the key `source`
