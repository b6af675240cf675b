"""Frames on the device: all of them at once, or windows of clips that are streamed.

Where the frames of a fleet's clips fit into `TrainConfig.table_mib`, they are one window, which
stays on the device. Otherwise an epoch is a sequence of windows: in each epoch, runs of
neighbouring clips are dealt out anew among the windows, evenly of those of each model, and views
are shuffled within their window. The dealing depends on the epoch's number alone, so that a resumed
training sees the same windows as an uninterrupted one. As one window is the whole table, the same
code drives both cases.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.errors import UserError
from asd_jax.features.table import Features
from asd_jax.runtime import distributed
from asd_jax.runtime.compilation import round_up
from asd_jax.training.models import Examples, FleetClips, whole_batches
from asd_jax.training.task import TrainingStatistics

# Neighbouring clips that stay together, so that each chunk of the cache is read about once. Runs
# are shorter if a window would otherwise have fewer than `_RUNS` of them from a machine.
_RUN_CLIPS, _RUNS = 16, 8
_READ_TOGETHER = 256  # clips
# What a small fleet's table and lists of views are padded to, see `round_up`.
_FEWEST_ROWS, _FEWEST_BATCHES = 4096, 8
_MOST_ROWS = 2**31 - 1  # views start at rows counted in int32


class Window(NamedTuple):
    """A part of an epoch.

    Attributes:
        training: true for training clips, false for validation clips.
        clips: (n,) ascending indices of its clips.
        index: number among the training, or validation, windows of the epoch.
    """

    training: bool
    clips: np.ndarray
    index: int  # type: ignore[assignment]  # hides the method of tuples


class Schedule(NamedTuple):
    """The windows of every epoch.

    Attributes:
        n_training: training windows an epoch.
        n_validation: validation windows an epoch; 0 without validation clips, and if one window
            holds all frames, those of validation clips included.
        rows: rows of frames that hold any window; more where one window holds all frames, see
            `round_up`.
        training_width: length to which the models' training views of a window are padded.
        validation_width: likewise for validation views.
        training_groups: groups of clips; each window gets an equal share of each group.
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
        """True if all frames lie on the device, all the time."""
        return not self.n_validation and self.n_training == 1

    def windows(self, epoch: int) -> Iterator[Window]:
        """The windows of an epoch, in order; training windows differ from epoch to epoch."""
        if self.resident:
            clips = np.concatenate([*self.training_groups, *self.validation_groups])
            yield Window(True, np.unique(clips), 0)
            return
        rng = np.random.default_rng([epoch, 0x57494E])
        for index, clips in enumerate(_deal(self.training_groups, self.n_training, rng)):
            yield Window(True, clips, index)
        for index, clips in enumerate(_deal(self.validation_groups, self.n_validation, None)):
            yield Window(False, clips, index)


