"""Snapshots of a machine, and their differences: for claims that a teardown restores everything.

Needs root's SSH. Called by tests/matrix/test_teardown.py.
"""

import re
from collections.abc import Mapping

from fleet import ssh

Look = Mapping[str, frozenset[str]]

# Without logs, caches and databases of the package system, which every package changes, and without derived files.
PLACES = "/etc /usr/local /opt /srv /root /home /var/lib/fleet /var/cache/vllm"
LESS = "! -path '/etc/ssl/certs/*' ! -path '/root/.cache*' ! -name '*.cache' ! -name '*-' ! -path /etc/mtab ! -path /etc/group ! -path /etc/gshadow"
LOOKS = {
    "names": f"find {PLACES} -xdev {LESS} -printf '%p %y %m %U:%G %l\\n' 2>/dev/null || true",
    "contents": f"find {PLACES} -xdev -type f {LESS} -print0 2>/dev/null | xargs -0 sha256sum",
    "next boot": "grep '^[[:space:]]*linux' /boot/grub/grub.cfg",
    "packages": "dpkg-query -W -f '${db:Status-Abbrev} ${Package} ${Version}\\n' | grep ^ii",
    "unit files": "systemctl list-unit-files --no-legend --plain",
    "active units": "systemctl list-units --no-legend --plain --state=active --type=service,socket,timer,path,mount | cut -d' ' -f1",
    "drop-ins": "find /etc/systemd /run/systemd/system -name '*.conf' -path '*.d/*'",
    "users": "getent passwd",
    "groups": "getent group",
    "sysctls": "sysctl -a 2>/dev/null",
    "firewall": "nft list tables 2>/dev/null || true",
    "links": "ip -o link show | cut -d: -f2 | cut -d@ -f1",
    "left of Docker": "ls -d /var/lib/docker /var/lib/containerd /run/docker* /run/containerd /etc/docker 2>/dev/null || true",
}
# Counters, seeds, and what other nodes change: every node of the lab has the same kernel.
MOVES = re.compile(
    r"fs\.(dentry-state|file-nr|inode-nr|inode-state|quota|aio-nr|epoll)|kernel\.(random|ns_last_pid|pty\.nr|sched|hostname|keys)|"
    r"net\.(netfilter|ipv[46]\.(conf|neigh)\.(veth|br-|docker0))|dev\.|vm\.stat|net\.ipv4\.tcp_(mem|fastopen)|net\.ipv4\.udp_mem|user\."
)


def at(target: ssh.Target) -> Look:
    """Look at the machine."""
    with ssh.connect(target) as connection:
        results = {kind: connection.run(command, timeout=120) for kind, command in LOOKS.items()}
    assert {kind: result.stderr for kind, result in results.items() if result.rc} == {}
    return {
        kind: frozenset(
            filter(lambda line: line and not (kind == "sysctls" and MOVES.match(line)), result.stdout.splitlines())
        )
        for kind, result in results.items()
    }


def changed(before: Look, after: Look) -> dict[str, list[str]]:
    """Return by kind the lines that are gone (`- …`) and new (`+ …`); only the kinds that differ."""
    differences = {}
    for kind, lines in before.items():
        removed, new = (f"- {line}" for line in lines - after[kind]), (f"+ {line}" for line in after[kind] - lines)
        differences[kind] = sorted([*removed, *new])
    return {kind: lines for kind, lines in differences.items() if lines}
