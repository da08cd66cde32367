"""One right value of each output of a resource. Used by tests that replace it by a wrong one."""

from collections.abc import Mapping
from typing import Any

REVISION, SUM = "ab" * 20, "cd" * 32
RIGHT: Mapping[str, Mapping[str, Any]] = {
    "Host": {"gpus": 8, "driver": "6.16.13 9F1C3D5A", "engine": "6f3d369bfd43453498554fad05ca9dfe"},
    "Image": {
        "image": f"registry.example:5000/glm/serving@sha256:{SUM}",
        "commit": REVISION,
        "version": "5.19.0.dev0",
        "recipe": SUM,
    },
    "Weights": {
        "path": f"/srv/models/zai-org/GLM-4.6V/{REVISION}",
        "revision": REVISION,
        "bytes": 215_000_000_000,
        "files": 47,
        "manifest": SUM,
    },
    "Serving": {"replicas": [{"name": "glm-0", "socket": "/run/fleet/glm-0/sock", "model": "zai-org/GLM-4.6V"}]},
    "Gateway": {
        "version": "2.8.16",
        "acme": {"by": "acme", "ends": "2027-02-28", "right": False, "seen": "the ACME server gave no certificate"},
    },
    "Member": {
        "part": "first",
        "version": "1.37.2",
        "endpoint": "api.example.com:6443",
        "authority": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        "ends": "2027-11-30",
    },
    "Node": {"facts": {"system": "ubuntu 24.04", "kernel": "6.8.0-87-generic", "arch": "x86_64", "python": "3.12.3"}},
}
