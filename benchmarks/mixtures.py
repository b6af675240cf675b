"""Gaussian mixtures of a fleet: ours at once, and scikit-learn's one after another.

The clips of each model are standardised rows of three overlapping clusters with some constant
columns. Each way starts by its own k-means and stops by the same tolerance; fits from the same
start are compared apart from that.

Ways:
    ours                `asd_jax.scoring.mixture.fit_mixture`, all fits in one call
    sklearn             a loop over `sklearn.mixture.GaussianMixture`, a thread a core
    sklearn one thread  the same loop with one thread
    sklearn processes   the fits shared among one process a core
"""

import functools
import warnings
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from asd_jax.runtime.cores import usable_cores
from asd_jax.scoring.mixture import GaussianMixture, fit_mixture
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.roofline import Work

COMPONENTS, TOL, MAX_ITER = 3, 1e-3, 100
# Constant columns, like some features of real machines.
CONSTANT = 3


class Fits(NamedTuple):
    """Mean log-likelihood and number of iterations of every fit, each (fits,)."""

    log_likelihood: np.ndarray
    n_iter: np.ndarray


def make_clips(fits: int, n: int, d: int) -> np.ndarray:
    """Rows (fits, n, d)."""
    rng = np.random.default_rng(0)
    values = np.empty((fits, n, d))
    for rows in values:
        means = 0.5 * rng.normal(size=(3, d))
        mixing = rng.normal(size=(d, d)) / np.sqrt(d)
        rows[:] = means[rng.integers(3, size=n)] + rng.normal(size=(n, d)) @ mixing
    values = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    values[..., :CONSTANT] = 0
    return values


def fit_sklearn(values: np.ndarray, **settings) -> tuple[float, int]:
    """Log-likelihood and iterations."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as SklearnMixture

    model = SklearnMixture(COMPONENTS, tol=TOL, max_iter=MAX_ITER, random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values)
    return model.lower_bound_, model.n_iter_


def _loop(values: np.ndarray, threads: int) -> Fits:
    with threadpool_limits(threads):
        return Fits(*map(np.array, zip(*map(fit_sklearn, values), strict=True)))


def _processes(values: np.ndarray) -> Fits:
    import joblib

    share = joblib.Parallel(n_jobs=usable_cores())
    return Fits(
        *map(np.array, zip(*share(joblib.delayed(fit_sklearn)(v) for v in values), strict=True))
    )


_WAYS = {
    "sklearn": functools.partial(_loop, threads=usable_cores()),
    "sklearn one thread": functools.partial(_loop, threads=1),
    "sklearn processes": _processes,
}


def _from_same_start(values: np.ndarray) -> list[Difference]:
    """Fits from the same means and unit covariances."""
    fits, _, d = values.shape
    unit = np.broadcast_to(np.eye(d), (fits, COMPONENTS, d, d))
    weights = np.full((fits, COMPONENTS), 1 / COMPONENTS)
    start = GaussianMixture(weights, values[:, :COMPONENTS], unit)
    _, fit = fit_mixture(values, n_components=COMPONENTS, tol=TOL, max_iter=MAX_ITER, start=start)
    with threadpool_limits(1):
        expected = [
            fit_sklearn(
                rows,
                init_params="random_from_data",
                weights_init=start.weights[i],
                means_init=start.means[i],
                precisions_init=unit[i],
            )
            for i, rows in enumerate(values)
        ]
    bounds, n_iter = (np.array(part) for part in zip(*expected, strict=True))
    what = f"of {fits} fits from the same start"
    return [
        Difference(f"log-likelihood {what}", largest(fit.log_likelihood, bounds), 1e-4, "rounding"),
        Difference(f"iterations {what}", largest(fit.n_iter, n_iter), 0, "the same stop"),
    ]


def setup(quick: bool, peers: Sequence[str]) -> Prepared:
    """Both ways have the rows on the host."""
    fits, n, d = (12, 300, 55) if quick else (115, 1000, 55)
    values = make_clips(fits, n, d)
    same_start = _from_same_start(values[:8])

    def ours():
        _, fit = fit_mixture(values, n_components=COMPONENTS, tol=TOL, max_iter=MAX_ITER)
        return Fits(fit.log_likelihood, fit.n_iter)

    def check(peer, ours, theirs):
        yield from same_start
        deviations = (ours.log_likelihood - theirs.log_likelihood) / d
        yield Difference(
            "mean over the fits of the log-likelihood, in nats a feature",
            abs(float(deviations.mean())),
            0.02,
            "other draws of k-means++ lead to other optima",
        )

    def work(result):
        # An iteration: each row's distances by a triangular factor (d²), and its share of the
        # covariances (2 d²); memory: the rows, once.
        flops = 3 * d * d * n * COMPONENTS * float(result.n_iter.sum())
        return Work(
            8 * values.size,
            flops,
            "float64 rows read once; 3 d² a row, component and iteration, "
            f"{result.n_iter.mean():.1f} iterations a fit; the matrix rate is that of float32",
        )

    return Prepared(
        f"{fits} mixtures of {COMPONENTS} Gaussians with full covariances, {n} rows of {d} "
        "features each, k-means included; float64",
        {"ours": Way(ours)} | {p: Way(functools.partial(_WAYS[p], values)) for p in peers},
        check,
        work,
    )


COMPARISONS = [
    Comparison(
        "mixtures",
        {way: installed("sklearn", "") for way in _WAYS},
        setup,
        {
            (backend, way): goal
            for backend, goal in (("cpu", 5), ("gpu", 20))
            for way in ("sklearn", "sklearn one thread")
        },
        brief=True,
    )
]
