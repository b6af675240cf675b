"""Scores windows of many streams, by one system or several, and says why some have no score."""

import contextlib
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from asd_jax.deploy.watch.detector_scorer import DetectorScorer, Heard
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import needs_levels, unscored
from asd_jax.fitting.layout import Group


class Scored(NamedTuple):
    """Scores of windows.

    Attributes:
        scores: float64 (windows,), the mean over the seeds; NaN of a window that has none.
        problems: of each window, why it has no score; "" where it has one.
        states: of each window, as given, or off or transient by its level; empty where none is
            known.
        unscored: of each window, one of `judging.UNSCORED` where it is not to be scored; "" where
            it is; empty as above.
        set_ups: of each window, why it cannot be of the set-up of training
            (`asd_jax.scoring.set_up`); "" where nothing says that; empty where nothing is checked.
    """

    scores: np.ndarray
    problems: list[str]
    states: Sequence[str] = ()
    unscored: Sequence[str] = ()
    set_ups: Sequence[str] = ()


class WindowScorer:
    """Scores windows of several machines.

    Args:
        fitted: a detector, an ensemble or a choice.
        groups: machines and sections of the streams, one a stream: how many rows a program has, and
            how many share a network, is by them.

    Examples:
        >>> import asd_jax
        >>> noise = np.random.default_rng(0).normal(0, 0.1, (9, 16_000)).astype(np.float32)
        >>> fitted = asd_jax.fit(
        ...     "mel_mahalanobis", waveforms=noise[:8], sample_rate=16_000, machine="fan"
        ... )
        >>> scorer = WindowScorer(fitted, [("fan", "00")])
        >>> found = scorer.score([Heard(noise[8:].T, 16_000, ("fan", "00"))])
        >>> bool(np.isclose(found.scores[0], fitted.score(noise[8:], 16_000)[0], rtol=1e-5))
        True
    """

    def __init__(self, fitted: Fitted, groups: Sequence[Group]):
        self._fitted = fitted
        self._own = _seed_scorer(fitted, groups)
        self._heard = {group for group in groups if needs_levels(fitted, group)}

    def score(self, windows: Sequence[Heard]) -> Scored:
        """Scores windows; those that cannot be scored have a problem and no score.

        Nor have those that are off, transient or of an unseen state, which is no problem.
        """
        heard = [self._in_state(window) for window in windows]
        why = [self._unscored(window) for window in heard]
        wanted = [index for index, own in enumerate(why) if not own]
        said = [""] * len(wanted)
        set_ups = [""] * len(wanted)
        scores, problems = np.full(len(windows), np.nan), [""] * len(windows)
        others = [""] * len(windows)
        if wanted:
            scores[wanted] = self._own([heard[i] for i in wanted], said, set_ups).mean(axis=0)
        for index, problem, other in zip(wanted, said, set_ups, strict=True):
            problems[index], others[index] = problem, other
            if np.isnan(scores[index]):
                problems[index] = problem or "its score is not a number"
        return Scored(scores, problems, [window.state for window in heard], why, others)

    def _unscored(self, window: Heard) -> str:
        """Why a window is not to be scored; "" of one that is."""
        if not window.state:
            return ""
        return unscored(self._fitted, window.group, [window.state])[0]

    def _in_state(self, window: Heard) -> Heard:
        """The window, off or transient where its level says so."""
        if window.group not in self._heard:
            return window
        with contextlib.suppress(UserError):  # which scoring it says
            (state,) = self._own.states(window)
            return window._replace(state=state)
        return window


class _SeedScorer(Protocol):
    def __call__(
        self, windows: Sequence[Heard], problems: list[str], set_ups: list[str]
    ) -> np.ndarray:
        """(seeds, windows) scores; problems, and those of the set-up, are to be filled."""
        ...

    def states(self, window: Heard) -> list[str]:
        """The state of a window (1,), off or transient where its level says so."""
        ...


def _seed_scorer(fitted: Fitted, groups: Sequence[Group]) -> _SeedScorer:
    if isinstance(fitted, FittedDetector):
        return DetectorScorer(fitted, groups)
    assert isinstance(fitted, FittedMembers)  # the other kind
    return _OfMembers(fitted, groups)


class _OfMembers:
    """Scores of an ensemble, or of a choice among systems."""

    def __init__(self, fitted: FittedMembers, groups: Sequence[Group]):
        self._fitted = fitted
        self._members: dict[str, _SeedScorer] = {}
        for name, member in fitted.members.items():
            own = [self._group(member, group) for group in groups if name in self._serving(group)]
            if own:
                self._members[name] = _seed_scorer(member, own)

    def __call__(
        self, windows: Sequence[Heard], problems: list[str], set_ups: list[str]
    ) -> np.ndarray:
        fitted = self._fitted
        scores = np.full((len(fitted.seeds), len(windows)), np.nan)
        by_group: dict[Group, list[int]] = {}
        for index, window in enumerate(windows):
            by_group.setdefault(window.group, []).append(index)
        of_members: dict[str, np.ndarray] = {}  # (seeds, windows)
        for name, scorer in self._members.items():
            member = fitted.members[name]
            own = [i for i, window in enumerate(windows) if name in self._serving(window.group)]
            whose = [windows[i]._replace(group=self._group(member, windows[i].group)) for i in own]
            said, others = [""] * len(own), [""] * len(own)
            of_own = scorer(whose, said, others) if own else np.zeros((1, 0))
            of_members[name] = np.full((len(fitted.seeds), len(windows)), np.nan)
            of_members[name][:, own] = of_own  # one that trains nothing has one seed
            for i, problem, other in zip(own, said, others, strict=True):
                problems[i], set_ups[i] = problems[i] or problem, set_ups[i] or other
        for group, own in by_group.items():
            each = [of_members[name][:, own] for name in self._serving(group)]
            scores[:, own] = fitted.combined(each, group, fitted.seeds)
        return scores

    def states(self, window: Heard) -> list[str]:
        """As any of the members hears it."""
        for name in self._serving(window.group):
            group = self._group(self._fitted.members[name], window.group)
            (state,) = self._members[name].states(window._replace(group=group))
            window = window._replace(state=state)
        return [window.state]

    def _serving(self, group: Group) -> list[str]:
        return self._fitted.serving(group[0])

    @staticmethod
    def _group(member: Fitted, group: Group) -> Group:
        machine, section = group
        return member.resolve(machine, section or None)
