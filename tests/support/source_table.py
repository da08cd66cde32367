"""The node sources as data, a row a source: the same claims hold for each. Used by the tests of `fleet.sources`, and by pulumi_mocks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fleet.sources import forms

LOGIN = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJc0gWgNv9qpDwo4fLNLD9T/Vupb4qMp3hGdhvI5GoUO ops"
FROM = "192.0.2.0/24"


@dataclass(frozen=True)
class Source:
    """One source: its pool without machines, its smallest machine, a misspelled key of a machine and the key that is meant."""

    pool: Mapping[str, Any]
    machine: Mapping[str, Any]
    misspelled: str
    meant: str
    own: Mapping[str, str] = field(default_factory=dict)  # what two machines cannot share
    outputs: Mapping[str, Mapping[str, Any]] = field(
        default_factory=dict
    )  # what its plugin returns for a new resource, by type

    @property
    def sdk(self) -> str:
        """The Python package of a cloud; "" for a source without one."""
        pools = dict(zip(forms.NAMES, forms.POOLS, strict=True))
        return pools[self.pool["source"]].SDK if self.pool["source"] in pools else ""

    def nodes(self, **machines: Mapping[str, Any]) -> dict[str, Any]:
        """Return the pool with these machines, each with what it has otherwise."""
        return {
            **self.pool,
            "machines": {
                name: {
                    **self.machine,
                    **{key: text.format(place) for key, text in self.own.items()},
                    **inputs,
                }
                for place, (name, inputs) in enumerate(machines.items(), start=11)
            },
        }


CLOUD = {"keys": [LOGIN], "ssh_from": [FROM]}
SOURCES = {
    "ssh": Source(
        {"source": "ssh"}, {"host_key": LOGIN.removesuffix(" ops")}, "adress", "address", {"address": "192.0.2.{}"}
    ),
    "lab": Source(
        {"source": "lab", "name": "glm"},
        {"system": "debian-12"},
        "sytem",
        "system",
        outputs={
            "lab:index:Machine": {
                "address": "10.77.0.9",
                "port": 22,
                "user": "root",
                "identity": "/k",
                "host_key": LOGIN,
            },
            "lab:index:Site": {"vars": {}},
        },
    ),
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
        {"fleet:index:BareMetal": {"installed": "first"}},
    ),
    "digitalocean": Source(
        {"source": "digitalocean", "region": "atl1", "size": "gpu-mi300x8-1536gb", "image": 188383823, **CLOUD},
        {},
        "regoin",
        "region",
        outputs={
            "digitalocean:index/droplet:Droplet": {
                "id": "4711",
                "ipv4Address": "192.0.2.7",
                "ipv4AddressPrivate": "10.0.0.7",
            },
            "digitalocean:index/sshKey:SshKey": {"fingerprint": "aa:bb"},
        },
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
        outputs={
            "azure-native:network:PublicIPAddress": {"ipAddress": "192.0.2.8"},
            "azure-native:network:NetworkInterface": {"ipConfigurations": [{"privateIPAddress": "10.42.0.8"}]},
        },
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
        outputs={"oci:Core/instance:Instance": {"publicIp": "192.0.2.9", "privateIp": "10.42.0.9"}},
    ),
}
CLIENTS = ["198.51.100.0/24", "2001:db8::/32"]
# A gateway on the first of two machines of a pool.
GATEWAY = {"nodes": ["prod-1"], "name": "glm.example.com", "clients_from": CLIENTS}
THREE: dict[str, Mapping[str, Any]] = {"b-2": {}, "a-1": {}, "c-3": {}}
POOL = SOURCES["digitalocean"].nodes(**{"prod-1": {}})
