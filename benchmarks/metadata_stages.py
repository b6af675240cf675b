"""Metadata of many clips without sound, and what a run does with them."""

import json
import math
import os
import unittest.mock
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.audio import FrontEnd
from asd_jax.config import load_config, to_json
from asd_jax.data import folders, index, layouts
from asd_jax.data.audio_files import AudioInfo, Recording
from asd_jax.data.clips import ANOMALY, NORMAL, Clip, ClipTable
from asd_jax.data.columns import Categorical, StringsBuilder
from asd_jax.data.identity import Status
from asd_jax.data.levels import Level
from asd_jax.detectors import make_detector
from asd_jax.evaluation import results
from asd_jax.evaluation.analysis import write_analysis
from asd_jax.evaluation.challenge import write_challenge_files
from asd_jax.evaluation.decisions import decision_markdown
from asd_jax.evaluation.intervals import bootstrap_results
from asd_jax.evaluation.promises import promise_lines, with_p_values
from asd_jax.evaluation.results import ScoreRow, TrainingRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.features import compute
from asd_jax.features.cache import Entry, Index, read_file, write_file
from asd_jax.features.entries import Piece
from asd_jax.features.notes import Notes
from asd_jax.features.request import FeatureSettings, Request
from asd_jax.features.table import FeatureSet
from asd_jax.fitting.layout import lay_out
from asd_jax.runs.clips import choose_clips, describe_data
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.page import write_page
from asd_jax.runs.places import read_places, write_places
from asd_jax.training.windows import schedule

_SECTIONS, _SEEDS, _YEAR, _FRAMES = 10, (0, 1), 2023, 313
_ATTRIBUTES = 10
_BLOCK = 100_000

_Stage = Callable[[int, Path], Callable[[], Any]]  # (clips, folder) → what is measured


def n_machines(clips: int) -> int:
    """Machines of so many clips.

    Examples:
        >>> [n_machines(clips) for clips in (100_000, 1_000_000, 10_000_000)]
        [10, 32, 100]
    """
    return max(1, round(math.sqrt(clips / 1000)))


def sections_of(clips: int) -> Iterator[tuple[str, str, int]]:
    """Machine, section and clips of each section."""
    machines = n_machines(clips)
    edges = np.linspace(0, clips, machines * _SECTIONS + 1).astype(int)
    for place, count in enumerate(np.diff(edges).tolist()):
        machine, section = divmod(place, _SECTIONS)
        yield f"machine{machine:03}", f"{section:02}", count


def names_of(section: str, count: int, year: int = _YEAR) -> list[tuple[str, str]]:
    """Split and name of each clip of a section, half of them training clips."""
    n_train = count // 2
    if year == 2020:
        train = [("train", f"normal_id_{section}_{i:08}.wav") for i in range(n_train)]
        label = ("normal", "anomaly")
        return train + [
            ("test", f"{label[i % 2]}_id_{section}_{i:08}.wav") for i in range(count - n_train)
        ]
    made = []
    for i in range(count):
        split = "train" if i < n_train else "test"
        domain = "target" if i % 100 == 0 or (split == "test" and i % 4 < 2) else "source"
        label = "anomaly" if split == "test" and i % 2 else "normal"
        facts = f"{domain}_{split}_{label}_{i:06}_vel_{i % _ATTRIBUTES}"
        made.append((split, f"section_{section}_{facts}.wav"))
    return made


def listing(clips: int) -> Iterator[tuple[str, list[str]]]:
    """Folders of recordings of several years and the files in them, as of `walk_folders`."""
    of_machines: dict[str, list[tuple[str, int]]] = {}
    for machine, section, count in sections_of(clips):
        of_machines.setdefault(machine, []).append((section, count))
    for place, (machine, sections) in enumerate(of_machines.items()):
        year = 2020 + place % 5
        names = [each for section, count in sections for each in names_of(section, count, year)]
        for split in ("test", "train"):
            own = sorted(name for its, name in names if its == split)
            yield f"/data/dcase{year}/dev_data/raw/{machine}/{split}", own


