"""Gaussian mixture of a clip's bands, each pooled over time by the rank of its values; no training.

Source: Guan et al., TWFR-GMM (github.com/liuyoude/TWFR-GMM, MIT), for DCASE 2022.

As there: log-mels of 128 bands of HTK's scale and equal peaks, in dB; each band's values over
    time in descending order, the n-th weighing r^n, from the maximum (r = 0) to the mean (r = 1);
    a mixture of Gaussians with full covariances of the training clips of both domains, fitted
    with scikit-learn's tolerance of 1e-6; the score is −max ln N(x) over the components, without
    their weights.

Decided here:
    There, r and the number of components were chosen for each machine by its labelled test clips.
    Nothing is chosen here: two components, and four values of r from the maximum to the mean.
    Each r has a mixture of its own. A clip's scores are standardised by the median and the
    quartiles of the training clips', which a few odd clips do not move, and the score is their
    mean and not the smallest: knocks show by small r alone, and a hum by r = 1 alone. With a single
    r the score is −max ln N(x) itself.
    Scores of training clips are by mixtures without them: the groups are shared out to ten
    parts, or each is one where there are fewer than ten, and mixtures are fitted without each
    part. These scores set the threshold and standardise those of other clips; a training clip's
    own are standardised by those of the other parts.
    k-means starts once, from a draw that every run makes alike.
    Frames at a clip's ends are padded with zeros, there with the reflected signal. The whole
    clip counts, there the first ten seconds.
    `oversampling` mixes target clips' pooled values, there their waveforms. A fifth of the source
    clips and three neighbours are as there.
    Beyond the values of a band that weigh less than 1e-9 of the largest, none is kept.
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config.types import check_no_effect
from asd_jax.detectors.untrained import Untrained, UntrainedConfig
from asd_jax.detectors.vectors import Vectors
from asd_jax.errors import UserError
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.runtime.bounds import Between
from asd_jax.scoring.explanation import Part, part_of_mixture
from asd_jax.scoring.minority import smote, wanted_children
from asd_jax.scoring.mixture import GaussianMixture, component_log_densities, fit_mixture
from asd_jax.scoring.neighbours import Bank
from asd_jax.scoring.parts import parts_of
from asd_jax.scoring.ranking import RankedMeans

_TOLERANCE = 1e-6
_QUARTILES = 1.349  # from one to the other, in standard deviations of a normal distribution
_SMOTE_SHARE, _SMOTE_NEIGHBOURS = 0.2, 3


@dataclasses.dataclass(frozen=True)
class TwfrGmmConfig(UntrainedConfig):
    """Settings of the mixtures of ranked bands.

    Attributes:
        r: bases of the weights, each from 0, the maximum over time, to 1, the mean.
        components: Gaussians of a mixture.
        oversampling: "smote" of target clips, or "none".
    """

    name: ClassVar[str] = "twfr_gmm"
    r: Annotated[tuple[float, ...], Between(0, 1)] = (0.0, 0.9, 0.98, 1.0)
    components: Annotated[int, Between(1, 10**5)] = 2
    oversampling: Literal["none", "smote"] = "none"

    def __post_init__(self) -> None:
        if not isinstance(self.r, tuple) or not self.r:
            raise UserError(f"detector.r is {self.r!r}; name one or more, as in detector.r=0.9,")
        super().__post_init__()
        if len(set(self.r)) < len(self.r):
            raise UserError(f"detector.r is {self.r}; they must differ")
        if self.oversampling not in ("none", "smote"):
            raise UserError(
                f"detector.oversampling is {self.oversampling!r}; there are none, smote"
            )
        check_no_effect("detector", self, ("states", "siblings"), "mixtures are of all clips")


class TwfrGmm(Untrained):
    """How unlikely a clip's ranked bands are by mixtures of those of normal clips."""

    Config = TwfrGmmConfig
    title = "Gaussian mixtures of bands pooled by rank"
    paper = "Guan et al., TWFR-GMM"

    @property
    def fewest_clips(self) -> int:
        """More than two for each Gaussian of a mixture."""
        return 2 * self.config.detector.components + 1

    def pool(self, weights: Any, clip: ClipInput) -> RankedMeans:
        """The bands (bases · bands,) pooled over time by each r."""
        frames, mask = clip.views(self.views)  # (frames, 1, bands)
        return RankedMeans.of(frames[:, 0], mask, self.config.detector.r)

    def fit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Mixtures (models, bases, …), scales, and the training clips' scores if left out."""
        bases = len(self.config.detector.r)
        part = parts_of(vectors.mask, vectors.group)
        mixtures, scores = [], []
        for values in np.split(vectors.values, bases, axis=-1):
            clips = Bank(values, vectors.mask, vectors.state > 0)
            mixtures.append(self._mixtures(clips, vectors.mask))
            own = np.full(part.shape, np.nan)
            for left in range(part.max() + 1):
                found = self._mixtures(clips, vectors.mask & (part != left))
                with jax.enable_x64(True):
                    densities = np.asarray(_surprise(found, values))
                own = np.where(vectors.mask & (part == left), densities, own)
            scores.append(own)
        mixture = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *mixtures)
        own = np.stack(scores, axis=1)  # (models, bases, n)
        middle, spread = _scales(own, vectors.mask)
        return {
            **mixture._asdict(),
            "middle": middle,
            "spread": spread,
            "training_scores": _standardised_left_out(own, part),
        }

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """The mean over r of the standardised negative logarithms of the densities."""
        mixture = _mixture(calibration)
        values = pooled.reshape(len(self.config.detector.r), 1, -1)
        scores = _surprise(mixture, values)[:, 0]  # (bases,)
        return jnp.mean((scores - calibration["middle"]) / calibration["spread"])

    def parts(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> tuple[Part, ...]:
        """The deviations from the likeliest component of each r, band by band."""
        mixtures = _mixture(calibration)
        bases = self.config.detector.r
        return tuple(
            part_of_mixture(
                f"r={base:g}",
                jax.tree.map(lambda leaf, i=i: leaf[i], mixtures),
                values,
                float(calibration["middle"][i]),
                float(calibration["spread"][i]),
            )
            for i, (base, values) in enumerate(
                zip(bases, np.asarray(pooled).reshape(len(bases), -1), strict=True)
            )
        )

    def _mixtures(self, clips: Bank, mask: np.ndarray) -> GaussianMixture:
        """A mixture of the clips that count (models, n) of each model."""
        settings = self.config.detector
        values = clips.embeddings
        if settings.oversampling == "smote":
            most = wanted_children(clips.mask & ~clips.target, clips.target, _SMOTE_SHARE).max()
            with jax.enable_x64(True):
                grown = _smote(clips._replace(mask=mask), int(most))
            values, mask = np.asarray(grown.embeddings), np.asarray(grown.mask)
        return fit_mixture(values, mask, n_components=settings.components, tol=_TOLERANCE)[0]


def _mixture(calibration: Mapping[str, Any]) -> GaussianMixture:
    return GaussianMixture(*(calibration[name] for name in GaussianMixture._fields))


def _surprise(mixture: GaussianMixture, values: Any) -> jax.Array:
    """−max ln N(x) (..., n) over the components."""
    return -jnp.max(component_log_densities(mixture, values), axis=-1)


@functools.partial(jax.jit, static_argnums=1)
def _smote(clips: Bank, size: int) -> Bank:
    key = jax.random.key(0)
    return smote(key, clips, share=_SMOTE_SHARE, k=_SMOTE_NEIGHBOURS, size=size)


def _scales(own: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Middle and spread (models, bases) of the scores (models, bases, n) of clips (models, n).

    0 and 1 of a single base, whose scores are comparable as they are.
    """
    if own.shape[1] == 1:
        return np.zeros(own.shape[:2]), np.ones(own.shape[:2])
    counting = np.where(mask[:, None], own, np.nan)
    low, middle, high = np.nanquantile(counting, [0.25, 0.5, 0.75], axis=-1)
    # Where most scores are equal, the quartiles say nothing of the others. Equal ones differ by
    # rounding alone.
    spread, least = (high - low) / _QUARTILES, 1e-12 * np.abs(middle)
    spread = np.where(spread > least, spread, np.nanstd(counting, axis=-1))
    return middle, np.where(spread > least, spread, 1)


def _standardised_left_out(own: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Mean (models, n) over the bases of scores standardised by those of the other parts."""
    scores = np.full(part.shape, np.nan)
    for left in range(part.max() + 1):
        others = (part >= 0) & (part != left)
        middle, spread = _scales(own, others)
        z = np.mean((own - middle[..., None]) / spread[..., None], axis=1)
        scores = np.where(part == left, z, scores)
    return scores
