"""Pebble, a small ACME server for tests: builds it once from the Go modules of pebble/go.sum, and starts it in a network namespace.

Needs `go`; the build is in the lab's cache, by content. Called by tests/machine/test_acme.py.
"""

import json
import os
import pathlib
import subprocess

from lab import cache
from tests.support import acme_machines, gateway_pki

SOURCES = pathlib.Path(__file__).with_name("pebble")
PACKAGE = "github.com/letsencrypt/pebble/v2/cmd/pebble"
HOST, PORT = "acme.example", 14000
DIRECTORY = f"https://{HOST}:{PORT}/dir"
SECONDS = 45  # that a certificate of it holds


def build() -> pathlib.Path:
    """Return the program."""
    target = cache.folder() / f"pebble-{cache.key([SOURCES])}"
    if not target.exists():
        with cache.making(target) as work:
            command = ["go", "build", "-mod=readonly", "-o", str(work / "pebble"), PACKAGE]
            subprocess.run(command, cwd=SOURCES, env={**os.environ, "GOFLAGS": ""}, check=True, timeout=600)
    return target / "pebble"


def start(
    place: acme_machines.Machine, folder: pathlib.Path, authority: gateway_pki.Authority
) -> subprocess.Popen[bytes]:
    """Start it on a machine's loopback, with a certificate of an authority of its own, and wait until it answers."""
    chain = authority.sign(HOST, gateway_pki.SERVER)
    (folder / "pebble.pem").write_text(chain)
    settings = {
        "listenAddress": f"127.0.0.1:{PORT}",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": str(folder / "pebble.pem"),
        "privateKey": str(folder / "pebble.pem"),
        "httpPort": 80,
        "tlsPort": 443,
        "profiles": {"default": {"description": "short", "validityPeriod": SECONDS}},
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    # it would reject some requests at random, and wait before it validates
    quiet = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}
    process = place.start(
        str(build()), "-config", str(folder / "pebble.json"), environment=quiet, log=folder / "pebble.log"
    )
    place.wait(f"curl -sf --cacert {folder / 'pebble-ca.pem'} {DIRECTORY}")
    return process
