"""Reading many recordings: the next ones while the caller works, and long ones in blocks."""

import collections
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from asd_jax.data.audio_files import Recording, check_request, decode, read_blocks
from asd_jax.errors import UserError

# Samples, of each channel, up to which a recording is kept in memory: 131 s at 16 kHz, 8 MiB.
_LONGEST = 2**21
_AHEAD = 2  # recordings that are read ahead, for each thread


class Waveform(NamedTuple):
    """The samples of a recording.

    Attributes:
        n_samples: how many.
        blocks: (samples,) float32, full scale at 1, one after another; one array of a recording
            that is in memory. They may be gone through again.
    """

    n_samples: int
    blocks: Iterable[np.ndarray]

    @classmethod
    def of(cls, samples: np.ndarray) -> "Waveform":
        """Of samples in memory."""
        return cls(len(samples), [samples])


class _File:
    """The blocks of a long recording, which is read again whenever they are gone through."""

    def __init__(self, *arguments: object):
        self._arguments = arguments

    def __iter__(self) -> Iterator[np.ndarray]:
        return read_blocks(*self._arguments)  # type: ignore[arg-type]  # as `_read` hands them


def read_recordings(
    paths: Sequence[os.PathLike | str],
    sample_rate: int,
    channel: int | str | None = None,
    threads: int = 4,
    on_bad_clip: str = "stop",
    report: Callable[[str], None] = print,
    note: Callable[[int, Recording], None] = lambda index, recording: None,
) -> Generator[tuple[int, Waveform], None, None]:
    """Reads recordings one after another, a few ahead of the caller.

    Close it (`contextlib.closing`) where it may not be read to its end, so that no thread is left.
    Memory is independent of their number and lengths. A recording of more than two million samples
    is decoded twice: first for its facts, so that none is used which ends before its header says,
    and then block by block.

    Args:
        paths: the files.
        sample_rate: rate in Hz to return.
        channel: as for `read`.
        threads: files read at once.
        on_bad_clip: "stop" raises on a file that cannot be used; "skip" reports it and leaves
            it out.
        report: called with one line for each file left out, and once for each other rate that
            is resampled and each number of channels that is reduced to one.
        note: called with the index and the facts of each file that is used.

    Returns:
        Generator of (index into `paths`, its waveform), in the order of `paths`.

    Raises:
        UserError: an argument out of range, at once; a file that cannot be used, when it is
            reached.
    """
    check_request(sample_rate, channel)
    if on_bad_clip not in ("stop", "skip"):
        raise UserError(f"on_bad_clip {on_bad_clip!r} is neither 'stop' nor 'skip'")
    if threads < 1:
        raise UserError(f"threads {threads} must be at least 1")
    return _in_turn(paths, sample_rate, channel, threads, on_bad_clip, report, note)


def _in_turn(
    paths: Sequence[os.PathLike | str],
    sample_rate: int,
    channel: int | str | None,
    threads: int,
    on_bad_clip: str,
    report: Callable[[str], None],
    note: Callable[[int, Recording], None],
) -> Generator[tuple[int, Waveform], None, None]:
    said: set[str] = set()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="read_audio")
    ahead: collections.deque[Future] = collections.deque()
    try:
        for i in range(len(paths)):
            while len(ahead) <= threads * _AHEAD and i + len(ahead) < len(paths):
                ahead.append(pool.submit(_read, paths[i + len(ahead)], sample_rate, channel))
            try:
                waveform, recording = ahead.popleft().result()
            except UserError as error:
                if on_bad_clip == "stop":
                    raise
                report(f"left out: {error}")
                continue
            for kind, done in _changes(recording, sample_rate, channel):
                if kind not in said:
                    said.add(kind)
                    report(f"{kind} are {done}, first {paths[i]}")
            note(i, recording)
            yield i, waveform
            del waveform  # freed as soon as the caller drops it
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(
    path: os.PathLike | str, sample_rate: int, channel: int | str | None
) -> tuple[Waveform, Recording]:
    samples, recording = decode(path, sample_rate, channel, _LONGEST)
    if samples is not None:
        return Waveform.of(samples), recording
    n_samples = -(-recording.info.n_samples * sample_rate // recording.info.sample_rate)
    return Waveform(n_samples, _File(path, sample_rate, channel, recording)), recording


def _changes(
    recording: Recording, sample_rate: int, channel: int | str | None
) -> Iterator[tuple[str, str]]:
    """Kind of a recording that is not as wanted, and what is done with it."""
    info = recording.info
    if info.sample_rate != sample_rate:
        yield f"recordings of {info.sample_rate} Hz", f"resampled to {sample_rate} Hz"
    if info.channels > 1:
        taken = f"channel {channel}"
        if channel in (None, "mean"):
            taken = "their mean"
        elif channel == "canceller":
            taken = "the first without what the second explains of it"
        yield f"recordings of {info.channels} channels", f"reduced to {taken}"
