"""A machine's part of the page from its scores: charts, ROC curves and table."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import ANOMALY, NORMAL
from asd_jax.data.columns import Strings
from asd_jax.evaluation.curves import mean_roc, score_axis, threshold_counts
from asd_jax.evaluation.decisions import ClipDecision
from asd_jax.evaluation.results import ScoreGroups, TrainingRow
from asd_jax.evaluation.row_table import RowTable, over_seeds
from asd_jax.evaluation.tables import Intervals
from asd_jax.metrics import auc, domains_of
from asd_jax.page import charts
from asd_jax.page.charts import Legend
from asd_jax.page.render import ClassCount, RocChart, Table, ThresholdChart

_CLASSES = {NORMAL: "normal", ANOMALY: "anomalous"}
_ABOVE = {
    "training": "training recordings",
    "normal": "normal test recordings: false alarms",
    "anomalous": "anomalous test recordings: found",
    "unknown": "test recordings without a label",
}
_CURVES = 12  # of a figure


class TrainingScores(NamedTuple):
    """Mean scores over the seeds of a section's training clips.

    Attributes:
        scores: (clips,).
        names: column (clips,).
    """

    scores: np.ndarray
    names: Strings


def training_scores(rows: Iterable[TrainingRow]) -> dict[tuple[str, str], TrainingScores]:
    """Mean score over the seeds of each training clip, by machine and section."""
    table = RowTable.of(rows, TrainingRow)
    found = {}
    for (machine, section), own in table.groups("machine", "section").items():
        clips = over_seeds(table, own)
        names = table.column("clip")[clips.first]
        found[machine, section] = TrainingScores(clips.means(table.numbers("score")), names)
    return found


def threshold_chart(
    title: str,
    place: str,
    clips: RowTable[ClipDecision],
    training: np.ndarray,
    most_thresholds: int,
) -> ThresholdChart:
    """The histogram of a section's scores, and what each threshold would do.

    Args:
        title: what it is of.
        place: unique name within the page.
        clips: the section's test clips.
        training: (clips,) scores of its training clips.
        most_thresholds: bounds the size.
    """
    threshold = float(np.mean(clips.numbers("threshold")))
    scores = {"training": training} if len(training) else {}
    score, label = clips.numbers("score"), clips.numbers("label")
    kinds = {"normal": label == NORMAL, "anomalous": label == ANOMALY}
    kinds["unknown"] = ~(kinds["normal"] | kinds["anomalous"])
    for name, own in kinds.items():
        if own.any():
            scores[name] = score[own]
    axis = score_axis(np.concatenate([*scores.values()]), threshold)
    found = threshold_counts(scores, threshold, most=most_thresholds)
    decided = math.isfinite(threshold)
    counts = [
        ClassCount(name, _ABOVE[name], int(found.above[name][found.start]), len(values))
        for name, values in scores.items()
    ]
    legend = [
        Legend(name, f"{_ABOVE[name].partition(':')[0]}: {len(values)}")
        for name, values in scores.items()
    ]
    shown = f"{found.thresholds[found.start]:.4g}"
    notes = []
    if decided:
        legend.append(Legend("threshold-line", f"threshold of the run: {threshold:.4g}"))
        shown += ", the threshold of the run"
    else:
        notes.append("The run has no threshold here, so nothing is called anomalous or normal.")
    odd = sum(int((~np.isfinite(values)).sum()) for values in scores.values())
    if odd:
        notes.append(f"{odd} scores that are not finite numbers are not drawn.")
    if axis.scale != "linear":
        notes.append("The axis is logarithmic, as some scores are many times the others.")
    said = "; ".join(f"{count.text}: {count.above} of {count.total} above" for count in counts)
    data = {
        "thresholds": [float(f"{value:.7g}") for value in found.thresholds],
        "places": np.clip(axis.place(found.thresholds), 0, 1).round(4).tolist(),
        "above": {name: counts.tolist() for name, counts in found.above.items()},
        "start": found.start,
        "decided": decided,
    }
    return ThresholdChart(
        title,
        place,
        charts.histogram(scores, axis, threshold, place),
        f"Histogram of scores. Threshold {shown}. {said}.",
        legend,
        shown,
        counts,
        data,
        notes,
    )


def roc_chart(
    machine: str, groups: ScoreGroups, year: int, intervals: Intervals, place: str
) -> RocChart | None:
    """ROC curves of a machine's sections, or of the domains of its only one.

    Args:
        machine: the machine.
        groups: scores of the run.
        year: challenge year.
        intervals: of the AUCs.
        place: unique name within the page.

    Returns:
        The figure; None where no AUC is defined.
    """
    own = [g for g, key in enumerate(groups.keys) if key[0] == machine]
    sections = dict.fromkeys(groups.keys[g][1] for g in own)
    if "all" in domains_of(year) and len(sections) > 1:
        own = [g for g in own if groups.keys[g][2] == "all"]
    curves, names = {}, []
    for g in own[:_CURVES]:
        labels, scores, mask = groups.labels[g][0], groups.scores[g], groups.ranked[g][0]
        curve = mean_roc(labels, scores, mask)
        if curve is None:
            continue
        _, section, domain = groups.keys[g]
        name = " ".join(
            [f"section {section}"] * (len(sections) > 1)
            + [domain if domain != "all" else "all recordings"] * (len(domains_of(year)) > 1)
        )
        value = 100 * float(np.mean(auc(labels, scores, mask)))
        text = f"{name + ': ' if name else ''}AUC {value:.2f} %"
        if groups.keys[g] in intervals:
            low, high = 100 * intervals[groups.keys[g]].auc
            text += f" [{low:.1f}, {high:.1f}]"
        curves[g] = curve
        names.append(text)
    if not curves:
        return None
    legend = charts.roc_legend(names)
    notes = [Legend("region", "up to 10 % false alarms: the region of the partial AUC")]
    svg = charts.roc({str(g): curve for g, curve in curves.items()}, place)
    described = f"ROC curves of {machine}. {'; '.join(names)}."
    return RocChart(svg, described, [*legend, *notes])


def clips_table(
    caption: str, clips: RowTable[ClipDecision], has_p_values: bool, most: int
) -> Table:
    """The clips with the highest scores.

    Args:
        caption: of the table.
        clips: of a machine, the highest scores first.
        has_p_values: whether p-values are shown.
        most: rows.
    """
    several = len(clips.column("section").distinct()) > 1
    labelled = bool(clips.column("label").is_in(_CLASSES).any())
    header = ["recording", *["section"] * several, "score", "threshold", "called"]
    header += ["label"] * labelled + ["p-value"] * has_p_values
    rows = []
    for clip in clips[:most]:
        row = [clip.name, *[clip.section] * several, f"{clip.score:.6g}", f"{clip.threshold:.6g}"]
        row.append(verdict_of(clip))
        if labelled:
            row.append(_CLASSES.get(clip.label, "–"))
        if has_p_values:
            row.append(f"{clip.p_value:.3g}")
        rows.append(row)
    notes = []
    if len(clips) > most:
        notes = [f"The {most} highest of {len(clips)}; scores.csv has all."]
    return Table(caption, header, rows, notes, header.index("called"))


def key_of(clip: ClipDecision) -> tuple[str, str, str]:
    """What tells a test clip from all others: machine, section and name."""
    return clip.machine, clip.section, clip.name


def verdict_of(clip: ClipDecision) -> str:
    """The decision in words.

    Examples:
        >>> clip = ClipDecision("fan", "00", "", "a.wav", -1, 2.0, 1.0, True, "yes")
        >>> verdict_of(clip), verdict_of(clip._replace(verdict="by 1 of 3 seeds"))
        ('anomalous', 'anomalous by 1 of 3 seeds')
    """
    words = {"yes": "anomalous", "no": "normal", "–": "no decision"}
    return words.get(clip.verdict, f"anomalous {clip.verdict}")


def label_of(clip: ClipDecision) -> str:
    """Its label in words; "" without."""
    return _CLASSES.get(clip.label, "")
