"""Reading recordings: any rate, any number of channels, any length, one file or thousands."""

import dataclasses
import importlib
import math
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from io import FileIO
from typing import Any, NamedTuple, NoReturn

import numpy as np

from asd_jax.data.containers import wrong_length
from asd_jax.data.identity import Status, digest_of, read_digest
from asd_jax.data.levels import LARGEST_PEAK, Level
from asd_jax.errors import UserError

_BLOCK = 2**20  # samples of each channel that are decoded together


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """Facts from a file's header.

    Attributes:
        sample_rate: in Hz; 0 if unreadable.
        channels: number of channels; 0 if unreadable.
        n_samples: samples of each channel; 0 if unreadable.
        problem: why the file cannot be used, with its kind before a colon; None if it can.
    """

    sample_rate: int = 0
    channels: int = 0
    n_samples: int = 0
    problem: str | None = None


class Recording(NamedTuple):
    """Facts from the read of a recording.

    Attributes:
        info: its header.
        status: of the file, as it was opened.
        digest: of the file's content.
        level: of its samples, as they are in the file.
    """

    info: AudioInfo
    status: Status | None
    digest: bytes
    level: Level


def inspect(path: os.PathLike | str) -> AudioInfo:
    """Reads a recording's header, without its samples.

    Args:
        path: a wav file, or any other file that libsndfile knows.

    Returns:
        The header; a file that cannot be used has a `problem`, and raises nothing.
    """
    try:
        with _opened(path) as file:
            return _header(file)
    except OSError as error:
        return AudioInfo(problem=_os_problem(error))


def _header(file: FileIO) -> AudioInfo:
    """The header of an open file."""
    soundfile = _library("soundfile")
    size = os.fstat(file.fileno()).st_size
    if not size:
        return AudioInfo(problem="empty file")
    problem = wrong_length(file, size)
    file.seek(0)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            rate, channels, n_samples = sound.samplerate, sound.channels, sound.frames
    except soundfile.LibsndfileError as error:
        return AudioInfo(problem=problem or f"not audio: {error.error_string.rstrip('.')}")
    if problem is None and n_samples == 0:
        problem = "no samples"
    return AudioInfo(rate, channels, n_samples, problem)


