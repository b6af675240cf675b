"""Mahalanobis distance of a clip's mean log-mel spectrum: the least that a system must beat.

Source: the distance of Mahalanobis with the covariance of Ledoit and Wolf 2004, of the mean over
time of the log-mels that the challenge's baselines start from. No report describes it; as a
measure of what training is worth it is in `docs/results.md`.

Decided here:
    Machines with source and target clips have a centre for each domain and one covariance of
    the clips around them; the nearer centre counts. Ten target clips do not give a covariance.
    A machine id or section has a model of its own.
    A single domain's scores are the squared distances of scikit-learn's `LedoitWolf`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.detectors.untrained import Untrained, UntrainedConfig
from asd_jax.detectors.vectors import Vectors, borrowed
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.scoring import pooling
from asd_jax.scoring.explanation import Part, part_of
from asd_jax.scoring.states import States, StateSettings, distance, fit_states, leave_out


@dataclasses.dataclass(frozen=True)
class MelMahalanobisConfig(UntrainedConfig):
    """Settings of the distance from the mean spectrum; those of all systems without training."""

    name: ClassVar[str] = "mel_mahalanobis"


class MelMahalanobis(Untrained):
    """How far a clip's mean spectrum is from those of normal clips."""

    Config = MelMahalanobisConfig
    title = "Mahalanobis distance of the mean log-mel spectrum"
    paper = "no report; Ledoit and Wolf 2004 for the covariance"
    in_db = True
    by_covariance = True

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """The mean (mels,) over time."""
        frames, mask = clip.views(self.views)  # (frames, 1, mels)
        return pooling.Mean.of(frames[:, 0].astype(float), mask)

    def fit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Centres and covariances, and the training clips' distances if left out."""
        rows = vectors.values, vectors.mask, vectors.state, vectors.group
        siblings, kept = borrowed(vectors, vectors.values, vectors.mask, StateSettings())
        states = fit_states(*rows, other=siblings)
        left = leave_out(*rows, other=siblings)
        return {**kept, **states._asdict(), "training_scores": left.squared}

    def refit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Centres and covariances."""
        rows = vectors.values, vectors.mask, vectors.state, vectors.group
        siblings, _ = borrowed(vectors, vectors.values, vectors.mask, StateSettings())
        return fit_states(*rows, other=siblings)._asdict()

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """The squared distance from the nearest centre."""
        states = _states(calibration)
        # Of a model that could not be fitted all is NaN.
        return jnp.where(jnp.isnan(states.expected), jnp.nan, distance(states, pooled[None])[0])

    def parts(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> tuple[Part, ...]:
        """The deviations of the mean spectrum, band by band."""
        return (part_of("level", _states(calibration), np.asarray(pooled), relative=False),)


def _states(calibration: Mapping[str, Any]) -> States:
    return States(**{name: calibration[name] for name in States._fields})
