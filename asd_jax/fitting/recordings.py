"""Scores recordings in files by a fitted run."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.data import audio_files
from asd_jax.data.layouts import parse_clip
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.layout import Group


class FileScore(NamedTuple):
    """The score of a recording.

    Attributes:
        file: as given.
        machine: machine type whose models scored it.
        score: mean over the seeds.
        threshold: a larger score is anomalous; NaN where the run has none.
        decision: 1 if it is called anomalous, else 0.
    """

    file: str
    machine: str
    score: float
    threshold: float
    decision: int


class _Request(NamedTuple):
    files: Sequence[os.PathLike | str]
    whose: Sequence[tuple[str | None, str | None]]  # machine and section of each file
    on_bad_clip: str
    report: Callable[[str], None]

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
) -> list[FileScore]:
    """Scores recordings.

    Args:
        fitted: the fitted system of a run.
        files: the recordings.
        machine: their machine type; inferred from each file's folder by default, where the run
            has several.
        section: their section; inferred from each file's name by default, where needed.
        on_bad_clip: "stop" or "skip".
        report: called with a line about each recording that is left out, resampled or downmixed.
    """
    several = len(fitted.machines) > 1
    whose = []
    for file in files:
        clip = parse_clip(os.path.abspath(file))
        whose.append(
            (
                machine or (clip.machine if clip and several else None),
                section or (clip.section if clip else None),
            )
        )
    request = _Request(files, whose, on_bad_clip, report)
    wanted = []
    for index, (its_machine, its_section) in enumerate(whose):
        try:
            fitted.resolve(its_machine, its_section)
            wanted.append(index)
        except UserError as error:
            request.is_bad(index, error)
    scores = _seed_scores(fitted, request, wanted)
    rows = []
    for index in sorted(scores):
        its_machine, its_section = whose[index]
        threshold = fitted.threshold(machine=its_machine, section=its_section)
        score = float(scores[index].mean())
        rows.append(
            FileScore(
                os.fspath(files[index]),
                its_machine or fitted.machines[0],
                score,
                threshold,
                int(score > threshold),
            )
        )
    return rows


def _seed_scores(fitted: Fitted, request: _Request, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    """(seeds,) scores of each wanted file that can be used, by its index."""
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
                scores[index].append(of_member[index][:, None])
            else:  # reported; scores of the other members alone cannot be combined
                del scores[index]
    return {
        index: fitted.combined(of_members, groups[index], fitted.seeds)[:, 0]
        for index, of_members in scores.items()
    }


def _of_detector(
    fitted: FittedDetector, request: _Request, wanted: Sequence[int]
) -> dict[int, np.ndarray]:
    config = fitted.config
    channel = None if config.data.channel < 0 else config.data.channel

    def batches(sample_rate: int) -> Iterator[tuple[list[int], list[np.ndarray]]]:
        files = [request.files[index] for index in wanted]
        return audio_files.read_batches(
            files, sample_rate, channel, 32, on_bad_clip=request.on_bad_clip, report=request.report
        )

    embeddings = {}
    if config.embedding.pretrained:
        for positions, waveforms in batches(fitted.embedder.sample_rate):
            for position, waveform in zip(positions, waveforms, strict=True):
                of_clip = fitted.embeddings(waveform, fitted.embedder.sample_rate)
                assert of_clip is not None  # as the configuration names a network
                embeddings[wanted[position]] = of_clip[0]
    scores = {}
    for positions, waveforms in batches(config.front_end.sample_rate):
        groups: dict[Group, list[tuple[int, np.ndarray]]] = {}
        for position, waveform in zip(positions, waveforms, strict=True):
            index = wanted[position]
            try:
                features = fitted.features(waveform, config.front_end.sample_rate)[0]
            except UserError as error:
                request.is_bad(index, error)
                continue
            groups.setdefault(fitted.resolve(*request.whose[index]), []).append((index, features))
        for group, clips in groups.items():
            of_group = fitted.seed_feature_scores(
                [features for _, features in clips],
                group,
                fitted.seeds,
                np.array([embeddings[i] for i, _ in clips]) if embeddings else None,
            )
            for (index, _), row in zip(clips, of_group.T, strict=True):
                scores[index] = row
    return scores
