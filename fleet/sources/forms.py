"""The forms of all node sources: what the stack file may say under `glm-fleet:nodes`.

A source is a folder beside this file: its form.py has the class `Nodes`, and may have `FORMS`, the words for its patterns; its machines.py has
`supply`. No other place lists the sources. Pure. Used by `fleet.stack`.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING, Union

import fleet.sources
from fleet.sources.pool import Pool

NAMES = tuple(sorted(module.name for module in pkgutil.iter_modules(fleet.sources.__path__) if module.ispkg))
_MODULES = [importlib.import_module(f"fleet.sources.{name}.form") for name in NAMES]
POOLS: tuple[type[Pool], ...] = tuple(module.Nodes for module in _MODULES)
# Pattern → the words that a message has in its place.
FORMS: dict[str, str] = {
    pattern: words for module in _MODULES for pattern, words in getattr(module, "FORMS", {}).items()
}
# Secrets of the stack that a source needs.
SECRETS = tuple(dict.fromkeys(name for pool in POOLS for name in pool.SECRETS))

if TYPE_CHECKING:
    Nodes = Pool
else:
    Nodes = Union[POOLS]  # noqa: UP007, of a tuple; pydantic chooses by the key `source`
