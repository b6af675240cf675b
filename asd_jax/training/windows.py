"""Which frames lie on the device when: all of them, or windows of clips that stream by.

Where the frames of a fleet's clips fit into the memory that `TrainConfig.table_mib` leaves them,
they make one window, which stays. Where they do not, an epoch is a sequence of windows: runs of
neighbouring clips are dealt out among the windows anew in each epoch, evenly from each machine,
and views are shuffled within their window. What is dealt depends on the epoch's number alone, so
a training that goes on after an interruption sees what it would have seen; and one window is the
whole table, so that the two ways are one.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol, TypeVar

import numpy as np

from asd_jax.errors import UserError
from asd_jax.runtime import distributed
from asd_jax.training.members import Examples, FleetClips, whole_batches
from asd_jax.training.task import TrainingStatistics

# Neighbouring clips that stay together, so that a chunk of the cache is read about once; fewer
# where a window would have less than `_RUNS` such runs of a machine.
_RUN_CLIPS, _RUNS = 16, 8
_READ_TOGETHER = 256  # clips
_MOST_ROWS = 2**31 - 1  # views start at rows counted in int32

T = TypeVar("T")


class Source(Protocol):
    """Features of a table of clips."""

    n_frames: np.ndarray

    def read_clips(self, indices: Sequence[int]) -> list[np.ndarray]:
        """(frames, mels) of each clip."""


class Window(NamedTuple):
    """A part of an epoch.

    Attributes:
        training: whether its views are trained on; else they are of validation clips.
        clips: (n,) ascending indices of its clips.
        index: its place among the training, or validation, windows of the epoch.
    """

    training: bool
    clips: np.ndarray
    index: int


class Schedule(NamedTuple):
    """The windows of every epoch.

    Attributes:
        n_training: training windows an epoch.
        n_validation: validation windows an epoch; 0 without validation clips, and where all
            frames are in one window, which then is that of the validation clips too.
        rows: rows of frames that hold any window.
        training_width: views to which the members' training views of a window are padded.
        validation_width: likewise.
        training_groups: clips of which each window has an equal share.
        validation_groups: likewise.
    """

    n_training: int
    n_validation: int
    rows: int
    training_width: int
    validation_width: int
    training_groups: tuple[np.ndarray, ...]
    validation_groups: tuple[np.ndarray, ...]

    @property
    def resident(self) -> bool:
        """Whether all frames lie on the device, all the time."""
        return not self.n_validation and self.n_training == 1

    def windows(self, epoch: int) -> Iterator[Window]:
        """The windows of an epoch, in order; those of training differ from epoch to epoch."""
        if self.resident:
            clips = np.concatenate([*self.training_groups, *self.validation_groups])
            yield Window(True, np.unique(clips), 0)
            return
        rng = np.random.default_rng([epoch, 0x57494E])
        for index, clips in enumerate(_deal(self.training_groups, self.n_training, rng)):
            yield Window(True, clips, index)
        for index, clips in enumerate(_deal(self.validation_groups, self.n_validation, None)):
            yield Window(False, clips, index)


def schedule(fleet: FleetClips, n_mels: int, table_bytes: int) -> Schedule:
    """Lays out the windows of a fleet's epochs.

    Args:
        fleet: the fleet's clips.
        n_mels: bands of a frame.
        table_bytes: of frames that may be on a device at once.

    Raises:
        UserError: that is not enough for one clip of each machine.
    """
    training, validation = (_groups(parts) for parts in (fleet.training, fleet.validation))
    used = np.unique(np.concatenate([*training, *validation]))
    total = int(fleet.n_frames[used].sum(dtype=np.int64))
    rows_allowed = min(table_bytes // (4 * n_mels), _MOST_ROWS)
    if total <= rows_allowed:
        widths = (_width(fleet, parts) for parts in (fleet.training, fleet.validation))
        return Schedule(1, 0, total, *widths, training, validation)
    # One window is trained on while the next one is read.
    found = [
        _fewest(fleet, parts, groups, rows_allowed // 2)
        for parts, groups in ((fleet.training, training), (fleet.validation, validation))
    ]
    for count, rows, _ in found:
        if count is None:
            raise UserError(
                f"train.table_mib leaves {table_bytes / 2**20:.3g} MiB for frames; one clip of "
                f"each machine at a time needs {2 * rows * 4 * n_mels / 2**20:.3g}"
            )
    counts, rows, widths = zip(*found, strict=True)
    return Schedule(*counts, max(rows), *widths, training, validation)


def _groups(parts: Sequence[Examples]) -> tuple[np.ndarray, ...]:
    """All clips of the members, each with the first member that has it: ascending indices."""
    seen, groups = np.zeros(0, np.int64), []
    for clips, _ in parts:
        own = np.setdiff1d(clips, seen)
        if len(own):
            groups.append(own)
            seen = np.union1d(seen, own)
    return tuple(groups)


def _runs(group: np.ndarray, count: int) -> list[np.ndarray]:
    """A group cut into runs of neighbours, as many as `count` windows can share fairly."""
    length = min(max(len(group) // (_RUNS * count), 1), _RUN_CLIPS)
    return np.split(group, range(length, len(group), length))


def _deal(groups, count: int, rng: np.random.Generator | None) -> Iterator[np.ndarray]:
    """Shares each group's runs out among so many windows: ascending indices of each."""
    if not count:
        return
    dealt: list[list[np.ndarray]] = [[] for _ in range(count)]
    for group in groups:
        runs = _runs(group, count)
        order = np.arange(len(runs)) if rng is None else rng.permutation(len(runs))
        for place, run in enumerate(order):
            dealt[place % count].append(runs[run])
    for runs in dealt:
        yield np.sort(np.concatenate([np.zeros(0, np.int64), *runs]))


