"""The BIOS settings that an MI300X machine should have, compared with what its BMC tells. Nothing is changed.

Pure. Vendors name the same setting otherwise: it is looked for by what the names have in common. Called by the provider's BareMetal.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Wanted:
    """One setting: its name for people, what vendors' names of it match, what its right values match; both in lower case, letters and digits."""

    name: str
    attribute: str
    value: str
    wanted: str


# Source: AMD, MI300X system optimization; project notes on the host.
ON = r"(enabled?|on|1|true|auto)"
WANTED = (
    Wanted("Above 4G decoding", r"above4g(b|decoding|mmio)?", ON, "on"),
    Wanted("SR-IOV", r"sriov", ON, "on"),
    Wanted("PCIe generation", r"pcie?(link)?speed|pciegen|maxlinkspeed", r".*(gen5|32gt|auto|maximum).*", "Gen5"),
    Wanted("NUMA nodes per socket", r"numanodespersocket|\bnps\b|dramnps", r"(nps)?1", "NPS1"),
    Wanted("IOMMU", r"iommu", ON, "on"),
    Wanted("ASPM", r"aspm", r"(disabled?|off|0|false)", "off"),
    Wanted("Determinism", r"determinism", r".*power.*", "Power"),
)


@dataclass(frozen=True)
class Difference:
    """A setting that is not as it should be. `seen` is "" where the BMC has no attribute of that name."""

    name: str
    seen: str
    wanted: str

    def __str__(self) -> str:
        seen = f"is {self.seen}" if self.seen else "is not told by the BMC"
        return f"BIOS: {self.name} {seen}, wanted {self.wanted}"


def compare(told: Mapping[str, Any], own: Mapping[str, Any]) -> list[Difference]:
    """Return what differs: from `own`, the site's list by its vendor's names, and from ours where `own` does not name the same setting."""
    return [*_own(told, own), *_common({name: value for name, value in told.items() if name not in own}, own)]


def _own(told: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[Difference]:
    for name, wanted in own.items():
        if _text(told.get(name)) != _text(wanted):
            yield Difference(name, "" if told.get(name) is None else str(told[name]), str(wanted))


def _common(told: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[Difference]:
    for one in WANTED:
        if any(re.search(one.attribute, _text(name)) for name in own):
            continue
        found = {name: value for name, value in told.items() if re.search(one.attribute, _text(name))}
        if not found:
            yield Difference(one.name, "", one.wanted)
        for name, value in found.items():
            if not re.fullmatch(one.value, _text(value)):
                yield Difference(f"{one.name} ({name})", str(value), one.wanted)


def _text(value: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(value).lower())
