"""Claims about reading a host: a read finds each kind of change by hand on a real node, and words report it."""

from collections.abc import Iterator

import pytest

from fleet import ssh
from fleet.managed import differences, managed_set, reader

OWN = "/etc/systemd/system/kinds.service.d/own.conf"
DROP_IN = (
    f"mkdir -p {OWN.removesuffix('/own.conf')} && printf '[Service]\\nNice=5\\n' > {OWN} && systemctl daemon-reload"
)
# A change by hand: the managed thing, the reported difference, the command that reverts it.
CHANGES = {
    "chmod 0600 /etc/kinds/text": ("file /etc/kinds/text", "mode 0600", "chmod 0644 /etc/kinds/text"),
    "echo more >> /etc/kinds/text": ("file /etc/kinds/text", "sha256", "echo hello > /etc/kinds/text"),
    "chown nobody /etc/kinds/text": ("file /etc/kinds/text", "owner nobody", "chown root /etc/kinds/text"),
    "chmod 0700 /etc/kinds": ("file /etc/kinds", "mode 0700", "chmod 0755 /etc/kinds"),
    "rm /etc/kinds/lines": ("file /etc/kinds/lines", "absent", "install -m 0600 /dev/null /etc/kinds/lines; echo x=1 > /etc/kinds/lines"),
    "touch /etc/kinds/gone": ("file /etc/kinds/gone", "present", "rm /etc/kinds/gone"),
    "ln -sfn /etc/motd /etc/kinds/link": ("file /etc/kinds/link", "target /etc/motd", "ln -sfn /etc/hostname /etc/kinds/link"),
    "systemctl stop kinds": ("unit kinds.service", "state inactive", "systemctl start kinds"),
    "systemctl disable -q kinds": ("unit kinds.service", "at boot disabled", "systemctl enable -q kinds"),
    DROP_IN: ("unit kinds.service", f"drop-in {OWN}", "rm -r /etc/systemd/system/kinds.service.d; systemctl daemon-reload"),
    "sysctl -q -w net.ipv4.ip_default_ttl=99": ("sysctl net.ipv4.ip_default_ttl", "value 99", "sysctl -q -w net.ipv4.ip_default_ttl=63"),
    "dpkg --remove hello": ("package hello", "absent", "apt-get install -qy hello"),
    "apt-mark -qq hold openssh-server": ("package openssh-server", "held", "apt-mark -qq unhold openssh-server"),
    "usermod --shell /bin/bash kinds": ("user kinds", "shell /bin/bash", "usermod --shell /usr/sbin/nologin kinds"),
    "groupmod --gid 4711 kinds": ("group kinds", "gid 4711", ""),
    "systemctl stop kinds-box": ("container kinds-box", "absent", "systemctl start kinds-box"),
    "echo w > /etc/kinds/model.bin": ("files of /etc/kinds/manifest.json", "wrong file model.bin (2 bytes instead of 8)", ""),
}  # fmt: skip


@pytest.fixture
def drift(node: ssh.Target, expected: managed_set.State, request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """The drift after a change by hand, which the fixture reverts afterwards."""
    change: str = request.param
    with ssh.connect(node) as connection:
        result = connection.run(change)
        assert result.rc == 0, result.stderr
        state = reader.read(connection, managed_set.Declared.from_state(expected))
        yield [str(difference) for difference in differences.drift(expected, state)]
        connection.run(CHANGES[change][2])


@pytest.mark.docker
def test_every_kind_is_in_the_state(expected: managed_set.State) -> None:
    kinds = {thing.split(" ", 1)[0] for thing in expected}
    assert kinds == {"file", "files", "unit", "container", "package", "sysctl", "user", "group", "kernel"}
    container = expected["container kinds-box"]
    assert (container["image"], container["ReadonlyRootfs"], container["running"]) == ("lab/box:1", True, True)


@pytest.mark.docker
@pytest.mark.parametrize(("drift", "change"), [(change, change) for change in CHANGES], indirect=["drift"], ids=CHANGES)
def test_a_read_finds_a_change_by_hand(drift: list[str], change: str) -> None:
    thing, words, _ = CHANGES[change]
    assert any(line.startswith(f"{thing} ({words}") for line in drift), drift
