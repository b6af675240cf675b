"""Which recordings are called anomalous: a table for whoever listens to them."""

from collections.abc import Sequence

import numpy as np

from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.tables import markdown
from asd_jax.runtime.text_tables import aligned

_MOST = 10  # recordings of a machine that are shown
_HEADING = ("machine", "recording", "score", "threshold", "anomalous")


def decision_line(rows: Sequence[ScoreRow]) -> str:
    """How many recordings are above the threshold, and of what the table shows the highest.

    Args:
        rows: scores of test clips.
    """
    of_clips = _of_clips(rows)
    above = sum(np.mean([row.decision for row in own]) > 0.5 for own in of_clips)
    line = f"{above} of {len(of_clips)} recordings are called anomalous"
    shown = len(_cells(rows))
    return f"{line}; the {shown} with the highest scores:" if shown < len(of_clips) else f"{line}:"


def decision_table(rows: Sequence[ScoreRow], width: int | None = None) -> list[str]:
    """Lines of a text table of each machine's highest scores, the highest first.

    Args:
        rows: scores of test clips.
        width: as in `aligned`.
    """
    return aligned([_HEADING, *_cells(rows)], width=width, keys=2)


def decision_markdown(rows: Sequence[ScoreRow]) -> str:
    """The line and the table as Markdown."""
    return f"{decision_line(rows)}\n\n{markdown([_HEADING, *_cells(rows)])}"


def _of_clips(rows: Sequence[ScoreRow]) -> list[list[ScoreRow]]:
    """The rows of each clip, one a seed."""
    found: dict[tuple[str, str, str], list[ScoreRow]] = {}
    for row in rows:
        found.setdefault((row.machine, row.section, row.clip), []).append(row)
    return [*found.values()]


def _cells(rows: Sequence[ScoreRow]) -> list[list[str]]:
    of_machine: dict[str, list[list[ScoreRow]]] = {}
    for own in _of_clips(rows):
        of_machine.setdefault(own[0].machine, []).append(own)
    cells = []
    for machine, clips in sorted(of_machine.items()):
        # A recording without a score comes first, as it is to be looked at.
        scores = np.array([np.mean([row.score for row in own]) for own in clips])
        order = np.argsort(-np.where(np.isnan(scores), np.inf, scores), kind="stable")
        for i in order[:_MOST].tolist():
            own = clips[i]
            threshold = np.mean([row.threshold for row in own])
            count = sum(row.decision for row in own)
            verdict = "yes" if count == len(own) else "no"
            if 0 < count < len(own):
                verdict = f"by {count} of {len(own)} seeds"
            if np.isnan(scores[i]) or np.isnan(threshold):
                verdict = "–"
            cells.append([machine, own[0].clip, f"{scores[i]:.6g}", f"{threshold:.6g}", verdict])
    return cells
