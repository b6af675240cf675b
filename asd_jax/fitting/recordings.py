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

_UNNAMED = "machine"  # of models that were fitted or imported without a machine's name


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


class _Place(NamedTuple):
    """Where a recording belongs.

    Attributes:
        machine: its machine type; None where nothing says it.
        section: its section; None where nothing says it.
        assumed: what was assumed in place of what the file's place says; "" for nothing.
        hint: what to do if the machine was not fitted.
    """

    machine: str | None
    section: str | None
    assumed: str = ""
    hint: str = ""

    @classmethod
    def of(
        cls,
        fitted: Fitted,
        file: os.PathLike | str,
        machine: str | None,
        section: str | None,
    ) -> "_Place":
        """What is given, else what the file's place in a data set says, else the only one."""
        clip = parse_clip(os.path.abspath(file))
        machines, hint = fitted.machines, ""
        assumed = []
        if machine is None and machines != (_UNNAMED,) and clip is not None:
            machine = clip.machine
            if machine not in machines:
                hint = f" (its folder says {machine}; --machine= scores it as another)"
        elif machine is None and len(machines) == 1:
            machine = machines[0]
            assumed.append(f"machine {machine}, the only one that was fitted")
        section = section or (clip.section if clip else None)
        if machine in machines:
            sections = fitted.sections_of(machine)
            if section is None and sections is not None and len(sections) == 1:
                assumed.append(f"section {sections[0]}, the only one of {machine}")
            trained = fitted.sections.get(machine, ()) if isinstance(fitted, FittedDetector) else ()
            if section is not None and sections is None and trained and section not in trained:
                assumed.append(
                    f"section {section} of {machine}, which had no training clips; one model "
                    "scores all sections"
                )
        line = f"recordings are scored as of {' and '.join(assumed)}" if assumed else ""
        return cls(machine, section, line, hint)


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
        machine: their machine type; by default that of each file's place in a data set, else
            the only one that was fitted.
        section: their section; by default that of each file's name, else the only one.
        on_bad_clip: "stop" or "skip".
        report: called with a line about each recording that is left out, resampled or downmixed,
            and about what was assumed of recordings that fit no layout.
    """
    places = [_Place.of(fitted, file, machine, section) for file in files]
    request = _Request(files, [place[:2] for place in places], on_bad_clip, report)
    wanted = []
    said: set[str] = set()
    for index, place in enumerate(places):
        try:
            fitted.resolve(place.machine, place.section)
            wanted.append(index)
        except UserError as error:
            request.is_bad(index, UserError(f"{error}{place.hint}"))
            continue
        if place.assumed and place.assumed not in said:
            said.add(place.assumed)
            report(f"{place.assumed}, first {files[index]}")
    scores = _seed_scores(fitted, request, wanted)
    rows = []
    for index in sorted(scores):
        its_machine, its_section = request.whose[index]
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