def _os_problem(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "missing: no such file"
    return f"unreadable: {error.strerror or error}"


def _opened(path: os.PathLike | str) -> FileIO:
    """Opens a file to read, unbuffered; OSError for a FIFO, a socket or a device."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening a FIFO waits for a writer
        raise OSError("it is a FIFO, a socket or a device, not a file")
    return open(path, "rb", buffering=0)


def read(path: os.PathLike | str, sample_rate: int, channel: int | str | None = None) -> np.ndarray:
    """Reads a recording.

    Args:
        path: a wav file, or any other file that libsndfile knows.
        sample_rate: rate in Hz to return; a file of another rate is resampled, as
            `librosa.resample` does.
        channel: the channel to take, from 0; None or "mean" for the mean of all.

    Returns:
        Waveform, float32 (samples,), full scale at 1, at the file's full length.

    Raises:
        UserError: the file is missing, unreadable, empty, truncated or not audio, lacks the
            channel, or holds a sample that is not finite.
    """
    _check_request(sample_rate, channel)
    return _read(path, sample_rate, channel)[0]


def read_recording(path: os.PathLike | str) -> Recording:
    """Reads a recording for its facts alone; one that cannot be used has a `problem`."""
    try:
        return _decode(path)[1]
    except UserError as error:
        info, status = inspect(path), Status.of(path)
        if info.problem is None:
            problem = str(error).removeprefix(f"{path}: ")
            info = dataclasses.replace(info, problem=problem)
        return Recording(info, status, read_digest(path), Level())


def read_batches(
    paths: Sequence[os.PathLike | str],
    sample_rate: int,
    channel: int | str | None = None,
    batch_size: int = 64,
    threads: int = 4,
    on_bad_clip: str = "stop",
    report: Callable[[str], None] = print,
    note: Callable[[int, Recording], None] = lambda index, recording: None,
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Reads recordings in batches, the next batch while the caller works on this one.

    At most two batches are in memory. The order is that of `paths` for any number of threads.

    Args:
        paths: the files.
        sample_rate: rate in Hz to return.
        channel: as for `read`.
        batch_size: files a batch.
        threads: files read at once.
        on_bad_clip: "stop" raises on a file that cannot be used; "skip" reports it and leaves
            it out, so that its batch is smaller.
        report: called with one line for each file left out, and once for each other rate that
            is resampled and each number of channels that is reduced to one.
        note: called with the index and the facts of each file that is used.

    Returns:
        Iterator of (indices into `paths`, waveforms as from `read`).

    Raises:
        UserError: an argument out of range, at once; a file that cannot be used, when its
            batch is reached.
    """
    _check_request(sample_rate, channel)
    if on_bad_clip not in ("stop", "skip"):
        raise UserError(f"on_bad_clip {on_bad_clip!r} is neither 'stop' nor 'skip'")
    if batch_size < 1 or threads < 1:
        raise UserError(f"batch_size {batch_size} and threads {threads} must be at least 1")
    return _batches(paths, sample_rate, channel, batch_size, threads, on_bad_clip, report, note)


def _batches(
    paths: Sequence[os.PathLike | str],
    sample_rate: int,
    channel: int | str | None,
    batch_size: int,
    threads: int,
    on_bad_clip: str,
    report: Callable[[str], None],
    note: Callable[[int, Recording], None],
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    said: set[str] = set()
    future: Future | None
    waveform: np.ndarray | None

    def say_once(kind: str, line: str) -> None:
        if kind not in said:
            said.add(kind)
            report(line)

    pool = ThreadPoolExecutor(threads, thread_name_prefix="read_audio")

    def start(first: int) -> list[tuple[int, Future]]:
        window = range(first, min(first + batch_size, len(paths)))
        return [(i, pool.submit(_read, paths[i], sample_rate, channel)) for i in window]

    try:
        ahead = start(0)
        for first in range(0, len(paths), batch_size):
            current, ahead = ahead, start(first + batch_size)
            indices, waveforms = [], []
            for i, future in current:
                try:
                    waveform, recording = future.result()
                except UserError as error:
                    if on_bad_clip == "stop":
                        raise
                    report(f"left out: {error}")
                    continue
                info = recording.info
                if info.sample_rate != sample_rate:
                    kind = f"recordings of {info.sample_rate} Hz"
                    say_once(kind, f"{kind} are resampled to {sample_rate} Hz, first {paths[i]}")
                if info.channels > 1:
                    kind = f"recordings of {info.channels} channels"
                    taken = "their mean" if channel in (None, "mean") else f"channel {channel}"
                    say_once(kind, f"{kind} are reduced to {taken}, first {paths[i]}")
                note(i, recording)
                indices.append(i)
                waveforms.append(waveform)
            # Drop all references, so that a batch is freed as soon as the caller drops it.
            del current
            future = waveform = None
            if indices:
                yield indices, waveforms
            del indices, waveforms
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read(
    path: os.PathLike | str, sample_rate: int, channel: int | str | None
) -> tuple[np.ndarray, Recording]:
    samples, recording = _decode(path)
    info = recording.info
    if isinstance(channel, int) and channel >= info.channels:
        raise UserError(
            f"{path} has {info.channels} channels, counted from 0; there is no channel {channel}"
        )
    if info.channels > 1 and not isinstance(channel, int):
        waveform = samples.mean(axis=1)
    else:
        waveform = np.ascontiguousarray(samples[:, channel if isinstance(channel, int) else 0])
    if info.sample_rate != sample_rate:
        waveform = resample(waveform, info.sample_rate, sample_rate)
    return waveform, recording


def _decode(path: os.PathLike | str) -> tuple[np.ndarray, Recording]:
    """Samples (samples, channels) of a file and its facts, all of one opening of the file."""
    soundfile = _library("soundfile")

    def refuse(problem: str) -> NoReturn:
        raise UserError(f"{path}: {problem}; restore the file or remove it")

    try:
        with _opened(path) as file:
            status, info = Status.of(file.fileno()), _header(file)
            if info.problem:
                refuse(info.problem)
            digest = digest_of(file)
            file.seek(0)
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                samples = _all_samples(sound)
    except OSError as error:
        refuse(_os_problem(error))
    except soundfile.LibsndfileError as error:
        refuse(f"unreadable: {error}")
    if len(samples) < info.n_samples:
        refuse(f"truncated: {len(samples)} of the {info.n_samples} samples announced are there")
    level = Level.of(samples)
    if not math.isfinite(level.peak):
        refuse("not finite: a sample is NaN or infinite")
    if level.peak > LARGEST_PEAK:
        raise UserError(
            f"{path}: not full scale: samples reach {level.peak:.6g} where full scale is 1; write "
            "it as integers, or divide it by its full scale"
        )
    return samples, Recording(info, status, digest, level)


def _all_samples(sound: Any) -> np.ndarray:
    """Samples (samples, channels) of an open `soundfile.SoundFile`.

    They are read block by block: a header may announce more than there is, and than memory holds.
    """
    blocks = [sound.read(_BLOCK, dtype="float32", always_2d=True)]
    while len(blocks[-1]):
        blocks.append(sound.read(_BLOCK, dtype="float32", always_2d=True))
    return blocks[0] if len(blocks) == 2 else np.concatenate(blocks)


def resample(waveform: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resamples as `librosa.resample` does by default, without its import of some seconds.

    Args:
        waveform: (samples,).
        rate: sample rate of the waveform, in Hz.
        new_rate: sample rate to return, in Hz.

    Returns:
        (samples,).
    """
    resampled = _library("soxr").resample(waveform, rate, new_rate, quality="HQ")
    n_samples = -(-len(waveform) * new_rate // rate)
    return np.pad(resampled, (0, max(0, n_samples - len(resampled))))[:n_samples]


def _check_request(sample_rate: int, channel: int | str | None) -> None:
    if sample_rate < 1:
        raise UserError(f"sample_rate {sample_rate} Hz must be positive")
    is_index = isinstance(channel, int) and channel >= 0
    if not is_index and channel not in (None, "mean"):
        raise UserError(f'channel {channel!r} is neither a number from 0 nor "mean"')


def _library(name: str) -> Any:
    """Imports an audio library on demand: only reading needs it."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise UserError(
            f"reading recordings needs the Python package {name}: {error}", exit_status=1
        ) from error