def make_table(clips: int) -> ClipTable:
    """The table of clips of one year, made of columns."""
    names = StringsBuilder()
    columns: dict[str, list[np.ndarray]] = {}
    values: dict[str, dict[Any, int]] = {}
    for machine, section, count in sections_of(clips):
        own = names_of(section, count)
        names.extend(name for _, name in own)
        attributes = [(("vel", str(i % _ATTRIBUTES)),) for i in range(count)]
        facts: dict[str, Sequence] = {
            "machine": [machine] * count,
            "section": [section] * count,
            "split": [split for split, _ in own],
            "year": [_YEAR] * count,
            "subset": ["dev"] * count,
            "domain": ["target" if "_target_" in name else "source" for _, name in own],
            "label": [ANOMALY if "anomaly" in name else NORMAL for _, name in own],
            "attributes": attributes,
            "perturbation": [""] * count,
            "state": [""] * count,
            "group": [""] * count,
            "start": [0.0] * count,
            "folder": [
                (f"/data/dcase{_YEAR}/dev_data/raw/{machine}/{split}/", True) for split, _ in own
            ],
        }
        for name, of_field in facts.items():
            known = values.setdefault(name, {})
            codes = [known.setdefault(value, len(known)) for value in of_field]
            columns.setdefault(name, []).append(np.array(codes, np.uint32))
    made = {
        name: Categorical.of(np.concatenate(columns.pop(name)), tuple(values[name]))
        for name in [*columns]
    }
    return ClipTable(made, made.pop("folder"), names.column())


def make_features(clips: ClipTable, detector: Any) -> FeatureSet:
    """A table of features whose frames are nowhere."""
    digests = np.random.default_rng(0).integers(0, 256, (len(clips), 16), np.uint8)
    levels = np.zeros((len(clips), len(Level._fields)), np.float32)
    return FeatureSet(
        clips=clips,
        n_frames=np.full(len(clips), _FRAMES, np.int32),
        width=detector.front_end.width,
        key="",
        digests=digests.view("V16")[:, 0],
        levels=levels,
        _entries=(),
        _entry=np.zeros(len(clips), np.int32),
        _rows=np.zeros(len(clips), np.int64),
    )


def _of_both_seeds(row_type: Any, part: ClipTable, **values: Any) -> RowTable:
    """Rows of clips, section by section and seed by seed, as runs write them."""
    rng, tables = np.random.default_rng(0), []
    places = ("machine", "section", "domain")
    for rows in part.groups("machine", "section").values():
        own = part[rows]
        shift = own.where(label=ANOMALY).astype(np.float32)
        for seed in _SEEDS:
            score = rng.normal(size=len(own)).astype(np.float32) + shift
            facts: dict[str, Any] = {name: own.column(name) for name in places}
            facts |= {"seed": seed, "clip": own.names, "score": score}
            if row_type is ScoreRow:
                facts |= {"label": own.column("label"), "decision": (score > 1).astype(int)}
            tables.append(RowTable.of_columns(row_type, len(own), **facts, **values))
    return RowTable.concatenate(tables, row_type)


def make_scores(clips: ClipTable) -> RowTable[ScoreRow]:
    """Scores of the test clips by both seeds."""
    part = clips[clips.where(split="test")]
    return _of_both_seeds(ScoreRow, part, threshold=1.0, p_value=0.5)


def make_training(clips: ClipTable) -> RowTable[TrainingRow]:
    """Scores of the training clips by both seeds, of which a tenth of a section were held out."""
    part = clips[clips.where(split="train")]
    table = _of_both_seeds(TrainingRow, part, sets_threshold=0, unseen=0, group="", by_section=0)
    held_out = (table.name_ranks % 10 == 0).astype(int)
    return table.replace(sets_threshold=held_out, unseen=held_out)


def _detector() -> Any:
    overrides = {"seeds": str(_SEEDS), "train.threshold_split": "0.1"}
    return make_detector(load_config("dense_ae", overrides))


