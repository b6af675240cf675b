"""Scores recordings in files by a fitted run."""

import contextlib
import math
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from asd_jax.data.recordings import Waveform, read_recordings
from asd_jax.errors import UserError
from asd_jax.evaluation.promises import rounded
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.file_places import Place
from asd_jax.fitting.file_states import FileStates
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import answered
from asd_jax.fitting.together import Request, seed_scores_of, silent
from asd_jax.scoring.conformal import p_values
from asd_jax.scoring.explanation import Explanation


class FileScore(NamedTuple):
    """The score of a recording, or of a clip that is cut from it (`DataConfig.clip_seconds`).

    Attributes:
        file: as given; of a clip with its time, as "monday.flac@120-130s".
        machine: machine type whose models scored it.
        score: mean over the seeds.
        threshold: a larger score is anomalous; NaN where the run has none.
        decision: 1 if it is called anomalous, else 0.
        explanation: what the score is made of; None where it was not asked for.
        p_value: largest rate at which normal clips have such a score; NaN where no normal clip was
            kept apart from the fit.
        state: of the machine, as in `Clip`; "" where it is not known.
        verdict: as of `Judged`; the score of a clip that is off, transient or in an unseen state is
            NaN.
    """

    file: str
    machine: str
    score: float
    threshold: float
    decision: int
    explanation: Explanation | None = None
    p_value: float = math.nan
    state: str = ""
    verdict: str = ""


def score_files(
    fitted: Fitted,
    files: Sequence[os.PathLike | str],
    *,
    machine: str | None = None,
    section: str | None = None,
    on_bad_clip: str = "stop",
    report: Callable[[str], None] = print,
    explain: bool = False,
    false_alarms: float | None = None,
    state: Any = None,
) -> list[FileScore]:
    """Scores recordings.

    Args:
        fitted: the fitted system of a run.
        files: the recordings.
        machine: their machine type; by default that of each file's place in a data set, else
            the only one that was fitted.
        section: their section; by default that of each file's name, else the only one.
        on_bad_clip: "stop" or "skip".
        report: called with a line about each recording that is left out, resampled or downmixed,
            and about what was assumed of recordings that fit no layout.
        explain: whether to say what the scores are made of.
        false_alarms: as of `Fitted.threshold`.
        state: of the machine in all recordings, as of `Fitted.score`; by default what their names
            or side files say, where the run was fitted with states.

    Raises:
        UserError: a recording cannot be scored, unless they are skipped; its system cannot explain
            its scores; or the rate of false alarms cannot be promised.
    """
    if explain and not isinstance(fitted, FittedDetector):
        raise UserError("an ensemble's scores are not explained; explain those of a member")
    places = [Place.of(fitted, file, machine, section) for file in files]

    def read(
        indices: Sequence[int],
        sample_rate: int,
        channel: int | str | None,
        report: Callable[[str], None],
    ) -> Generator[tuple[int, Waveform], None, None]:
        paths = [files[index] for index in indices]
        recordings = read_recordings(
            paths, sample_rate, channel, on_bad_clip=on_bad_clip, report=report
        )
        with contextlib.closing(recordings):
            for i, waveform in recordings:
                yield indices[i], waveform

    def is_bad(index: int, error: UserError, report: Callable[[str], None]) -> None:
        line = f"{files[index]}: {error}"
        if on_bad_clip == "stop":
            raise UserError(line, exit_status=1)
        report(f"left out: {line}")

    whose = [place[:2] for place in places]
    known = FileStates(state, report)

    def states(
        detector: FittedDetector, index: int, spans: Sequence[tuple[float, float]]
    ) -> list[str]:
        data = detector.config.data
        return known.of_clips(data.state, data.state_log, files[index], spans)

    explanations: dict[int, list[Explanation]] | None = {} if explain else None
    request = Request(
        files, whose, read, is_bad, states, report, explanations, names={}, found={}, told=set()
    )
    wanted = []
    said: set[str] = set()
    for index, place in enumerate(places):
        try:
            group = fitted.resolve(place.machine, place.section)
        except UserError as error:
            is_bad(index, UserError(f"{error}{place.hint}"), report)
            continue
        known.check(fitted, group)
        wanted.append(index)
        if place.assumed and place.assumed not in said:
            said.add(place.assumed)
            report(f"{place.assumed}, first {files[index]}")
    rows = score_request(fitted, request, wanted, [false_alarms] * len(files))
    known.tell()
    return [row for index in sorted(rows) for row in rows[index]]


def score_request(
    fitted: Fitted,
    request: Request,
    wanted: Sequence[int],
    false_alarms: Sequence[float | None],
) -> dict[int, list[FileScore]]:
    """Scores recordings together.

    Args:
        fitted: as of `score_files`.
        request: the recordings.
        wanted: indices of those to be scored, whose machines and sections were fitted.
        false_alarms: of each recording, as of `score_files`.

    Returns:
        The scores of each wanted recording that can be used, one a clip, by its index.
    """
    rows: dict[int, list[FileScore]] = {}
    explanations = request.explanations
    for index, scores in seed_scores_of(fitted, request, wanted).items():
        group = fitted.resolve(*request.whose[index])
        threshold = fitted.threshold(
            machine=group[0], section=group[1] or None, false_alarms=false_alarms[index]
        )
        reference = fitted.group_reference(group, None)
        states = request.found[index]
        judged = answered(fitted, group, scores.mean(axis=1), states, threshold)
        rows[index] = [
            FileScore(
                request.names[index][number],
                group[0],
                score,
                threshold,
                int(score > threshold),
                explanations[index][number] if explanations else None,
                _or_nan(float(p_values(rounded(score), reference))),
                judged.states[number],
                judged.verdicts[number],
            )
            for number, score in enumerate(judged.scores.tolist())  # of each clip
        ]
    return rows


def _or_nan(value: float) -> float:
    """The value; the one NaN of Python in place of another, so that equal rows are equal."""
    return math.nan if math.isnan(value) else value


def explain_file(
    fitted: Fitted,
    file: os.PathLike | str,
    *,
    machine: str | None = None,
    section: str | None = None,
) -> Explanation:
    """Explains the score of one recording; arguments and errors as of `score_files`.

    Examples:
        >>> from asd_jax import load
        >>> explanation = explain_file(load("RUN"), "new.wav")  # doctest: +SKIP
        >>> explanation.when()  # doctest: +SKIP
        [(3.1, 3.4, 0.8)]
    """
    (row,) = score_files(
        fitted, [file], machine=machine, section=section, report=silent, explain=True
    )
    assert row.explanation is not None
    return row.explanation
