"""Compares the BIOS settings that an MI300X machine should have with those that its BMC reports. Changes nothing.

Pure. Vendors use different names for the same setting: a pattern matches what the names have in common. Called by
fleet.provider.baremetal.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Setting:
    """One setting: its `name` in messages, patterns for vendors' attribute names and for right values, and the value in messages (`wanted`).

    The patterns match normalised text: lower case, letters and digits only.
    """

    name: str
    attribute: str
    value: str
    wanted: str


# Source: AMD, MI300X system optimization; project notes on the host.
ON = r"(enabled?|on|1|true|auto)"
SETTINGS = (
    Setting("Above 4G decoding", r"above4g(b|decoding|mmio)?", ON, "on"),
    Setting("SR-IOV", r"sriov", ON, "on"),
    Setting("PCIe generation", r"pcie?(link)?speed|pciegen|maxlinkspeed", r".*(gen5|32gt|auto|maximum).*", "Gen5"),
    Setting("NUMA nodes per socket", r"numanodespersocket|\bnps\b|dramnps", r"(nps)?1", "NPS1"),
    Setting("IOMMU", r"iommu", ON, "on"),
    Setting("ASPM", r"aspm", r"(disabled?|off|0|false)", "off"),
    Setting("Determinism", r"determinism", r".*power.*", "Power"),
)


@dataclass(frozen=True)
class Difference:
    """A setting with a wrong value. `seen` is "" where the BMC reports no such attribute."""

    name: str
    seen: str
    wanted: str

    def __str__(self) -> str:
        seen = f"is {self.seen}" if self.seen else "is not reported by the BMC"
        return f"BIOS: {self.name} {seen}, wanted {self.wanted}"


def compare(attributes: Mapping[str, Any], own: Mapping[str, Any]) -> list[Difference]:
    """Return the differences of a BMC's attributes from `own`, the site's values by vendor's name, and from SETTINGS that `own` does not name."""
    return list(_differences(attributes, own))


def _differences(attributes: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[Difference]:
    for name, wanted in own.items():
        seen = attributes.get(name)
        if _normal(seen) != _normal(wanted):
            yield Difference(name, "" if seen is None else str(seen), str(wanted))
    for setting in SETTINGS:
        if any(re.search(setting.attribute, _normal(name)) for name in own):
            continue
        matches = {name: value for name, value in attributes.items() if re.search(setting.attribute, _normal(name))}
        if not matches:
            yield Difference(setting.name, "", setting.wanted)
        for name, value in matches.items():
            if not re.fullmatch(setting.value, _normal(value)):
                yield Difference(f"{setting.name} ({name})", str(value), setting.wanted)


def _normal(value: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(value).lower())