def _width(fleet: FleetClips, parts: Sequence[Examples]) -> int:
    n_views = fleet.n_views()
    most = max((int(n_views[clips].sum()) for clips, _ in parts), default=0)
    return whole_batches(most, fleet.batch_size)


def _fewest(fleet, parts, groups, rows_allowed) -> tuple[int | None, int, int]:
    """The fewest windows of which none can have more rows, the rows and the views of the largest.

    The number is None, and the rows are those of one clip of each group, where none is enough.
    """
    if not groups:
        return 0, 0, whole_batches(0, fleet.batch_size)
    total = sum(int(fleet.n_frames[group].sum(dtype=np.int64)) for group in groups)
    most, rows = max(map(len, groups)), 0
    count = max(1, min(-(-total // max(rows_allowed, 1)), most))
    while True:
        # A window has at most so many runs of a group, and they may be its longest.
        rows = sum(_largest(fleet.n_frames, group, count) for group in groups)
        if rows <= rows_allowed:
            break
        if count == most:
            return None, rows, 0
        count = min(count + max(1, count // 16), most)
    n_views = fleet.n_views()
    width = 0
    for clips, _ in parts:
        times = np.bincount(clips, minlength=len(n_views))  # a clip may be there twice
        width = max(width, sum(_largest(n_views * times, group, count) for group in groups))
    return count, rows, whole_batches(width, fleet.batch_size)


def _largest(values: np.ndarray, group: np.ndarray, count: int) -> int:
    """The most that a window's share of a group can have of a quantity of its clips."""
    of_runs = np.sort([int(values[run].sum(dtype=np.int64)) for run in _runs(group, count)])[::-1]
    return int(of_runs[: -(-len(of_runs) // count)].sum())


def first_rows(window: Window, n_frames: np.ndarray) -> np.ndarray:
    """(clips,) first row of every clip in a window's table; −1 of those that are not there."""
    found = np.full(len(n_frames), -1, np.int64)
    lengths = n_frames[window.clips].astype(np.int64)
    found[window.clips] = np.cumsum(lengths) - lengths
    return found


def read_rows(source: Source, window: Window, start: int, stop: int, n_mels: int) -> np.ndarray:
    """Rows of a window's table; zeros past its last frame.

    Args:
        source: the features.
        window: which clips they are of.
        start: first row.
        stop: the row behind the last.
        n_mels: bands of a frame.

    Returns:
        (stop - start, n_mels) float32.
    """
    table = np.zeros((stop - start, n_mels), np.float32)
    lengths = source.n_frames[window.clips].astype(np.int64)
    ends = np.cumsum(lengths)
    wanted = np.flatnonzero((ends > start) & (ends - lengths < stop))
    for first in range(0, len(wanted), _READ_TOGETHER):
        part = wanted[first : first + _READ_TOGETHER]
        for place, frames in zip(part, source.read_clips(window.clips[part]), strict=True):
            begin = int(ends[place] - lengths[place]) - start
            low, high = max(begin, 0), min(begin + len(frames), len(table))
            table[low:high] = frames[low - begin : high - begin]
    return table


def training_statistics(source: Source, fleet: FleetClips) -> TrainingStatistics:
    """Mean, deviation, minimum and maximum of each member's training frames.

    Each (members, mels) float32; sums in float64. Clips are read once, whatever the number of
    members, by several processes each its share.
    """
    pairs = np.concatenate(
        [np.stack([clips, np.full(len(clips), m)]) for m, (clips, _) in enumerate(fleet.training)],
        axis=1,
    )
    pairs, times = np.unique(pairs, axis=1, return_counts=True)  # by clip, then by member
    used, first = np.unique(pairs[0], return_index=True)
    bounds = np.append(first, pairs.shape[1])
    share = distributed.share_of(len(used))
    n_mels = source.read_clips(used[:1])[0].shape[1]
    n_members = len(fleet.members)
    sums, squares = np.zeros((2, n_members, n_mels))
    low = np.full((n_members, n_mels), np.inf)
    high = -low
    for begin in range(share.start, share.stop, _READ_TOGETHER):
        part = range(begin, min(begin + _READ_TOGETHER, share.stop))
        for i, frames in zip(part, source.read_clips(used[part]), strict=True):
            frames = frames.astype(np.float64)
            of_members = pairs[1, bounds[i] : bounds[i + 1]]
            weights = times[bounds[i] : bounds[i + 1], None]
            sums[of_members] += weights * frames.sum(0)
            squares[of_members] += weights * (frames**2).sum(0)
            low[of_members] = np.minimum(low[of_members], frames.min(0))
            high[of_members] = np.maximum(high[of_members], frames.max(0))
    sums, squares, low, high = (
        combine(np.stack(distributed.gather(values)), axis=0)
        for combine, values in ((np.sum, sums), (np.sum, squares), (np.min, low), (np.max, high))
    )
    n_frames = fleet.n_frames.astype(np.int64)
    count = np.array([n_frames[clips].sum() for clips, _ in fleet.training])[:, None]
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    n_labels = [
        max(int(part.labels.max(initial=0)) for part in parts) + 1
        for parts in zip(fleet.training, fleet.validation, strict=True)
    ]
    found = (values.astype(np.float32) for values in (mean, std, low, high))
    return TrainingStatistics(*found, np.array(n_labels, np.int32))


def one_ahead(makers: Iterator[Callable[[], T]]) -> Iterator[T]:
    """What the makers make, in order; the next one is made while one is in use."""
    with ThreadPoolExecutor(1) as pool:
        ahead = None
        for maker in makers:
            made, ahead = ahead, pool.submit(maker)
            if made is not None:
                yield made.result()
        if ahead is not None:
            yield ahead.result()
