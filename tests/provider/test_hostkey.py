"""The resource HostKey: the key of a machine that is still to be made, made once."""

import subprocess
from pathlib import Path

from tests.support.plugin import Plugin


def test_a_key_is_made_once_and_ssh_reads_it(plugin: Plugin, tmp_path: Path) -> None:
    made = plugin.create("HostKey", {"name": "glm-1"})
    private = tmp_path / "host"
    private.touch(0o600)
    private.write_text(made["private"])
    public = subprocess.run(["ssh-keygen", "-y", "-f", private], capture_output=True, text=True, check=True).stdout
    assert public.split()[:2] == made["public"].split() and made["public"].startswith("ssh-ed25519 ")
    assert made["final"]["public"] != made["public"] and made["final"]["private"] != made["private"]
    assert plugin.update("HostKey", {"name": "glm-1"}, made, {"name": "glm-1"}) == made
    assert plugin.read("HostKey", {"name": "glm-1"}, made) == made


def test_another_machine_gets_another_key(plugin: Plugin) -> None:
    one, two = (plugin.create("HostKey", {"name": name})["public"] for name in ("glm-1", "glm-2"))
    assert one != two


def test_a_key_of_an_earlier_release_stays_alone(plugin: Plugin) -> None:
    old = {"name": "glm-1", "public": "ssh-ed25519 A", "private": "a key"}
    assert plugin.update("HostKey", {"name": "glm-1"}, old, {"name": "glm-1"}) == old
