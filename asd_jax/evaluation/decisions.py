"""Which recordings are called anomalous: a table for whoever listens to them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import ANOMALY, NORMAL
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.tables import markdown
from asd_jax.runtime.text_tables import aligned

_MOST = 10  # recordings of a machine that are shown
_HEADING = ("machine", "recording", "score", "threshold", "anomalous", "p-value")


class ClipDecision(NamedTuple):
    """The decision on a test clip, over all seeds.

    Attributes:
        machine: as in `ScoreRow`.
        section: as in `ScoreRow`.
        domain: as in `ScoreRow`.
        name: the clip's.
        label: as in `ScoreRow`.
        score: mean over the seeds.
        threshold: mean over the seeds.
        is_anomalous: whether most seeds call it anomalous.
        verdict: "yes" for anomalous, "no" for normal, "by 1 of 3 seeds", or "–" without a score or
            a threshold.
        p_value: mean over the seeds; NaN where there is none.
    """

    machine: str
    section: str
    domain: str
    name: str
    label: int
    score: float
    threshold: float
    is_anomalous: bool
    verdict: str
    p_value: float = float("nan")


def decision_line(rows: Sequence[ScoreRow]) -> str:
    """How many recordings are above the threshold, and of what the table shows the highest.

    Args:
        rows: scores of test clips.
    """
    clips = [clip for own in ranked_clips(rows).values() for clip in own]
    line = f"{counted(clips)} are called anomalous"
    shown = len(_cells(rows))
    return f"{line}; the {shown} with the highest scores:" if shown < len(clips) else f"{line}:"


def counted(clips: Sequence[ClipDecision]) -> str:
    """How many of some clips are called anomalous, in words."""
    above = sum(clip.is_anomalous for clip in clips)
    return f"{above} of {len(clips)} recordings"


def decision_table(rows: Sequence[ScoreRow], width: int | None = None) -> list[str]:
    """Lines of a text table of each machine's highest scores, the highest first.

    Args:
        rows: scores of test clips.
        width: as in `aligned`.
    """
    return aligned([_HEADING, *_cells(rows)], width=width, keys=2)


def count_table(rows: Sequence[ScoreRow]) -> list[str]:
    """Lines of a text table of the decisions on labelled clips, of all seeds together.

    Args:
        rows: scores of test clips.
    """
    of_places: dict[tuple[str, str, str], list[ScoreRow]] = {}
    for row in rows:
        of_places.setdefault((row.machine, row.section, row.domain or "all"), []).append(row)
    cells = []
    for place, own in sorted(of_places.items()):
        counts = [
            f"{sum(row.decision for row in labelled)}/{len(labelled)}"
            for label in (NORMAL, ANOMALY)
            for labelled in [[row for row in own if row.label == label]]
        ]
        cells.append([*place, f"{np.mean([row.threshold for row in own]):.6g}", *counts])
    heading = ("machine", "section", "domain", "threshold", "false alarms", "anomalies found")
    return aligned([heading, *cells])


def decision_markdown(rows: Sequence[ScoreRow]) -> str:
    """The line and the table as Markdown."""
    return f"{decision_line(rows)}\n\n{markdown([_HEADING, *_cells(rows)])}"


def _of_clips(rows: Sequence[ScoreRow]) -> list[list[ScoreRow]]:
    """The rows of each clip, one a seed."""
    found: dict[tuple[str, str, str], list[ScoreRow]] = {}
    for row in rows:
        found.setdefault((row.machine, row.section, row.clip), []).append(row)
    return [*found.values()]


def ranked_clips(rows: Sequence[ScoreRow]) -> dict[str, list[ClipDecision]]:
    """The clips of each machine, the highest scores first.

    A clip without a score comes before all others, as it is to be looked at.

    Args:
        rows: scores of test clips.

    Examples:
        >>> rows = [
        ...     ScoreRow("fan", "00", "", 0, name, -1, score, 1.0, int(score > 1))
        ...     for name, score in (("a", 0.0), ("b", 2.0))
        ... ]
        >>> [(clip.name, clip.verdict) for clip in ranked_clips(rows)["fan"]]
        [('b', 'yes'), ('a', 'no')]
    """
    of_machine: dict[str, list[ClipDecision]] = {}
    for own in _of_clips(rows):
        of_machine.setdefault(own[0].machine, []).append(_decision(own))
    for clips in of_machine.values():
        clips.sort(key=lambda clip: -np.inf if np.isnan(clip.score) else -clip.score)
    return dict(sorted(of_machine.items()))


def _decision(own: Sequence[ScoreRow]) -> ClipDecision:
    """The decision on a clip from its rows, one a seed."""
    score, threshold, p_value = (
        float(np.mean([getattr(row, name) for row in own]))
        for name in ("score", "threshold", "p_value")
    )
    count = sum(row.decision for row in own)
    verdict = "yes" if count == len(own) else "no"
    if 0 < count < len(own):
        verdict = f"by {count} of {len(own)} seeds"
    if np.isnan(score) or np.isnan(threshold):
        verdict = "–"
    first = own[0]
    place = first.machine, first.section, first.domain, first.clip, first.label
    return ClipDecision(*place, score, threshold, 2 * count > len(own), verdict, p_value)


def _cells(rows: Sequence[ScoreRow]) -> list[list[str]]:
    return [
        [
            *(machine, clip.name, f"{clip.score:.6g}", f"{clip.threshold:.6g}", clip.verdict),
            "–" if np.isnan(clip.p_value) else f"{clip.p_value:.3g}",
        ]
        for machine, clips in ranked_clips(rows).items()
        for clip in clips[:_MOST]
    ]
