"""`fleet enrol`: read the host keys of machines, compare them with other sources, and pin one key per machine.

Needs machines that answer, and for some options a known_hosts file or DNS. stack_edit.py writes the stack file.
"""

import base64
import fnmatch
import hashlib
import hmac
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from dataclasses import dataclass, field
from typing import TextIO

import click

from fleet import errors, ssh
from fleet.cli import common, stack_edit, table
from fleet.ssh.host_keys import TYPES, Key, read_keys

HEAD = ("node", "address", "type", "fingerprint", "remarks")


@click.command("enrol")
@common.stack_option
@click.argument("nodes", nargs=-1, required=True, metavar="NODE[=ADDRESS]...")
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="SHA256:…",
    help="Pin this fingerprint without asking; may be given again.",
)
@click.option("--known-hosts", type=click.File(), help="A known_hosts file with the keys of the machines.")
@click.option("--sshfp", is_flag=True, help="Read the keys of the machines from DNS (SSHFP records).")
@common.exit_on_error()
def command(
    stack: str, nodes: tuple[str, ...], expected: tuple[str, ...], known_hosts: TextIO | None, sshfp: bool
) -> None:
    """Show the host keys of machines and pin one key each in the stack file.

    Pins after a yes, or without a question with --expect. NODE=ADDRESS adds a machine. Compare the fingerprints with what the machine's
    console shows: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub
    """
    file = stack_edit.StackFile(common.root() / "stacks" / f"Pulumi.{stack}.yaml", f"stacks/Pulumi.{stack}.yaml")
    answers = ask(file.targets(nodes), common.progress)
    text = known_hosts.read() if known_hosts else ""
    for answer in answers:
        sources: dict[str, list[str]] = {}
        if known_hosts:
            sources[known_hosts.name] = from_file(text, answer.target, answer.node)
        if sshfp:
            sources["DNS"] = from_dns(answer.target.address)
        choose(answer, expected, sources)
    click.echo(as_table(answers))
    new = [answer for answer in answers if answer.chosen and answer.chosen.fingerprint != answer.pinned]
    if not new:
        click.echo(f"{file.name} has them already")
        return
    names = ", ".join(answer.node for answer in new)
    if not expected and not click.confirm(f"Does a console show the same? Pin the host keys of {names} in {file.name}"):
        click.echo("nothing was written")
        sys.exit(1)
    written = [file.pin(answer.node, answer.chosen, answer.target.address) for answer in new if answer.chosen]
    for name in dict.fromkeys(written):
        click.echo(f"{name}: pinned {names}; `git diff {name}` shows it")


@dataclass
class Answer:
    """The keys that one machine offers, remarks on each (by fingerprint), and the key to pin."""

    node: str
    target: ssh.Target
    keys: list[Key]
    pinned: str = ""  # the fingerprint that the stack file has
    remarks: dict[str, list[str]] = field(default_factory=dict)
    chosen: Key | None = None

    def rows(self) -> list[tuple[str, ...]]:
        """Return a table row for each key."""
        where = self.target.endpoint
        return [
            (self.node, where, key.type, key.fingerprint, ", ".join(self.remarks[key.fingerprint])) for key in self.keys
        ]


def ask(reach: Mapping[str, ssh.Target], note: Callable[[str], None]) -> list[Answer]:
    """Read the keys of all machines at once. Raises Unreachable, with a note for each further machine that does not answer."""
    with futures.ThreadPoolExecutor(min(32, len(reach))) as pool:
        running = {node: pool.submit(read_keys, target) for node, target in reach.items()}
    failed = [error for future in running.values() if isinstance(error := future.exception(), errors.FleetError)]
    if failed:
        raise errors.first(failed)
    note(f"{len(running)} machines answered" if len(running) > 1 else f"{next(iter(reach))} answered")
    return [_answer(node, reach[node], future.result()) for node, future in running.items()]


