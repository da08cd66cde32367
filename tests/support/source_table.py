"""The sources of nodes as data, a row a source: what the same claims hold for. Used by the tests of `fleet.sources`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.support.pulumi_mocks import FROM, LOGIN


@dataclass(frozen=True)
class Source:
    """One source: its pool without machines, one machine (the smallest that may stand there), a misspelled key of a machine."""

    pool: Mapping[str, Any]
    machine: Mapping[str, Any]
    misspelled: str
    meant: str
    own: Mapping[str, str] = field(default_factory=dict)  # what two machines cannot share
    package: str = ""  # the SDK that it alone imports

    def nodes(self, **machines: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pool with these machines, each with what it has otherwise."""
        return {
            **self.pool,
            "machines": {
                name: {
                    **self.machine,
                    **{key: text.format(place) for key, text in self.own.items()},
                    **own,
                }
                for place, (name, own) in enumerate(machines.items(), start=11)
            },
        }


CLOUD = {"keys": [LOGIN], "ssh_from": [FROM]}
SOURCES = {
    "ssh": Source(
        {"source": "ssh"}, {"host_key": LOGIN.removesuffix(" ops")}, "adress", "address", {"address": "192.0.2.{}"}
    ),
    "lab": Source({"source": "lab", "name": "glm"}, {"system": "debian-12"}, "sytem", "system"),
    "redfish": Source(
        {
            "source": "redfish",
            "defaults": {
                "installer": {"url": "https://mirror.example/debian.iso", "sha256": "0" * 64},
                "serve": "192.0.2.1:8099",
                "seed": {"kind": "debian", "authorized_keys": [LOGIN]},
            },
        },
        {"reinstall": "first"},
        "reinstal",
        "reinstall",
        {"address": "metal-{}.example", "bmc": "https://bmc-{}.example"},
    ),
    "digitalocean": Source(
        {"source": "digitalocean", "region": "atl1", "size": "gpu-mi300x8-1536gb", "image": 188383823, **CLOUD},
        {},
        "regoin",
        "region",
        package="pulumi_digitalocean",
    ),
    "azure": Source(
        {
            "source": "azure",
            "location": "francecentral",
            "size": "Standard_ND96isr_MI300X_v5",
            "image": "microsoft-dsvm:ubuntu-hpc:2404-rocm:24.04.2026080101",
            **CLOUD,
        },
        {},
        "zoen",
        "zone",
        package="pulumi_azure_native",
    ),
    "oci": Source(
        {
            "source": "oci",
            "compartment": "ocid1.compartment.oc1..aaaa",
            "availability_domain": "Uocm:PHX-AD-1",
            "shape": "BM.GPU.MI300X.8",
            "image": "ocid1.image.oc1.phx.aaaa",
            **CLOUD,
        },
        {},
        "shpae",
        "shape",
        package="pulumi_oci",
    ),
}
THREE: dict[str, Mapping[str, Any]] = {"b-2": {}, "a-1": {}, "c-3": {}}
POOL = SOURCES["digitalocean"].nodes(**{"prod-1": {}})
