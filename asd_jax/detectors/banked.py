"""Systems that compare a clip with the nearest of a machine's normal clips: settings and scores."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config.types import check_no_effect
from asd_jax.detectors.base import DetectorConfig
from asd_jax.runtime.bounds import Between
from asd_jax.scoring.banks import (
    BankSettings,
    FittedBank,
    bank_scores,
    check_settings,
)


@dataclasses.dataclass(frozen=True)
class BankedConfig(DetectorConfig):
    """Settings of the distance from the nearest clip.

    Attributes:
        neighbours: number of nearest clips whose mean distance counts, in each domain.
        metric: "cosine", which does not see the length, or "euclidean".
        normalisation: of the distances. "none": source and target clips apart, and the smaller
            counts; "domain": each standardised by the distances within it before. By how densely
            the clips lie, all of them together: "ldn", the ratio; "varmin", the difference,
            weighted so that normal clips' scores vary least; "ldn_varmin", both, of logarithms.
        density_neighbours: number of neighbours of a clip's density; 0 for what the authors
            recommend, 1, and 4 of "varmin".
        oversampling: "smote" or "memmixup" of target clips, or "none".
        centres: of the source clips, by k-means, in place of the clips; 0 keeps the clips.
    """

    own_score: ClassVar[tuple[str, ...]] = BankSettings._fields
    neighbours: Annotated[int, Between(1, 10**6)] = 1
    metric: Literal["cosine", "euclidean"] = "cosine"
    normalisation: Literal["none", "ldn", "varmin", "ldn_varmin", "domain"] = "none"
    density_neighbours: Annotated[int, Between(0, 10**6)] = 0
    oversampling: Literal["none", "smote", "memmixup"] = "smote"
    centres: Annotated[int, Between(0, 10**6)] = 0

    def check_bank(self) -> None:
        """Raises UserError for settings that do not exist, are out of range, or have no effect."""
        check_settings(self.bank, "detector.")
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


def bank_of(calibration: Mapping[str, Any]) -> FittedBank:
    """A model's bank, from arrays that have the names of its fields."""
    fitted = FittedBank(**{name: calibration[name] for name in FittedBank._fields})
    # Of a model without a bank all are NaN.
    return fitted._replace(mask=fitted.mask == 1, target=fitted.target == 1)


def score_by_bank(calibration: Mapping[str, Any], query: Any, settings: BankSettings) -> jax.Array:
    """() distance of a vector (d,) from a model's bank; NaN of a model without one."""
    fitted = bank_of(calibration)
    score = bank_scores(fitted, query[None], settings)[0]
    return jnp.where(jnp.any(fitted.mask), score, jnp.nan)


def spread(leaf: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """Rows for all models from those of the sound ones; NaN for the others.

    Args:
        leaf: (sound models, …).
        sound: (models,) true of these.
    """
    if sound.all():
        return leaf
    whole = np.full((len(sound), *leaf.shape[1:]), np.nan, np.result_type(leaf, np.float32))
    whole[sound] = leaf
    return whole
