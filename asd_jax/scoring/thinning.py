"""Thinning of a bank of vectors that has grown: what is there twice leaves first."""

import numpy as np


def thinned(values: np.ndarray, domain: np.ndarray, most: int) -> np.ndarray:
    """Chooses the vectors of a bank that stay.

    One after another, of the two vectors of a domain that are nearest to each other the older
    leaves (of equally near pairs, that with the oldest). So what is left covers the same room, and
    of repeated sounds the latest is kept.

    Args:
        values: (n, d), the oldest first.
        domain: (n,) a number for each vector's domain.
        most: vectors that stay.

    Returns:
        bool (n,), `most` of them true, or all.

    Examples:
        >>> values = np.array([[0.0], [5.0], [0.1], [9.0]])
        >>> thinned(values, np.zeros(4), 3).tolist()
        [False, True, True, True]
    """
    values = np.asarray(values, np.float64)
    kept = np.ones(len(values), bool)
    if len(values) <= most:
        return kept
    nearest, apart = np.zeros(len(values), int), np.full(len(values), np.inf)

    def find(row: int) -> None:
        """Notes the nearest other vector of a row's domain."""
        others = np.flatnonzero(kept & (domain == domain[row]))
        others = others[others != row]
        if not len(others):
            apart[row] = np.inf
            return
        squared = ((values[others] - values[row]) ** 2).sum(axis=1)
        best = int(squared.argmin())
        nearest[row], apart[row] = others[best], squared[best]

    for row in range(len(values)):
        find(row)
    while kept.sum() > most:
        left = np.where(kept, apart, np.inf)
        row = int(left.argmin())
        # Where each is the last of its domain, the oldest leaves.
        alone = np.isinf(left[row])
        leaves = int(kept.argmax()) if alone else min(row, int(nearest[row]))
        kept[leaves] = False
        for other in np.flatnonzero(kept & (nearest == leaves) & np.isfinite(apart)).tolist():
            find(other)
    return kept
