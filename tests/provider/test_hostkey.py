"""The resource HostKey: one key pair for a machine, before the machine exists."""

import subprocess
from pathlib import Path

from tests.support.plugin import Plugin


def test_only_a_create_makes_a_key_which_ssh_reads(plugin: Plugin, tmp_path: Path) -> None:
    outputs = plugin.create("HostKey", {"name": "glm-1"})
    private = tmp_path / "host"
    private.touch(0o600)
    private.write_text(outputs["private"])
    public = subprocess.run(["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True).stdout
    assert public.split()[:2] == outputs["public"].split() and outputs["public"].startswith("ssh-ed25519 ")
    assert outputs["final"]["public"] != outputs["public"] and outputs["final"]["private"] != outputs["private"]
    assert plugin.update("HostKey", {"name": "glm-1"}, outputs, {"name": "glm-1"}) == outputs
    assert plugin.read("HostKey", {"name": "glm-1"}, outputs) == outputs


def test_another_machine_gets_another_key(plugin: Plugin) -> None:
    first, second = (plugin.create("HostKey", {"name": name})["public"] for name in ("glm-1", "glm-2"))
    assert first != second


def test_a_key_of_an_earlier_release_gets_no_final_one(plugin: Plugin) -> None:
    old = {"name": "glm-1", "public": "ssh-ed25519 A", "private": "a key"}
    assert plugin.update("HostKey", {"name": "glm-1"}, old, {"name": "glm-1"}) == old
