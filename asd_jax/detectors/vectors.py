"""Vectors of the training clips of systems without training, and what is done to all alike."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.data.clips import Clip
from asd_jax.scoring.operating import Effects, fit_effects, has_others, parts_of, rest_of
from asd_jax.scoring.siblings import siblings_of
from asd_jax.scoring.state_sums import Siblings, StateSettings

# What of siblings a fit gives, behind the name of a statistic.
SIBLINGS, WEIGHT = "_siblings", "_weight"


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
        place: (models, clips, 1 + MOST_NAMES) of the clips' given states, see
            `asd_jax.scoring.state_space.places_array`; None without given states.
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
    place: np.ndarray | None = None
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
    found = jax.tree.map(lambda leaf: leaf[sound], _siblings_in(calibrations))
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


def without_states(vectors: Vectors) -> tuple[Vectors, dict[str, np.ndarray]]:
    """Vectors less what given states move in them, and what that is.

    Args:
        vectors: with places; each model has a clip.

    Returns:
        The rests of the clips, without places, and the fields of `Effects`, models first. A clip
        that is alone in its category does not count.
    """
    assert vectors.place is not None
    rests, counts = np.zeros_like(vectors.values), vectors.mask.copy()
    found: list[Effects] = []
    for m, own in enumerate(vectors.mask):
        table = vectors.values[m, own], vectors.place[m, own], vectors.group[m, own]
        effects, rests[m, own] = fit_effects(*table, _categories(vectors))
        counts[m, own] = has_others(*table[1:])
        found.append(effects)
    leaves = zip(Effects._fields, map(np.stack, zip(*found, strict=True)), strict=True)
    return vectors._replace(values=rests, mask=counts, place=None), dict(leaves)


class LeftOutPart(NamedTuple):
    """A part of a model's clips, left out.

    Attributes:
        left: (clips,) true for the part's.
        rests: (clips, values) of the part's clips, as those of new clips; 0 of others.
        others: (clips, values) rests of the model's other clips; 0 of the part's.
        counts: (clips,) true for others that are fitted to.
    """

    left: np.ndarray
    rests: np.ndarray
    others: np.ndarray
    counts: np.ndarray


def left_out_parts(vectors: Vectors) -> Iterator[LeftOutPart]:
    """Leaves parts of one model's clips out in turn of all that is fitted: effects, and rests.

    The rests of all clips know each other through the effects. A clip's distance from the others'
    would be too small: their covariance had a share of the clip's own deviation in its direction.

    Args:
        vectors: with places, of one model.
    """
    assert vectors.place is not None
    values, own, place = vectors.values[0], vectors.mask[0], vectors.place[0]
    parts = np.full(len(own), -1)
    parts[own] = parts_of(place[own], vectors.group[0, own])
    for part in range(parts.max() + 1):
        left = parts == part
        kept = vectors._replace(mask=(own & ~left)[None])
        rests = np.where(left[:, None], values, 0.0)
        if not kept.mask.any():
            yield LeftOutPart(left, rests, np.zeros_like(values), np.zeros_like(own))
            continue
        others, leaves = without_states(kept)
        effects = Effects(*(leaves[name][0] for name in Effects._fields))
        for clip in np.flatnonzero(left):
            rests[clip] = rest_of(values[clip], place[clip], effects)
        yield LeftOutPart(left, rests, others.values[0], others.mask[0])


def one_model(vectors: Vectors, fitted: Mapping[str, np.ndarray], model: int) -> Vectors:
    """The vectors of one model, which borrows of its siblings what `fit` gave."""
    vectors = vectors._replace(siblings=_siblings_in(fitted) or None)
    return jax.tree.map(lambda leaf: leaf[[model]], vectors)


def _siblings_in(arrays: Mapping[str, np.ndarray]) -> dict[str, Siblings]:
    """What `borrowed` gave for a fit to have again, by the statistic."""
    return {
        name.removesuffix(SIBLINGS): Siblings(leaf, arrays[name + WEIGHT])
        for name, leaf in arrays.items()
        if name.endswith(SIBLINGS)
    }


def _categories(vectors: Vectors) -> int:
    """Columns of the design for categories, of all models."""
    assert vectors.place is not None
    return 1 + max(int(vectors.place[..., 0][vectors.mask].max()), 0)


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
    if vectors.place is not None:
        place = np.take_along_axis(vectors.place, order[..., None], axis=1)
        ordered = ordered._replace(place=place)
    for group, mask in zip(ordered.group, ordered.mask, strict=True):
        _, first, number = np.unique(group[mask], return_index=True, return_inverse=True)
        group[mask] = np.argsort(np.argsort(first))[number]
    return ordered
