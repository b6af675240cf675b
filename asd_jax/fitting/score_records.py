"""Records of scores, for programs."""

import math
from typing import Any

from asd_jax.fitting.judging import UNSCORED
from asd_jax.fitting.recordings import FileScore

SCORE_FIELDS = (
    *("file", "machine", "score", "threshold", "decision", "p_value", "explanation"),
    *("state", "verdict"),
)


def score_record(row: FileScore) -> dict[str, Any]:
    """The score of a recording for programs; without a threshold there is no decision.

    A clip that is off, transient or in an unseen state has none, either.
    """
    decided = not (math.isnan(row.threshold) or math.isnan(row.score))
    record: dict[str, Any] = {
        "file": row.file,
        "machine": row.machine,
        "score": None if row.verdict in UNSCORED else row.score,
        "threshold": None if math.isnan(row.threshold) else row.threshold,
        "decision": row.decision if decided else None,
        "p_value": None if math.isnan(row.p_value) else row.p_value,
    }
    if row.explanation is not None:
        record["explanation"] = {
            "hz": row.explanation.hz,
            "parts": [
                {
                    "name": part.name,
                    "score": part.score,
                    "deviation_db": part.deviation,
                    "share": part.share,
                }
                for part in row.explanation.parts
            ],
            "when": [{"s": [begin, end], "share": s} for begin, end, s in row.explanation.when()],
            "which_hz": [
                {"hz": [low, high], "share": s} for low, high, s in row.explanation.which_hz()
            ],
            "nearest": row.explanation.nearest,
        }
    return {**record, "state": row.state, "verdict": row.verdict}
