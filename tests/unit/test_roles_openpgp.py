"""Claims about roles/host/files/openpgp.py, and that the roles docker and rocm stop at another key than the pinned one."""

import base64
import importlib.util
import json
import os
import pathlib
import subprocess
import sys

import pytest

ROLES = pathlib.Path(__file__).parents[2] / "roles"
SPEC = importlib.util.spec_from_file_location("openpgp", ROLES / "host" / "files" / "openpgp.py")
assert SPEC and SPEC.loader
openpgp = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(openpgp)

# The key of a throw-away ed25519 pair, and its fingerprint as gpg prints it.
KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawQCAhYJKwYBBAHaRw8BAQdAQSqU3VGjPrl8+ikQugqK9WJPdLLfFJY6mxTk
dNrb8Lu0F0xhYiBhcHQgPGxhYkBsb2NhbGhvc3Q+iJAEExYIADgWIQSlkgXPUqby
eBntLD4SYyPm9zaryQUCawQCAgIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAK
CRASYyPm9zarySn5AP9u1Vncki2eXWGd8XCMU13Xpp+81HzT/0l3sBG26Ip1uQD/
f866QAr9WZzZjPrS33q4euiLVJDvN54j+BINjRqqggM=
=TBJG
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "A59205CF52A6F27819ED2C3E126323E6F736ABC9"


def test_a_keys_fingerprint_is_gpgs_fingerprint() -> None:
    assert openpgp.fingerprints(KEY.encode()) == [FINGERPRINT]
    assert openpgp.fingerprints(DATA) == [FINGERPRINT]


def test_what_is_no_key_has_no_fingerprint() -> None:
    assert openpgp.fingerprints(b"no key at all") == openpgp.fingerprints(b"") == []
    assert openpgp.fingerprints(KEY.replace("mDME", "mDMF", 1).encode()) != [FINGERPRINT]


def armour(data: bytes) -> str:
    """Return an armoured file of these packets."""
    return f"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{base64.b64encode(data).decode()}\n-----END PGP PUBLIC KEY BLOCK-----\n"


DATA = base64.b64decode("".join(line for line in KEY.splitlines()[2:] if line[:1] not in "=-"))
LONG = b"\x99" + int.to_bytes(51, 2, "big") + DATA[2:53]  # the same packet, with a length of two octets


@pytest.mark.parametrize(
    "text", [KEY + KEY, armour(DATA + DATA), armour(DATA) + armour(LONG), KEY.replace("mDME", "\nmDME") * 2]
)
def test_a_second_key_of_a_file_is_seen_apt_trusts_it_too(text: str) -> None:
    assert openpgp.fingerprints(text.encode()) == [FINGERPRINT, FINGERPRINT]


PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.import_role: {name: %s, tasks_from: preflight}
"""
# Until the check of the key: nothing that this machine may lack.
QUIET = {
    "rocm_gpus": 0,
    "rocm_headers": False,
    "docker_repository_url": "https://docker.example",
    "docker_adopt": False,
}


@pytest.mark.slow
@pytest.mark.parametrize("role", ["docker", "rocm"])
def test_a_role_stops_at_another_key_than_the_pinned_one(role: str, tmp_path: pathlib.Path) -> None:
    """Ansible runs the role's preflight on this machine: it only reads."""
    variables = {**QUIET, f"{role}_repository_key": KEY, f"{role}_key_fingerprint": "0" * 40}
    (tmp_path / "play.yml").write_text(PLAY % role)
    done = subprocess.run(
        [
            *(pathlib.Path(sys.executable).with_name("ansible-playbook"), "-i", "localhost,", "-c", "local"),
            *("-e", json.dumps(variables), tmp_path / "play.yml"),
        ],
        capture_output=True,
        text=True,
        env={**os.environ, "ANSIBLE_ROLES_PATH": str(ROLES)},
    )
    assert done.returncode == 2, done.stdout
    said = f"{role}_repository_key has the fingerprint {FINGERPRINT}\\nwanted: one key, {'0' * 40}\\nnext: "
    assert said in done.stdout
