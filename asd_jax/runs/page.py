"""The page of a finished run, `report.html`, from its files and its recordings."""

import datetime
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from asd_jax.config.types import channel_of
from asd_jax.data.clips import OWN
from asd_jax.errors import UserError
from asd_jax.evaluation import tables
from asd_jax.evaluation.analysis import DECISIONS_LEGEND, decided, decision_rows, decisions_of
from asd_jax.evaluation.decisions import ClipDecision, counted, ranked_clips
from asd_jax.evaluation.intervals import bootstrap_results
from asd_jax.evaluation.promises import promise_lines
from asd_jax.evaluation.results import (
    MEAN,
    ScoreRow,
    constant_scores,
    read_results_csv,
    read_scores_csv,
    read_training_csv,
    score_groups,
)
from asd_jax.evaluation.row_table import RowTable
from asd_jax.features.batches import table_clips
from asd_jax.features.cut import span_of
from asd_jax.features.table import Features
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.explaining import explain_clips
from asd_jax.fitting.recordings import score_files
from asd_jax.metrics import domains_of
from asd_jax.page import machines as parts
from asd_jax.page.cards import REFERENCES, Shown, cards, chosen, reference_of
from asd_jax.page.machines import TrainingScores, key_of
from asd_jax.page.render import Card, MachinePart, Page, Table, ThresholdChart, render
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.places import read_places
from asd_jax.runs.report import comparison, finished_run, standing_in
from asd_jax.runtime.files import atomic_write
from asd_jax.scoring.explanation import Explanation

# What the page holds at most, so that it opens quickly whatever the run's size.
_CHARTS = 96
_THRESHOLDS, _THRESHOLDS_OF_PAGE = 512, 16_000
_ROWS, _ROWS_OF_PAGE = 200, 600

_Key = tuple[str, str, str]
Explain = Callable[[Sequence[ClipDecision]], Mapping[_Key, Explanation]]


def write_page(
    path: os.PathLike | str,
    report: Callable[[str], None],
    *,
    explain: Explain | None = None,
    intervals: tables.Intervals | None = None,
) -> None:
    """Writes the page of a finished run.

    A recording that is lost or damaged has neither picture nor player, and a line says so.

    Args:
        path: the run directory.
        report: called with lines.
        explain: says what scores are made of; by default the fitted system of the folder does.
        intervals: from `bootstrap_results`, where they are known.

    Raises:
        UserError: the run is not finished, its files are damaged, or the page cannot be written.
    """
    run_dir, stored, data = finished_run(path)
    page = _page(run_dir, stored, data, report, explain, intervals)
    with atomic_write(run_dir.report_html, "wb") as file:
        file.write(render(page))


def with_page(path: os.PathLike | str, report: Callable[[str], None]) -> str:
    """A line that says where a finished run's page is, which is made if it is missing."""
    run_dir = RunDirectory(path)
    if not run_dir.report_html.is_file():
        write_page(path, report)
    return f"{run_dir.report_html} shows it: curves, thresholds, recordings to listen to"


def by_features(fitted: FittedDetector, features: Features) -> Explain:
    """Explains scores of clips whose features are there.

    Args:
        fitted: that scored them.
        features: of the test clips.
    """

    def explain(clips: Sequence[ClipDecision]) -> dict[_Key, Explanation]:
        found: dict[_Key, Explanation] = {}
        wanted = {key_of(clip) for clip in clips}
        groups = {key[:2] for key in wanted}
        for (machine, section), rows in features.clips.groups("machine", "section").items():
            if (machine, section) not in groups:
                continue
            names = [clip.name for clip in features.clips[rows]]
            own = [i for i, name in enumerate(names) if (machine, section, name) in wanted]
            group = fitted.resolve(machine, section)
            labels = np.full(len(own), fitted.label_of(group))
            frames = table_clips(features, rows[own], labels)
            for clip, _, explanation in explain_clips(fitted, fitted.models_of(group), frames):
                found[machine, section, names[own[clip.position]]] = explanation
        return found

    return explain


