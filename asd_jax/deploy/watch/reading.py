"""Reads streams in threads of their mounts, so that a mount that does not answer delays no other.

A read of a network's mount that is gone may take for ever, and nothing ends it. So each mount has a
thread that reads its streams in turn; where a read does not return, the stream is named and left
alone, and another thread goes on with the others, a few times a mount at most.
"""

import collections
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from asd_jax.deploy.watch.windows import Window

HANGING_SECONDS = 30.0  # of a read, after which others do not wait for it any more
_MOST_HANGING = 4  # reads of a mount that are left alone
_TURN = 8  # windows of a stream before another one's turn
_IDLE = 0.05  # seconds between looks for something new
_PATIENCE = 5.0  # seconds to wait for reads when all ends


class Source(Protocol):
    """Where the windows of a stream come from: `FolderSource`, `PcmSource`, or one of your own.

    Those of a source with an attribute `mount` are read in turn with others of the same mount.
    """

    name: str

    @property
    def ended(self) -> bool:
        """Whether there will be no more windows."""
        ...

    def poll(self, room: int) -> Iterator[Window]:
        """About so many windows, or fewer, without waiting."""
        ...

    def take_forgotten(self) -> list[int]:
        """Numbers of done recordings that need not be remembered any more, once each."""
        ...

    def close(self) -> None:
        """Gives free what is open."""
        ...


class Reading:
    """Fills a queue with the windows of sources.

    Args:
        sources: one of each stream.
        to: windows, and errors that nobody foresaw; where it is full, reading waits.
        report: called by `look` with a line about a stream that does not answer.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        to: "queue.Queue[Window | BaseException]",
        report: Callable[[str], None],
    ):
        self._sources, self._queue, self._report = sources, to, report
        self._stopping = threading.Event()
        mounts: dict[str, list[Source]] = {}
        for source in sources:
            mounts.setdefault(getattr(source, "mount", ""), []).append(source)
        self._mounts = [_Mount(own) for own in mounts.values()]
        self._readers: list[_Reader] = []

    def start(self) -> None:
        """Begins to read."""
        for mount in self._mounts:
            self._add(mount)

    @property
    def is_done(self) -> bool:
        """Whether all streams have ended, or reading was stopped."""
        return not any(reader.thread.is_alive() for reader in self._readers)

    def look(self) -> None:
        """Names streams that do not answer, and lets others of their mount be read on."""
        now = time.monotonic()
        self._readers = [each for each in self._readers if each.thread.is_alive() or each.said]
        for reader in [*self._readers]:
            waits = reader.waits(now)
            if waits >= HANGING_SECONDS and not reader.hangs:
                self._name(reader, waits)
            elif reader.said and not reader.hangs:
                self._report(f"{reader.said} answers again")
                reader.said = ""

    def stop(self) -> None:
        """Ends reading; what does not answer is given up, and all sources are closed."""
        self._stopping.set()
        end = time.monotonic() + _PATIENCE
        for reader in self._readers:
            reader.thread.join(max(0.0, end - time.monotonic()))
        for source in self._sources:
            source.close()

    def _add(self, mount: "_Mount") -> None:
        reader = _Reader(mount)
        reader.thread = threading.Thread(
            target=self._read, args=(reader,), name="watch_reader", daemon=True
        )
        mount.active += 1
        self._readers.append(reader)
        reader.thread.start()

    def _name(self, reader: "_Reader", waits: float) -> None:
        mount = reader.mount
        with mount.lock:
            if reader.since is None:  # it has just answered
                return
            reader.said, reader.hangs = reader.source.name, True
            mount.active -= 1
            mount.hanging += 1
            goes_on = mount.active or mount.hanging <= _MOST_HANGING
        others = "others are read on" if goes_on else "others of its mount wait for it"
        self._report(f"{reader.said} does not answer for {waits:.0f} s; {others}")
        if goes_on and not mount.active:
            self._add(mount)

    def _read(self, reader: "_Reader") -> None:
        """Reads streams of a mount in turn."""
        mount, idle = reader.mount, 0
        try:
            while not self._stopping.is_set():
                source = mount.take()
                if source is None:
                    if mount.left == 0 or reader.is_surplus():
                        return
                    self._stopping.wait(_IDLE)
                    continue
                count = self._poll(reader, source)
                mount.put(source)
                if reader.is_surplus():
                    return
                idle = 0 if count else idle + 1
                if idle and idle >= len(mount.waiting):
                    idle = 0
                    self._stopping.wait(_IDLE)
        except BaseException as error:
            self._put(error)

    def _poll(self, reader: "_Reader", source: Source) -> int:
        count = 0
        reader.source = source
        windows = source.poll(_TURN)
        while True:
            reader.begins()
            window = next(windows, None)
            reader.returns()
            if window is None or not self._put(window):
                return count
            count += 1

    def _put(self, item: Window | BaseException) -> bool:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False


class _Mount:
    """The streams of a mount.

    Attributes:
        waiting: those that nobody reads now.
        left: how many have not ended.
        active: readers that do not hang.
        hanging: readers that hang.
    """

    def __init__(self, sources: Sequence[Source]):
        self.lock = threading.Lock()
        self.waiting = collections.deque(sources)
        self.left = len(sources)
        self.active = self.hanging = 0

    def take(self) -> Source | None:
        """The stream whose turn it is."""
        with self.lock:
            return self.waiting.popleft() if self.waiting else None

    def put(self, source: Source) -> None:
        """Takes a stream back, unless it has ended."""
        with self.lock:
            if source.ended:
                self.left -= 1
            else:
                self.waiting.append(source)


class _Reader:
    """A thread that reads streams of a mount.

    Attributes:
        mount: whose.
        source: that it reads.
        since: when its read began, by the monotonic clock; None while none is under way.
        hangs: whether others do not wait for it.
        said: the stream that was said not to answer; "" for none.
    """

    thread: threading.Thread
    source: Source

    def __init__(self, mount: _Mount):
        self.mount = mount
        self.since: float | None = None
        self.hangs = False
        self.said = ""

    def waits(self, now: float) -> float:
        """Seconds for which its read has not returned."""
        since = self.since
        return 0.0 if since is None else now - since

    def begins(self) -> None:
        """Notes that a read begins."""
        self.since = time.monotonic()

    def returns(self) -> None:
        """Notes that it has returned."""
        with self.mount.lock:
            self.since = None
            if self.hangs:
                self.hangs = False
                self.mount.hanging -= 1
                self.mount.active += 1

    def is_surplus(self) -> bool:
        """Whether another one goes on with the mount, so that this one is to end."""
        with self.mount.lock:
            surplus = self.mount.active > 1
            self.mount.active -= surplus
            return surplus
