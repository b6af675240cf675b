"""Vectors of the training clips of systems without training, and what is done to all alike."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.clips import Clip
from asd_jax.detectors.banked import spread
from asd_jax.scoring.operating import Effects, fit_effects
from asd_jax.scoring.siblings import siblings_of
from asd_jax.scoring.state_sums import Siblings, StateSettings

# What of siblings a fit gives, behind the name of a statistic.
SIBLINGS, WEIGHT = "_siblings", "_weight"
_BY_STATE = ("vectors", "place", "group")


class Vectors(NamedTuple):
    """The vectors of all models' training clips.

    Attributes:
        values: float64 (models, clips, values); zero for padding.
        mask: (models, clips) true where there is a clip.
        state: int (models, clips) from 0, which of the model's states a clip is of; the source
            domain's first.
        group: int (models, clips) from 0, which of the model's groups a clip is of.
        supplemental: float64 (models, supplemental clips, values) of the noise around a machine
            or of the machine without it, NaN for padding; None of a system that makes no use of
            them.
        is_noise: (models, supplemental clips), 1 for the noise alone; None as above.
        kin: (models,) equal for models that are siblings; None where nothing is borrowed.
        siblings: by statistic, what was found of siblings in an earlier fit, for one that is to
            have the same; None to find it.
    """

    values: np.ndarray
    mask: np.ndarray
    state: np.ndarray
    group: np.ndarray
    supplemental: np.ndarray | None = None
    is_noise: np.ndarray | None = None
    kin: np.ndarray | None = None
    siblings: Mapping[str, Siblings] | None = None


def borrowing_lines(
    calibration: Mapping[str, np.ndarray], clips: Sequence[Sequence[Clip]]
) -> list[str]:
    """How much of each model's covariances is its siblings', on average over the statistics."""
    weights = [leaf for name, leaf in calibration.items() if name.endswith(SIBLINGS + WEIGHT)]
    if not weights:
        return []
    lines = []
    for m, own in enumerate(clips):
        states = len(set(calibration["state"][m][: len(own)].tolist()))
        free = len(own) - states
        shares = [leaf[m] / (free + leaf[m]) if leaf[m] > 0 else 0.0 for leaf in weights]
        place = f"{own[0].machine} {own[0].section}: {len(own)} training clips"
        lines.append(f"{place}; {np.mean(shares):.0%} of the covariance is that of siblings")
    return lines


def kin_of(calibrations: Mapping[str, np.ndarray], sound: np.ndarray) -> dict[str, Any]:
    """`Vectors.kin` and `.siblings`, of the models that have clips."""
    if "kin" not in calibrations:
        return {}
    found = {
        name.removesuffix(SIBLINGS): Siblings(leaf[sound], calibrations[name + WEIGHT][sound])
        for name, leaf in calibrations.items()
        if name.endswith(SIBLINGS)
    }
    return {"kin": calibrations["kin"][sound, 0], "siblings": found or None}


def borrowed(
    vectors: Vectors, rows: np.ndarray, mask: np.ndarray, settings: StateSettings, name: str = ""
) -> tuple[Siblings | None, dict[str, np.ndarray]]:
    """What models borrow of their siblings' covariance of a statistic.

    Args:
        vectors: of their training clips.
        rows: (models, clips, d) of the statistic.
        mask: (models, clips) true where a clip is fitted to.
        settings: of the covariances.
        name: of the statistic.

    Returns:
        For `fit_states`; and arrays for `fit` to give, so that a fit without some clips borrows the
        same. None, and none, where nothing is borrowed.
    """
    if vectors.kin is None:
        return None, {}
    if vectors.siblings is not None:
        found = vectors.siblings[name]
    else:
        found = siblings_of(rows, mask, vectors.state, vectors.group, vectors.kin, settings)
    return found, {name + SIBLINGS: found.covariance, name + SIBLINGS + WEIGHT: found.weight}


def without_states(
    calibrations: Mapping[str, np.ndarray], mask: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What given states move in the vectors of each model, and the rests of its training clips.

    Args:
        calibrations: "vectors", "place" and "group" (models, clips, …).
        mask: (models, clips) true where there is a clip.

    Returns:
        The fields of `Effects`, models first and NaN of a model without clips, and the rests
        (models, clips, values), 0 for padding.
    """
    n_categories = 1 + max(int(np.nanmax(calibrations["place"][..., 0])), 0)
    rests = np.where(mask[..., None], calibrations["vectors"], 0.0)
    found: list[Effects] = []
    for m in np.flatnonzero(mask.any(axis=1)):
        own = mask[m]
        vectors, places, groups = (calibrations[name][m][own] for name in _BY_STATE)
        effects, rests[m, own] = fit_effects(vectors, places, groups, n_categories)
        found.append(effects)
    sound = np.array([own.any() for own in mask], bool)
    leaves = zip(Effects._fields, map(np.stack, zip(*found, strict=True)), strict=True)
    return {name: spread(leaf, sound) for name, leaf in leaves}, rests


def order_of(vectors: Vectors) -> np.ndarray:
    """(models, clips) places of each model's clips, by the sums of their values; padding last.

    Draws, of k-means or of synthetic clips, are by place. So they do not depend on the order of
    the files.
    """
    sums = np.where(vectors.mask, vectors.values.sum(axis=-1), np.inf)
    return np.argsort(sums, axis=1, kind="stable")


def in_order(vectors: Vectors, order: np.ndarray) -> Vectors:
    """The clips of each model in another order, and their groups numbered by it."""
    ordered = vectors._replace(
        values=np.take_along_axis(vectors.values, order[..., None], axis=1),
        mask=np.take_along_axis(vectors.mask, order, axis=1),
        state=np.take_along_axis(vectors.state, order, axis=1),
        group=np.take_along_axis(vectors.group, order, axis=1),
    )
    for group, mask in zip(ordered.group, ordered.mask, strict=True):
        _, first, number = np.unique(group[mask], return_index=True, return_inverse=True)
        group[mask] = np.argsort(np.argsort(first))[number]
    return ordered
