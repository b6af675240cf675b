"""Spectral statistics of a clip, compared band by band with those of normal clips; no training.

Our own; no report describes it. A clip becomes a few spectra: for each mel band, statistics of
its level over time. Each of them has a Gaussian of the machine's normal clips, and a clip's score
says how far it is from normal, in units of what is expected of a normal clip: 1 is normal.

Statistics, in dB a band:
    level: mean over time. A hum, a hiss, a fan that slows down.
    change: root mean square of the difference from frame to frame, in dB of a dB. Rubbing,
        knocking, what fluctuates and what no longer does. A gain does not change it.
    peak: the largest value. Single knocks, strokes that are missing.
    shape: the level minus its mean over the bands, which a gain does not change.
    crest: the peak minus the level, which a gain does not change.

Score: the squared Mahalanobis distance of each statistic, by the covariance of Ledoit and Wolf of
    bands of equal variance, over the distance that generalised cross-validation expects of a
    normal clip of another group; then the mean over the statistics, or the largest.
    `asd_jax.scoring.states` has the formulas. Everything is closed, so that the scores of training
    clips which set the threshold are those of a fit without the clip's group, to rounding.
Domains: each has its own centre, the target's moved towards the source's by what ten clips leave
    open (James and Stein); both share the covariance within them. Neither scores nor thresholds
    ask for a test clip's domain.
Odd training clips, of a dead microphone or another machine, are not fitted to:
    `asd_jax.scoring.outlying`.

Supplemental clips, of the noise alone or of the machine without it (2025), are made use of on
    demand: their covariance, by the share of power that they have in each band, is half of what
    the training clips' is shrunk towards, and less where they are few; or the noise's is taken
    off. Half was chosen on synthetic seed 303. The shares are by the mean level of all training
    clips, so that their scores are those of a fit without the clip to some thousandths only.

How the defaults were chosen: on machines of `asd-jax synth` that no other result is from (seeds
    101 to 103 and 111 to 114, both halls, three difficulties, the layouts of 2020, 2022, 2023 and
    2024), in a trial that is not part of the package. Of pairs and triples of fifteen statistics,
    level, change and peak were among the best by mean AUC, and were kept as one statistic each of
    where, how steadily and how loudly at its loudest; their mean was better than their largest.
    On three of the sets a mean of z-scores or of logarithms was not better than that of ratios.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.views import ViewSpec
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.supplemental import SPLIT, is_noise
from asd_jax.detectors.cells import Cells
from asd_jax.detectors.untrained import Untrained, UntrainedConfig
from asd_jax.detectors.vectors import Vectors, borrowed
from asd_jax.errors import UserError
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.runtime.bounds import Between
from asd_jax.runtime.portable import is_portable
from asd_jax.scoring.explanation import Part, part_of
from asd_jax.scoring.outlying import usual_rows
from asd_jax.scoring.pooling import array_module
from asd_jax.scoring.state_sums import Other, Siblings
from asd_jax.scoring.states import States, StateSettings, distance, fit_states, leave_out

STATISTICS = ("level", "change", "peak", "shape", "crest")

# Of log-mels in float32, computed on other processors: what a band's level is known to.
_RESOLUTION_DB = 0.01
# Changes from frame to frame are not told from none below this.
_LEAST_CHANGE_DB = 1e-3
# Largest share of the supplemental clips' covariance in what that of the training clips is shrunk
# towards; that of few supplemental clips is less.
_STRUCTURE = 0.5


@dataclasses.dataclass(frozen=True)
class SpectralConfig(UntrainedConfig):
    """Settings of the spectral statistics.

    Attributes:
        statistics: some of "level", "change", "peak", "shape", "crest"; the last two and "change"
            ignore the gain.
        combine: "mean" or "max" of the statistics' scores.
        level_db: standard deviation of the gain from clip to clip, in dB, beside what the
            training clips show: 3 where microphones are moved or replaced, 0 where they are not.
        supplemental: use of supplemental clips, of the noise alone or of the machine without it:
            "shrink" has their covariance say how sound varies together where few training clips
            do; "subtract" takes the covariance of the noise off, which leaves the machine's.
    """

    name: ClassVar[str] = "spectral"
    statistics: tuple[str, ...] = ("level", "change", "peak")
    combine: Literal["mean", "max"] = "mean"
    level_db: Annotated[float, Between(0, 1000)] = 0.0
    supplemental: Literal["none", "shrink", "subtract"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.statistics, str) or not self.statistics:
            raise UserError(
                f"detector.statistics is {self.statistics!r}; name one or more of "
                f"{', '.join(STATISTICS)}"
            )
        for name in self.statistics:
            if name not in STATISTICS:
                raise UserError(
                    f"detector.statistics names {name!r}; there are {', '.join(STATISTICS)}"
                )
        if len(set(self.statistics)) < len(self.statistics):
            raise UserError(f"detector.statistics names one twice: {', '.join(self.statistics)}")
        if self.siblings != "none" and self.supplemental != "none":
            raise UserError(
                f"detector.siblings is {self.siblings} and detector.supplemental is "
                f"{self.supplemental}; a covariance borrows of one of them: leave the other at none"
            )
        if self.level_db and not {"level", "peak"} & set(self.statistics):
            raise UserError(
                f"detector.level_db is {self.level_db}, which has no effect: a gain does not "
                f"change {', '.join(self.statistics)}; leave it at 0.0"
            )


class Moments(NamedTuple):
    """What the statistics are made of; a pool of pairs of adjacent frames.

    Attributes:
        total: (..., mels) sum of the pairs' first frames.
        last: (..., mels) second frame of the last pair, 0 if none counts.
        squares: (..., mels) sum of the squared differences.
        peak: (..., mels) largest value.
        count: (...) pairs.
    """

    total: Any
    last: Any
    squares: Any
    peak: Any
    count: Any

    @classmethod
    def of(cls, frames: jax.Array, mask: jax.Array) -> "Moments":
        """Pools the pairs of adjacent frames (pairs + 1, mels), the first (pairs,) that count."""
        first, second = frames[:-1], frames[1:]
        counts, count = mask[:, None], jnp.sum(mask)
        if is_portable():  # a sum of one value: some runtimes gather by no computed place
            is_last = jnp.arange(second.shape[0])[:, None] == count - 1
            last = jnp.sum(second, axis=0, where=is_last)
        else:
            last = second[jnp.maximum(count - 1, 0)]
        return cls(
            jnp.sum(first, axis=0, where=counts),
            jnp.where(count > 0, last, 0),
            jnp.sum((second - first) ** 2, axis=0, where=counts),
            jnp.max(jnp.maximum(first, second), axis=0, where=counts, initial=-jnp.inf),
            count,
        )

    @classmethod
    def merge(cls, parts: Sequence["Moments"]) -> "Moments":
        """The moments of all parts, which are in the order of time."""
        last = next((part.last for part in reversed(parts) if np.all(part.count)), parts[-1].last)
        return cls(
            np.sum([part.total for part in parts], axis=0),
            last,
            np.sum([part.squares for part in parts], axis=0),
            np.max([part.peak for part in parts], axis=0),
            np.sum([part.count for part in parts], axis=0),
        )

    @property
    def value(self) -> Any:
        """(..., 3 mels): level, change and peak."""
        numbers, count = array_module(self.total), self.count[..., None]
        level = (self.total + self.last) / (count + 1)
        change = 20 * numbers.log10((self.squares / count) ** 0.5 + _LEAST_CHANGE_DB)
        return numbers.concatenate([level, change, self.peak], axis=-1)


class Spectral(Untrained):
    """How far the statistics of a clip's mel bands are from those of normal clips."""

    Config = SpectralConfig
    title = "statistics of the mel bands beside a Gaussian each"
    paper = "our own; Ledoit and Wolf 2004 for the covariances"
    in_db = True
    by_covariance = True
    kinds: ClassVar[Mapping[str, int]] = {"change": 1}

    @property
    def views(self) -> ViewSpec:
        """Pairs of adjacent frames."""
        return ViewSpec(2)

    def pool(self, weights: Any, clip: ClipInput) -> Moments:
        """Moments of the levels over time."""
        _, mask = clip.starts(self.views)  # (pairs,)
        return Moments.of(clip.features.astype(float), mask)

    @property
    def supplemental(self) -> bool:
        """As the setting."""
        return self.config.detector.supplemental != "none"

    def plan(self, clips: Sequence[Clip]) -> list[str]:
        """The supplemental clips of each machine, where they are made use of.

        Raises:
            UserError: there are none.
        """
        if not self.supplemental:
            return []
        table = ClipTable.of(clips)
        own = [clip for clip in table[table.where(split=SPLIT)]]
        setting = self.config.detector.supplemental
        if not own:
            raise UserError(
                f"detector.supplemental is {setting}, and the machines have no supplemental clips "
                "(a folder `supplemental` beside `train`); leave it at none"
            )
        noise = sum(map(is_noise, own))
        lines = [f"{noise} supplemental clips of noise, {len(own) - noise} of machines without it"]
        known = {clip.machine for clip in own}
        trained = table[table.where(split="train")].distinct("machine")
        if without := sorted(set(trained) - known):
            lines.append(f"{', '.join(without)}: no supplemental clips; fitted without any")
        return lines

    def fit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Gaussians (models, …) of each statistic, by name, and the training clips' scores."""
        fitted: dict[str, np.ndarray] = {}
        scores = []
        usual = vectors.mask
        for name in ("level", "change", "peak"):  # a clip that is odd in one is fitted to by none
            rows = spectrum(vectors.values, name)
            usual = usual & usual_rows(rows, vectors.mask, vectors.state, resolution=_RESOLUTION_DB)
        for name in self.config.detector.statistics:
            rows, how, kept = self._rows(vectors, usual, name)
            states = fit_states(rows, usual, vectors.state, vectors.group, **how)
            left = leave_out(rows, vectors.mask, vectors.state, vectors.group, fitted=usual, **how)
            fitted |= kept | _named(states, name)
            scores.append(left.squared / left.expected)
        fitted["usual"] = usual.astype(np.float64)
        fitted["training_scores"] = self._combined(np.stack(scores))
        return fitted

    def refit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Gaussians (models, …) of each statistic, by name."""
        fitted: dict[str, np.ndarray] = {}
        for name in self.config.detector.statistics:
            rows, how, _ = self._rows(vectors, vectors.mask, name)
            states = fit_states(rows, vectors.mask, vectors.state, vectors.group, **how)
            fitted |= _named(states, name)
        return fitted

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """The statistics' distances, over those expected of a normal clip."""
        scores = []
        for name in self.config.detector.statistics:
            states = states_of(calibration, name)
            squared = distance(states, spectrum(pooled, name)[None])[0]
            scores.append(squared / states.expected)
        return self._combined(jnp.stack(scores))

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """The levels, and how much each one changes to the next frame."""
        levels = clip.features
        change = jnp.abs(jnp.diff(levels, axis=0))
        # The last frame's next one is not in the piece, or the clip has none.
        last = jnp.arange(len(levels))[:, None] + 1 >= clip.n_frames
        change = jnp.concatenate([change, change[-1:]])
        change = jnp.where(last, jnp.roll(change, 1, axis=0), change)
        return Cells.of_frames(jnp.stack([levels, change], axis=1), clip)

    def parts(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> tuple[Part, ...]:
        """The statistics' scores and deviations, band by band."""
        return tuple(
            part_of(name, states_of(calibration, name), spectrum(np.asarray(pooled), name))
            for name in self.config.detector.statistics
        )

    def _combined(self, scores: Any) -> Any:
        """(...) from the statistics' scores (statistics, ...)."""
        return scores.mean(axis=0) if self.config.detector.combine == "mean" else scores.max(axis=0)

    def _rows(
        self, vectors: Vectors, usual: np.ndarray, name: str
    ) -> tuple[np.ndarray, dict[str, Any], dict[str, np.ndarray]]:
        """A statistic's rows (models, clips, mels), how they are fitted to, and what `fit` keeps.

        The second has the settings, and the other covariance that is part of each model's.
        """
        rows, settings = spectrum(vectors.values, name), self._settings(name)
        other: Other | Siblings | None = self._other(vectors, usual, name)
        siblings, kept = borrowed(vectors, rows, usual, settings, name)
        return rows, {"settings": settings, "other": siblings if other is None else other}, kept

    def _other(self, vectors: Vectors, usual: np.ndarray, name: str) -> Other | None:
        """The part of supplemental clips in each model's covariance of a statistic.

        Of two sounds at once, a band's level moves by the share of its power that the one has
        which moves: by this share the covariance of the one alone is in that of both.
        """
        if vectors.supplemental is None:
            return None
        assert vectors.is_noise is not None
        setting = self.config.detector.supplemental
        level = spectrum(vectors.values, "level")
        parts = []
        for m, own in enumerate(usual):
            there = np.isfinite(vectors.is_noise[m])
            rows, noise = vectors.supplemental[m, there], vectors.is_noise[m, there] > 0
            loud = level[m, own].mean(axis=0)  # (mels,)
            if setting == "subtract":  # one kind: the noise, where it has a covariance
                chosen = noise == (noise.sum() > 1)
                rows, noise = rows[chosen], noise[chosen]
            covariance, shown = _part(rows, noise, loud, name)
            parts.append((covariance, *_factors(setting, shown, bool(noise.any()))))
        return Other(*map(np.array, zip(*parts, strict=True)))

    def _settings(self, name: str) -> StateSettings:
        gain = self.config.detector.level_db if name in ("level", "peak") else 0.0
        return StateSettings(
            standardise=True, resolution=_RESOLUTION_DB, towards_first=True, level=gain
        )


def _named(states: States, name: str) -> dict[str, np.ndarray]:
    return {f"{name}_{field}": leaf for field, leaf in states._asdict().items()}


def _part(
    rows: np.ndarray, noise: np.ndarray, loud: np.ndarray, name: str
) -> tuple[np.ndarray, float]:
    """The part that supplemental clips have in a statistic of the training clips.

    Args:
        rows: (clips, 3 mels) of a model's supplemental clips.
        noise: (clips,) whether each is of the noise alone.
        loud: (mels,) mean level of the training clips, in dB.
        name: of the statistic.

    Returns:
        Its covariance (mels, mels), and how much so many clips show of how bands vary together,
        from 0 to 1: 1 less Ledoit and Wolf's shrinkage.
    """
    from sklearn.covariance import ledoit_wolf_shrinkage

    parts = []
    for kind in (rows[noise], rows[~noise]):
        if len(kind) > 1:
            share = np.minimum(10 ** ((spectrum(kind, "level").mean(axis=0) - loud) / 10), 1)
            values = spectrum(kind, name)
            parts.append((values - values.mean(axis=0)) * share)
    together = np.concatenate([np.zeros((0, len(loud))), *parts])
    covariance = together.T @ together / max(1, len(together))
    if not covariance.any():
        return covariance, 0.0
    return covariance, 1 - float(ledoit_wolf_shrinkage(together, assume_centered=True))


def _factors(setting: str, shown: float, of_noise: bool) -> tuple[float, float, float]:
    """`Other.target`, `.own` and `.added`."""
    if not shown:
        return 0.0, 1.0, 0.0
    if setting == "shrink":
        return _STRUCTURE * shown, 1.0, 0.0
    # Without the noise: what is left of the training clips, or the machine as it is alone.
    return (0.0, 1.0, -1.0) if of_noise else (0.0, 0.0, 1.0)


def spectrum(vector: Any, name: str) -> Any:
    """One statistic (..., mels) of a clip's vector (..., 3 mels)."""
    mels = vector.shape[-1] // 3
    level, change, peak = (vector[..., i * mels : (i + 1) * mels] for i in range(3))
    if name == "shape":
        return level - level.mean(axis=-1, keepdims=True)
    if name == "crest":
        return peak - level
    return {"level": level, "change": change, "peak": peak}[name]


def states_of(calibration: Mapping[str, Any], name: str) -> States:
    """The Gaussians of one statistic."""
    return States(**{field: calibration[f"{name}_{field}"] for field in States._fields})