def schedule(fleet: FleetClips, row_bytes: int, table_bytes: int) -> Schedule:
    """Lays out the windows of a fleet's epochs.

    Args:
        fleet: the fleet's clips.
        row_bytes: bytes of a frame.
        table_bytes: most bytes of frames on a device at once.

    Raises:
        UserError: these are not enough for one clip of each machine.
    """
    training, validation = (_groups(parts) for parts in (fleet.training, fleet.validation))
    used = np.zeros(len(fleet.n_frames), bool)
    for group in (*training, *validation):
        used[group] = True
    total = int(fleet.n_frames[used].sum(dtype=np.int64))
    rows_allowed = min(table_bytes // row_bytes, _MOST_ROWS)
    if total <= rows_allowed:
        widths = _width(fleet, fleet.training), _width(fleet, fleet.validation)
        rows = min(round_up(total, _FEWEST_ROWS), rows_allowed)
        return Schedule(1, 0, rows, *widths, training, validation)
    # Half the memory for a window, as the next one is read while one is trained on.
    counts: list[int] = []
    batches: list[int] = []
    most_rows = 0
    for parts, groups in ((fleet.training, training), (fleet.validation, validation)):
        count, rows, width = _fewest(fleet, parts, groups, rows_allowed // 2)
        if count is None:
            raise UserError(
                f"train.table_mib leaves {table_bytes / 2**20:.3g} MiB for frames; one clip of "
                f"each machine at a time needs {2 * rows * row_bytes / 2**20:.3g}"
            )
        counts.append(count)
        batches.append(width)
        most_rows = max(most_rows, rows)
    return Schedule(
        n_training=counts[0],
        n_validation=counts[1],
        rows=most_rows,
        training_width=batches[0],
        validation_width=batches[1],
        training_groups=training,
        validation_groups=validation,
    )


def _groups(parts: Sequence[Examples]) -> tuple[np.ndarray, ...]:
    """Clips of each model that no earlier model has, as ascending indices; none is empty."""
    n_clips = max((int(clips.max()) + 1 for clips, _ in parts if len(clips)), default=0)
    grouped, groups = np.zeros(n_clips, bool), []
    for clips, _ in parts:
        own = np.unique(clips[~grouped[clips]])
        if len(own):
            groups.append(own)
            grouped[own] = True
    return tuple(groups)


def _run_starts(n_clips: int, count: int) -> np.ndarray:
    """First places of a group's runs of neighbours, enough for equal shares of `count` windows."""
    return np.arange(0, n_clips, min(max(n_clips // (_RUNS * count), 1), _RUN_CLIPS))


def _deal(
    groups: Sequence[np.ndarray], count: int, rng: np.random.Generator | None
) -> Iterator[np.ndarray]:
    """Deals each group's runs out among `count` windows; yields each one's ascending indices."""
    if not count:
        return
    windows = [np.zeros(0, np.int64)]  # of each group's clips
    for group in groups:
        starts = _run_starts(len(group), count)
        places = np.arange(len(starts))
        of_runs = np.empty(len(starts), np.int64)
        of_runs[places if rng is None else rng.permutation(len(starts))] = places % count
        windows.append(np.repeat(of_runs, np.diff(starts, append=len(group))))
    clips, of_clips = (np.concatenate(parts) for parts in ([windows[0], *groups], windows))
    ends = np.cumsum(np.bincount(of_clips, minlength=count))
    n_clips = 1 + int(clips.max(initial=0))
    by_window = np.sort(of_clips * n_clips + clips) % n_clips
    yield from np.split(by_window, ends[:-1])


def _width(fleet: FleetClips, parts: Sequence[Examples]) -> int:
    """Views of the largest model, rounded up to one of few numbers of batches."""
    n_views = fleet.n_views()
    most = max((int(n_views[clips].sum()) for clips, _ in parts), default=0)
    return round_up(-(-most // fleet.batch_size), _FEWEST_BATCHES) * fleet.batch_size


def _fewest(
    fleet: FleetClips,
    parts: Sequence[Examples],
    groups: Sequence[np.ndarray],
    rows_allowed: int,
) -> tuple[int | None, int, int]:
    """Finds the smallest number of windows that never exceed `rows_allowed` rows.

    Returns:
        count: number of windows; None if even one clip of each group at a time is too much.
        rows: the most rows that any deal can give a window.
        width: the most views of a model in any window, rounded up to whole batches.
    """
    if not groups:
        return 0, 0, whole_batches(0, fleet.batch_size)
    # At least so many windows by the total of frames; at most one for each clip of the largest
    # group.
    total = sum(int(fleet.n_frames[group].sum(dtype=np.int64)) for group in groups)
    most, rows = max(map(len, groups)), 0
    count = max(1, min(-(-total // max(rows_allowed, 1)), most))
    # Runs have unequal lengths: add windows, by a sixteenth a step, until the worst deal fits.
    while True:
        rows = sum(_largest(fleet.n_frames[group], count) for group in groups)
        if rows <= rows_allowed:
            break
        if count == most:
            return None, rows, 0
        count = min(count + max(1, count // 16), most)
    # Likewise the views of each model, which may have only some of a group's clips.
    n_views = fleet.n_views()
    group_of = np.zeros(len(n_views), np.int64)  # of each clip
    for number, group in enumerate(groups):
        group_of[group] = number
    width = 0
    for clips, _ in parts:
        views = 0
        own = group_of[clips]
        for number in np.flatnonzero(np.bincount(own)).tolist():
            group = groups[number]
            places = np.searchsorted(group, clips[own == number])
            times = np.bincount(places, minlength=len(group))  # a clip may occur twice
            views += _largest(n_views[group] * times, count)
        width = max(width, views)
    return count, rows, whole_batches(width, fleet.batch_size)


def _largest(values: np.ndarray, count: int) -> int:
    """Largest sum of the `values` (clips,) of a group that a window's share of it can have."""
    starts = _run_starts(len(values), count)
    sums = np.sort(np.add.reduceat(values, starts, dtype=np.int64))[::-1]
    # A window gets the number of runs divided by `count`, rounded up; at worst the largest ones.
    return int(sums[: -(-len(sums) // count)].sum())


def first_rows(window: Window, n_frames: np.ndarray) -> np.ndarray:
    """First rows (clips,) of all clips in a window's table; −1 for clips outside the window."""
    rows = np.full(len(n_frames), -1, np.int64)
    lengths = n_frames[window.clips].astype(np.int64)
    rows[window.clips] = np.cumsum(lengths) - lengths
    return rows


def read_rows(source: Features, window: Window, start: int, stop: int) -> np.ndarray:
    """Reads rows of a window's table; zeros past its last frame.

    Args:
        source: the features.
        window: the window.
        start: first row.
        stop: the row behind the last one.

    Returns:
        (stop - start, width), of the features' dtype.
    """
    table = np.zeros((stop - start, source.width), source.dtype)
    lengths = source.n_frames[window.clips].astype(np.int64)
    ends = np.cumsum(lengths)
    overlapping = np.flatnonzero((ends > start) & (ends - lengths < stop))
    for first in range(0, len(overlapping), _READ_TOGETHER):
        part = overlapping[first : first + _READ_TOGETHER]
        for place, frames in zip(part, source.read_clips(window.clips[part]), strict=True):
            # The clip's first row here, negative for a clip that begins before `start`.
            begin = int(ends[place] - lengths[place]) - start
            low, high = max(begin, 0), min(begin + len(frames), len(table))
            table[low:high] = frames[low - begin : high - begin]
    return table


def training_statistics(source: Features, fleet: FleetClips) -> TrainingStatistics:
    """Mean, deviation, minimum and maximum of each model's training frames.

    Each (models, mels) float32; sums in float64. Clips are read once, whatever the number of
    models; each of several processes reads its share.
    """
    n_labels = [
        max(int(part.labels.max(initial=0)) for part in parts) + 1
        for parts in zip(fleet.training, fleet.validation, strict=True)
    ]
    if fleet.views.crop:  # initial values do not depend on the frames
        zeros: Any = np.zeros((len(fleet.models), source.width), np.float32)
        labels: Any = np.array(n_labels, np.int32)
        return TrainingStatistics(zeros, zeros, zeros, zeros, labels)
    # All pairs of clip and model, and how often the clip occurs in the model's list.
    pairs = np.concatenate(
        [np.stack([clips, np.full(len(clips), m)]) for m, (clips, _) in enumerate(fleet.training)],
        axis=1,
    )
    pairs, times = np.unique(pairs, axis=1, return_counts=True)  # sorted by clip, then by model
    # The pairs of clip i of `used` are bounds[i] to bounds[i + 1].
    used, first = np.unique(pairs[0], return_index=True)
    bounds = np.append(first, pairs.shape[1])
    share = distributed.share_of(len(used))
    n_models = len(fleet.models)
    sums, squares = np.zeros((2, n_models, source.width))
    low = np.full((n_models, source.width), np.inf)
    high = -low
    for begin in range(share.start, share.stop, _READ_TOGETHER):
        part = range(begin, min(begin + _READ_TOGETHER, share.stop))
        for i, frames in zip(part, source.read_clips(used[part]), strict=True):
            frames = frames.astype(np.float64)  # (frames, mels)
            models = pairs[1, bounds[i] : bounds[i + 1]]
            weights = times[bounds[i] : bounds[i + 1], None]
            sums[models] += weights * frames.sum(0)
            squares[models] += weights * (frames**2).sum(0)
            low[models] = np.minimum(low[models], frames.min(0))
            high[models] = np.maximum(high[models], frames.max(0))
    # Each process has read a share: combine them.
    sums, squares, low, high = (
        combine(np.stack(distributed.gather(values)), axis=0)
        for combine, values in ((np.sum, sums), (np.sum, squares), (np.min, low), (np.max, high))
    )
    n_frames = fleet.n_frames.astype(np.int64)
    count = np.array([n_frames[clips].sum() for clips, _ in fleet.training])[:, None]
    mean = sums / count
    std = np.sqrt(np.maximum(squares / count - mean**2, 0))
    arrays: tuple[Any, ...] = (
        *(values.astype(np.float32) for values in (mean, std, low, high)),
        np.array(n_labels, np.int32),
    )
    return TrainingStatistics(*arrays)
