"""The service without HTTP: admits recordings, has them scored, and lets go of what they held."""

import asyncio
import contextlib
import enum
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from asd_jax.deploy.serve.asked import Asked
from asd_jax.deploy.serve.limits import Limits, Refused
from asd_jax.deploy.serve.metrics import Metrics
from asd_jax.deploy.serve.reading import read_received
from asd_jax.deploy.serve.scoring import Posted, Reading, Result, readings, score_posted
from asd_jax.deploy.serve.worker import Worker
from asd_jax.errors import UserError
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import lacks_state
from asd_jax.fitting.recordings import FileScore
from asd_jax.runtime.cores import usable_cores
from asd_jax.runtime.memory import is_exhausted


class State(enum.Enum):
    """What the service is doing."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"


class Scored(NamedTuple):
    """What became of a recording.

    Attributes:
        rows: the scores of its clips.
        remarks: on what was done to it, as resampling.
    """

    rows: list[FileScore]
    remarks: list[str]


class Service:
    """Scores recordings that arrive one by one, those that wait together.

    Args:
        fitted: the fitted system of a run.
        run: its name, for answers.
        folder: for recordings that are received; they are removed when they are scored.
        limits: of what is taken.
        log: called with a line about an error that is the service's own.
    """

    def __init__(
        self,
        fitted: Fitted,
        run: str,
        folder: os.PathLike | str,
        limits: Limits,
        log: Callable[[str], None],
    ):
        self.fitted, self.run, self.limits, self.log = fitted, run, limits, log
        self.state = State.STARTING
        self._folder, self._number, self._held = Path(folder), 0, 0
        self._worker = Worker(
            lambda posted: score_posted(fitted, posted),
            limits.max_batch,
            lambda count: self.metrics.batch(count),
        )
        self.metrics = Metrics(fitted.machines, lambda: self._worker.waiting)
        self._readers = ThreadPoolExecutor(usable_cores(), thread_name_prefix="asd_jax_read")
        self._readings: dict[str, list[Reading]] = {}
        self._running: set[asyncio.Task] = set()

    def start(self, first: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Starts scoring; ready after `first`, which runs in the thread of the programs."""

        def warm_up() -> None:
            try:
                first()
            except Exception as error:
                failed(error)
                return
            if self.state is State.STARTING:
                self._become(State.READY)

        self._worker.start(warm_up)

    def stop(self) -> None:
        """Takes no more recordings; those that it has taken are scored."""
        self._become(State.STOPPING)

    def close(self, timeout: float) -> bool:
        """Ends the threads; whether they have ended within some seconds."""
        self.stop()
        self._readers.shutdown(wait=False, cancel_futures=True)
        return self._worker.close(timeout)

    def _become(self, state: State) -> None:
        self.state = state
        self.metrics.ready(state is State.READY)

    def check_open(self) -> None:
        """Raises Refused while no recordings are taken."""
        if self.state is not State.READY:
            raise Refused(503, f"the service is {self.state.value}; try again", Retry_After="5")

    def admit(self) -> "Slot":
        """A place for a recording.

        Raises:
            Refused: there is none.
        """
        self.check_open()
        if self._held >= self.limits.max_queue:
            raise Refused(
                503,
                f"{self._held} recordings are here already; try again, or allow more by "
                "--max_queue",
                Retry_After="1",
            )
        self._hold(1)
        self._number += 1
        return Slot(self._folder / str(self._number), lambda: self._hold(-1))

    def _hold(self, change: int) -> None:
        self._held += change
        self.metrics.held(self._held)

    def begin(self, slot: "Slot", asked: Asked, name: str) -> "Job":
        """Begins to score the recording in a slot, which is released at its end."""
        job = Job()
        job.task = asyncio.ensure_future(self._scored(slot, asked, name, job))
        self._running.add(job.task)
        job.task.add_done_callback(self._running.discard)
        return job

    async def _scored(self, slot: "Slot", asked: Asked, name: str, job: "Job") -> Scored | Refused:
        """Scores a recording, whoever still waits for it; errors are results."""
        loop = asyncio.get_running_loop()
        with slot:
            try:
                waveforms, remarks = await loop.run_in_executor(
                    self._readers, self._read, slot.path, name, asked
                )
                if job.abandoned:
                    return Refused(503, "nobody waits for it")
                job.future = self._worker.submit(Posted(name, asked, waveforms))
                result = await asyncio.wrap_future(job.future)
                if isinstance(result, Exception):
                    raise result
            except asyncio.CancelledError:  # of its future, by `Job.abandon`
                return Refused(503, "nobody waits for it")
            except Exception as error:
                return self._refused(error, name)
        self.metrics.scored(result)
        if any(lacks_state(self.fitted, asked.group, [row.state for row in result])):
            remarks = [
                *remarks,
                f"{name}: no state is known; it is scored whatever it is (state= says it)",
            ]
        return Scored(result, remarks)

    def _read(self, path: Path, name: str, asked: Asked) -> tuple[Any, list[str]]:
        machine = asked.group[0]
        if machine not in self._readings:
            self._readings[machine] = readings(self.fitted, machine)
        return read_received(path, name, self._readings[machine], self.limits)

    def _refused(self, error: Exception, name: str) -> Refused:
        if isinstance(error, Refused):
            self.metrics.bad()
            return error
        if isinstance(error, UserError):
            self.metrics.bad()
            return Refused(422, str(error))
        self.log(f"{name}: {type(error).__name__}: {error}")
        if is_exhausted(error):
            return Refused(503, f"{name}: out of memory; try again", Retry_After="5")
        return Refused(500, f"{name}: an error of the service, which its log has")


class Slot(contextlib.AbstractContextManager):
    """A recording's place in the service, and its file.

    Args:
        path: where the recording is put.
        released: called once, when it is done.
    """

    def __init__(self, path: Path, released: Callable[[], None]):
        self.path, self._released = path, released

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Removes the file, and lets another recording in; later calls do nothing."""
        released, self._released = self._released, lambda: None
        with contextlib.suppress(FileNotFoundError):
            self.path.unlink()
        released()


class Job:
    """A recording that is on its way.

    Attributes:
        task: ends with what became of the recording.
        future: of its place in the queue; None before it is there.
        abandoned: whether nobody waits for it.
    """

    def __init__(self) -> None:
        self.task: asyncio.Task[Scored | Refused]
        self.future: Future[Result] | None = None
        self.abandoned = False

    def abandon(self) -> None:
        """Takes it out of the queue, if it is not being scored already."""
        self.abandoned = True
        if self.future is not None:
            self.future.cancel()


@contextlib.contextmanager
def abandoning(jobs: Sequence[Job]) -> Iterator[None]:
    """Abandons jobs where what waits for them ends without them."""
    try:
        yield
    finally:
        for job in jobs:
            if not job.task.done():
                job.abandon()
