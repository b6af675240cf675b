"""Scores windows of many streams by one system, in batches: one compiled program for all machines.

    windows (samples, channels) → waveforms of the system's rate → frames, shared (`frames`)
    rows of frames → each row's weights and calibration, gathered → scores (rows,)

All weights are on the device once; a row brings the numbers of its models. The program has a fixed
number of rows, so that nothing is compiled again, whichever machines its rows are of. Systems that
need more than their frames (embeddings of pretrained networks, operating states that they compare
by), and windows of another length than most, are scored as the library scores recordings, a window
at a time.
"""

import functools
import threading
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.audio.views import count_views
from asd_jax.data.audio_files import AudioInfo, resample
from asd_jax.data.canceller import cancelled
from asd_jax.data.channels import channel_problem, taken
from asd_jax.data.levels import LARGEST_PEAK
from asd_jax.deploy.watch.frames import WindowFrames
from asd_jax.deploy.watch.program import window_program
from asd_jax.deploy.watch.windows import Place
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.layout import Group
from asd_jax.fitting.moved import without_moved
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
        place: where it lies; None where it shares nothing with other windows.

    Examples:
        >>> Heard(np.zeros((16_000, 1), np.float32), 16_000, ("fan", "00")).usual
        True
    """

    samples: np.ndarray
    sample_rate: int
    group: Group
    usual: bool = True
    state: str = ""
    place: Place | None = None


class _Models(NamedTuple):
    """Numbers of the models of a machine and section, of their networks, and their label."""

    chosen: list[int]
    networks: list[int]
    label: int


class _Row(NamedTuple):
    """A window's number, frames (frames, width), machine and section, and state."""

    number: int
    frames: np.ndarray
    group: Group
    state: str


class DetectorScorer:
    """Scores of one system.

    Args:
        fitted: the system.
        groups: as of `scorer.WindowScorer`.
    """

    def __init__(self, fitted: FittedDetector, groups: Sequence[Group]):
        self._fitted, self._detector = fitted, fitted.detector
        self._n_streams = len(groups)
        own = {tuple(self._models(group).networks) for group in groups}
        self._per_network = max(1, len(groups) // max(1, len(own)))
        self._lock = threading.Lock()
        self._check = SetUpCheck(fitted)
        self._frames = WindowFrames(self._detector.front_end)

    @functools.cache  # noqa: B019 - of the few groups of one scorer
    def _models(self, group: Group) -> "_Models":
        """The models of a machine and section."""
        chosen = self._fitted.models_of(group)
        networks = self._fitted.networks_of(chosen) if self._fitted.weights else [0] * len(chosen)
        return _Models(chosen, networks, self._fitted.label_of(group))

    def __call__(
        self, windows: Sequence[Heard], problems: list[str], set_ups: list[str]
    ) -> np.ndarray:
        """Scores windows, those of one stream in the order of their time.

        Args:
            windows: of any machines.
            problems: to be filled: why a window has no score.
            set_ups: to be filled: why a window cannot be of the set-up of training.

        Returns:
            (seeds, windows); NaN without a score.
        """
        fitted = self._fitted
        scores = np.full((len(fitted.seeds), len(windows)), np.nan)
        batched: dict[int, np.ndarray] = {}  # waveforms (samples,) by the numbers of windows
        for index, window in enumerate(windows):
            try:
                if window.usual and self._is_batched:
                    waveform = self._waveform(window)
                    self._check_frames(waveform)
                    batched[index] = waveform
                else:
                    scores[:, index] = self._alone(window)
            except UserError as error:
                problems[index] = str(error)
        places = [self._place(windows[index]) for index in batched]
        by_length: dict[int, list[_Row]] = {}
        frames_of = self._frames.of([*batched.values()], places)
        for index, frames in zip(batched, frames_of, strict=True):
            row = _Row(index, frames, windows[index].group, windows[index].state)
            by_length.setdefault(len(frames), []).append(row)
        for n_frames, own in by_length.items():
            for some in self._blocks(own, n_frames):
                self._score_block(some, n_frames, scores, set_ups)
        return scores

    def _place(self, window: Heard) -> Place | None:
        """Where a window lies, if its waveform is as of the whole signal."""
        is_own_rate = window.sample_rate == self._detector.front_end.sample_rate
        return window.place if is_own_rate and not self._is_cancelled else None

    @property
    def _is_cancelled(self) -> bool:
        return self._fitted.config.channel == "canceller"

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
        peak = float(max(window.samples.max(), -window.samples.min()))  # NaN where one is
        if not np.isfinite(peak):
            raise UserError("it has samples that are NaN or infinite")
        if peak > LARGEST_PEAK:
            raise UserError(f"it reaches {peak:.6g} where full scale is 1")
        rate = self._detector.front_end.sample_rate
        waveform = self._taken(window)
        if window.sample_rate != rate:
            waveform = resample(waveform, window.sample_rate, rate)
        return cancelled(waveform) if self._is_cancelled else waveform

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

    def _shape(self, n_frames: int) -> tuple[int, int]:
        """Blocks of a program, and rows that share a block's network."""
        detector = self._detector
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

    def _blocks(self, own: Sequence["_Row"], n_frames: int) -> list[list[list["_Row"]]]:
        """Windows for each call: of each of its blocks, those that share the networks."""
        blocks, rows = self._shape(n_frames)
        by_network: dict[Hashable, list[_Row]] = {}
        for each in own:
            by_network.setdefault(tuple(self._models(each.group).networks), []).append(each)
        filled = [
            group[first : first + rows]
            for group in by_network.values()
            for first in range(0, len(group), rows)
        ]
        return [filled[first : first + blocks] for first in range(0, len(filled), blocks)]

    def _score_block(
        self,
        some: list[list["_Row"]],
        n_frames: int,
        scores: np.ndarray,
        set_ups: list[str],
    ) -> None:
        fitted = self._fitted
        blocks, rows = self._shape(n_frames)
        chosen, used, _ = self._models(some[0][0].group)  # what fills up rows has any models
        front_end = self._detector.front_end
        heard = np.zeros((blocks, rows, n_frames, front_end.width), front_end.dtype)
        networks = np.full((len(chosen), blocks), used[0], np.int32)
        models = np.full((len(chosen), blocks, rows), chosen[0], np.int32)
        labels = np.zeros((blocks, rows), np.int32)
        for b, block in enumerate(some):
            networks[:, b] = self._models(block[0].group).networks
            for r, (_, frames, group, _) in enumerate(block):
                own = self._models(group)
                heard[b, r], models[:, b, r], labels[b, r] = frames, own.chosen, own.label
        with jax.enable_x64(self._detector.float64):
            program = window_program(type(self._detector), fitted.config, len(chosen))
            found = program(*self._arrays(), heard, networks, models, labels)
        out, levels = map(np.asarray, found)
        for b, block in enumerate(some):
            for r, (index, _, group, state) in enumerate(block):
                served = self._models(group).chosen
                of_models = out[:, b, r].astype(np.float32)[:, None]
                of_models = without_moved(fitted, served, [state], of_models)
                scores[:, index] = fitted.of_seeds(served, of_models)[:, 0]
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
