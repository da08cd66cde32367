"""The commands of docs/recovery.md for the loss of everything, copied from the page: who changes the page changes what the tests run.

Called by tests/preview/test_loss.py and tests/e2e/test_e2e_loss.py.
"""

import pathlib
from collections.abc import Mapping

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "recovery.md"
HEADING = "## Everything is lost\n"


def commands(values: Mapping[str, str], instead: Mapping[str, str]) -> list[str]:
    """Return the page's commands with each word in capitals replaced by its value.

    `instead` has the commands that cannot run in a test, by their first words, and what runs in their place.
    """
    section = PAGE.read_text().split(HEADING)[1].partition("\n## ")[0]
    lines = [line[4:].partition("  #")[0].rstrip() for line in section.splitlines() if line.startswith("    ")]
    replaced = []
    for line in lines:
        words = next((words for words in instead if line.startswith(words)), None)
        text = line if words is None else instead[words]
        for name, value in values.items():
            text = text.replace(name, value)
        replaced.append(text)
    unused = [words for words in instead if not any(line.startswith(words) for line in lines)]
    assert not unused, f"docs/recovery.md has no command {unused}: correct the test, or the page"
    return replaced
