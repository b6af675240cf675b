"""Compares recent recordings with those that a run was trained on: scores, and levels of bands."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax.detectors.cells import band_hz
from asd_jax.errors import UserError
from asd_jax.features.table import FeatureSet
from asd_jax.fitting.adapting import not_known
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.history import levels_of
from asd_jax.fitting.judging import unscored
from asd_jax.fitting.layout import Group
from asd_jax.fitting.operating import with_given_states, with_states
from asd_jax.fitting.scores import states_of
from asd_jax.runs.adapting import clips_of, features_of_recordings
from asd_jax.runs.loading import load
from asd_jax.runtime.arguments import check_path
from asd_jax.runtime.files import fitting_name
from asd_jax.runtime.progress import Reporter
from asd_jax.scoring.conformal import percent
from asd_jax.scoring.drift import (
    Comparison,
    compare_levels,
    compare_scores,
    of_groups,
    rejected,
)
from asd_jax.scoring.resampled import Change, Difference
from asd_jax.scoring.set_up import name_changes

RATE = 0.05  # of reports that say of a change where there is none


class MachineDrift(NamedTuple):
    """What has changed at one machine, or section of it.

    Attributes:
        machine: the machine type.
        section: "" where a model serves all sections.
        n_recent: recent clips.
        n_older: clips of training with levels.
        sound: the test of the levels; None where training's are not known.
        sound_differs: whether it says that something has changed.
        score: the test of the scores; None where no score of training is one of unseen clips.
        score_differs: likewise.
        above: shares of the recent and of training's scores that are above the threshold.
        changes: what differs; empty where nothing is known to.
        largest_db: the largest difference of a band.
    """

    machine: str
    section: str
    n_recent: int
    n_older: int
    sound: Comparison | None
    sound_differs: bool
    score: Comparison | None
    score_differs: bool
    above: tuple[float, float]
    changes: tuple[Change, ...]
    largest_db: float

    @property
    def name(self) -> str:
        """Machine and section."""
        return " ".join(filter(None, [self.machine, self.section]))

    @property
    def differs(self) -> bool:
        """Whether anything has changed."""
        return self.sound_differs or self.score_differs

    def lines(self) -> list[str]:
        """What is found, for people."""
        found = [f"{self.name}: {self.n_recent} recent clips beside {self.n_older} of training"]
        if self.sound is not None and self.sound_differs:
            found.append(f"  the sound has changed (p = {self.sound.p_value:.2g})")
            found += [f"  {change.kind}: {change.words}" for change in self.changes]
            if not self.changes:
                found.append(
                    f"  by too little to be named: at most {self.largest_db:.1f} dB in a band"
                )
        elif self.sound is not None:
            found.append(f"  no change of the sound to be seen (p = {self.sound.p_value:.2g})")
        else:
            found.append("  levels of training clips are not known, as the run is of before")
        if self.score is None:
            found.append("  no normal clip was kept apart from the fit to compare scores with")
            return found
        recent, older = map(percent, self.above)
        verdict = "scores are larger than" if self.score_differs else "scores are not larger than"
        found.append(
            f"  {verdict} those of training (p = {self.score.p_value:.2g}): {recent} above the "
            f"threshold, {older} then"
        )
        return found


class Drift(NamedTuple):
    """What has changed at all machines of which there are recent recordings.

    Attributes:
        machines: each of them.
        rate: of reports that say of a change at any machine where there is none, at most.
    """

    machines: tuple[MachineDrift, ...]
    rate: float

    def lines(self) -> list[str]:
        """What is found, for people, and what that is worth."""
        found = [line for machine in self.machines for line in machine.lines()]
        tests = [t for m in self.machines for t in (m.sound, m.score) if t is not None]
        if not tests:
            return found
        found.append("")
        several = f"any of these {len(tests)} tests says" if len(tests) > 1 else "this test says"
        found.append(
            f"Where nothing has changed, {several} that something has in at most "
            f"{percent(self.rate)} of such reports (permutations of groups; Holm). A machine whose "
            "own sound has changed differs as well: the words say what each change is compatible "
            "with."
        )
        weak = [
            machine.name
            for machine in self.machines
            if machine.sound is not None
            and not machine.differs
            and machine.sound.smallest > self.rate / len(tests)
        ]
        if weak:
            found.append(
                f"{', '.join(weak)}: too few recordings, or groups of them, to tell a change at "
                "this rate; give more"
            )
        return found

    def records(self) -> list[dict[str, Any]]:
        """A record for each test and each change, for programs."""
        found: list[dict[str, Any]] = []
        for own in self.machines:
            place = {"machine": own.machine, "section": own.section}
            tests = (
                ("sound", own.sound, own.sound_differs),
                ("score", own.score, own.score_differs),
            )
            for what, test, differs in tests:
                if test is not None:
                    facts = {"p_value": test.p_value, "differs": int(differs)}
                    found.append({**place, "record": what, **facts, "size": None, "words": None})
            for change in own.changes:
                said = {"size": change.size, "words": change.words}
                found.append(
                    {**place, "record": change.kind, "p_value": None, "differs": 1, **said}
                )
        return found


RECORD = ("machine", "section", "record", "p_value", "differs", "size", "words")


def find_drift(
    run_dir: os.PathLike | str,
    recent: os.PathLike | str,
    *,
    machine: str | None = None,
    section: str | None = None,
    rate: float = RATE,
    out_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    cache_dir: os.PathLike | str | None = None,
    reporter: Reporter | None = None,
) -> Drift:
    """Compares recent recordings with those that a run was trained on.

    Args:
        run_dir: of a run of one system.
        recent: folder of recordings.
        machine: as of `asd_jax.runs.adapting.adapt_run`.
        section: likewise.
        rate: of reports that say of a change where there is none, at most, over all machines.
        out_dir: folder for a picture of each machine; none by default.
        on_bad_clip: "stop" or "skip" at a recording that cannot be used.
        cache_dir: as in `asd_jax.run`.
        reporter: shows progress.

    Raises:
        UserError: no such run, one of an ensemble, or recordings that cannot be used.
    """
    check_path("recent", recent)
    reporter = reporter or Reporter()
    fitted = load(run_dir)
    if not isinstance(fitted, FittedDetector):
        raise UserError(f"{run_dir} combines other runs; name one of these to compare with")
    fitted.detector.cache_dir = cache_dir
    clips = clips_of(fitted, recent, machine, section, on_bad_clip, reporter, flag="drift")
    features = features_of_recordings(fitted, clips, on_bad_clip, cache_dir, reporter)
    rows = not_known(fitted, features)
    if len(rows) < len(features.clips):
        reporter.line(
            f"{len(features.clips) - len(rows)} of {len(features.clips)} clips are of training, or "
            "there twice; they are left out"
        )
    if not len(rows):
        raise UserError(f"--drift={recent} has training recordings only; give recent ones")
    features = _running(fitted, features.take(rows), reporter)
    by = ("machine", "section") if fitted.detector.scope == "section" else ("machine",)
    groups = {(*place, "")[:2]: own for place, own in features.clips.groups(*by).items()}
    parts = [_compared(fitted, features, group, own) for group, own in sorted(groups.items())]
    if out_dir is not None:
        for part in parts:
            part.draw(Path(out_dir))
    tests = [test for part in parts for test in (part.sound, part.score) if test is not None]
    differ = iter(rejected([test.p_value for test in tests], rate))
    found = []
    for part in parts:
        sound = part.sound is not None and next(differ)
        score = part.score is not None and next(differ)
        found.append(part.judged(sound, score, rate))
    return Drift(tuple(found), rate)


def _running(fitted: FittedDetector, features: FeatureSet, reporter: Reporter) -> FeatureSet:
    """The clips with their states, without those that are off, transient or of an unseen state.

    Raises:
        UserError: none is left.
    """
    given = with_given_states(fitted.detector, features, reporter.line).clips
    states = [clip.state for clip in given]
    kept = np.ones(len(states), bool)
    for (machine, section), rows in given.groups("machine", "section").items():
        by_section = fitted.sections_of(machine) is not None
        group = fitted.resolve(machine, section if by_section else None)
        found = states_of(fitted, group, features.with_clips(given), rows)
        why = unscored(fitted, group, found)
        for row, state, reason in zip(rows.tolist(), found, why, strict=True):
            states[row], kept[row] = state, not reason
    if not kept.all():
        reporter.line(
            f"{(~kept).sum()} of {len(kept)} clips are off, transient or of an unseen state; they "
            "are left out"
        )
    if not kept.any():
        raise UserError("no clip is left to compare; give recordings of the machine running")
    clips = with_states(features, states).clips
    return features.with_clips(clips).take(np.flatnonzero(kept))


class _Part(NamedTuple):
    """The tests of one machine or section."""

    group: Group
    older: np.ndarray  # (clips, 3, bands)
    recent: np.ndarray
    difference: Difference | None  # of groups
    sound: Comparison | None
    score: Comparison | None
    above: tuple[float, float]
    hz: np.ndarray
    area: bool

    def judged(self, sound: bool, score: bool, rate: float) -> MachineDrift:
        changes: tuple[Change, ...] = ()
        largest = 0.0
        if self.difference is not None and self.sound is not None:
            largest = float(np.abs(self.difference.apart[0]).max())
            if sound:
                sure = [name for name, p in self.sound.by_statistic.items() if p <= rate]
                changes = tuple(name_changes(self.difference, self.hz, area=self.area, sure=sure))
        return MachineDrift(
            *self.group, len(self.recent), len(self.older), self.sound, sound, self.score, score,
            self.above, changes, largest,
        )  # fmt: skip

    def draw(self, folder: Path) -> None:
        from asd_jax.evaluation.drift_picture import draw_spectra

        if not len(self.older):
            return
        name = " ".join(filter(None, self.group))
        path = folder / fitting_name(f"drift_{'_'.join(filter(None, self.group))}", ".png")
        draw_spectra(path, name, self.older[:, 0], self.recent[:, 0], self.hz)


def _compared(
    fitted: FittedDetector, features: FeatureSet, group: Group, rows: np.ndarray
) -> _Part:
    """The tests of the clips of one machine or section."""
    recent = levels_of(fitted, features, rows)
    own = [features.clips[row] for row in rows.tolist()]
    recent_groups = [clip.group or (clip.path, clip.start) for clip in own]
    older, older_groups = _older(fitted, group, {clip.domain for clip in own})
    sound = difference = None
    if len(older):
        if older.shape[1] == 1:  # mean levels alone
            older, recent = (np.repeat(each[:, :1], 3, axis=1) for each in (older, recent))
        sound = compare_levels(older, recent, older_groups, recent_groups)
        parts = ((older, older_groups), (recent, recent_groups))
        difference = Difference(*(of_groups(*part) for part in parts))
    score, above = _compared_scores(fitted, features, group, rows, recent_groups)
    mel: Any = getattr(fitted.detector.front_end, "mel", None)
    area = getattr(mel, "norm", None) == "slaney"
    hz = band_hz(fitted.detector.front_end)
    return _Part(group, older, recent, difference, sound, score, above, hz, area)


def _older(
    fitted: FittedDetector, group: Group, domains: set[str]
) -> tuple[np.ndarray, Sequence[Any] | None]:
    """Levels (clips, 3 or 1, bands) of training clips, and their groups.

    Those of the domain that recent clips are of, where they all are of one and it has some.
    """
    known = None if fitted.history is None else fitted.history.known.get(group)
    if known is not None and len(known.levels):
        of_domain = np.array([known.clips[row].domain in domains for row in known.rows.tolist()])
        if len(domains) > 1 or not of_domain.any():
            of_domain[:] = True
        rows = np.flatnonzero(of_domain)
        names = known.group_names()
        return known.levels[rows].astype(np.float64), [names[row] for row in rows.tolist()]
    clips = None if fitted.normal is None else fitted.normal.clips.get(group)
    if clips is not None and clips.spectra is not None:  # of a network of an earlier version
        return clips.spectra.astype(np.float64)[:, None], None
    return np.zeros((0, 3, 0)), None


def _compared_scores(
    fitted: FittedDetector,
    features: FeatureSet,
    group: Group,
    rows: np.ndarray,
    recent_groups: Sequence[Any],
) -> tuple[Comparison | None, tuple[float, float]]:
    """The test of the scores, and shares above the threshold, recent ones first."""
    reference = fitted.group_reference(group, None)
    there = ~np.isnan(reference.scores)
    labels = np.zeros(len(rows), np.int32)
    sections = features.clips[rows].groups("section")
    for (section,), places in sections.items():
        labels[places] = fitted.label_of((group[0], section))
    states = [features.clips[row].state for row in rows.tolist()]
    chosen = fitted.models_for(group)
    scores = fitted.model_scores(chosen, features, rows, labels, states=states).mean(axis=0)
    threshold = fitted.group_threshold(group, None)
    if not there.any() or np.isnan(scores).any():
        return None, (float(np.mean(scores > threshold)), np.nan)
    older = reference.scores[there]
    test = compare_scores(older, scores, reference.groups[there].tolist(), recent_groups)
    return test, (float(np.mean(scores > threshold)), float(np.mean(older > threshold)))
