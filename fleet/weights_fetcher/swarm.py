"""A fetch from the neighbours, and from the hub what none of them has: which chunk from whom, and who takes a file from the hub.

Each file has an order of the fleet's nodes, the same on all of them. The first takes it from the hub and publishes each chunk as it gets it;
the others take the chunks from it and from each other. A node takes over when those before it do not answer or do not get on.
The chunks of a file are compared with one neighbour's list at a time, its author's. If they agree and the whole file is wrong, that list was.
Owns the threads of the fetch. Called by sharing.py.
"""

import http.client
import random
import threading
import time
from collections.abc import Callable

from .download import Patience, Progress
from .from_hub import take
from .hub import Hub
from .model import Wrong, plain
from .neighbours import Connections, Lie, Neighbour, Place, Slow
from .shared_file import EARLIER, HUB, SharedFile

GRACE = 60.0  # seconds that a node has to answer for the first time
SILENT = 30.0  # seconds without an answer after which it counts as gone
STALL = 120.0  # seconds without a new chunk after which the next one takes over
POLL = 0.5  # seconds between two looks at the lists of a neighbour, where nothing is left to ask for
LOOK = 3.0  # the same where something is
TAKE = 1.0  # seconds between two looks at what is to be taken from the hub
LATE = 20.0  # seconds after which a second source is asked for a chunk, too
SAMPLE = 8  # chunks of which the one with the fewest holders is taken
STILL = 10.0  # seconds without a byte after which a line says what the fetch waits for


def order(name: str, places: list[Place]) -> tuple[list[str], list[str]]:
    """Return the names of the nodes that take files from the hub for all, and those of the others, this one first."""
    others = sorted((place.name for place in places if not place.first), key=lambda one: (one != name, one))
    return sorted(place.name for place in places if place.first), others


class Swarm:
    """One fetch. `order` has the names of the nodes that it knows, its own too, in two parts (see order)."""

    def __init__(
        self,
        hub: Hub,
        name: str,
        order: tuple[list[str], list[str]],
        neighbours: list[Neighbour],
        files: list[SharedFile],
        progress: Progress,
    ) -> None:
        self.hub, self.name, self.neighbours, self.progress = hub, name, neighbours, progress
        self.by_name = {one.name: one for one in neighbours}
        # By size, so that each node gets as many bytes to take from the hub.
        self.files = sorted(files, key=lambda one: (-one.file.size, one.path))
        first, others = order
        turns = {one.path: at % len(first) if first else 0 for at, one in enumerate(self.files)}
        self.order = {path: [*first[at:], *first[:at], *others] for path, at in turns.items()}
        self.change, self.stop = threading.Condition(), threading.Event()
        self.error: Wrong | OSError | None = None
        self.from_hub = 0
        self.broken: set[str] = set()  # files of which neighbours promised chunks and sent none
        self.start = self.last = time.monotonic()  # of the fetch; of its newest chunk
        self.news = 0  # counts what may give a thread something to ask for
        self.dry = (-1, 0.0)  # `news` and time of the last search that found nothing

    def keep(self, wanted: "set[str]") -> None:
        """Leave out files that are there already; the order counts them, so that it is the same on all nodes."""
        self.files = [one for one in self.files if one.path in wanted]

    def run(self, parallel: int, limit: float) -> dict[str, str]:
        """Fetch all files with so many connections to the hub, and twice as many to neighbours. Return the sha256 of each. Raises Wrong, OSError."""
        jobs: list[Callable[[], None]] = [lambda one=one: self._follow(one) for one in self.neighbours]  # type: ignore[misc]
        jobs += [lambda: self._take(limit)] * parallel + [self._get] * (2 * parallel)
        self.progress.printed = time.monotonic()
        for one in self.files:
            if not one.missing:
                self._verify(one)
        for job in jobs:
            threading.Thread(target=self._guard, args=(job,), daemon=True).start()
        with self.change:
            while self._left() and not self.error:
                self.change.wait(1)
                self._say()
            self.stop.set()
            self.change.notify_all()
        if self.error:
            raise self.error
        self._summary()
        return {one.path: one.digest for one in self.files}

    def _guard(self, job: Callable[[], None]) -> None:
        """Run a thread's job; its error ends the fetch."""
        try:
            job()
        except (Wrong, OSError) as problem:
            with self.change:
                self.error = self.error or problem
                self.stop.set()
                self.change.notify_all()

    def _left(self) -> list[SharedFile]:
        return [one for one in self.files if not one.digest]

    # What neighbours have.

    def _follow(self, one: Neighbour) -> None:
        """Read again and again what a neighbour has, and the lists of the files whose author it is."""
        connections: Connections = {}
        counts = {file.name: len(file.mine.digests) for file in self.files}
        while not self.stop.is_set() and not one.dropped:
            looked, file = time.monotonic(), None
            try:
                summary = one.read_summary(connections, counts)
                with self.change:
                    one.works()
                    if one.learn(summary):
                        self._tell()
                for file in self._left():
                    if not self.stop.is_set() and self._lacks_digests(one, file):
                        digests = one.read_list(connections, file.path, file.file.size, file.mine.chunk)
                        with self.change:
                            if digests:
                                one.lists[file.path] = digests
                                self._tell()
            except Lie as problem:
                with self.change:
                    one.drop(file.path if file else "all files", str(problem))
            except (OSError, http.client.HTTPException) as problem:
                with self.change:
                    one.fails(file.path if file else "all files", problem)
            self.stop.wait(max(POLL, one.rests_until - time.monotonic()))
            while not self.stop.is_set() and self.dry[0] != self.news and time.monotonic() - looked < LOOK:
                self.stop.wait(POLL / 2)

    def _lacks_digests(self, one: Neighbour, file: SharedFile) -> bool:
        """Return whether a neighbour is the author of a file, and has chunks whose digests are not known."""
        with self.change:
            has, digests = one.usable(file.path), one.lists.get(file.path)
            if has is None or self._author(file) is not one:
                return False
            return any(has.has(index) and (digests is None or digests[index] is None) for index in file.missing)

    def _tell(self) -> None:
        """Wake the threads that found nothing to ask for."""
        self.news += 1
        self.change.notify_all()

    def _alive(self, one: Neighbour) -> bool:
        return not one.dropped and one.failures < 3 and time.monotonic() - one.answered < SILENT

    def elsewhere(self, file: SharedFile, index: int) -> bool:
        """Return whether a neighbour says that it has a chunk. Where none has then come for a while, nobody is believed about that file again."""
        promised = file.path not in self.broken and any(
            self._alive(one) and (has := one.usable(file.path)) and has.has(index) for one in self.neighbours
        )
        if promised and time.monotonic() - self.last >= STALL:
            self.broken.add(file.path)
        return promised and file.path not in self.broken

    # Chunks of neighbours.

    def _get(self) -> None:
        """Take chunks from neighbours until the fetch ends."""
        connections: Connections = {}
        while job := self._wait_for(self._choose):
            file, index, one, author, wanted = job
            got, fresh = None, None
            try:
                got = one.read_chunk(connections, file.path, file.mine, index)
                if got and got[1] != wanted:  # what does its own list say now?
                    fresh = one.read_list(connections, file.path, file.file.size, file.mine.chunk)
                    if not fresh or fresh[index] != got[1]:
                        raise Lie(f"chunk {index} is not what its list says: sha256 {got[1]}")
            except (Lie, Slow) as problem:
                with self.change:
                    one.drop(file.path, str(problem))
            except (OSError, http.client.HTTPException) as problem:
                with self.change:
                    one.fails(file.path, problem)
            else:
                with self.change:
                    one.works()
                    if got is None:  # it has it no more
                        one.summary.pop(file.name, None)
                    if fresh:
                        one.lists[file.path] = fresh
                        if one.name != author:
                            file.other.add((one.name, author))
            with self.change:
                one.open -= 1
                file.flying.pop(index, None)
                right = got is not None and got[1] == wanted and self.by_name[author].usable(file.path) is not None
                if not right:
                    self._tell()
            if got and right:
                one.bytes += len(got[0])
                self.store(file, index, got[0], wanted, one.name, author)

    def _choose(self) -> "tuple[SharedFile, int, Neighbour, str, str] | None":
        """Return the next chunk, whom to ask for it, whose list it must agree with, and the sha256 there."""
        now = time.monotonic()
        if self.dry[0] == self.news and now - self.dry[1] < POLL / 2:
            return None
        files = [file for file in self._left() if file.missing]
        random.shuffle(files)
        for late in (False, True):  # first what nobody was asked for
            for file in files:
                author = self._author(file)
                digests = author.lists.get(file.path) if author else None
                if author is None or digests is None:
                    continue
                free = [index for index in file.missing if digests[index] and self._is_free(file, index, late, now)]
                found = []
                for index in random.sample(free, min(SAMPLE, len(free))):
                    holders = [one for one in self.neighbours if self._may_send(one, file, index, author, now)]
                    if holders:
                        found.append((len(holders), random.random(), index, holders))
                if found:
                    _, _, index, holders = min(found, key=lambda entry: entry[:2])
                    one = min(holders, key=lambda holder: (holder.open, random.random()))
                    one.open += 1
                    file.flying[index] = now
                    return file, index, one, author.name, str(digests[index])
        self.dry = self.news, now
        return None

    def _is_free(self, file: SharedFile, index: int, late: bool, now: float) -> bool:
        """Return whether nobody is asked for a chunk; `late`: whether somebody is, for too long."""
        return now - file.flying.get(index, now) > LATE if late else index not in file.flying

    def _may_send(self, one: Neighbour, file: SharedFile, index: int, author: Neighbour, now: float) -> bool:
        has = one.usable(file.path)
        return bool(has and has.has(index) and one.rests_until <= now and (one.name, author.name) not in file.other)

    def _author(self, file: SharedFile) -> "Neighbour | None":
        """Return the neighbour whose list counts for a file: the same as before while it offers something, else a verified or the longest one."""

        def offers(one: Neighbour) -> bool:
            has = one.usable(file.path) if self._alive(one) else None
            return has is not None and any(has.has(index) for index in file.missing)

        if (before := self.by_name.get(file.author)) and offers(before):
            return before
        able = {one.name: has for one in self.neighbours if offers(one) and (has := one.usable(file.path))}
        if not able:
            return None
        file.author = max(able, key=lambda name: (able[name].verified, able[name].count()))
        return self.by_name[file.author]

    def store(
        self, file: SharedFile, index: int, data: "bytes | bytearray", digest: str, sender: str, author: str
    ) -> None:
        """Write a chunk that has this sha256; verify the file if it was the last one."""
        with file.lock:
            if index not in file.missing or file.digest:
                return
            file.write(index, data)
            with self.change:
                file.record(index, digest, sender, author)
                file.publish()
                self.last = time.monotonic()
                whole = not file.missing
                if sender == HUB:
                    self.from_hub += len(data)
                else:
                    self.progress.add(len(data))
            if whole:
                self._verify(file)

    def _verify(self, file: SharedFile) -> None:
        """Compare a whole file with the manifest. Names the lists that were wrong, and forgets what came by them. Raises Wrong."""
        wrong = file.verify()
        with self.change:
            self._tell()
            if not wrong:
                self.progress.complete += 1
                return
            authors = {file.sent[index][1] for index in file.by_neighbours()}
            doubtful = {index for index, (sender, _) in file.sent.items() if sender != HUB}
            if not doubtful:
                file.part.unlink()
                file.board.drop(file.path)
                raise Wrong(f"{file.path}: {wrong}; the file was removed, the next run fetches it again")
            for author in authors - {EARLIER}:
                one = self.by_name[author]
                has = one.usable(file.path)
                if has and has.verified and one.lists.get(file.path) == file.mine.digests:
                    one.drop(file.path, f"it is wrong, and the list says that it was verified: {wrong}")
                else:
                    one.bar(file.path, f"all chunks are as listed, and the whole is wrong: {wrong}")
            self.progress.add(-file.forget(doubtful), fetched=False)
            file.publish()

    # Files of the hub.

    def _take(self, limit: float) -> None:
        """Take files from the hub that are this node's to take, until the fetch ends."""
        while file := self._wait_for(self._next_to_take, TAKE):
            try:
                take(self, file, Patience(limit, self.stop))
            finally:
                with self.change:
                    file.taking = False
                    if not file.digest:
                        file.mine.hub = False
                        file.publish(listed=False)

    def _next_to_take(self) -> "SharedFile | None":
        for file in sorted(self._left(), key=lambda one: self.order[one.path].index(self.name)):
            if not file.taking and self._is_mine(file):
                file.taking = file.mine.hub = True
                file.publish(listed=False)
                return file
        return None

    def _is_mine(self, file: SharedFile) -> bool:
        """Return whether this node takes a file from the hub: somebody must, nobody does, and nobody before it will."""
        if not any(index not in file.flying and not self.elsewhere(file, index) for index in file.missing):
            return False
        unknown = (one for one in self.neighbours if not (one.dropped or one.failures or one.answered))
        if any(unknown) or any(self._takes(one, file) for one in self.neighbours):
            return False
        order = self.order[file.path]
        return not any(self._expected(self.by_name[name]) for name in order[: order.index(self.name)])

    def _takes(self, one: Neighbour, file: SharedFile) -> bool:
        """Return whether a neighbour takes a file from the hub, and gets on."""
        has = one.usable(file.path)
        return bool(has and has.hub and time.monotonic() - one.moved.get(file.name, 0) < STALL)

    def _expected(self, one: Neighbour) -> bool:
        """Return whether a neighbour will take its files: it may not have started yet, or gets on with others."""
        now = time.monotonic()
        if one.dropped:
            return False
        if not one.answered:
            return now - self.start < GRACE
        return now - one.answered < SILENT and now - max([one.first, *one.moved.values()]) < STALL

    def yields(self, file: SharedFile) -> bool:
        """Return whether a node before this one takes the same file from the hub, after both began at once."""
        order = self.order[file.path]
        return any(self._takes(self.by_name[name], file) for name in order[: order.index(self.name)])

    # Waiting.

    def _wait_for(self, choose: Callable[[], object], pause: float = 0):  # type: ignore[no-untyped-def]
        """Return the first result of `choose` that is one, under the lock; None at the end of the fetch. Asks again each `pause`, else at news."""
        while not self.stop.is_set() and self._left():
            with self.change:
                if result := choose():
                    return result
                if not pause:
                    self.change.wait(POLL)
            self.stop.wait(pause)
        return None

    def _say(self) -> None:
        """Print what the fetch waits for, where no bytes arrive."""
        now = time.monotonic()
        if now - self.progress.printed < STILL:
            return
        self.progress.printed = now
        waits = [one.name for one in self.neighbours if self._expected(one)]
        left = self._left()
        whom = f"{', '.join(waits[:5])} or the hub" if waits else "the hub"
        print(f"waits for {whom}: {len(left)} files, {plain(left[0].path)} first", flush=True)

    def _summary(self) -> None:
        parts = [f"{one.bytes / 1e6:.1f} MB from {one.name}" for one in self.neighbours if one.bytes]
        print("; ".join([*parts, f"{self.from_hub / 1e6:.1f} MB from the hub"]), flush=True)
