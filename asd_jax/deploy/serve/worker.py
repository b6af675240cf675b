"""The one thread that runs the programs: all recordings that wait are its next batch."""

import collections
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future

from asd_jax.deploy.serve.scoring import Posted, Result


class Worker:
    """Scores recordings in a thread, those that wait together.

    A batch is what came in while the batch before was computed. Nobody waits for it to fill up: a
    lone client is served at once, and batches grow with the load.

    Args:
        score: scores recordings together.
        max_batch: recordings that are scored together.
        observe: called with the number of recordings of each batch.

    Examples:
        >>> worker = Worker(lambda batch: [[] for _ in batch], max_batch=4)
        >>> worker.start()
        >>> worker.submit(Posted("a.wav", None, {})).result()
        []
        >>> worker.close()
        True
    """

    def __init__(
        self,
        score: Callable[[Sequence[Posted]], list[Result]],
        max_batch: int,
        observe: Callable[[int], None] = lambda count: None,
    ):
        self._score, self._max_batch, self._observe = score, max_batch, observe
        self._waiting: collections.deque[tuple[Posted, Future[Result]]] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Recordings that wait."""
        return len(self._waiting)

    def start(self, first: Callable[[], None] = lambda: None) -> None:
        """Starts the thread, which calls `first` before it takes recordings."""

        def work() -> None:
            first()
            while batch := self._next():
                self._do(batch)

        self._thread = threading.Thread(target=work, name="asd_jax_serve", daemon=True)
        self._thread.start()

    def submit(self, posted: Posted) -> "Future[Result]":
        """Queues a recording; its result, whose cancelling takes it out of the queue."""
        future: Future[Result] = Future()
        future.add_done_callback(self._forget)
        with self._changed:
            self._waiting.append((posted, future))
            self._changed.notify()
        return future

    def _forget(self, future: "Future[Result]") -> None:
        """Drops a recording that was cancelled, for its samples not to wait."""
        if future.cancelled():
            with self._changed:
                left = [each for each in self._waiting if each[1] is not future]
                self._waiting = collections.deque(left)

    def close(self, timeout: float | None = None) -> bool:
        """Ends the thread when all that waits is scored; whether it has ended within `timeout`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _next(self) -> "list[tuple[Posted, Future[Result]]]":
        """The next batch; empty at the end."""
        batch: list[tuple[Posted, Future[Result]]] = []
        with self._changed:
            while not batch:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if not self._waiting:
                    break
                while self._waiting and len(batch) < self._max_batch:
                    posted, future = self._waiting.popleft()
                    if future.set_running_or_notify_cancel():
                        batch.append((posted, future))
        return batch

    def _do(self, batch: "list[tuple[Posted, Future[Result]]]") -> None:
        self._observe(len(batch))
        results: Sequence[Result]
        try:
            results = self._score([posted for posted, _ in batch])
        except Exception as error:
            results = [error] * len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            future.set_result(result)
