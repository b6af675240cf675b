"""Contents and problems of a data folder."""

import dataclasses
import itertools
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np

from asd_jax.data import audio_files, layouts
from asd_jax.data.audio_files import AudioInfo
from asd_jax.data.clips import ANOMALY, NORMAL, OWN, UNLABELLED, Clip, ClipTable
from asd_jax.data.levels import Level, odd_levels
from asd_jax.runtime.text_tables import aligned

_Facts = TypeVar("_Facts")
_EXAMPLES = 3
_KEY = ("year", "subset", "machine", "section", "domain")  # of a row of the summary
_TOGETHER = 1024  # files whose headers are requested at a time


@dataclasses.dataclass(frozen=True)
class Row:
    """The clips of one machine, section and domain.

    Attributes:
        key: year (0 for MIMII, −1 for one's own), subset, machine, section, domain.
        train: training clips.
        normal: test clips known to be normal.
        anomaly: test clips known to be anomalous.
        unlabelled: test clips whose label is hidden.
        seconds: total length.
    """

    key: tuple[int, str, str, str, str]
    train: int
    normal: int
    anomaly: int
    unlabelled: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Problem:
    """One kind of problem, the files or sections that have it, and a remedy."""

    what: str
    where: tuple[str, ...]
    hint: str = ""


@dataclasses.dataclass(frozen=True)
class Summary:
    """A data folder in numbers.

    Attributes:
        rows: one a machine, section and domain.
        formats: number of clips by (sample rate in Hz, channels).
        lengths: shortest and longest clip of each machine, in seconds.
        supplemental: number of supplemental clips, which are unused.
        problems: kinds of problems; empty if there are none.
        usable: number of clips that can be read.
        others: paths of files among the clips that are no recordings.
        skipped: paths of folders that were not walked: hidden ones, bins and snapshots.
    """

    rows: tuple[Row, ...]
    formats: dict[tuple[int, int], int]
    lengths: dict[str, tuple[float, float]]
    supplemental: int
    problems: tuple[Problem, ...]
    usable: int
    others: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


def index(
    data_dir: layouts.DataSource,
    year: int | None = None,
    threads: int = 8,
    progress: Callable[[int, int], None] | None = None,
    *,
    headers_only: bool = False,
) -> Summary:
    """Summarises contents and problems of a data folder.

    Args:
        data_dir: as for `layouts.find_clips`.
        year: as for `layouts.find_clips`.
        threads: files read at once.
        progress: called with (files read, files in all).
        headers_only: whether to leave the samples, and so what is wrong with them, unread.

    Returns:
        The summary.

    Raises:
        UserError: no such folder, or no wav file in it.
    """
    scan = layouts.scan(data_dir, year)
    paths, total = (clip.path for clip in scan.clips), len(scan.clips)
    levels = None
    if headers_only:
        infos = read_headers(paths, threads, progress, total=total)
    else:
        infos, levels = read_levels(paths, threads, progress, total=total)
    summary = summarise(scan.clips, infos, scan.strays, len(scan.supplemental), levels)
    return dataclasses.replace(summary, others=scan.others, skipped=scan.skipped)


def read_headers(
    paths: Iterable[os.PathLike | str],
    threads: int = 8,
    progress: Callable[[int, int], None] | None = None,
    *,
    total: int | None = None,
) -> list[AudioInfo]:
    """Reads the header of every file.

    Args:
        paths: the files.
        threads: files read at once.
        progress: called with (files read, files in all).
        total: number of files, where `paths` has no length.

    Returns:
        One `AudioInfo` a path, in their order; equal ones are one object.
    """
    known: dict[AudioInfo, AudioInfo] = {}
    infos = _read_all(audio_files.inspect, paths, threads, progress, total)
    return [known.setdefault(info, info) for info in infos]


def read_levels(
    paths: Iterable[os.PathLike | str],
    threads: int = 8,
    progress: Callable[[int, int], None] | None = None,
    *,
    total: int | None = None,
) -> tuple[list[AudioInfo], np.ndarray]:
    """Reads every file whole; arguments as in `read_headers`.

    Returns:
        One `AudioInfo` a path, and float32 (paths, 4) fields of each one's `Level`.
    """
    known: dict[AudioInfo, AudioInfo] = {}
    infos, levels = [], array("f")
    for recording in _read_all(audio_files.read_recording, paths, threads, progress, total):
        infos.append(known.setdefault(recording.info, recording.info))
        levels.extend(recording.level)
    return infos, np.asarray(levels, np.float32).reshape(-1, len(Level._fields))


def _read_all(
    read: Callable[[os.PathLike | str], _Facts],
    paths: Iterable[os.PathLike | str],
    threads: int,
    progress: Callable[[int, int], None] | None,
    total: int | None,
) -> Iterator[_Facts]:
    """What is read of each file, in their order."""
    if total is None:
        paths = [*paths]
        total = len(paths)
    done = 0
    with ThreadPoolExecutor(threads) as pool:
        # A pool queues its whole input at once, so it gets some files at a time.
        paths = iter(paths)
        while part := list(itertools.islice(paths, _TOGETHER)):
            for facts in pool.map(read, part):
                yield facts
                done += 1
                if progress:
                    progress(done, total)


def summarise(
    clips: Sequence[Clip],
    infos: Sequence[AudioInfo],
    strays: Sequence[str] = (),
    supplemental: int = 0,
    levels: np.ndarray | None = None,
) -> Summary:
    """Counts the clips and collects problems.

    Args:
        clips: the clips.
        infos: the header of each clip.
        strays: wav files that fit no layout.
        supplemental: number of supplemental clips.
        levels: (clips, 4) fields of each clip's `Level`; None where they are not known.

    Returns:
        The summary.
    """
    if len(clips) != len(infos):
        raise ValueError(f"{len(clips)} clips, but {len(infos)} headers")
    clips = ClipTable.of(clips)
    sound = np.array([info.problem is None for info in infos], bool)
    samples = np.array([info.n_samples for info in infos], np.int64)
    rates = np.array([info.sample_rate for info in infos], np.int64)
    seconds = np.divide(samples, rates, out=np.zeros(len(infos)), where=sound)
    lengths = {
        machine: (float(seconds[rows].min()), float(seconds[rows].max()))
        for (machine,), rows in sorted(clips.groups("machine", rows=sound).items())
    }
    formats = Counter((i.sample_rate, i.channels) for i in infos if i.problem is None)
    return Summary(
        rows=tuple(
            _row(key, clips[rows], seconds[rows])
            for key, rows in sorted(clips.groups(*_KEY).items())
        ),
        formats=dict(formats.most_common()),
        lengths=lengths,
        supplemental=supplemental,
        problems=(
            *_broken_files(clips, infos),
            *_odd_ones(clips, infos, sound, seconds),
            *(() if levels is None else _odd_levels(clips, sound, levels)),
            *_clashes(clips),
            *_problems({"fits no layout": strays}, hint=layouts.EXPECTED),
            *_gaps(clips),
        ),
        usable=int(sound.sum()),
    )


def format_summary(summary: Summary, root: str = "", width: int | None = None) -> str:
    """Formats a summary for a terminal.

    Args:
        summary: the summary.
        root: folder that paths are shown relative to; "" shows them as they are.
        width: as in `aligned`.
    """
    lines = [*_table(summary.rows, width), ""] if summary.rows else []
    for (rate, channels), count in summary.formats.items():
        lines.append(f"{count} clips of {rate} Hz, {channels} channel{'s' * (channels > 1)}")
    for machine, (shortest, longest) in summary.lengths.items():
        span = f"{shortest:.2f} s"
        if f"{longest:.2f} s" != span:
            span = f"{shortest:.2f} to {longest:.2f} s"
        lines.append(f"{machine}: {span} a clip")
    if summary.supplemental:
        lines.append(
            f"{summary.supplemental} supplemental clips, which detector.noise or "
            "detector.supplemental makes use of"
        )
    for paths, what in (
        (summary.others, "files among the clips that are no recordings and are not used"),
        (summary.skipped, "hidden folders, bins and snapshots that are not searched"),
    ):
        if paths:
            lines.append(f"{len(paths)} {what}: {_some(paths, root)}")
    if lines and lines[-1]:
        lines.append("")
    if not summary.problems:
        return "\n".join([*lines, "Nothing is wrong."])
    lines.append("What is wrong:")
    for problem in summary.problems:
        where = _some(problem.where, root)
        lines.append(f"  {len(problem.where)} × {problem.what}: {where}")
        if problem.hint:
            lines.append(f"      {problem.hint}")
    return "\n".join(lines)


def _some(places: Sequence[str], root: str) -> str:
    """The first places, paths relative to the folder `root`, and how many more there are."""
    shown = [
        os.path.relpath(place, root) if root and os.path.isabs(place) else place
        for place in places[:_EXAMPLES]
    ]
    more = len(places) - len(shown)
    return ", ".join(shown) + (f", and {more} more" if more else "")


