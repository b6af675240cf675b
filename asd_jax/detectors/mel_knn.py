"""Distance of a clip's mean mel spectrum from the nearest normal clip; no training.

Source: `raw_spec` of Fujimura et al., ASDKit (github.com/TakuyaFujimura/dcase-asd-toolkit, MIT),
which names arXiv 2305.03328 as its source. Normalised distances and more even banks are those
of `asd_jax.scoring.normalisation`, `standardisation` and `minority`, which name their sources.

As there: the mean over time of the magnitudes in 128 mel bands, of HTK's scale and equal peaks;
    the cosine distance from the nearest source clip and from the nearest target clip, of which
    the smaller counts; target clips made up to a fifth of the source clips by SMOTE, between each
    clip and one of its two nearest, all scaled to length 1 before. The published scores are by
    this of ASDKit's four back ends.

Decided here:
    A machine id or section has a bank of its own. ASDKit has one for a machine type.
    Cosine distances are 1 − cos, twice those of ASDKit: no ranking depends on it.
    SMOTE draws in another order, so that its clips are others.
    Scores of training clips, which set the threshold, are by banks without the clip's group:
    neighbours, densities, weights, scales and synthetic clips are computed without it.
    With `centres`, k-means is repeated for ten parts of the groups only, not for each group, and
    a clip's bank is without its part. Synthetic clips are made before: their number is a share
    of the source clips, not of the centres.
    Without target clips there is nothing to oversample, and the source clips are all there is.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config.types import check_no_effect
from asd_jax.detectors.banked import BankedConfig, bank_of, score_by_bank
from asd_jax.detectors.untrained import Untrained, UntrainedConfig
from asd_jax.detectors.vectors import Vectors
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.scoring import pooling
from asd_jax.scoring.banks import fit_banks
from asd_jax.scoring.explanation import Part, part_of_bank
from asd_jax.scoring.neighbourhoods import distances
from asd_jax.scoring.neighbours import Bank


@dataclasses.dataclass(frozen=True)
class MelKnnConfig(BankedConfig, UntrainedConfig):
    """Settings of the distance from the nearest mean spectrum; those of `BankedConfig`."""

    name: ClassVar[str] = "mel_knn"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_bank()
        check_no_effect("detector", self, ("states", "siblings"), "clips are compared with clips")


class MelKnn(Untrained):
    """How far a clip's mean spectrum is from that of the nearest normal clip."""

    Config = MelKnnConfig
    title = "nearest mean mel spectrum"
    paper = "Fujimura et al., ASDKit, raw_spec"

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """The mean (bands,) over time of the magnitudes."""
        frames, mask = clip.views(self.views)  # (frames, 1, bands)
        return pooling.Mean.of(10 ** (frames[:, 0].astype(float) / 20), mask)

    def fit(self, vectors: Vectors) -> dict[str, np.ndarray]:
        """Banks, and the training clips' distances if left out."""
        bank = Bank(vectors.values, vectors.mask, vectors.state > 0)
        fitted, scores = fit_banks(bank, vectors.group, self.config.detector.bank)
        return {**fitted._asdict(), "training_scores": scores}

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """The distance from the nearest clip."""
        return score_by_bank(calibration, pooled, self.config.detector.bank)

    def parts(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> tuple[Part, ...]:
        """The deviations from the nearest clip, band by band."""
        settings = self.config.detector.bank
        return (part_of_bank("spectrum", bank_of(calibration), settings, np.asarray(pooled)),)

    def nearest(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> int | None:
        """The training clip with the nearest spectrum, by the metric."""
        vectors = np.asarray(calibration["vectors"])  # NaN for padding
        if not np.isfinite(pooled).all() or np.isnan(vectors).all():
            return None
        metric = self.config.detector.metric
        apart = distances(jnp.asarray(pooled)[None], jnp.asarray(vectors), metric=metric)[0]
        return int(np.nanargmin(apart))
