"""States that nobody has named: clusters of a machine's normal clips."""

import itertools
from typing import Any

import numpy as np

from asd_jax.scoring.outlying import usual_rows

# Centres are as many standard deviations apart, on the line between them. A continuum that is cut
# in two has 3.5 if it is uniform and 2.7 if it is normal.
_LEAST_APART = 5.0
_COMPONENTS = 5  # Of more, few clips make clusters by chance.
_MOST_STATES = 8
_FEWEST_CLIPS = 5  # of a state: fewer are accidents


def cluster_states(values: np.ndarray) -> np.ndarray:
    """Numbers the states of a machine by k-means, where its clips show several.

    Columns are standardised and projected onto five principal components. The largest number of
    clusters, up to eight, is taken whose centres are all five standard deviations apart and have
    five clips or more; else there is one state. Odd clips do not make a state; they are counted
    to the nearest.

    Args:
        values: (n, d), finite.

    Returns:
        int (n,) from 0, the largest state first.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> values = rng.normal(size=(30, 8)) + 9 * (np.arange(30) >= 20)[:, None]
        >>> np.bincount(cluster_states(values)).tolist()
        [20, 10]
        >>> np.bincount(cluster_states(rng.normal(size=(30, 8)))).tolist()
        [30]
    """
    values = np.asarray(values, np.float64)
    # By their sums, as k-means draws by place: states do not depend on the order of the files.
    order = np.argsort(values.sum(axis=1), kind="stable")
    states = np.empty(len(values), int)
    states[order] = _ordered_states(values[order])
    return states


def _ordered_states(values: np.ndarray) -> np.ndarray:
    """States of rows (n, d) in the order of their sums."""
    from sklearn.cluster import KMeans  # slow to import

    usual = usual_rows(values)
    middle, scale = values[usual].mean(axis=0), values[usual].std(axis=0)
    scaled = (values - middle) / np.where(scale > 0, scale, 1)
    directions = np.linalg.svd(scaled[usual], full_matrices=False)[2][:_COMPONENTS]
    projected = scaled @ directions.T  # (n, components)
    for k in range(min(_MOST_STATES, int(usual.sum()) // _FEWEST_CLIPS), 1, -1):
        means = KMeans(k, n_init=10, random_state=0).fit(projected[usual])
        counts = np.bincount(means.labels_, minlength=k)
        if counts.min() >= _FEWEST_CLIPS and _apart(projected[usual], means.labels_, k):
            # Of states of equal size the one that comes first.
            first = [int(np.argmax(means.labels_ == label)) for label in range(k)]
            keys: Any = (first, -counts)
            rank = np.argsort(np.lexsort(keys))
            return rank[means.predict(projected)]
    return np.zeros(len(values), int)


def _apart(values: np.ndarray, labels: np.ndarray, k: int) -> bool:
    """Whether each two clusters are far apart on the line between their centres."""
    clusters = [values[labels == label] for label in range(k)]
    for one, other in itertools.combinations(clusters, 2):
        line = other.mean(axis=0) - one.mean(axis=0)
        length = np.linalg.norm(line)
        spread = np.sqrt((np.var(one @ line) + np.var(other @ line)) / 2) / length
        if length < _LEAST_APART * spread:
            return False
    return True
