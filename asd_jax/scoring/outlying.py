"""Training clips that are odd beyond doubt: of a dead microphone, another machine, a test run.

A few of them, fitted to, widen a Gaussian so far that it accepts faults. They are told by
medians, which they do not move.
"""

import numpy as np

from asd_jax.scoring import rows

# Half of a clip's columns are further than so many deviations from the median of its state. Of
# normal clips that is unheard of, though a load, say, may move all columns together: of some 3,000
# synthetic ones, the furthest of a machine is at 1 to 4.5.
_ODD = 5.0
# A larger share of the clips of a state is how the machine can be, not an accident.
_LARGEST_SHARE = 0.1
_FEWEST = 10  # Medians of fewer clips say little.


def usual_rows(
    values: np.ndarray,
    mask: np.ndarray | None = None,
    state: np.ndarray | None = None,
    *,
    resolution: float = 0.0,
) -> np.ndarray:
    """The rows that are not odd.

    Args:
        values: (..., n, d), finite where they count.
        mask: (..., n), true where a row counts; None for all of them.
        state: (..., n) integers from 0, the state of each row; None for one state.
        resolution: smallest deviation of a column, in its unit.

    Returns:
        (..., n) true where a row counts and is not odd. Where the others of its state are all
        equal, none is odd: nothing says how much they vary.

    Examples:
        >>> values = np.random.default_rng(0).normal(-60, 1, (40, 8))
        >>> values[5] = -156.0
        >>> np.flatnonzero(~usual_rows(values)).tolist()
        [5]
    """
    values, mask = rows.checked(values, mask)
    state = np.zeros(mask.shape, int) if state is None else np.broadcast_to(state, mask.shape)
    usual = mask.copy()
    for at in np.ndindex(mask.shape[:-1]):
        for each in np.unique(state[at][mask[at]]):
            own = np.flatnonzero(mask[at] & (state[at] == each))
            if len(own) < _FEWEST:
                continue
            apart = np.abs(values[at][own] - np.median(values[at][own], axis=0))  # (own, d)
            # 1.4826 times the median of a normal distribution's deviations is its standard one.
            spread = np.maximum(1.4826 * np.median(apart, axis=0), max(resolution, 1e-12))
            odd = np.median(apart / spread, axis=1) > _ODD
            rest = values[at][own[~odd]]
            varies = len(rest) > 0 and bool((rest != rest[0]).any())
            if varies and 0 < odd.sum() <= _LARGEST_SHARE * len(own):
                usual[at][own[odd]] = False
    return usual