def walking(clips: int, folder: Path) -> Callable[[], Any]:
    """Walks so many empty files, of a thousand a folder."""
    for place in range(-(-clips // 1000)):
        own = folder / f"machine{place:05}" / "train"
        own.mkdir(parents=True)
        for i in range(min(1000, clips - 1000 * place)):
            os.mknod(own / f"normal_id_00_{i:08}.wav")
    return lambda: sum(len(names) for _, names in folders.walk_folders(folder, []))


def index_of_names(clips: int, folder: Path) -> Callable[[], Any]:
    """The table of clips from a listing of their paths; the files themselves are not there."""

    def measured() -> None:
        with unittest.mock.patch.object(layouts, "walk_folders", lambda *_: listing(clips)):
            scan = layouts.scan(folder)
        assert len(layouts.listed_clips(scan, folder)) == clips

    return measured


def summary(clips: int, folder: Path) -> Callable[[], Any]:
    """What `asd-jax index` counts, of headers that are read."""
    table, info = make_table(clips), AudioInfo(16000, 1, 160_000)
    levels = np.zeros((clips, len(Level._fields)), np.float32)
    return lambda: index.summarise(table, [info] * clips, levels=levels)


def choice(clips: int, folder: Path) -> Callable[[], Any]:
    """The clips of a run, a tenth of the training clips held out."""
    table, detector = make_table(clips), _detector()
    return lambda: choose_clips(detector, table, lambda line: None)


def cache(clips: int, folder: Path) -> Callable[[], Any]:
    """Bookkeeping of the feature cache, first and again: requests, notes, indices; no frames."""
    table, front_end = make_table(clips), FrontEnd()
    settings = FeatureSettings(front_end, None, 5, 5)
    status, info = Status(320_044, 1, 1, 1), AudioInfo(16000, 1, 160_000)
    level, place = Level(-20.0, 0.5), str(folder)

    def entry_of(rows: np.ndarray, new: bool) -> Any:
        request = Request.of(table[rows], settings)
        notes = Notes(place, request.paths)
        if new:
            read = {
                i: Recording(info, status, int(row).to_bytes(16, "little"), level)
                for i, row in enumerate(rows)
            }
            contents = notes.take(read)
        else:
            noted = notes.contents()
            assert noted is not None
            contents = noted
        digest = request.digest([content.digest for content in contents])
        entry = Entry(place, "0" * 32, front_end.width, front_end.dtype, digest)
        if new:
            entry.commit(Index(entry.table, [_FRAMES] * len(rows), []))
        text = read_file(os.path.join(place, digest), "index.json")
        assert text is not None
        return Piece.of(entry, Index.parse(text, len(rows)), contents)

    def measured() -> None:
        pieces = compute._pieces(table)
        with unittest.mock.patch.object(Status, "of", lambda path: status):
            for new in (True, False):
                found = [entry_of(rows, new) for rows in pieces]
                compute._joined(table, front_end, pieces, found)

    write_file(place, "there", b"")
    return measured


def description(clips: int, folder: Path) -> Callable[[], Any]:
    """The description of a run's recordings, and the claim of its directory by it."""
    table, detector = make_table(clips), _detector()
    is_test = table.where(split="test")
    parts = [make_features(table[rows], detector) for rows in (~is_test, is_test)]

    def measured() -> None:
        run_dir = RunDirectory(folder)
        for _ in range(2):
            data = describe_data(folder, *parts, detector.front_end)
            run_dir.claim(detector.config, data)

    return measured


def layout(clips: int, folder: Path) -> Callable[[], Any]:
    """The models of a run, the clips that each learns from, and an epoch's windows."""
    table, detector = make_table(clips), _detector()
    training = table[table.where(split="train")]
    n_frames = np.full(len(training), _FRAMES, np.int32)

    def measured() -> None:
        fleet = lay_out(detector, training, n_frames).fleet
        windows = schedule(fleet, row_bytes=4 * detector.front_end.width, table_bytes=2**30)
        for _ in windows.windows(0):
            pass

    return measured


def score_files(clips: int, folder: Path) -> Callable[[], Any]:
    """scores.csv, written and read."""
    return _files(make_scores(make_table(clips)), folder, results.write_scores_csv,
                  results.read_scores_csv)  # fmt: skip


def training_files(clips: int, folder: Path) -> Callable[[], Any]:
    """training_scores.csv, written and read."""
    return _files(make_training(make_table(clips)), folder, results.write_training_csv,
                  results.read_training_csv)  # fmt: skip


def _files(
    rows: RowTable, folder: Path, write: Callable[..., None], read: Callable[..., RowTable]
) -> Callable[[], Any]:
    def measured() -> None:
        write(folder / "rows.csv", rows)
        assert len(read(folder / "rows.csv")) == len(rows)

    return measured


def challenge(clips: int, folder: Path) -> Callable[[], Any]:
    """The challenge's result files."""
    rows = make_scores(make_table(clips))
    return lambda: write_challenge_files(folder, rows, _YEAR)


def evaluation(clips: int, folder: Path) -> Callable[[], Any]:
    """AUC, pAUC and decisions by machine, section, domain and seed."""
    rows = make_scores(make_table(clips))
    return lambda: results.evaluate(rows, _YEAR)


def intervals(clips: int, folder: Path) -> Callable[[], Any]:
    """Bootstrap intervals by 1,000 resamples."""
    rows = make_scores(make_table(clips))
    return lambda: bootstrap_results(rows, _YEAR)


def promises(clips: int, folder: Path) -> Callable[[], Any]:
    """P-values, and what the thresholds promise."""
    table = make_table(clips)
    rows, training = make_scores(table), make_training(table)
    return lambda: promise_lines(with_p_values(rows, training), training, 10.0)


def decisions(clips: int, folder: Path) -> Callable[[], Any]:
    """The clips by score, and the analysis of the decisions."""
    rows = make_scores(make_table(clips))

    def measured() -> None:
        decision_markdown(rows)
        write_analysis(folder, rows)

    return measured


def page(clips: int, folder: Path) -> Callable[[], Any]:
    """The page of a finished run, from its files; with intervals, and without its recordings."""
    table, run_dir = make_table(clips), RunDirectory(folder / "run")
    rows = make_scores(table)
    data = {"year": _YEAR, "synthetic": True, "n_clips": clips, "fingerprint": ""}
    results.write_scores_csv(run_dir.scores_csv, rows)
    results.write_training_csv(run_dir.training_csv, make_training(table))
    results.write_results_csv(run_dir.results_csv, results.evaluate(rows, _YEAR))
    write_places(run_dir.recordings_csv, table)
    run_dir.scores.mkdir()
    run_dir.model.touch()
    run_dir.results_md.touch()
    run_dir.config.write_text(to_json(load_config("dense_ae")))
    run_dir.data.write_text(json.dumps(data))
    return lambda: write_page(
        run_dir.path, lambda line: None, explain=lambda clips: {}, intervals={}
    )


def recordings(clips: int, folder: Path) -> Callable[[], Any]:
    """recordings.csv, written, and read for the clips of the page."""
    table = make_table(clips)

    def measured() -> None:
        write_places(folder / "recordings.csv", table)
        clip: Clip = table[-1]
        read_places(folder / "recordings.csv", {(clip.machine, clip.section, clip.name)})

    return measured


STAGES: dict[str, tuple[str, _Stage]] = {
    "walk": ("finding files on disk", walking),
    "index": ("table of clips from their paths", index_of_names),
    "summary": ("summary of `asd-jax index`", summary),
    "choice": ("choice of a run's clips", choice),
    "cache": ("cache: requests, notes, indices, twice", cache),
    "description": ("data.json: digests of names and contents, twice", description),
    "layout": ("layout of the training, windows of an epoch", layout),
    "scores": ("scores.csv, written and read", score_files),
    "training": ("training_scores.csv, written and read", training_files),
    "challenge": ("the challenge's result files", challenge),
    "evaluate": ("results.csv: AUC, pAUC, decisions", evaluation),
    "bootstrap": ("bootstrap intervals, 1,000 resamples", intervals),
    "promises": ("p-values and promises", promises),
    "decisions": ("ranking of the clips, analysis.md", decisions),
    "page": ("report.html, without intervals", page),
    "recordings": ("recordings.csv, written and read", recordings),
}
