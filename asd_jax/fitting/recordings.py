"""Scores recordings in files by a fitted run."""

import contextlib
import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.recordings import Waveform, read_recordings
from asd_jax.errors import UserError
from asd_jax.evaluation.promises import rounded
from asd_jax.features.batches import ClipFrames
from asd_jax.features.cut import n_pieces, piece_name
from asd_jax.features.embeddings import log_mel_embedding, mean_embedding
from asd_jax.features.frames import frame_blocks, usable_frames
from asd_jax.features.request import ClipFrontEnd
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.explaining import explain_clips
from asd_jax.fitting.file_places import Place
from asd_jax.fitting.file_states import FileStates
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import answered, found_states
from asd_jax.fitting.lengths import length_line
from asd_jax.fitting.operating import Listened
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


class _Request(NamedTuple):
    files: Sequence[os.PathLike | str]
    whose: Sequence[tuple[str | None, str | None]]  # machine and section of each file
    on_bad_clip: str
    report: Callable[[str], None]
    # Of each clip of a file, to be filled; None for none.
    explanations: dict[int, list[Explanation]] | None
    names: dict[int, list[str]]  # of each file's clips, to be filled
    states: dict[int, list[str]]  # likewise
    known: FileStates

    def is_bad(self, index: int, error: UserError) -> None:
        line = f"{self.files[index]}: {error}"
        if self.on_bad_clip == "stop":
            raise UserError(line, exit_status=1)
        self.report(f"left out: {line}")


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
    explanations: dict[int, list[Explanation]] | None = {} if explain else None
    whose = [place[:2] for place in places]
    known = FileStates(state, report)
    request = _Request(files, whose, on_bad_clip, report, explanations, {}, {}, known)
    wanted = []
    said: set[str] = set()
    for index, place in enumerate(places):
        try:
            group = fitted.resolve(place.machine, place.section)
        except UserError as error:
            request.is_bad(index, UserError(f"{error}{place.hint}"))
            continue
        known.check(fitted, group)
        wanted.append(index)
        if place.assumed and place.assumed not in said:
            said.add(place.assumed)
            report(f"{place.assumed}, first {files[index]}")
    scores = _seed_scores(fitted, request, wanted)
    known.tell()
    rows = []
    for index in sorted(scores):
        its_machine, its_section = request.whose[index]
        threshold = fitted.threshold(
            machine=its_machine, section=its_section, false_alarms=false_alarms
        )
        group = fitted.resolve(its_machine, its_section)
        reference = fitted.group_reference(group, None)
        states = request.states[index]
        judged = answered(fitted, group, scores[index].mean(axis=1), states, threshold)
        for number, score in enumerate(judged.scores.tolist()):  # of each clip
            rows.append(
                FileScore(
                    request.names[index][number],
                    its_machine or fitted.machines[0],
                    score,
                    threshold,
                    int(score > threshold),
                    explanations[index][number] if explanations else None,
                    _or_nan(float(p_values(rounded(score), reference))),
                    judged.states[number],
                    judged.verdicts[number],
                )
            )
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
        fitted, [file], machine=machine, section=section, report=_silent, explain=True
    )
    assert row.explanation is not None
    return row.explanation