def _by_files(run_dir: RunDirectory, places: Mapping[_Key, str]) -> Explain:
    """Explains scores of recordings that are where they were, by the folder's fitted system."""

    def explain(clips: Sequence[ClipDecision]) -> dict[_Key, Explanation]:
        found: dict[_Key, Explanation] = {}
        if run_dir.ensemble.is_file():
            return found
        fitted = FittedDetector.load(run_dir.model)
        for clip in clips:
            path = places.get(key_of(clip), "")
            if not os.path.isfile(path):
                continue
            where: dict[str, Any] = {"machine": clip.machine, "section": clip.section}
            scores = score_files(
                fitted, [path], **where, on_bad_clip="skip", report=lambda _: None, explain=True
            )
            span = span_of(clip.name)
            for score in scores:  # of a recording that is cut, of each of its clips
                if score.explanation is not None and span in (None, span_of(score.file)):
                    found[key_of(clip)] = score.explanation
        return found

    return explain


def _page(
    run_dir: RunDirectory,
    stored: dict,
    data: dict,
    report: Callable[[str], None],
    explain: Explain | None,
    intervals: tables.Intervals | None,
) -> Page:
    year = data["year"]
    rows = read_scores_csv(run_dir.scores_csv)
    results = read_results_csv(run_dir.results_csv)
    if intervals is None:
        intervals = bootstrap_results(rows, year)
    published, notes = comparison(run_dir, stored, data, results)
    standing = standing_in(run_dir, stored, data, results)
    header, lines, legend = tables.results_table(results, year, intervals, published)
    ranked = ranked_clips(rows)
    labelled = any(row.n_normal + row.n_anomaly for row in results)
    lead = [f"{counted(ranked)} are called anomalous." if ranked else "There was nothing to score."]
    if not labelled and ranked:
        lead.append("No recording has a label, so there are no ROC curves.")
    results_tables = []
    if labelled:
        results_tables.append(Table("AUC and partial AUC", header, lines, [*filter(None, legend)]))
        heading, *counts = decision_rows(decisions_of(decided(rows)))
        caption = "Decisions at the thresholds of the run"
        results_tables += [Table(caption, heading, counts, [DECISIONS_LEGEND])] * bool(counts)
    training_rows = read_training_csv(run_dir.training_csv)
    promises = promise_lines(rows, training_rows, data.get("clip_seconds", 0.0))
    training = parts.training_scores(training_rows)
    del training_rows
    remarks = [*notes, *standing.notes, standing.line, *constant_scores(rows), *promises]
    return Page(
        title=run_dir.path.resolve().name,
        lead=lead,
        about=_about(run_dir, stored, data, ranked, training, len(rows.column("seed").distinct())),
        overview=["recordings", "called anomalous", *_auc_columns(year, labelled)],
        machines=_machines(
            run_dir, stored, data, rows, ranked, training, intervals, report, explain, lines
        ),
        tables=results_tables,
        notes=[note for note in remarks if note],
        details=_details(run_dir, stored),
    )


