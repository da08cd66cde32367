"""A hostile registry's answer ends in the role's message and runs nothing: roles/transformers by real Ansible, on this machine.

The run stops in its preflight and changes nothing; docker is a stand-in, the registry a server on the loopback (tests/support/hostile_registry.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_registry import OTHER, PUSHED, RECIPE, Node, Server, answer_digest, certify

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # `make check` has the reader alone: test_roles_registry.py
GOLDEN = Path(__file__).parent / "golden" / "roles_image"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Server]:
    with Server(certify(tmp_path)) as server:
        yield server
        server.shutdown()


@pytest.fixture
def node(tmp_path: Path, registry: Server) -> Node:
    (tmp_path / "node").mkdir()
    return Node(tmp_path / "node", tmp_path / "server.pem", registry)


def message(node: Node, **variables: Any) -> str:
    """Run the role and return the message that it ends with, without this run's port."""
    node.engine()
    extra_vars = {
        "role": "transformers",
        "transformers_base_image": f"registry.example/vllm@{PUSHED}",
        "transformers_commit": "a" * 40,
        "transformers_registry": node.repository,
        "__transformers_recipe": RECIPE,
        "_transformers_dir": str(node.folder / "recipe"),  # where a run that does not stop would write
        **variables,
    }
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "localhost,", "-c", "local"]
    ansible = {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOCAL_TEMP": str(node.folder / "tmp"),
        "ANSIBLE_REMOTE_TEMP": str(node.folder / "tmp"),
    }
    command += [str(ROOT / "tests" / "roles" / "one-role.yml"), "-e", json.dumps(extra_vars)]
    env = {**os.environ, **node.environment, **ansible}
    process = subprocess.run(command, env=env, capture_output=True, text=True, timeout=100)
    assert process.returncode == 2, process.stdout + process.stderr
    report = json.loads(process.stdout[process.stdout.index("{\n") :])
    results = [result for play in report["plays"] for task in play["tasks"] for result in task["hosts"].values()]
    assert not any(result.get("changed") for result in results)
    port = node.repository.partition("/")[0]
    return str(results[-1]["msg"]).replace(port, "registry.example") + "\n"


def test_a_digest_that_is_a_template_is_not_rendered(node: Node, registry: Server, tmp_path: Path) -> None:
    registry.answer = answer_digest(f"{{{{ lookup('ansible.builtin.pipe', 'touch {tmp_path}/owned') }}}}@{PUSHED}")
    text = message(node)
    assert "manifests/aaaaaaaaaaaa-121212121212: 200 from the registry with the digest ?? lookup" in text
    wanted = "\nwanted: the header Docker-Content-Digest: sha256:<64 hex digits>\n"
    assert f"{wanted}next: `curl -I https://registry.example/v2/`" in text
    assert not (tmp_path / "owned").exists()


def test_the_message_of_a_swapped_tag_has_both_digests_and_how_to_accept_the_other(
    node: Node, registry: Server
) -> None:
    registry.answer = answer_digest(OTHER)
    image = {"image": f"{node.repository}@{PUSHED}", "recipe": RECIPE}
    assert message(node, image_of_state=image) == (GOLDEN / "tag-swapped.txt").read_text()
    another = message(node, image_of_state={**image, "recipe": "34" * 32})
    assert "which this node pushed or pulled for it" in another  # a state of another recipe does not count


def test_an_accepted_digest_must_have_the_form_of_a_digest(node: Node) -> None:
    text = message(node, transformers_accepted_digest="v2")
    assert text.startswith('transformers_accepted_digest is "v2"\nwanted: sha256: and 64 hex digits\nnext: ')
