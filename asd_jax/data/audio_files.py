"""Reading a recording: any rate, any number of channels, any length."""

import contextlib
import dataclasses
import importlib
import math
import os
import stat
from collections.abc import Callable, Generator, Iterator
from io import FileIO
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.announced import UNKNOWN, impossible
from asd_jax.data.canceller import cancelled, cancelled_blocks
from asd_jax.data.channels import channel_problem, taken
from asd_jax.data.containers import wrong_header
from asd_jax.data.identity import Status, digest_of, read_digest
from asd_jax.data.levels import LARGEST_PEAK, Level, LevelMeter
from asd_jax.data.mpeg import mpeg_length
from asd_jax.errors import UserError

_BLOCK = 2**18  # samples of each channel that are decoded together
_VALUES = 2**21  # of all channels together
_OF_INT16 = np.float32(2.0**-15)  # to full scale


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


def inspect(path: os.PathLike | str, longest: float = math.inf) -> AudioInfo:
    """Reads a recording's header, without its samples.

    Args:
        path: a wav file, or any other file that libsndfile knows.
        longest: samples beyond which those of a file that does not announce them are no longer
            counted.

    Returns:
        The header; a file that cannot be used has a `problem`, and raises nothing.
    """
    try:
        with _opened(path) as file:
            return _header(file, longest)
    except OSError as error:
        return AudioInfo(problem=_os_problem(error))


def _header(file: FileIO, longest: float = math.inf) -> AudioInfo:
    """The header of an open file."""
    soundfile = _library("soundfile")
    size = os.fstat(file.fileno()).st_size
    if not size:
        return AudioInfo(problem="empty file")
    if problem := wrong_header(file, size):
        return AudioInfo(problem=problem)  # nor is it for libsndfile, which may not come back
    file.seek(0)
    try:
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            rate, channels, n_samples = sound.samplerate, sound.channels, sound.frames
            problem = impossible(rate, n_samples, size)
            if n_samples == UNKNOWN:
                n_samples = 0 if problem else _counted(sound, longest)
            is_mpeg = sound.format == "MP3"
    except soundfile.LibsndfileError as error:
        return AudioInfo(problem=f"not audio: {error.error_string.rstrip('.')}")
    if is_mpeg and problem is None:
        n_samples, problem = mpeg_length(file, size, n_samples)
    if problem is None and n_samples == 0:
        problem = "no samples"
    return AudioInfo(rate, channels, n_samples, problem)