def _machines(
    run_dir: RunDirectory,
    stored: dict,
    data: dict,
    rows: RowTable[ScoreRow],
    ranked: Mapping[str, RowTable[ClipDecision]],
    training: Mapping[tuple[str, str], TrainingScores],
    intervals: tables.Intervals,
    report: Callable[[str], None],
    explain: Explain | None,
    lines: Sequence[Sequence[str]],
) -> list[MachinePart]:
    """The machines' parts of the page."""
    year = data["year"]
    has_p_values = bool(len(rows)) and not any(
        np.isnan(clips.numbers("p_value")).any() for clips in ranked.values()
    )
    found = _cards(run_dir, stored, ranked, training, has_p_values, report, explain)
    n_groups = len(rows.groups("machine", "section"))
    most_thresholds = max(32, min(_THRESHOLDS, _THRESHOLDS_OF_PAGE // max(n_groups, 1)))
    most_rows = max(5, min(_ROWS, _ROWS_OF_PAGE // max(len(ranked), 1)))
    made: list[MachinePart] = []
    n_charts = 0
    for number, (machine, clips) in enumerate(ranked.items(), 1):
        place = f"m{number}"
        of_sections = sorted(clips.groups("section").items())
        charts: list[ThresholdChart] = []
        for i, ((section,), own) in enumerate(of_sections[: _CHARTS - n_charts]):
            learned = training.get((machine, section))
            charts.append(
                parts.threshold_chart(
                    f"Scores of section {section}" if len(of_sections) > 1 else "Scores",
                    f"{place}s{i}",
                    clips[own],
                    np.zeros(0) if learned is None else learned.scores,
                    most_thresholds,
                )
            )
        n_charts += len(charts)
        roc = None
        if charts and (groups := score_groups(rows[rows.where(machine=machine)], year)):
            roc = parts.roc_chart(machine, groups, year, intervals, f"{place}r")
        cells = _auc_cells(lines, machine, year)
        called = str(int(clips.where(is_anomalous=True).sum()))
        caption = f"Recordings of {machine} by score"
        table = parts.clips_table(caption, clips, has_p_values, most_rows)
        summary = [str(len(clips)), called, *cells]
        left = len(of_sections) - len(charts)
        more = f"{left} more sections have no figure, as a page has {_CHARTS} at most." * (left > 0)
        made.append(MachinePart(machine, place, summary, charts, more, roc, *found[machine], table))
    return made


def _cards(
    run_dir: RunDirectory,
    stored: dict,
    ranked: Mapping[str, RowTable[ClipDecision]],
    training: Mapping[tuple[str, str], TrainingScores],
    has_p_values: bool,
    report: Callable[[str], None],
    explain: Explain | None,
) -> dict[str, tuple[list[Card], str]]:
    """Cards of each machine's most anomalous clips, from `cards`."""
    tests = chosen(ranked)
    references = {
        machine: reference_of(clips, training)
        for machine, clips in tests.items()
        if len(ranked) <= REFERENCES
    }
    wanted = [clip for clips in tests.values() for clip in clips]
    wanted += filter(None, references.values())
    of_training, of_test = read_places(run_dir.recordings_csv, {*map(key_of, wanted)})
    shown: dict[str, list[Shown]] = {}
    for machine, clips in tests.items():
        shown[machine] = [Shown(clip, of_test.get(key_of(clip), "")) for clip in clips]
        reference = references.get(machine)
        if reference is not None and (path := of_training.get(key_of(reference))):
            shown[machine].append(Shown(reference, path, is_reference=True))
    explain = explain or _by_files(run_dir, of_test)
    clips = [each.clip for own in shown.values() for each in own if not each.is_reference]
    try:
        explanations = explain(clips)
    except UserError as error:
        report(f"report.html does not say what scores are made of: {error}")
        explanations = {}
    of_run = _of_run(stored)
    front_end, number = of_run["front_end"], of_run["data"]["channel"]
    channel = channel_of(number, front_end.get("canceller", False))  # False before it was there
    return cards(shown, explanations, has_p_values, front_end["sample_rate"], channel, report)


def _of_run(stored: dict) -> dict:
    """The configuration of a run, or of an ensemble's first member."""
    while "members" in stored:
        stored = next(iter(stored["members"].values()))
    return stored


def _auc_columns(year: int, labelled: bool) -> list[str]:
    domains = domains_of(year)
    names = [f"AUC %{f' ({domain})' if len(domains) > 1 else ''}" for domain in domains]
    return names if labelled else []


def _auc_cells(lines: Sequence[Sequence[str]], machine: str, year: int) -> list[str]:
    """A machine's AUC of each domain from the table of results; empty without labels."""
    found = {line[2]: line[4] for line in lines if line[:2] == [machine, MEAN]}
    of_any = any(line[1] == MEAN for line in lines)
    return [found.get(domain, "–") for domain in domains_of(year)] if of_any else []


def _about(
    run_dir: RunDirectory,
    stored: dict,
    data: dict,
    ranked: Mapping[str, RowTable[ClipDecision]],
    training: Mapping[tuple[str, str], TrainingScores],
    seeds: int,
) -> list[tuple[str, str]]:
    year = data["year"]
    kind = {OWN: "folders of one's own", 0: "MIMII"}.get(year, f"DCASE {year}")
    scored = datetime.datetime.fromtimestamp(run_dir.scores_csv.stat().st_mtime)
    n_test = sum(map(len, ranked.values()))
    n_training = sum(len(own.scores) for own in training.values())
    about = [
        ("system", stored["name"]),
        ("data", f"{kind}{', synthetic' if data['synthetic'] else ''}"),
        ("recordings", f"{n_test} scored, {n_training} learned from"),
        ("scored", f"{scored:%Y-%m-%d %H:%M}"),
    ]
    return about + [("seeds", f"{seeds}; scores and thresholds are their means")] * (seeds > 1)


def _details(run_dir: RunDirectory, stored: dict) -> list[Table]:
    settings = Table("Settings", ("key", "value"), [*_flat(stored)])
    try:
        environment = json.loads(run_dir.environment.read_text(encoding="utf-8"))
        versions = [*_flat(environment)]
    except (OSError, ValueError):
        versions = []
    return [settings, *[Table("Versions", ("what", "version"), versions)] * bool(versions)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as lines of a key and a value."""
    lines: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{prefix}{key}.")
        else:
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            lines.append((f"{prefix}{key}", shown))
    return lines
