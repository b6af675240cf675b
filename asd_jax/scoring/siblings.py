"""Covariances that machines with few clips borrow from machines of their kind.

How sound varies around its mean is alike among machines of one kind, and takes many clips to
learn. A machine's covariance is therefore a mean of its own and of that of its siblings' clips
around their own centres. Its own has a weight of f, its clips less their states, the siblings' one
of ν: as if they had been seen in ν clips of its own before, which is the posterior mean of an
inverse Wishart distribution. With more clips the siblings' part goes to zero.

ν is the number, one for all machines that are siblings, by which clips that are left out are most
likely: of each machine five parts of its groups are left out in turn. So it is small where the
machines differ, and nothing is borrowed where that is best. A machine's siblings' covariance has
none of its own clips.

Sources: Haff 1980, Empirical Bayes estimation of the multivariate normal covariance matrix; Ledoit
and Wolf 2004 for each part, as in `asd_jax.scoring.states`.
"""

from typing import Any

import numpy as np

from asd_jax.scoring.state_sums import Siblings, StateSettings
from asd_jax.scoring.states import States, fit_states

WEIGHTS = (0.0, *(float(10 ** (k / 4)) for k in range(17)))  # 0, and 1 to 10,000
_PARTS = 5
_MOST_OWN, _MOST_CLIPS = 100, 2000  # of a machine to choose ν by; of all siblings together


def siblings_of(
    values: np.ndarray,
    mask: np.ndarray,
    state: np.ndarray,
    group: np.ndarray,
    kin: np.ndarray,
    settings: StateSettings,
) -> Siblings:
    """The siblings' covariance of each model, and its weight.

    Args:
        values: (models, n, d).
        mask: (models, n) true where a row counts.
        state: (models, n) integers from 0.
        group: (models, n) integers, what was recorded together.
        kin: (models,) equal for models that are siblings.
        settings: of the covariances.

    Returns:
        Float64; a weight of 0 where a model has no siblings whose clips vary.

    Examples:
        Three machines that vary alike, one of them with three clips only.

        >>> rng = np.random.default_rng(0)
        >>> mask = np.arange(60) < np.array([60, 60, 3])[:, None]
        >>> values = rng.normal(0, [1.0, 5.0], (3, 60, 2)) * mask[..., None]
        >>> rows = np.zeros((3, 60), int), np.broadcast_to(np.arange(60), (3, 60))
        >>> found = siblings_of(values, mask, *rows, np.zeros(3), StateSettings())
        >>> np.sqrt(np.diag(found.covariance[2])).round().tolist(), bool(found.weight[2] > 10)
        ([1.0, 5.0], True)
    """
    models, _, d = values.shape
    settings = settings._replace(level=0.0, towards_first=False)
    covariance, weight = np.tile(np.eye(d), (models, 1, 1)), np.zeros(models)
    for each in np.unique(kin):
        own = np.flatnonzero(kin == each)
        known = []
        for m in own:
            found = _pooled(values, mask, state, own[own != m], settings)
            if found is not None:
                covariance[m] = found
                known.append(m)
        if known:
            weight[known] = _likeliest(values, mask, state, group, covariance, known, settings)
    return Siblings(covariance, weight)


def _pooled(
    values: np.ndarray,
    mask: np.ndarray,
    state: np.ndarray,
    others: np.ndarray,
    settings: StateSettings,
) -> np.ndarray | None:
    """(d, d) covariance of some models' rows around their own centres; None of too few."""
    rows, states, first = [], [], 0
    for m in others:
        own = _evenly(np.flatnonzero(mask[m]), max(2, _MOST_CLIPS // len(others)))
        numbers = np.unique(state[m][own], return_inverse=True)[1]
        rows.append(values[m][own])
        states.append(first + numbers)
        first += int(numbers.max(initial=-1)) + 1
    together = np.concatenate(rows) if rows else np.zeros((0, values.shape[-1]))
    if len(together) - first < 1:
        return None
    fitted = fit_states(together, state=np.concatenate(states), settings=settings)
    return _covariance(fitted.whitening) if fitted.valid else None


def _covariance(whitening: np.ndarray) -> np.ndarray:
    """C from W with W Wᵀ its inverse."""
    inverse = np.linalg.inv(whitening)
    return inverse.T @ inverse


def _evenly(rows: np.ndarray, most: int) -> np.ndarray:
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).round().astype(int)]


def _likeliest(
    values: np.ndarray,
    mask: np.ndarray,
    state: np.ndarray,
    group: np.ndarray,
    covariance: np.ndarray,
    models: list[Any],
    settings: StateSettings,
) -> float:
    """The weight by which clips of the models that are left out are most likely."""
    total = np.zeros(len(WEIGHTS))
    for m in models:
        rows = _evenly(np.flatnonzero(mask[m]), _MOST_OWN)
        part = np.unique(group[m][rows], return_inverse=True)[1] % _PARTS
        kept = part != np.unique(part)[:, None]  # (folds, rows)
        if not kept.any():
            continue
        together = np.broadcast_to(values[m][rows], (len(kept), len(rows), values.shape[-1]))
        of_rows = np.broadcast_to(state[m][rows], kept.shape)
        folds = fit_states(together, kept, of_rows, settings=settings)
        for fold, mask_of in enumerate(kept):
            fitted = States(*(np.asarray(leaf)[fold] for leaf in folds))
            left = values[m][rows][~mask_of], state[m][rows][~mask_of]
            total += _likelihoods(fitted, *left, covariance[m])
    # Of equal ones, the largest: nothing speaks for the machine's own.
    return WEIGHTS[int(np.flatnonzero(total >= total.max())[-1])]


def _likelihoods(
    fitted: States, rows: np.ndarray, state: np.ndarray, theirs: np.ndarray
) -> np.ndarray:
    """(weights,) log-likelihoods of rows (n, d), in states (n,), by a fit without them."""
    count, d = fitted.n_clips, theirs.shape[0]
    there = count[state] > 0
    rows, state = rows[there], state[there]
    free = int(np.sum(count) - np.sum(count > 0))
    own = _covariance(fitted.whitening) if fitted.valid else theirs
    deviations, widened = rows - fitted.mean[state], 1 + 1 / count[state]
    found = []
    for weight in WEIGHTS:
        if not free + weight:
            found.append(-np.inf)  # there is nothing to go by
            continue
        lower = np.linalg.cholesky((free * own + weight * theirs) / (free + weight))
        squared = np.sum(np.linalg.solve(lower, deviations.T) ** 2, axis=0) / widened
        log_det = 2 * np.sum(np.log(np.diag(lower)))
        found.append(-0.5 * np.sum(squared + log_det + d * np.log(widened)))
    return np.array(found)
