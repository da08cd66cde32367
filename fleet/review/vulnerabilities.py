"""Which known vulnerabilities a change of vLLM's version closes, and which it opens.

Pure. Reads entries of policies/data/cves.yml, which the policies compare with a stack's flags; here the version alone counts. Called by build.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from packaging.version import Version

from fleet.review.record import VersionChange
from fleet.review.report import Vulnerability
from fleet.stack.rules.versions import public

NAME = "vLLM"


def moved(changes: Iterable[VersionChange], known: Sequence[Mapping[str, str]]) -> list[Vulnerability]:
    """Return each vulnerability that one of the changes closes or opens, in the order of the list."""
    pairs = {(change.old, change.new) for change in changes if change.name == NAME}
    found = {vulnerability for old, new in sorted(pairs) for vulnerability in _between(old, new, known)}
    return sorted(found, key=lambda vulnerability: (vulnerability.closed, vulnerability.name))


def _between(old: str, new: str, known: Sequence[Mapping[str, str]]) -> Iterator[Vulnerability]:
    before, after = public(old), public(new)
    for entry in known:
        if before is not None and after is not None and _has(before, entry) != _has(after, entry):
            words = entry["what"] + (f" (only with {entry['only']})" if entry.get("only") else "")
            yield Vulnerability(entry["id"], words, closed=_has(before, entry))


def _has(version: Version, entry: Mapping[str, str]) -> bool:
    return Version(entry.get("since", "0")) <= version < Version(entry["fixed"])
