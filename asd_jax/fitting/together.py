"""Scores of several recordings together, of any machines that a run was fitted to."""

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.data.recordings import Waveform
from asd_jax.data.states import OFF, TRANSIENT
from asd_jax.errors import UserError
from asd_jax.features.batches import ClipFrames
from asd_jax.features.cut import n_pieces, piece_name
from asd_jax.features.embeddings import log_mel_embedding, mean_embedding
from asd_jax.features.frames import frame_blocks, usable_frames
from asd_jax.features.request import ClipFrontEnd
from asd_jax.fitting.detector import SHARE_CLIPS, FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.explaining import explain_clips
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.in_state import in_state
from asd_jax.fitting.judging import found_states, unscored
from asd_jax.fitting.lengths import length_line
from asd_jax.fitting.operating import Listened
from asd_jax.fitting.pooled import pool_clips, take
from asd_jax.fitting.set_up_check import MeanMeter, SetUpCheck
from asd_jax.scoring.explanation import Explanation

Models = tuple[int, ...]  # indices of a fitted detector's models


class Request(NamedTuple):
    """Recordings to be scored together.

    Attributes:
        files: their names.
        whose: machine and section of each.
        read: (indices, sample rate, channel, report) → the waveforms of those that can be read,
            in that order.
        is_bad: called with the index of a recording that cannot be used, why, and `report`.
        states: (detector, index, spans) → the state of each clip of a recording, as in `Clip`, by
            its begin and end in seconds.
        report: called with lines about the recordings.
        explanations: of each clip of a file, to be filled; None for none.
        names: of each file's clips, to be filled.
        found: states of each file's clips, "off" or "transient" where levels say so; likewise.
        told: what lines were about, so that members of an ensemble say it once; likewise.
    """

    files: Sequence[os.PathLike | str]
    whose: Sequence[tuple[str | None, str | None]]
    read: Callable[
        [Sequence[int], int, int | str | None, Callable[[str], None]],
        Generator[tuple[int, Waveform], None, None],
    ]
    is_bad: Callable[[int, UserError, Callable[[str], None]], None]
    states: Callable[[FittedDetector, int, Sequence[tuple[float, float]]], list[str]]
    report: Callable[[str], None]
    explanations: dict[int, list[Explanation]] | None
    names: dict[int, list[str]]
    found: dict[int, list[str]]
    told: set[Hashable]

    def tell(self, about: Hashable, line: str) -> None:
        """Reports a line, unless there was one about the same."""
        if about not in self.told:
            self.told.add(about)
            self.report(line)


def silent(line: str) -> None:
    """Says nothing: another reading of the same recordings would say the same."""


