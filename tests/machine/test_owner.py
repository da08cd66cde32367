"""A real node's mark: the first stack writes it, another stack can neither claim the node nor remove the mark, its own leaves nothing there."""

import dataclasses
import json

import pytest

from fleet import errors, ssh
from fleet.managed import owner

pytestmark = pytest.mark.docker

OURS, THEIRS = "organization/glm-fleet/prod", "organization/glm-fleet/staging"
LOOK = f"stat -c '%a %U:%G' {owner.MARKER} /var/lib/fleet; ls -A /var/lib/fleet"


@pytest.mark.parametrize("user", ["root", "ops"])
def test_a_stack_marks_a_machine_which_refuses_another_stack_until_its_own_releases_it(
    node: ssh.Target, user: str
) -> None:
    """As root, and as a login that becomes root."""
    target = dataclasses.replace(node, user=user, become=user != "root")
    with ssh.connect(target) as connection:
        assert connection.run("ls -d /var/lib/fleet").rc != 0
        owner.claim(connection, OURS)
        assert connection.run(LOOK).stdout.split("\n")[:3] == ["644 root:root", "755 root:root", "owner.json"]
        mark = connection.run(f"cat {owner.MARKER}").stdout
        owner.claim(connection, OURS)
        with pytest.raises(errors.NotReady) as caught:
            owner.claim(connection, THEIRS)
        assert json.loads(mark)["since"] in caught.value.seen and OURS in caught.value.seen
        left = owner.release(connection, THEIRS)
        assert left is not None and left.id == OURS
        assert connection.run(f"cat {owner.MARKER}").stdout == mark
        assert owner.release(connection, OURS) is None
        assert connection.run("ls -d /var/lib/fleet").rc != 0


def test_a_mark_that_cannot_be_written_is_reported_with_its_reason(node: ssh.Target) -> None:
    with ssh.connect(node) as connection:
        connection.run("touch /var/lib/fleet")  # a file in the folder's place
        try:
            with pytest.raises(errors.CommandFailed) as caught:
                owner.claim(connection, OURS)
        finally:
            connection.run("rm /var/lib/fleet")
    assert "/var/lib/fleet" in caught.value.seen
