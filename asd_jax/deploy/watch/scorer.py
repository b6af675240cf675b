"""Scores windows of many streams by one compiled program, each row by the models of its machine.

    windows (samples, channels) → waveforms of the system's rate → rows of one length
    rows → frames → each row's weights and calibration, gathered → scores (rows,)

All weights are on the device once; a row brings the numbers of its models. The program has a fixed
number of rows, so that nothing is compiled again, whichever machines its rows are of. Systems that
need more than their frames (embeddings of pretrained networks, operating states that they compare
by), and windows of another length than most, are scored as the library scores recordings, a window
at a time.
"""

import contextlib
import functools
import threading
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from asd_jax.audio.views import count_views
from asd_jax.data.audio_files import AudioInfo, resample
from asd_jax.data.canceller import cancelled
from asd_jax.data.channels import channel_problem, taken
from asd_jax.data.levels import LARGEST_PEAK
from asd_jax.deploy.watch.program import window_program
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import needs_levels, unscored
from asd_jax.fitting.layout import Group
from asd_jax.fitting.set_up_check import SetUpCheck
from asd_jax.scoring.operating import NAMES

_MOST_ROWS = 64
_FEWEST_ROWS = 8


class Heard(NamedTuple):
    """A window to be scored.

    Attributes:
        samples: float32 (samples, channels), full scale at 1.
        sample_rate: in Hz.
        group: machine and section, from `Fitted.resolve`.
        usual: whether it is as long as the windows of its stream usually are.
        state: of the machine, as in `Clip`; "" where it is not known.

    Examples:
        >>> Heard(np.zeros((16_000, 1), np.float32), 16_000, ("fan", "00")).usual
        True
    """

    samples: np.ndarray
    sample_rate: int
    group: Group
    usual: bool = True
    state: str = ""


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
        >>> scorer = WindowScorer(load("RUN"), [("fan", "00")])  # doctest: +SKIP
        >>> scorer.score([Heard(samples, 16000, ("fan", "00"))]).scores  # doctest: +SKIP
        array([0.87])
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
        return _OfDetector(fitted, groups)
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


class _Models(NamedTuple):
    """Numbers of the models of a machine and section, of their networks, and their label."""

    chosen: list[int]
    networks: list[int]
    label: int


