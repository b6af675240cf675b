"""What a data folder holds and what is wrong with it."""

import dataclasses
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from asd_jax.data import audio_files, layouts
from asd_jax.data.audio_files import AudioInfo
from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED, Clip

_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class Row:
    """The clips of one machine, section and domain.

    Attributes:
        key: year (0 for MIMII), subset, machine, section, domain.
        train: training clips.
        normal: test clips known to be normal.
        anomaly: test clips known to be anomalous.
        unlabelled: test clips whose label is hidden.
        seconds: length of all of them.
    """

    key: tuple[int, str, str, str, str]
    train: int
    normal: int
    anomaly: int
    unlabelled: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Problem:
    """One kind of thing that is wrong, each file or section it is wrong with, and a remedy."""

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
        supplemental: number of supplemental clips, which nothing here uses.
        problems: what is wrong; empty if nothing is.
    """

    rows: tuple[Row, ...]
    formats: dict[tuple[int, int], int]
    lengths: dict[str, tuple[float, float]]
    supplemental: int
    problems: tuple[Problem, ...]


def describe(
    data_dir: os.PathLike | str,
    year: int | None = None,
    threads: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> str:
    """Looks through a data folder and says what is there and what is wrong, for a terminal.

    Args:
        data_dir: as for `layouts.find_clips`.
        year: as for `layouts.find_clips`.
        threads: headers read at once.
        progress: called with (files looked at, files in all) as the headers are read.

    Returns:
        Several lines of text.

    Raises:
        UserError: no such folder, or no wav file in it.
    """
    found = layouts.scan(data_dir, year)
    infos = read_headers([clip.path for clip in found.clips], threads, progress)
    summary = summarise(found.clips, infos, found.strays, len(found.supplemental))
    return f"{data_dir}\n\n{format_summary(summary, os.path.abspath(data_dir))}"


def read_headers(
    paths: Sequence[os.PathLike | str],
    threads: int = 8,
    progress: Callable[[int, int], None] | None = None,
) -> list[AudioInfo]:
    """Reads the header of every file.

    Args:
        paths: the files.
        threads: headers read at once.
        progress: called with (files looked at, files in all).

    Returns:
        One `AudioInfo` a path, in their order.
    """
    infos = []
    with ThreadPoolExecutor(threads) as pool:
        for info in pool.map(audio_files.inspect, paths):
            infos.append(info)
            if progress:
                progress(len(infos), len(paths))
    return infos


def summarise(
    clips: Sequence[Clip],
    infos: Sequence[AudioInfo],
    strays: Sequence[str] = (),
    supplemental: int = 0,
) -> Summary:
    """Counts the clips and gathers what is wrong.

    Args:
        clips: the clips.
        infos: the header of each clip.
        strays: wav files that fit no layout.
        supplemental: number of supplemental clips.

    Returns:
        The summary.
    """
    pairs = list(zip(clips, infos, strict=True))
    sound = [(clip, info) for clip, info in pairs if info.problem is None]
    lengths = defaultdict(list)
    for clip, info in sound:
        lengths[clip.machine].append(info.n_samples / info.sample_rate)
    return Summary(
        rows=tuple(_row(key, members) for key, members in sorted(_grouped(pairs, _key).items())),
        formats=dict(Counter((i.sample_rate, i.channels) for _, i in sound).most_common()),
        lengths={machine: (min(each), max(each)) for machine, each in sorted(lengths.items())},
        supplemental=supplemental,
        problems=(
            *_broken_files(pairs),
            *_odd_ones(sound),
            *_clashes(clips),
            *_problems({"fits no layout": strays}, hint=layouts.EXPECTED),
            *_gaps(clips),
        ),
    )


def format_summary(summary: Summary, root: str = "") -> str:
    """Lays a summary out for a terminal; paths are given relative to the folder `root`."""
    lines = [*_table(summary.rows), ""] if summary.rows else []
    for (rate, channels), count in summary.formats.items():
        lines.append(f"{count} clips of {rate} Hz, {channels} channel{'s' * (channels > 1)}")
    for machine, (shortest, longest) in summary.lengths.items():
        span = f"{shortest:.2f} s"
        if f"{longest:.2f} s" != span:
            span = f"{shortest:.2f} to {longest:.2f} s"
        lines.append(f"{machine}: {span} a clip")
    if summary.supplemental:
        lines.append(f"{summary.supplemental} supplemental clips, which are not used")
    if lines and lines[-1]:
        lines.append("")
    if not summary.problems:
        return "\n".join([*lines, "Nothing is wrong."])
    lines.append("What is wrong:")
    for problem in summary.problems:
        shown = [
            os.path.relpath(w, root) if root and os.path.isabs(w) else w
            for w in problem.where[:_EXAMPLES]
        ]
        more = len(problem.where) - len(shown)
        rest = f", and {more} more" if more else ""
        lines.append(f"  {len(problem.where)} × {problem.what}: {', '.join(shown)}{rest}")
        if problem.hint:
            lines.append(f"      {problem.hint}")
    return "\n".join(lines)


def _key(clip: Clip) -> tuple[int, str, str, str, str]:
    return clip.year, clip.subset, clip.machine, clip.section, clip.domain


def _grouped(
    pairs: Iterable[tuple[Clip, AudioInfo]], key: Callable[[Clip], Hashable]
) -> dict[Hashable, list[tuple[Clip, AudioInfo]]]:
    groups = defaultdict(list)
    for clip, info in pairs:
        groups[key(clip)].append((clip, info))
    return groups


def _row(key: tuple, members: Sequence[tuple[Clip, AudioInfo]]) -> Row:
    test = Counter(clip.label for clip, _ in members if clip.split == "test")
    return Row(
        key=key,
        train=len(members) - test.total(),
        normal=test[NORMAL],
        anomaly=test[ANOMALY],
        unlabelled=test[UNLABELLED],
        seconds=sum(i.n_samples / i.sample_rate for _, i in members if i.problem is None),
    )


def _problems(found: Mapping[str, Sequence[str]], hint: str = "") -> list[Problem]:
    return [Problem(what, tuple(where), hint) for what, where in found.items() if where]


def _broken_files(pairs: Iterable[tuple[Clip, AudioInfo]]) -> list[Problem]:
    found = defaultdict(list)
    for clip, info in pairs:
        if info.problem:
            found[info.problem.partition(":")[0]].append(clip.path)
    return _problems(found)


def _odd_ones(sound: Sequence[tuple[Clip, AudioInfo]]) -> list[Problem]:
    """Clips unlike the majority: of all in rate and channels, of their machine in length."""
    found = defaultdict(list)
    for of, unit in (("sample_rate", "Hz"), ("channels", "channels")):
        counts = Counter(getattr(info, of) for _, info in sound)
        usual = max(counts, key=counts.get, default=None)
        for clip, info in sound:
            if (value := getattr(info, of)) != usual:
                found[f"{value} {unit} where most have {usual}"].append(clip.path)
    for machine, members in _grouped(sound, lambda clip: clip.machine).items():
        lengths = [round(info.n_samples / info.sample_rate, 3) for _, info in members]
        usual = Counter(lengths).most_common(1)[0][0]
        what = f"other length than most of {machine} ({usual:.2f} s)"
        for (clip, _), length in zip(members, lengths, strict=True):
            if length != usual:
                found[what].append(clip.path)
    return _problems(found)


def _clashes(clips: Iterable[Clip]) -> list[Problem]:
    found = [second.path for _, second in layouts.duplicates(clips)]
    return _problems({"same machine, section and name as another clip": found})


def _gaps(clips: Iterable[Clip]) -> list[Problem]:
    """Sections that cannot be trained on, tested on or evaluated."""
    sections = defaultdict(list)
    for clip in clips:
        sections[_key(clip)[:-1]].append(clip)
    found = defaultdict(list)
    for (year, subset, machine, section), members in sorted(sections.items()):
        where = " ".join(filter(None, [_dataset(year), subset, machine, section]))
        train = [clip for clip in members if clip.split == "train"]
        labels = {clip.label for clip in members if clip.split == "test"}
        if not train:
            found["no training clips"].append(where)
        if any(clip.label == ANOMALY for clip in train):
            found["anomalous clips in the training folder"].append(where)
        if not labels:
            found["no test clips"].append(where)
        if labels == {NORMAL}:
            found["test clips are all normal, so there is no AUC"].append(where)
        if labels == {ANOMALY}:
            found["test clips are all anomalous, so there is no AUC"].append(where)
    return _problems(found)


def _dataset(year: int) -> str:
    return str(year) if year else "MIMII"


def _table(rows: Sequence[Row]) -> list[str]:
    head = ("year", "set", "machine", "section", "domain")
    counts = ("train", "normal", "anomaly", "unlabelled", "hours")
    body = [
        (_dataset(row.key[0]), *row.key[1:4], row.key[4] or "-")
        + tuple(str(n) for n in (row.train, row.normal, row.anomaly, row.unlabelled))
        + (f"{row.seconds / 3600:.2f}",)
        for row in rows
    ]
    totals = [sum(getattr(row, name) for row in rows) for name in counts[:-1]]
    hours = sum(row.seconds for row in rows) / 3600
    total = ("total", *[""] * (len(head) - 1), *map(str, totals), f"{hours:.2f}")
    cells = [head + counts, *body, total]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < len(head) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in cells
    ]
