"""Pooled clips without what their operating states move, as systems in dB compare them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from asd_jax.features.batches import ClipFrames
from asd_jax.scoring.operating import NAMES, Effects, rest_of
from asd_jax.scoring.state_space import places_array

if TYPE_CHECKING:
    from asd_jax.fitting.detector import FittedDetector

_MOST_CANDIDATES = 32
Pooled = tuple[ClipFrames, Any]


def in_state(
    fitted: "FittedDetector", chosen: Sequence[int], some: Sequence[Pooled]
) -> Sequence[Pooled]:
    """The clips with what is left of their pools' values; as they are without given states.

    A clip whose state is not known, or was never heard, is taken to be in the state in which its
    score is the lowest.

    Args:
        fitted: the system.
        chosen: indices of the models that score, of one machine and section.
        some: clips with the values of their pools, (models, values).
    """
    model = chosen[0]
    name = f"{fitted.models[model].machine}/{fitted.models[model].section}"
    space = fitted.operating.spaces.get(name)
    if space is None or NAMES[0] not in fitted.calibration:
        return some
    effects = Effects.of({name: fitted.calibration[name][model] for name in NAMES})
    if not np.isfinite(effects.state_centre).all():
        return some
    found = []
    for clip, value in some:
        place = space.place(clip.state)
        if place is not None:
            rows = places_array([place])
        else:
            rows = _candidates(np.asarray(fitted.calibration["place"][model]))
        rests = [rest_of(np.asarray(value)[0], row, effects) for row in rows]
        best = 0
        if len(rests) > 1:
            scores = fitted.scores_of_pools(chosen[:1], [(clip, rest[None]) for rest in rests])[0]
            best = int(np.nanargmin(scores)) if np.isfinite(scores).any() else 0
        found.append((clip, rests[best][None]))
    return found


def _candidates(places: np.ndarray) -> np.ndarray:
    """At most 32 of the places (clips, …) that training clips have, evenly."""
    known = np.unique(places[np.isfinite(places[:, 0])], axis=0)
    if len(known) <= _MOST_CANDIDATES:
        return known
    return known[np.linspace(0, len(known) - 1, _MOST_CANDIDATES).round().astype(int)]
