"""Test clips that are not scored: of machines that are off, in transition, in unseen states."""

from collections import Counter
from collections.abc import Iterable

import numpy as np

from asd_jax.evaluation.results import NO_DECISION, ScoreRow
from asd_jax.evaluation.row_table import RowTable, over_seeds, text_column


def unscored(rows: Iterable[ScoreRow]) -> RowTable[ScoreRow]:
    """The rows of clips that are not scored."""
    table = RowTable.of(rows, ScoreRow)
    return table[table.where(decision=NO_DECISION)]


def unscored_lines(rows: Iterable[ScoreRow]) -> list[str]:
    """A line for each machine and section on its clips that are not scored, and why.

    Examples:
        >>> row = ScoreRow("fan", "00", "", 0, "a", 1, 2.5, 1.0, 1)
        >>> off = row._replace(clip="b", decision=NO_DECISION, verdict="off")
        >>> unscored_lines([row, off])
        ['fan 00: 1 of 2 test clips are not scored: 1 off; results are without them']
    """
    table, lines = RowTable.of(rows, ScoreRow), []
    lacking = table.where(decision=NO_DECISION)
    verdict = table.column("verdict")
    for (machine, section), own in sorted(table.groups("machine", "section").items()):
        if not lacking[own].any():
            continue
        clips = over_seeds(table, own)
        first = clips.first[lacking[clips.first]]
        counts = Counter(verdict.values[code] for code in verdict.codes[first].tolist())
        said = ", ".join(f"{count} {why}" for why, count in counts.most_common())
        lines.append(
            f"{machine} {section}: {len(first)} of {len(clips.first)} test clips are not scored: "
            f"{said}; results are without them"
        )
    return lines


def with_verdicts(rows: Iterable[ScoreRow]) -> RowTable[ScoreRow]:
    """The rows, whose verdicts follow from their decisions; those not scored stay as they are."""
    table = RowTable.of(rows, ScoreRow)
    decision, nothing = table.numbers("decision"), np.isnan(table.numbers("score"))
    nothing |= np.isnan(table.numbers("threshold"))
    verdicts = [
        own if decided == NO_DECISION else "" if none else ("normal", "anomalous")[decided]
        for own, decided, none in zip(
            table.values("verdict"), decision.tolist(), nothing.tolist(), strict=True
        )
    ]
    return table.replace(verdict=text_column(verdicts))