def _counted(sound: Any, longest: float) -> int:
    """Samples of an open recording; where there are more than `longest`, more than that."""
    n_samples = 0
    for block in _decoded(sound, _BLOCK):
        n_samples += len(block)
        if n_samples > longest:
            break
    return n_samples


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
        channel: the channel to take, from 0; None or "mean" for the mean of all; "canceller" for
            the first of two without what the second explains of it, see `data.canceller`.

    Returns:
        Waveform, float32 (samples,), full scale at 1, at the file's full length.

    Raises:
        UserError: the file is missing, unreadable, empty, truncated or not audio, lacks the
            channel, or holds a sample that is not finite.
    """
    check_request(sample_rate, channel)
    waveform, _ = decode(path, sample_rate, channel)
    assert waveform is not None  # of any length
    return waveform


def read_recording(path: os.PathLike | str) -> Recording:
    """Reads a recording for its facts alone; one that cannot be used has a `problem`."""
    try:
        return decode(path, 1, longest=0)[1]
    except UserError as error:
        info, status = inspect(path), Status.of(path)
        if info.problem is None:
            problem = str(error).removeprefix(f"{path}: ")
            info = dataclasses.replace(info, problem=problem)
        return Recording(info, status, read_digest(path), Level())


def decode(
    path: os.PathLike | str,
    sample_rate: int,
    channel: int | str | None = None,
    longest: float = math.inf,
) -> tuple[np.ndarray | None, Recording]:
    """Reads a recording and its facts, all of one opening of the file.

    It is decoded block by block: a header may announce more than there is, and than memory holds.

    Args:
        path: as of `read`.
        sample_rate: as of `read`.
        channel: as of `read`.
        longest: samples of the waveform beyond which none are kept.

    Returns:
        Waveform (samples,), None of a recording that is too long to be kept; and its facts.

    Raises:
        UserError: as `read`.
    """
    kept: list[np.ndarray] | None = []
    meter = LevelMeter()
    with _sound(path, sample_rate) as (file, sound, info):
        if problem := channel_problem(info, channel):
            what, remedy = problem
            raise UserError(
                f"{path}: {what}; leave the recording out, or {remedy} where the system is fitted"
            )
        status, digest = Status.of(file.fileno()), digest_of(file)
        file.seek(0)
        with np.errstate(invalid="ignore", over="ignore"):  # said below, by the peak
            for block in sound():
                meter.add(block)
                if meter.n_samples * sample_rate > longest * info.sample_rate:
                    kept = None
                if kept is not None:
                    kept.append(taken(block, channel))
    if meter.n_samples < info.n_samples:
        raise unusable(
            path,
            f"truncated: {meter.n_samples} of the {info.n_samples} samples announced are there",
        )
    if meter.n_samples > info.n_samples:  # as where MPEG audio goes on behind something else
        raise unusable(
            path, f"damaged: {meter.n_samples} samples where {info.n_samples} are announced"
        )
    level = meter.level()
    if not math.isfinite(level.peak):
        raise unusable(path, "not finite: a sample is NaN or infinite")
    if level.peak > LARGEST_PEAK:
        raise UserError(
            f"{path}: not full scale: samples reach {level.peak:.6g} where full scale is 1; write "
            "it as integers, or divide it by its full scale"
        )
    recording = Recording(info, status, digest, level)
    if kept is None:
        return None, recording
    waveform = kept[0] if len(kept) == 1 else np.concatenate(kept)
    if info.sample_rate != sample_rate:
        waveform = resample(waveform, info.sample_rate, sample_rate)
    return cancelled(waveform) if channel == "canceller" else waveform, recording


def read_blocks(
    path: os.PathLike | str, sample_rate: int, channel: int | str | None, recording: Recording
) -> Iterator[np.ndarray]:
    """Reads a recording that `decode` has read before, in blocks that memory holds.

    Args:
        path: as of `read`.
        sample_rate: as of `read`.
        channel: as of `read`.
        recording: its facts, from `decode`.

    Yields:
        (samples,) float32, one after another: the waveform as `read` returns it.

    Raises:
        UserError: the file has changed since.
    """
    n_samples = -(-recording.info.n_samples * sample_rate // recording.info.sample_rate)

    def blocks() -> Iterator[np.ndarray]:
        return _resampled(path, sample_rate, channel, recording, n_samples)

    yield from cancelled_blocks(blocks, n_samples) if channel == "canceller" else blocks()


def blocks_of(path: os.PathLike | str) -> Generator[Any, None, None]:
    """Reads a recording as it is, in blocks that memory holds.

    Args:
        path: as of `read`.

    Yields:
        `AudioInfo`, and then float32 (samples, channels), one after another, full scale at 1.

    Raises:
        UserError: the file cannot be used, or has fewer samples than its header announces.
    """
    with _sound(path, 1) as (_, sound, info):
        yield info
        n_samples = 0
        for block in sound():
            n_samples += len(block)
            yield block
    if n_samples < info.n_samples:
        raise unusable(
            path, f"truncated: {n_samples} of the {info.n_samples} samples announced are there"
        )


def _resampled(
    path: os.PathLike | str,
    sample_rate: int,
    channel: int | str | None,
    recording: Recording,
    n_samples: int,
) -> Iterator[np.ndarray]:
    """Blocks (samples,), or (samples, 2) for the canceller, at the rate asked for."""
    rate, stream = recording.info.sample_rate, None
    if rate != sample_rate:
        soxr = _library("soxr")
        channels = 2 if channel == "canceller" else 1
        stream = soxr.ResampleStream(rate, sample_rate, channels, dtype="float32", quality="HQ")
    with _sound(path, sample_rate) as (file, sound, _):
        if Status.of(file.fileno()) != recording.status:
            raise UserError(
                f"{path} changed while it was read; run the same command again", exit_status=1
            )
        for block in sound():
            waveform = taken(block, channel)
            if stream is not None:
                waveform = stream.resample_chunk(waveform)
            n_samples -= len(waveform)
            yield waveform
    if stream is not None:
        waveform = stream.resample_chunk(waveform[:0], last=True)
        yield _to_length(waveform, n_samples)


@contextlib.contextmanager
def _sound(
    path: os.PathLike | str, sample_rate: int
) -> Iterator[tuple[FileIO, Callable[[], Iterator[np.ndarray]], AudioInfo]]:
    """An open file, its blocks (samples, channels) on demand, and its header, which is usable.

    Blocks are of `_BLOCK` samples, also after they are resampled to a higher rate.
    """
    soundfile = _library("soundfile")

    def blocks() -> Iterator[np.ndarray]:
        file.seek(0)
        size = _BLOCK * info.sample_rate // max(info.sample_rate, sample_rate)
        with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
            yield from _decoded(sound, min(size, info.n_samples))

    try:
        with _opened(path) as file:
            info = _header(file)
            if info.problem:
                raise unusable(path, info.problem)
            yield file, blocks, info
    except OSError as error:
        raise unusable(path, _os_problem(error)) from error
    except soundfile.LibsndfileError as error:
        raise unusable(path, f"unreadable: {error}") from error


def _decoded(sound: Any, size: int) -> Iterator[np.ndarray]:
    """Blocks (samples, channels) of an open recording, of so many samples or fewer."""
    size = max(1, min(size, _VALUES // sound.channels))
    # NumPy scales integers faster than libsndfile does, to the same values.
    dtype = "int16" if sound.subtype == "PCM_16" else "float32"
    # soundfile would seek to where each block ended: MP3 is damaged by it, FLAC of an unknown
    # length fails.
    sound.seekable = lambda: False
    # Empty at the end; the first of a file without samples, too.
    while len(block := sound.read(size, dtype=dtype, always_2d=True)):
        yield block if dtype == "float32" else np.multiply(block, _OF_INT16)


def unusable(path: os.PathLike | str, problem: str) -> UserError:
    """The line for a recording that cannot be used, by its `AudioInfo.problem`."""
    # Some problems say themselves what to do.
    remedy = "" if "; " in problem else "; restore the file or remove it"
    return UserError(f"{path}: {problem}{remedy}")


def resample(waveform: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resamples as `librosa.resample` does by default, without its import of some seconds.

    Args:
        waveform: (samples,) or (samples, channels).
        rate: sample rate of the waveform, in Hz.
        new_rate: sample rate to return, in Hz.

    Returns:
        (samples,) or (samples, channels).
    """
    resampled = _library("soxr").resample(waveform, rate, new_rate, quality="HQ")
    return _to_length(resampled, -(-len(waveform) * new_rate // rate))


def _to_length(waveform: np.ndarray, n_samples: int) -> np.ndarray:
    """The first samples, with zeros where there are too few."""
    missing = [(0, max(0, n_samples - len(waveform)))] + [(0, 0)] * (waveform.ndim - 1)
    return np.pad(waveform, missing)[:n_samples]


def check_request(sample_rate: int, channel: int | str | None) -> None:
    """Raises UserError for a sample rate or a channel that no recording has."""
    if sample_rate < 1:
        raise UserError(f"sample_rate {sample_rate} Hz must be positive")
    is_index = isinstance(channel, int) and channel >= 0
    if not is_index and channel not in (None, "mean", "canceller"):
        raise UserError(f'channel {channel!r} is neither a number from 0, "mean" nor "canceller"')


def _library(name: str) -> Any:
    """Imports an audio library on demand: only reading needs it."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError) as error:  # OSError: soundfile without libsndfile
        raise UserError(
            f"reading recordings needs the Python package {name}: {error}", exit_status=1
        ) from error
