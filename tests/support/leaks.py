"""Searches for secret values where they must not be: in files, the journal, output, and the processes of every user.

Owns the forms of a value. Needs root, and the standard library alone: a node gets this file through `python3 -` (`on_node`), so that no
value is an argument. Called by the tests of secrets; tests/unit/test_suite_leaks.py shows that it searches each kind of place.
"""

import base64
import contextlib
import os
import stat
import subprocess
import threading
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

BLOCK = 8 << 20
# On a node: the layers of images and their containers, which come from the registry and are read-only.
CONTAINERD = "/var/lib/containerd/io.containerd"
LAYERS = (
    *("/var/lib/docker/overlay2", "/var/lib/docker/vfs", "/var/lib/docker/rootfs"),
    *(f"{CONTAINERD}.snapshotter.v1.overlayfs", f"{CONTAINERD}.content.v1.content"),
)
KERNELS = {
    *("proc", "sysfs", "nsfs", "cgroup", "cgroup2", "debugfs"),
    *("tracefs", "securityfs", "bpf", "mqueue", "pstore", "configfs"),
}
PLACES = ("/etc", "/root", "/home", "/run", "/tmp", "/var", "/srv", "/opt", "/usr/local", "/boot", "/dev/shm")


def forms(value: str) -> dict[str, bytes]:
    """Return the value's forms: in clear, percent-encoded, in hex, in base64 at each offset in a longer text."""
    raw = value.encode()
    forms_by_name = {"in clear": raw, "in hex": raw.hex().encode()}
    forms_by_name["percent-encoded"] = urllib.parse.quote(value, safe="").encode()
    for before in range(3):
        # only the characters that encode no bit of a neighbour
        first, last = -(-before * 8 // 6), (before + len(raw)) * 8 // 6
        text = base64.b64encode(bytes(before) + raw)[first:last]
        forms_by_name[f"in base64, {before}"] = text
        forms_by_name[f"in base64 for URLs, {before}"] = text.translate(bytes.maketrans(b"+/", b"-_"))
    return forms_by_name


class Needles:
    """Secret values by name."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = dict(values)
        pairs = [(name, form) for name, value in values.items() for form in forms(value).items()]
        self._forms = [(f"{name} {form}", text) for name, (form, text) in pairs]
        self._longest = max(len(text) for _, text in self._forms)

    def of(self, data: bytes) -> list[str]:
        """Return which of them are in the data, and how: ["api key in clear"]."""
        return [leak.partition(",")[0] for leak, text in self._forms if text in data]

    def in_file(self, path: Path) -> list[str]:
        """Return the same of a file of any size; nothing of a file that is gone."""
        leaks, tail = dict[str, None](), b""
        with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
            while block := file.read(BLOCK):
                leaks |= dict.fromkeys(self.of(tail + block))
                tail = block[-self._longest :]
        return list(leaks)

    def in_files(self, roots: Iterable[str], skip: Iterable[str] = (), since: float = 0) -> Iterator[str]:
        """Yield `PATH: api key in clear` for the files below these folders with a change `since` (seconds of the epoch)."""
        skipped = {*skip, *of_the_kernel()}
        for root in roots:
            for folder, folders, names in os.walk(root):
                folders[:] = [name for name in folders if f"{folder}/{name}" not in skipped]
                for path in (Path(folder, name) for name in names if f"{folder}/{name}" not in skipped):
                    with contextlib.suppress(FileNotFoundError):
                        status = path.lstat()
                        if stat.S_ISREG(status.st_mode) and status.st_mtime >= since:
                            yield from (f"{path}: {leak}" for leak in self.in_file(path))

    def in_processes(self) -> Iterator["Held"]:
        """Yield the processes that hold one, of every user and of every container, less this one."""
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            try:
                line, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
                leaks = [
                    (where, leak)
                    for where, data in (("arguments", line), ("environment", environment))
                    for leak in self.of(data)
                ]
                if leaks:
                    words = line.replace(b"\0", b" ").decode(errors="replace").strip()
                    inside = (entry / "ns" / "pid").readlink() != Path("/proc/self/ns/pid").readlink()
                    for where, leak in leaks:
                        yield Held(where, leak, entry.stat().st_uid, inside, self.hide(words)[:160])
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended meanwhile; or is closed even to root: of a sandbox, and none of ours

    def hide(self, text: str) -> str:
        """Replace the values in a text by their names."""
        for name, value in self.values.items():
            text = text.replace(value, f"({name})")
        return text


def of_the_kernel() -> set[str]:
    """Return the mount points of file systems that hold no files: the kernel's own views, and handles of namespaces."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    return {place for place, kind in mounts if kind in KERNELS}


@dataclass(frozen=True)
class Held:
    """A process that holds a value `where`: in its `arguments` or its `environment`; `inside` another pid namespace than ours."""

    where: str
    leak: str
    user: int
    inside: bool
    words: str


class Watch:
    """Searches all processes again and again: `with Watch(needles) as watch: …`, then `watch.seen`."""

    def __init__(self, needles: Needles, every: float = 0.1) -> None:
        self.seen: set[Held] = set()
        self.looks = 0
        self._needles, self._every = needles, every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(self._every):
            self.seen.update(self._needles.in_processes())
            self.looks += 1


def on_node(values: Mapping[str, str], places: Sequence[str] = PLACES) -> str:
    """Return a script for `python3 -I -` as root on a node, which prints the leaks as a list of lines in JSON."""
    return f"{Path(__file__).read_text()}\nimport json\nprint(json.dumps(leaks_here({dict(values)!r}, {tuple(places)!r})))\n"


def leaks_here(values: Mapping[str, str], places: Sequence[str]) -> list[str]:
    """Return where this machine has one of the values: its files, its journal, Docker's facts about containers, its processes."""
    needles = Needles(values)
    lines = [*needles.in_files(places, LAYERS)]
    for command in (
        ("journalctl", "--quiet", "--all", "--output=export"),
        ("systemctl", "show", "*.service"),
        ("sh", "-c", "docker ps --all --quiet | xargs --no-run-if-empty docker inspect"),
        ("docker", "events", "--since=0", "--until=0s"),
    ):
        output = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True).stdout
        lines += [f"{' '.join(command)}: {leak}" for leak in needles.of(output)]
    for held in needles.in_processes():
        lines.append(f"{held.where} of a process of user {held.user}: {held.leak}: {held.words}")
    return lines