def _seed_scores(fitted: Fitted, request: _Request, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    """(clips, seeds) scores of each wanted file that can be used, by its index."""
    if isinstance(fitted, FittedDetector):
        return _of_detector(fitted, request, wanted)
    assert isinstance(fitted, FittedMembers)  # the other kind
    groups = {index: fitted.resolve(*request.whose[index]) for index in wanted}
    served = {index: fitted.serving(machine) for index, (machine, _) in groups.items()}
    scores: dict[int, list[np.ndarray]] = {index: [] for index in wanted}
    for name, member in fitted.members.items():
        own = [index for index in scores if name in served[index]]
        of_member = _seed_scores(member, request, own) if own else {}
        for index in own:
            if index in of_member:
                of_seeds = of_member[index].T  # (seeds, clips)
                if len(of_seeds) == 1:  # also of a member that trains nothing
                    of_seeds = np.repeat(of_seeds, len(fitted.seeds), axis=0)
                if scores[index] and scores[index][0].shape[1] != of_seeds.shape[1]:
                    raise UserError(
                        f"{request.files[index]}: the members cut it into different numbers of "
                        "clips, as their frames differ; set another data.clip_seconds"
                    )
                scores[index].append(of_seeds)
            else:  # reported; scores of the other members alone cannot be combined
                del scores[index]
    return {
        index: fitted.combined(of_members, groups[index], fitted.seeds).T
        for index, of_members in scores.items()
    }


def _of_detector(
    fitted: FittedDetector, request: _Request, wanted: Sequence[int]
) -> dict[int, np.ndarray]:
    """Scores recordings in a memory that is independent of their number and lengths."""
    of_models: dict[tuple[int, ...], list[int]] = {}  # models → files that they score
    for index in wanted:
        group = fitted.resolve(*request.whose[index])
        of_models.setdefault(tuple(fitted.models_of(group)), []).append(index)
    scores: dict[int, list[np.ndarray]] = {}
    n_frames: dict[int, list[int]] = {}  # of each clip of a file
    for chosen, files in of_models.items():
        embeddings = _embeddings(fitted, request, files)
        with _frames(fitted, request, files) as frames:
            # The place of a clip among all, as a file may have several, and its file.
            places = itertools.count()
            file_of: dict[int, int] = {}
            heard: dict[int, list[Listened]] = {}
            clips = (
                ClipFrames(
                    _placed(next(places), index, file_of),
                    _heard(
                        fitted,
                        _counted(blocks, n_frames.setdefault(index, [])),
                        heard.setdefault(index, []),
                    ),
                    fitted.label_of(fitted.resolve(*request.whose[index])),
                    None if embeddings is None else embeddings[index],
                    state,
                )
                for index, whole in frames
                if embeddings is None or index in embeddings
                for blocks, state in _clips_of(fitted, request, index, whole)
            )
            if request.explanations is None:
                for clip, score in fitted.clip_scores(chosen, clips):
                    of_seeds = fitted.of_seeds(chosen, score[:, None])[:, 0]
                    scores.setdefault(file_of[clip.position], []).append(of_seeds)
            else:
                for clip, score, explanation in explain_clips(fitted, chosen, clips):
                    index = file_of[clip.position]
                    request.explanations.setdefault(index, []).append(explanation)
                    scores.setdefault(index, []).append(score)
            for index, listened in heard.items():
                if listened:
                    group = fitted.resolve(*request.whose[index])
                    levels = [each.levels for each in listened]
                    states = request.states[index]
                    request.states[index] = found_states(fitted, group, states, levels)
    for group in dict.fromkeys(fitted.resolve(*request.whose[index]) for index in scores):
        own = [index for index in scores if fitted.resolve(*request.whose[index]) == group]
        names = [name for index in own for name in request.names[index]]
        counts = [count for index in own for count in n_frames[index]]
        if line := length_line(fitted, group, names, counts):
            request.report(line)
    return {index: np.stack(own) for index, own in scores.items()}


def _placed(place: int, index: int, file_of: dict[int, int]) -> int:
    """The place of a clip, whose file is noted."""
    file_of[place] = index
    return place


def _heard(
    fitted: FittedDetector, blocks: Iterable[np.ndarray], heard: list[Listened]
) -> Iterable[np.ndarray]:
    """The blocks of a clip, whose levels are noted where they tell what is off."""
    if not fitted.operating.quiet:
        return blocks
    heard.append(Listened(blocks, fitted.config.detector.hears_waveforms))
    return heard[-1]


def _clips_of(
    fitted: FittedDetector, request: _Request, index: int, blocks: Iterable[np.ndarray]
) -> Iterator[tuple[Iterable[np.ndarray], str]]:
    """The frames of a file, or of each clip that it is cut into, in blocks; and their states."""
    data, name = fitted.config.data, os.fspath(request.files[index])
    seconds = data.clip_seconds

    def states(spans: Sequence[tuple[float, float]]) -> list[str]:
        file = request.files[index]
        found = request.known.of_clips(data.state, data.state_log, file, spans)
        request.states[index] = found
        return found

    if not seconds and not data.state_log:
        request.names[index] = [name]
        yield blocks, states([(0.0, math.inf)])[0]
        return
    frames = np.concatenate([*blocks])  # (frames, width), which are small beside the samples
    front_end, fewest = fitted.detector.front_end, fitted.detector.views.fewest
    frame = front_end.hop_length / front_end.sample_rate
    pieces = 1
    if seconds:
        pieces = int(n_pieces(np.array([len(frames)]), front_end, seconds, fewest)[0])
    edges = [number * len(frames) // pieces for number in range(pieces + 1)]
    spans = [*itertools.pairwise(edges)]
    request.names[index] = [
        piece_name(name, first * frame, last * frame) if pieces > 1 else name
        for first, last in spans
    ]
    found = states([(first * frame, last * frame) for first, last in spans])
    for (first, last), state in zip(spans, found, strict=True):
        yield [frames[first:last]], state


def _counted(blocks: Iterable[np.ndarray], n_frames: list[int]) -> Iterator[np.ndarray]:
    """The blocks (frames, mels) of a clip, whose number of frames is appended to a list."""
    place = len(n_frames)
    n_frames.append(0)
    for block in blocks:
        n_frames[place] += len(block)
        yield block


def _embeddings(
    fitted: FittedDetector, request: _Request, files: Sequence[int]
) -> dict[int, np.ndarray] | None:
    """(values,) of each file, where the configuration asks for embeddings."""
    config = fitted.config
    if config.embedding.kind == "none":
        return None
    if not config.embedding.pretrained:
        with _frames(fitted, request._replace(report=_silent), files) as frames:
            return {index: log_mel_embedding(blocks) for index, blocks in frames}
    with _waveforms(fitted, request, files, fitted.embedder) as waveforms:
        windows = frame_blocks(waveforms, fitted.embedder)
        return {index: mean_embedding(blocks) for index, blocks in windows}


def _silent(line: str) -> None:
    """Another reading of the same files says the same."""


@contextlib.contextmanager
def _frames(
    fitted: FittedDetector, request: _Request, files: Sequence[int]
) -> Iterator[Iterator[tuple[int, Iterable[np.ndarray]]]]:
    """(frames, mels) of each file that has enough, in blocks."""
    front_end, views = fitted.detector.front_end, fitted.detector.views
    with _waveforms(fitted, request, files, front_end) as waveforms:
        yield usable_frames(
            waveforms,
            front_end,
            min_frames=views.fewest,
            fill_frames=views.filled,
            leave_out=lambda index, problem: request.is_bad(index, UserError(problem)),
        )


@contextlib.contextmanager
def _waveforms(
    fitted: FittedDetector, request: _Request, files: Sequence[int], front_end: ClipFrontEnd
) -> Iterator[Iterator[tuple[int, Waveform]]]:
    recordings = read_recordings(
        [request.files[index] for index in files],
        front_end.sample_rate,
        fitted.config.channel,
        on_bad_clip=request.on_bad_clip,
        report=request.report,
    )
    with contextlib.closing(recordings):
        yield ((files[i], waveform) for i, waveform in recordings)