def choose(answer: Answer, expected: Sequence[str], sources: Mapping[str, Sequence[str]]) -> None:
    """Set the key to pin: the expected one, else one that a source has, else the first type of TYPES.

    `sources` has by source (a file's name, DNS) its fingerprints for this machine. Raises HostKeyMismatch when the machine offers no
    expected key, or when a source has keys of this machine and none of the offered ones.
    """
    offers = {key.fingerprint: key for key in answer.keys}
    for source, fingerprints in sources.items():
        for fingerprint in offers:
            answer.remarks[fingerprint].append(f"{'as' if fingerprint in fingerprints else 'not'} in {source}")
        if fingerprints and not offers.keys() & set(fingerprints):
            raise _mismatch(answer, f"{source} has {', '.join(fingerprints)}")
    matching = [fingerprint for fingerprint in expected if fingerprint in offers]
    if expected and not matching:
        raise _mismatch(answer, f"expected: {', '.join(expected)}")
    confirmed = [key for key in answer.keys if any(key.fingerprint in prints for prints in sources.values())]
    answer.chosen = offers[matching[0]] if matching else (confirmed or answer.keys)[0]
    if answer.chosen.fingerprint != answer.pinned:
        answer.remarks[answer.chosen.fingerprint].append("to be pinned")


def as_table(answers: Sequence[Answer]) -> str:
    """Return a table with one line per key."""
    return table.columns([HEAD, *(row for answer in answers for row in answer.rows())])


def from_file(text: str, target: ssh.Target, name: str) -> list[str]:
    """Return the fingerprints in a known_hosts file for a machine's address or name, also where these are hashed."""
    names = [name, target.address] if target.port == 22 else [name, f"[{target.address}]:{target.port}"]
    fingerprints = []
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and not line.startswith(("#", "@")) and any(_matches(words[0], host) for host in names):
            fingerprints.append(Key.parse(" ".join(words[1:3])).fingerprint)
    return fingerprints


def from_dns(address: str) -> list[str]:
    """Return the SHA-256 fingerprints of a machine's SSHFP records. Raises CommandFailed when DNS does not answer."""
    import dns.exception
    import dns.resolver

    try:
        records = dns.resolver.resolve(address, "SSHFP")
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except dns.exception.DNSException as error:
        raise errors.CommandFailed(
            doing=f"ask DNS for the SSHFP records of {address}",
            seen=str(error).rstrip(".").lower(),
            wanted="an answer of the resolver of this machine",
            next="leave out --sshfp, or repair /etc/resolv.conf",
        ) from error
    digests = (record.fingerprint for record in records if record.fp_type == 2)  # 2 is SHA-256; SHA-1 proves nothing
    return [f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}" for digest in digests]


def _answer(node: str, target: ssh.Target, keys: list[Key]) -> Answer:
    pinned = ""
    if target.host_key:
        pinned = Key.parse(target.host_key).fingerprint
    remarks = {key.fingerprint: (["pinned"] if key.fingerprint == pinned else []) for key in keys}
    return Answer(node, target, sorted(keys, key=lambda key: TYPES.index(key.type)), pinned, remarks)


def _mismatch(answer: Answer, elsewhere: str) -> errors.HostKeyMismatch:
    return errors.HostKeyMismatch(
        node=answer.node,
        doing=f"compare the host keys of {answer.target.endpoint}",
        seen=", ".join(f"{key.type} {key.fingerprint}" for key in answer.keys),
        wanted=elsewhere,
        next="find out which machine answers there; nothing was written",
    )


def _matches(pattern: str, name: str) -> bool:
    """Whether the first word of a known_hosts line includes a name."""
    if pattern.startswith("|1|"):
        _, _, salt, digest = pattern.split("|")
        expected = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(expected, base64.b64decode(digest))
    patterns = pattern.replace("[", "[[]").split(",")  # only * and ? are wildcards there
    excluded = any(fnmatch.fnmatch(name, item[1:]) for item in patterns if item.startswith("!"))
    return not excluded and any(fnmatch.fnmatch(name, item) for item in patterns if not item.startswith("!"))