class _OfDetector:
    """Scores of one system."""

    def __init__(self, fitted: FittedDetector, groups: Sequence[Group]):
        self._fitted, self._detector = fitted, fitted.detector
        self._n_streams = len(groups)
        own = {tuple(self._models(group).networks) for group in groups}
        self._per_network = max(1, len(groups) // max(1, len(own)))
        self._lock = threading.Lock()
        self._check = SetUpCheck(fitted)

    @functools.cache  # noqa: B019 - of the few groups of one scorer
    def _models(self, group: Group) -> "_Models":
        """The models of a machine and section."""
        chosen = self._fitted.models_of(group)
        networks = self._fitted.networks_of(chosen) if self._fitted.weights else [0] * len(chosen)
        return _Models(chosen, networks, self._fitted.label_of(group))

    def __call__(
        self, windows: Sequence[Heard], problems: list[str], set_ups: list[str]
    ) -> np.ndarray:
        fitted = self._fitted
        scores = np.full((len(fitted.seeds), len(windows)), np.nan)
        by_length: dict[int, list[tuple[int, np.ndarray]]] = {}
        for index, window in enumerate(windows):
            try:
                if window.usual and self._is_batched:
                    waveform = self._waveform(window)
                    self._check_frames(waveform)
                    by_length.setdefault(len(waveform), []).append((index, waveform))
                else:
                    scores[:, index] = self._alone(window)
            except UserError as error:
                problems[index] = str(error)
        for length, own in by_length.items():
            for some in self._blocks([(i, wave, windows[i].group) for i, wave in own], length):
                self._score_block(some, length, scores, set_ups)
        return scores

    @property
    def _is_batched(self) -> bool:
        """Whether the frames of a window are all that its score needs."""
        by_state = NAMES[0] in self._fitted.calibration
        return self._detector.config.embedding.kind == "none" and not by_state

    def _alone(self, window: Heard) -> np.ndarray:
        """(seeds,) scores of one window, as the library scores recordings."""
        waveform, fitted = self._taken(window)[None], self._fitted
        place = (window.sample_rate, window.group, fitted.seeds)
        return fitted.seed_scores(waveform, *place, [window.state])[:, 0]

    def states(self, window: Heard) -> list[str]:
        """The state of a window (1,), off or transient where its level says so."""
        waveform = self._taken(window)[None]
        place = (window.sample_rate, window.group)
        return self._fitted.heard_states(waveform, *place, [window.state])

    def _waveform(self, window: Heard) -> np.ndarray:
        """(samples,) of the system's channel and rate, as a recording is read."""
        peak = float(np.max(np.abs(window.samples)))
        if not np.isfinite(peak):
            raise UserError("it has samples that are NaN or infinite")
        if peak > LARGEST_PEAK:
            raise UserError(f"it reaches {peak:.6g} where full scale is 1")
        rate = self._detector.front_end.sample_rate
        waveform = self._taken(window)
        if window.sample_rate != rate:
            waveform = resample(waveform, window.sample_rate, rate)
        return cancelled(waveform) if self._fitted.config.channel == "canceller" else waveform

    def _taken(self, window: Heard) -> np.ndarray:
        """(samples,) of the system's channel; all channels for the canceller."""
        channel = self._fitted.config.channel
        info = AudioInfo(window.sample_rate, window.samples.shape[1], len(window.samples))
        if problem := channel_problem(info, channel):
            raise UserError(problem[0])
        return taken(window.samples, channel)

    def _check_frames(self, waveform: np.ndarray) -> None:
        """Raises UserError for a window that is too short for the system."""
        needed = self._detector.views.fewest
        n_frames = self._detector.front_end.frames(len(waveform))
        if n_frames < needed:
            raise UserError(f"too short: {n_frames} frames where {needed} are needed")

    def _shape(self, length: int) -> tuple[int, int]:
        """Blocks of a program, and rows that share a block's network."""
        detector = self._detector
        n_frames = detector.front_end.frames(length)
        spec = detector.views
        views = max(1, int(count_views(np.array([n_frames]), spec.length, spec.hop)[0]))
        rows = max(1, min(_MOST_ROWS, detector.views_at_once // views))
        if jax.default_backend() != "cpu":
            rows = _MOST_ROWS
        wanted = max(_FEWEST_ROWS, self._n_streams)
        rows = 1 << (min(rows, wanted).bit_length() - 1)
        if not self._fitted.weights:
            return 1, rows  # one program serves all machines
        if detector.kind != "dense":
            return 1, rows  # a convolution whose kernels differ by row is slow
        shared = min(rows, 1 << (self._per_network.bit_length() - 1))
        return rows // shared, shared

    def _blocks(
        self, own: Sequence[tuple[int, np.ndarray, Group]], length: int
    ) -> list[list[list[tuple[int, np.ndarray, Group]]]]:
        """Windows for each call: of each of its blocks, those that share the networks."""
        blocks, rows = self._shape(length)
        by_network: dict[Hashable, list[tuple[int, np.ndarray, Group]]] = {}
        for each in own:
            by_network.setdefault(tuple(self._models(each[2]).networks), []).append(each)
        filled = [
            group[first : first + rows]
            for group in by_network.values()
            for first in range(0, len(group), rows)
        ]
        return [filled[first : first + blocks] for first in range(0, len(filled), blocks)]

    def _score_block(
        self,
        some: list[list[tuple[int, np.ndarray, Group]]],
        length: int,
        scores: np.ndarray,
        set_ups: list[str],
    ) -> None:
        fitted = self._fitted
        blocks, rows = self._shape(length)
        chosen, used, _ = self._models(some[0][0][2])  # what fills up rows has any models
        waveforms = np.zeros((blocks, rows, length), np.float32)
        networks = np.full((len(chosen), blocks), used[0], np.int32)
        models = np.full((len(chosen), blocks, rows), chosen[0], np.int32)
        labels = np.zeros((blocks, rows), np.int32)
        for b, block in enumerate(some):
            networks[:, b] = self._models(block[0][2]).networks
            for r, (_, waveform, group) in enumerate(block):
                own = self._models(group)
                waveforms[b, r], models[:, b, r], labels[b, r] = waveform, own.chosen, own.label
        with jax.enable_x64(self._detector.float64):
            program = window_program(type(self._detector), fitted.config, len(chosen))
            found = program(*self._arrays(), waveforms, networks, models, labels)
        out, levels = map(np.asarray, found)
        for b, block in enumerate(some):
            for r, (index, _, group) in enumerate(block):
                of_models = out[:, b, r].astype(np.float32)[:, None]
                scores[:, index] = fitted.of_seeds(self._models(group).chosen, of_models)[:, 0]
                if (set_up := self._check.set_up(group)) is not None:
                    set_ups[index] = set_up.problem(levels[b, r])

    def _arrays(self) -> tuple[Any, Any]:
        """Weights and calibration of all models, on the device."""
        with self._lock:
            return self._on_device

    @functools.cached_property
    def _on_device(self) -> tuple[Any, Any]:
        calibration = self._fitted.calibration
        if not self._detector.float64:
            calibration = jax.tree.map(_single, calibration)
        return jax.device_put(self._fitted.weights), jax.device_put(dict(calibration))


def _single(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf
