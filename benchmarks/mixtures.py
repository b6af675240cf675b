"""Gaussian mixtures of a fleet: ours at once, and scikit-learn's one after another.

    python benchmarks/mixtures.py [--fits=115] [--clips=1000] [--features=55] [--rounds=5]

The clips of each model are standardised rows of three overlapping clusters with some constant
columns. Each way starts by its own k-means and stops by the same tolerance; the ways take turns,
round by round, after a first round that compiles and starts processes. First, log-likelihoods
after fits from the same start are compared, to 1e-4.

Ways:
    ours                `asd_jax.scoring.mixture.fit_mixture`, all fits in one call
    sklearn, threads    a loop over `sklearn.mixture.GaussianMixture`, a thread a core
    sklearn, one thread the same loop with one thread
    sklearn, processes  the fits shared among one process a core
"""

import functools
import os
import time
import warnings

import jax
import joblib
import numpy as np
import sklearn
from absl import app, flags
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture
from threadpoolctl import threadpool_limits

from asd_jax.scoring.mixture import GaussianMixture, fit_mixture

WAYS = ("ours", "sklearn, threads", "sklearn, one thread", "sklearn, processes")

_FITS = flags.DEFINE_integer("fits", 115, "mixtures, as of 23 machines and 5 trainings")
_CLIPS = flags.DEFINE_integer("clips", 1000, "rows of a fit")
_FEATURES = flags.DEFINE_integer("features", 55, "columns")
_COMPONENTS = flags.DEFINE_integer("components", 3, "of a mixture")
_RESTARTS = flags.DEFINE_integer("restarts", 1, "starts of a fit")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "rounds timed")
_WAYS = flags.DEFINE_multi_enum("ways", list(WAYS), list(WAYS), "may be repeated")
_COMPARED = flags.DEFINE_integer("compared", 8, "fits compared from the same start")

TOL, MAX_ITER = 1e-3, 100


def make_clips() -> np.ndarray:
    """Rows (fits, clips, features)."""
    rng = np.random.default_rng(0)
    fits, n, d = _FITS.value, _CLIPS.value, _FEATURES.value
    values = np.empty((fits, n, d))
    for rows in values:
        means = 0.5 * rng.normal(size=(3, d))
        mixing = rng.normal(size=(d, d)) / np.sqrt(d)
        rows[:] = means[rng.integers(3, size=n)] + rng.normal(size=(n, d)) @ mixing
    values = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    values[..., :3] = 0
    return values


def fit_sklearn(values: np.ndarray, components: int, **settings) -> tuple[float, int]:
    """Log-likelihood and iterations; knows no flags, as other processes have none."""
    model = SklearnMixture(components, tol=TOL, max_iter=MAX_ITER, random_state=0, **settings)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(values)
    return model.lower_bound_, model.n_iter_


def run(way: str, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihood and iterations of every fit."""
    if way == "ours":
        _, fit = fit_mixture(
            values,
            n_components=_COMPONENTS.value,
            restarts=_RESTARTS.value,
            tol=TOL,
            max_iter=MAX_ITER,
        )
        return fit.log_likelihood, fit.n_iter
    fit = functools.partial(fit_sklearn, components=_COMPONENTS.value, n_init=_RESTARTS.value)
    if way == "sklearn, processes":
        share = joblib.Parallel(n_jobs=os.cpu_count())
        found = share(joblib.delayed(fit)(rows) for rows in values)
    else:
        with threadpool_limits(1 if way == "sklearn, one thread" else os.cpu_count()):
            found = [fit(rows) for rows in values]
    return tuple(np.array(part) for part in zip(*found, strict=True))


def compare(values: np.ndarray) -> None:
    """Fits from the same means and unit covariances."""
    fits, d, k = len(values), values.shape[-1], _COMPONENTS.value
    unit = np.broadcast_to(np.eye(d), (fits, k, d, d))
    start = GaussianMixture(np.full((fits, k), 1 / k), values[:, :k], unit)
    _, fit = fit_mixture(values, n_components=k, tol=TOL, max_iter=MAX_ITER, start=start)
    with threadpool_limits(1):
        expected = [
            fit_sklearn(
                rows,
                k,
                init_params="random_from_data",
                weights_init=start.weights[i],
                means_init=start.means[i],
                precisions_init=unit[i],
            )
            for i, rows in enumerate(values)
        ]
    bounds, n_iter = (np.array(part) for part in zip(*expected, strict=True))
    np.testing.assert_allclose(fit.log_likelihood, bounds, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(fit.n_iter, n_iter)
    worst = np.abs(fit.log_likelihood - bounds).max()
    print(f"{fits} fits from the same start: log-likelihoods within {worst:.1e}, same iterations")


def main(_):
    backend, device = jax.default_backend(), jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {backend} ({device}), scikit-learn {sklearn.__version__}")
    print(
        f"float64, {os.cpu_count()} cores; {_FITS.value} fits of {_CLIPS.value} x "
        f"{_FEATURES.value}, {_COMPONENTS.value} components, {_RESTARTS.value} starts"
    )
    values = make_clips()
    compare(values[: _COMPARED.value])
    seconds = {way: [] for way in _WAYS.value}
    for turn in range(_ROUNDS.value + 1):
        for way, found in seconds.items():
            begin = time.perf_counter()
            likelihood, n_iter = run(way, values)
            taken = time.perf_counter() - begin
            if turn:
                found.append(taken)
            else:
                print(
                    f"{way:<20} first round {taken:6.2f} s; mean log-likelihood "
                    f"{likelihood.mean():.3f}, {n_iter.mean():.1f} iterations a fit"
                )
    for way, found in seconds.items():
        ratio = np.array(found) / seconds["ours"]
        print(
            f"{way:<20} {np.median(found):6.2f} s, least {min(found):6.2f}; "
            f"{np.median(ratio):6.2f} times ours (rounds {', '.join(f'{r:.2f}' for r in ratio)})"
        )


if __name__ == "__main__":
    app.run(main)