def _row(key: tuple, clips: ClipTable, seconds: np.ndarray) -> Row:
    def count(**wanted: Any) -> int:
        return int(clips.where(split="test", **wanted).sum())

    return Row(
        key=key,
        train=len(clips) - count(),
        normal=count(label=NORMAL),
        anomaly=count(label=ANOMALY),
        unlabelled=count(label=UNLABELLED),
        seconds=float(seconds.sum()),
    )


def _problems(found: Mapping[str, Sequence[str]], hint: str = "") -> list[Problem]:
    return [Problem(what, tuple(where), hint) for what, where in found.items() if where]


def _broken_files(clips: ClipTable, infos: Sequence[AudioInfo]) -> list[Problem]:
    places = defaultdict(list)
    for row, info in enumerate(infos):
        if info.problem:
            places[info.problem.partition(":")[0]].append(clips.path(row))
    return _problems(places)


def _odd_ones(
    clips: ClipTable, infos: Sequence[AudioInfo], sound: np.ndarray, seconds: np.ndarray
) -> list[Problem]:
    """Clips that differ from most: in rate and channels from all, in length from their machine."""
    places = defaultdict(list)
    for of, unit in (("sample_rate", "Hz"), ("channels", "channels")):
        sound_rows = np.flatnonzero(sound).tolist()
        values = [getattr(infos[row], of) for row in sound_rows]
        usual = _most_common(values)
        for row, value in zip(sound_rows, values, strict=True):
            if value != usual:
                places[f"{value} {unit} where most have {usual}"].append(clips.path(row))
    for (machine,), rows in clips.groups("machine", rows=sound).items():
        lengths = [round(length, 3) for length in seconds[rows].tolist()]
        usual = _most_common(lengths)
        what = f"other length than most of {machine} ({usual:.2f} s)"
        for row, length in zip(rows.tolist(), lengths, strict=True):
            if length != usual:
                places[what].append(clips.path(row))
    return _problems(places)


def _odd_levels(clips: ClipTable, sound: np.ndarray, levels: np.ndarray) -> list[Problem]:
    """Clips that no working microphone records."""
    rows = np.flatnonzero(sound)
    return _problems(
        {
            kind: [clips.path(rows[row]) for row in odd]
            for kind, odd in odd_levels(clips[rows], levels[rows]).items()
        }
    )


def _most_common(values: Sequence[Any]) -> Any:
    """The most frequent value, the first of equals; None without values."""
    counts = Counter(values)
    return max(counts, key=counts.__getitem__, default=None)


def _clashes(clips: ClipTable) -> list[Problem]:
    paths = [second.path for _, second in layouts.duplicates(clips)]
    return _problems({"same machine, section and name as another clip": paths})


def _gaps(clips: ClipTable) -> list[Problem]:
    """Sections that cannot be trained on, tested on or evaluated."""
    places = defaultdict(list)
    for (year, subset, machine, section), rows in sorted(clips.groups(*_KEY[:-1]).items()):
        where = " ".join(filter(None, [dataset_name(year), subset, machine, section]))
        members = clips[rows]
        train = members[members.where(split="train")]
        labels = set(members[members.where(split="test")].distinct("label"))
        if not train:
            places["no training clips"].append(where)
        if train.where(label=ANOMALY).any():
            places["anomalous clips in the training folder"].append(where)
        if not labels:
            places["no test clips"].append(where)
        if labels == {NORMAL}:
            places["test clips are all normal, so there is no AUC"].append(where)
        if labels == {ANOMALY}:
            places["test clips are all anomalous, so there is no AUC"].append(where)
    return _problems(places)


def dataset_name(year: int) -> str:
    """The year as tables show it, or the data set's name."""
    return {0: "MIMII", OWN: "own"}.get(year, str(year))


def _table(rows: Sequence[Row], width: int | None) -> list[str]:
    head = ("year", "set", "machine", "section", "domain")
    counts = ("train", "normal", "anomaly", "unlabelled", "hours")
    body = [
        (dataset_name(row.key[0]), *row.key[1:4], row.key[4] or "-")
        + tuple(str(n) for n in (row.train, row.normal, row.anomaly, row.unlabelled))
        + (f"{row.seconds / 3600:.2f}",)
        for row in rows
    ]
    totals = [sum(getattr(row, name) for row in rows) for name in counts[:-1]]
    hours = sum(row.seconds for row in rows) / 3600
    total = ("total", *[""] * (len(head) - 1), *map(str, totals), f"{hours:.2f}")
    cells = [head + counts, *body, total]
    right = range(len(head), len(head + counts))
    return aligned(cells, headings=0, width=width, keys=len(head), right=right)