def seed_scores_of(
    fitted: Fitted, request: Request, wanted: Sequence[int]
) -> dict[int, np.ndarray]:
    """Scores recordings by each seed.

    Args:
        fitted: the fitted system of a run.
        request: the recordings; its `explanations`, `names` and `found` are filled.
        wanted: indices of those to be scored, whose machines and sections were fitted.

    Returns:
        (clips, seeds) of each wanted recording that can be used, by its index.
    """
    if isinstance(fitted, FittedDetector):
        return _of_detector(fitted, request, wanted)
    assert isinstance(fitted, FittedMembers)  # the other kind
    groups = {index: fitted.resolve(*request.whose[index]) for index in wanted}
    served = {index: fitted.serving(machine) for index, (machine, _) in groups.items()}
    scores: dict[int, list[np.ndarray]] = {index: [] for index in wanted}
    # Members read the same recordings, and would say the same of them.
    whole, request = request, request._replace(report=lambda line: whole.tell(line, line))
    for name, member in fitted.members.items():
        own = [index for index in scores if name in served[index]]
        of_member = seed_scores_of(member, request, own) if own else {}
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
    fitted: FittedDetector, request: Request, wanted: Sequence[int]
) -> dict[int, np.ndarray]:
    """Scores recordings in a memory that is independent of their number and lengths."""
    models: dict[int, Models] = {}  # that score each file
    alike: dict[Models, list[int]] = {}  # files whose pieces go through one program together
    for index in wanted:
        chosen = tuple(fitted.models_of(fitted.resolve(*request.whose[index])))
        models[index] = chosen
        key = chosen if request.explanations is not None else _pooling(fitted, chosen)
        alike.setdefault(key, []).append(index)
    together = {index: key for key, files in alike.items() for index in files}
    scores: dict[int, list[np.ndarray]] = {}
    n_frames: dict[int, list[int]] = {}  # of each clip of a file
    check = SetUpCheck(fitted)
    meters: dict[int, list[MeanMeter | None]] = {}  # likewise
    heard: dict[int, list[Listened]] = {}  # likewise, where levels tell what is off
    embeddings = _embeddings(fitted, request, [*together])
    # Batches of frames have those of all machines; other programs follow them in turn.
    with _frames(fitted, request, [*together]) as all_frames:
        for key, frames in itertools.groupby(all_frames, key=lambda own: together[own[0]]):
            # The place of a clip among all, as a file may have several, and its file.
            places = itertools.count()
            file_of: dict[int, int] = {}
            clips = (
                ClipFrames(
                    _placed(next(places), index, file_of),
                    _measured(
                        _heard(
                            fitted,
                            _counted(blocks, n_frames.setdefault(index, [])),
                            heard.setdefault(index, []),
                        ),
                        check.meter(fitted.resolve(*request.whose[index]), index),
                        meters.setdefault(index, []),
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
                for clip, of_seeds in _clip_scores(fitted, clips, file_of, models):
                    scores.setdefault(file_of[clip.position], []).append(of_seeds)
            else:
                for clip, score, explanation in explain_clips(fitted, key, clips):
                    index = file_of[clip.position]
                    request.explanations.setdefault(index, []).append(explanation)
                    scores.setdefault(index, []).append(score)
    for index in scores:
        group, states = fitted.resolve(*request.whose[index]), request.found[index]
        levels = [each.levels for each in heard[index]] or None
        request.found[index] = states = found_states(fitted, group, states, levels)
        for meter, why in zip(meters[index], unscored(fitted, group, states), strict=True):
            if meter is not None and why:  # a machine that is off is of the same set-up
                meter.clear()
    for group in dict.fromkeys(fitted.resolve(*request.whose[index]) for index in scores):
        own = [index for index in scores if fitted.resolve(*request.whose[index]) == group]
        names = [name for index in own for name in request.names[index]]
        counts = [count for index in own for count in n_frames[index]]
        if line := length_line(fitted, group, names, counts):
            request.tell(("length", group), line)
    for about, line in check.lines([os.fspath(file) for file in request.files]):
        request.tell(about, line)
    return {index: np.stack(own) for index, own in scores.items()}


def _pooling(fitted: FittedDetector, chosen: Models) -> Models:
    """What pools of models differ by: nothing without training, the networks of a joint system."""
    if not fitted.config.detector.trains:
        return ()
    return tuple(fitted.networks_of(chosen)) if fitted.detector.joint else chosen


def _clip_scores(
    fitted: FittedDetector,
    clips: Iterable[ClipFrames],
    file_of: Mapping[int, int],
    models: Mapping[int, Models],
) -> Iterator[tuple[ClipFrames, np.ndarray]]:
    """Scores (seeds,) of clips, in their order, by the models of their files, which pool alike."""

    def models_of(clip: ClipFrames) -> Models:
        return models[file_of[clip.position]]

    first = next(clips := iter(clips), None)
    if first is None:
        return
    weights = take(fitted.weights, fitted.networks_of(models_of(first)))
    program = functools.partial(fitted.pool_pieces, weights)
    pooled = pool_clips(fitted.detector, program, itertools.chain([first], clips))
    while some := [*itertools.islice(pooled, SHARE_CLIPS)]:
        rows: list[np.ndarray] = [np.empty(0)] * len(some)
        for chosen in dict.fromkeys(models_of(clip) for clip, _ in some):
            own = [i for i, (clip, _) in enumerate(some) if models_of(clip) == chosen]
            left = in_state(fitted, chosen, [some[i] for i in own])
            scores = fitted.scores_of_pools(chosen, left)  # (models, clips)
            for i, row in zip(own, fitted.of_seeds(chosen, scores).T, strict=True):
                rows[i] = row
        for (clip, _), row in zip(some, rows, strict=True):
            yield clip, row


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
    fitted: FittedDetector, request: Request, index: int, blocks: Iterable[np.ndarray]
) -> Iterator[tuple[Iterable[np.ndarray], str]]:
    """The frames of a file, or of each clip that it is cut into, in blocks; and their states."""
    data, name = fitted.config.data, os.fspath(request.files[index])
    if not data.clip_seconds and not data.state_log:
        request.names[index] = [name]
        yield blocks, _states(fitted, request, index, [(0.0, math.inf)])[0]
        return
    frames = np.concatenate([*blocks])  # (frames, width), which are small beside the samples
    front_end, fewest = fitted.detector.front_end, fitted.detector.views.fewest
    frame, pieces = front_end.hop_length / front_end.sample_rate, 1
    if data.clip_seconds:
        pieces = int(n_pieces(np.array([len(frames)]), front_end, data.clip_seconds, fewest)[0])
    edges = [number * len(frames) // pieces for number in range(pieces + 1)]
    spans = [*itertools.pairwise(edges)]
    times = [(first * frame, last * frame) for first, last in spans]
    request.names[index] = [
        piece_name(name, begin, end) if pieces > 1 else name for begin, end in times
    ]
    states = _states(fitted, request, index, times)
    for (first, last), state in zip(spans, states, strict=True):
        yield [frames[first:last]], state


def _states(
    fitted: FittedDetector, request: Request, index: int, spans: Sequence[tuple[float, float]]
) -> list[str]:
    """The state of each clip of a file, as given or as another member has found it."""
    states = request.states(fitted, index, spans)
    before = request.found.get(index, [""] * len(states))
    if len(before) == len(states):
        pairs = zip(before, states, strict=True)
        states = [own if own in (OFF, TRANSIENT) else given for own, given in pairs]
    request.found[index] = states
    return states


def _counted(blocks: Iterable[np.ndarray], n_frames: list[int]) -> Iterator[np.ndarray]:
    """The blocks (frames, mels) of a clip, whose number of frames is appended to a list."""
    place = len(n_frames)
    n_frames.append(0)
    for block in blocks:
        n_frames[place] += len(block)
        yield block


def _measured(
    blocks: Iterable[np.ndarray], meter: MeanMeter | None, meters: list[MeanMeter | None]
) -> Iterator[np.ndarray]:
    """The blocks of a clip, whose levels are measured by a meter that is appended to a list."""
    meters.append(meter)
    for block in blocks:
        if meter is not None:
            meter.add(block)
        yield block


def _embeddings(
    fitted: FittedDetector, request: Request, files: Sequence[int]
) -> dict[int, np.ndarray] | None:
    """(values,) of each file, where the configuration asks for embeddings."""
    config = fitted.config
    if config.embedding.kind == "none":
        return None
    if not config.embedding.pretrained:
        with _frames(fitted, request._replace(report=silent), files) as frames:
            return {index: log_mel_embedding(blocks) for index, blocks in frames}
    with _waveforms(fitted, request, files, fitted.embedder) as waveforms:
        windows = frame_blocks(waveforms, fitted.embedder)
        return {index: mean_embedding(blocks) for index, blocks in windows}


@contextlib.contextmanager
def _frames(
    fitted: FittedDetector, request: Request, files: Sequence[int]
) -> Iterator[Iterator[tuple[int, Iterable[np.ndarray]]]]:
    """(frames, mels) of each file that has enough, in blocks."""
    front_end, views = fitted.detector.front_end, fitted.detector.views
    with _waveforms(fitted, request, files, front_end) as waveforms:
        yield usable_frames(
            waveforms,
            front_end,
            min_frames=views.fewest,
            fill_frames=views.filled,
            leave_out=lambda index, problem: request.is_bad(
                index, UserError(problem), request.report
            ),
        )


@contextlib.contextmanager
def _waveforms(
    fitted: FittedDetector, request: Request, files: Sequence[int], front_end: ClipFrontEnd
) -> Iterator[Iterator[tuple[int, Waveform]]]:
    channel = fitted.config.channel
    waveforms = request.read(files, front_end.sample_rate, channel, request.report)
    with contextlib.closing(waveforms):
        yield waveforms
