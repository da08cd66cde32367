"""Add and remove an entry of a mapping in a stack file, for `fleet key`; every other line stays. Pure; needs ruamel.yaml for the lines' numbers."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from fleet import errors


class Text:
    """The text of a stack file, with the row of each key. `file` is its name in messages."""

    def __init__(self, text: str, file: str) -> None:
        from ruamel.yaml import YAML

        self._file = file
        self._lines = [f"{line}\n" for line in text.splitlines()]
        self._content: Any = yaml.safe_load(text)
        self._nodes: Any = YAML().load(text)

    def add(self, key: str, name: str, value: Mapping[str, Any], after: str) -> str:
        """Return the text with an entry below `config.KEY`, which is made behind the key `after` if it is missing. Raises SettingsError."""
        config, content = self._nodes["config"], self._content["config"]
        indent = " " * config.lc.key(after)[1]
        entry = f"{name}: {{{', '.join(f'{field}: {json.dumps(item)}' for field, item in value.items())}}}\n"
        if key in content:
            entries = config[key]
            first = next(iter(entries), None) if isinstance(entries, Mapping) else None
            column = entries.lc.key(first)[1] if first is not None else 0
            added, row = [f"{' ' * column}{entry}"], self._end(key)
        else:
            added, row = [f"{indent}{key}:\n", f"{indent * 2}{entry}"], self._end(after)
        content[key] = {**(content.get(key) or {}), name: dict(value)}
        return self._checked([*self._lines[:row], *added, *self._lines[row:]], key)

    def remove(self, key: str, name: str) -> str:
        """Return the text without an entry below `config.KEY`, and without KEY after the last one. Raises SettingsError."""
        config, content = self._nodes["config"], self._content["config"]
        start, rows = config[key].lc.key(name)[0], {config.lc.key(key)[0]}
        gone = {*range(start, self._end(key, name))} | (set() if len(content[key]) > 1 else rows)
        del content[key][name]
        if not content[key]:
            del content[key]
        return self._checked([line for row, line in enumerate(self._lines) if row not in gone], key)

    def _end(self, key: str, name: str = "") -> int:
        """Return the row behind the value of a key of `config`, or of one of its entries, without the comments that follow."""
        config = self._nodes["config"]
        start = (config[key].lc.key(name) if name else config.lc.key(key))[0]
        row = min((row for row in self._rows(config[key] if name else None) if row > start), default=len(self._lines))
        while not self._lines[row - 1].strip() or self._lines[row - 1].lstrip().startswith("#"):
            row -= 1
        return row

    def _rows(self, entries: Any) -> Iterator[int]:
        """Yield the row of each key of the file, of `config` and of these entries."""
        for mapping in (self._nodes, self._nodes["config"], *([entries] if entries is not None else [])):
            yield from (mapping.lc.key(key)[0] for key in mapping)

    def _checked(self, lines: list[str], key: str) -> str:
        """Return the lines as text, if they mean what was wanted."""
        text = "".join(lines)
        try:
            right = yaml.safe_load(text) == self._content
        except yaml.YAMLError:
            right = False
        if not right:
            raise errors.SettingsError(
                file=self._file,
                key=key.partition(":")[2],
                seen="its entries are not on lines of their own",
                allowed="one entry on each line, below the key",
                next="write them so by hand, then again",
            )
        return text
