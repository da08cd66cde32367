"""Pebble, a small ACME server for tests: builds it once from the Go modules of pebble/go.sum, and starts it on a machine's loopback.

Needs `go`; the build is in the lab's cache, by content. Called by tests/machine/test_acme.py and tests/roles/test_gateway_acme.py.
"""

import json
import pathlib

from tests.support import acme_machines, gateway_pki, go_program

SOURCES = pathlib.Path(__file__).with_name("pebble")
PACKAGE = "github.com/letsencrypt/pebble/v2/cmd/pebble"
HOST, PORT = "acme.example", 14000
DIRECTORY = f"https://{HOST}:{PORT}/dir"
SECONDS = 45  # that a certificate of it holds
# Else it would reject some requests at random, and wait before it validates.
QUIET = {"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "0"}


def build() -> pathlib.Path:
    """Return the program."""
    return go_program.build(SOURCES, PACKAGE)


def settings(
    authority: gateway_pki.Authority, address: str, folder: pathlib.PurePath, seconds: int = SECONDS
) -> dict[str, str]:
    """Return by path its configuration, and its certificate of an authority of its own. Its certificates hold for `seconds`."""
    pem, profile = f"{folder}/pebble.pem", {"description": "the tests'", "validityPeriod": seconds}
    pebble = {
        "listenAddress": f"{address}:{PORT}",
        "managementListenAddress": "127.0.0.1:15000",
        "certificate": pem,
        "privateKey": pem,
        "httpPort": 80,
        "tlsPort": 443,
        "profiles": {"default": profile},
    }
    return {f"{folder}/pebble.json": json.dumps({"pebble": pebble}), pem: authority.sign(HOST, gateway_pki.SERVER)}


def start(place: acme_machines.Machine, folder: pathlib.Path, authority: gateway_pki.Authority) -> None:
    """Start it on a machine's loopback, and wait until it answers."""
    for path, text in settings(authority, "127.0.0.1", folder).items():
        pathlib.Path(path).write_text(text)
    command = (str(build()), "-config", str(folder / "pebble.json"))
    place.start(*command, environment=QUIET, log=folder / "pebble.log")
    place.wait(f"curl -sf --cacert {folder / 'pebble-ca.pem'} {DIRECTORY}")
