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
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.mel import band_limits
from asd_jax.config.types import check_no_effect
from asd_jax.detectors.untrained import Untrained, UntrainedConfig, Vectors
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.scoring import pooling
from asd_jax.scoring.banks import (
    BankSettings,
    FittedBank,
    bank_scores,
    check_settings,
    fit_banks,
)
from asd_jax.scoring.explanation import Explanation, part_of_bank
from asd_jax.scoring.neighbours import Bank


@dataclasses.dataclass(frozen=True)
class MelKnnConfig(UntrainedConfig):
    """Settings of the distance from the nearest mean spectrum.

    Attributes:
        neighbours: number of nearest clips whose mean distance counts, in each domain.
        metric: "cosine", which does not see the level, or "euclidean".
        normalisation: of the distances. "none": source and target clips apart, and the smaller
            counts; "domain": each standardised by the distances within it before. By how densely
            the clips lie, all of them together: "ldn", the ratio; "varmin", the difference,
            weighted so that normal clips' scores vary least; "ldn_varmin", both, of logarithms.
        density_neighbours: number of neighbours of a clip's density; 0 for what the authors
            recommend, 1, and 4 of "varmin".
        oversampling: "smote" or "memmixup" of target clips, or "none".
        centres: of the source clips, by k-means, in place of the clips; 0 keeps the clips.
    """

    name: ClassVar[str] = "mel_knn"
    neighbours: int = 1
    metric: Literal["cosine", "euclidean"] = "cosine"
    normalisation: Literal["none", "ldn", "varmin", "ldn_varmin", "domain"] = "none"
    density_neighbours: int = 0
    oversampling: Literal["none", "smote", "memmixup"] = "smote"
    centres: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_settings(self.bank, "detector.")
        check_no_effect("detector", self, ("states",), "clips are compared with clips")
        if self.normalisation in ("none", "domain"):
            unused, what = "density_neighbours", "does not ask for densities"
        else:
            unused, what = "neighbours", "takes the smallest of the normalised distances"
        why = f"detector.normalisation={self.normalisation} {what}"
        check_no_effect("detector", self, (unused,), why)

    @property
    def bank(self) -> BankSettings:
        """The settings of the back end."""
        return BankSettings(*(getattr(self, name) for name in BankSettings._fields))


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
        fitted = _bank(calibration)
        score = bank_scores(fitted, pooled[None], self.config.detector.bank)[0]
        return jnp.where(jnp.any(fitted.mask), score, jnp.nan)

    def explain(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> Explanation:
        """The deviations from the nearest clip, band by band."""
        settings = self.config.detector.bank
        part = part_of_bank("spectrum", _bank(calibration), settings, np.asarray(pooled))
        return Explanation(part.score, (part,), band_limits(self.config.front_end.mel))


def _bank(calibration: Mapping[str, Any]) -> FittedBank:
    fitted = FittedBank(**{name: calibration[name] for name in FittedBank._fields})
    # Of a model without a bank all are NaN.
    return fitted._replace(mask=fitted.mask == 1, target=fitted.target == 1)
