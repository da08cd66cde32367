"""What a hostile registry says ends in the role's message and runs nothing: roles/transformers by real Ansible, on this machine.

The run stops in its preflight, so it changes nothing here; the engine is a stand-in, the registry a server on the loopback (tests/support/hostile_registry.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hostile_registry import OTHER, PUSHED, RECIPE, Node, Server, certify, gives

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow  # `make check` has the reader alone: test_roles_registry.py
GOLDEN = Path(__file__).parent / "golden" / "roles_image"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Server]:
    made = Server(certify(tmp_path))
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def node(tmp_path: Path, registry: Server) -> Node:
    (tmp_path / "node").mkdir()
    return Node(tmp_path / "node", tmp_path / "server.pem", registry)


def message(node: Node, **variables: Any) -> str:
    """Run the role; the message that it ends with, without this run's port."""
    node.engine()
    given = {
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
    ran = subprocess.run(
        [*command, str(ROOT / "tests" / "roles" / "one-role.yml"), "-e", json.dumps(given)],
        env={**os.environ, **node.environment, **ansible},
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert ran.returncode == 2, ran.stdout + ran.stderr
    told = json.loads(ran.stdout[ran.stdout.index("{\n") :])
    results = [result for play in told["plays"] for task in play["tasks"] for result in task["hosts"].values()]
    assert not any(result.get("changed") for result in results)
    port = node.repository.partition("/")[0]
    return str(results[-1]["msg"]).replace(port, "registry.example") + "\n"


def test_a_digest_that_is_a_template_is_not_rendered(node: Node, registry: Server, tmp_path: Path) -> None:
    registry.answer = gives(f"{{{{ lookup('ansible.builtin.pipe', 'touch {tmp_path}/owned') }}}}@{PUSHED}")
    seen = message(node)
    assert "manifests/aaaaaaaaaaaa-121212121212: 200 from the registry with the digest ?? lookup" in seen
    assert (
        "\nwanted: the header Docker-Content-Digest: sha256:<64 hex digits>\nnext: `curl -I https://registry.example/v2/`"
        in seen
    )
    assert not (tmp_path / "owned").exists()


def test_a_swapped_tag_ends_with_both_digests_and_the_way_to_take_the_other(node: Node, registry: Server) -> None:
    registry.answer = gives(OTHER)
    image = {"image": f"{node.repository}@{PUSHED}", "recipe": RECIPE}
    assert message(node, image_of_state=image) == (GOLDEN / "tag-swapped.txt").read_text()
    another = message(node, image_of_state={**image, "recipe": "34" * 32})
    assert "which this node pushed or pulled for it" in another  # of another recipe the state says nothing


def test_a_digest_that_is_accepted_must_be_one(node: Node) -> None:
    seen = message(node, transformers_accepted_digest="v2")
    assert seen.startswith('transformers_accepted_digest is "v2"\nwanted: sha256: and 64 hex digits\nnext: ')
