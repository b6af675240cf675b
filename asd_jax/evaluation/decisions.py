"""Which recordings are called anomalous: a table for whoever listens to them."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import ANOMALY, NORMAL
from asd_jax.data.columns import Categorical
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.row_table import RowTable, over_seeds
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


def decision_line(rows: Iterable[ScoreRow]) -> str:
    """How many recordings are above the threshold, and of what the table shows the highest.

    Args:
        rows: scores of test clips.
    """
    ranked = ranked_clips(rows)
    line = f"{counted(ranked)} are called anomalous"
    count, shown = sum(map(len, ranked.values())), len(_cells(ranked))
    return f"{line}; the {shown} with the highest scores:" if shown < count else f"{line}:"


def counted(ranked: Mapping[str, RowTable[ClipDecision]]) -> str:
    """How many clips, from `ranked_clips`, are called anomalous, in words."""
    above = sum(int(clips.where(is_anomalous=True).sum()) for clips in ranked.values())
    return f"{above} of {sum(map(len, ranked.values()))} recordings"


def decision_table(rows: Iterable[ScoreRow], width: int | None = None) -> list[str]:
    """Lines of a text table of each machine's highest scores, the highest first.

    Args:
        rows: scores of test clips.
        width: as in `aligned`.
    """
    return aligned([_HEADING, *_cells(ranked_clips(rows))], width=width, keys=2)


def count_table(rows: Iterable[ScoreRow]) -> list[str]:
    """Lines of a text table of the decisions on labelled clips, of all seeds together.

    Args:
        rows: scores of test clips.
    """
    table = RowTable.of(rows, ScoreRow)
    label, decision, threshold = (table.numbers(n) for n in ("label", "decision", "threshold"))
    places: dict[tuple[str, str, str], list[np.ndarray]] = {}
    for (machine, section, domain), own in table.groups("machine", "section", "domain").items():
        places.setdefault((machine, section, domain or "all"), []).append(own)
    cells = []
    for place, parts in sorted(places.items()):
        own = np.sort(np.concatenate(parts))
        called = [decision[own[label[own] == kind]] for kind in (NORMAL, ANOMALY)]
        counts = [f"{of_kind.sum()}/{len(of_kind)}" for of_kind in called]
        cells.append([*place, f"{np.mean(threshold[own]):.6g}", *counts])
    heading = ("machine", "section", "domain", "threshold", "false alarms", "anomalies found")
    return aligned([heading, *cells])


def decision_markdown(rows: Iterable[ScoreRow]) -> str:
    """The line and the table as Markdown."""
    rows = RowTable.of(rows, ScoreRow)
    return f"{decision_line(rows)}\n\n{markdown([_HEADING, *_cells(ranked_clips(rows))])}"


def ranked_clips(rows: Iterable[ScoreRow]) -> dict[str, RowTable[ClipDecision]]:
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
    table = RowTable.of(rows, ScoreRow)
    groups = sorted(table.groups("machine").items())
    return {machine: _ranked(table, own) for (machine,), own in groups}


def _ranked(table: RowTable[ScoreRow], rows: np.ndarray) -> RowTable[ClipDecision]:
    """The decisions on a machine's clips, of whose rows each has one a seed."""
    clips = over_seeds(table, rows)
    score, threshold, p_value = (
        clips.means(table.numbers(name)) for name in ("score", "threshold", "p_value")
    )
    called = clips.sums(table.numbers("decision")).astype(int)
    order = np.argsort(np.where(np.isnan(score), -np.inf, -score), kind="stable")
    # Few distinct verdicts: by how many seeds say so, and of how many.
    undecided = np.isnan(score) | np.isnan(threshold)
    kinds = np.stack([called, clips.n_rows, undecided], axis=1)
    distinct, codes = np.unique(kinds, axis=0, return_inverse=True)
    verdicts = Categorical.of(codes.ravel(), range(len(distinct)))
    words = tuple(_verdict(*kind) for kind in distinct.tolist())
    first = table[clips.first]
    return RowTable.of_columns(
        ClipDecision,
        len(order),
        **{name: first.column(name) for name in ("machine", "section", "domain", "label")},
        name=first.column("clip"),
        score=score,
        threshold=threshold,
        is_anomalous=2 * called > clips.n_rows,
        verdict=verdicts.renamed(words),
        p_value=p_value,
    )[order]


def _verdict(called: int, of: int, undecided: int) -> str:
    """The verdict of a clip that so many of its seeds call anomalous."""
    if undecided:
        return "–"
    return f"by {called} of {of} seeds" if 0 < called < of else "yes" if called else "no"


def _cells(ranked: Mapping[str, RowTable[ClipDecision]]) -> list[list[str]]:
    return [
        [
            *(machine, clip.name, f"{clip.score:.6g}", f"{clip.threshold:.6g}", clip.verdict),
            "–" if np.isnan(clip.p_value) else f"{clip.p_value:.3g}",
        ]
        for machine, clips in ranked.items()
        for clip in clips[:_MOST]
    ]
