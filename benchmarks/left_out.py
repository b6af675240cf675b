"""Scores of training clips by fits without them: ours at once, and a loop over scikit-learn.

The clips of each model are rows of correlated columns, as mean log-mel spectra are. The result is
the squared Mahalanobis distance of each row by the mean and Ledoit and Wolf's covariance of the
others; ours also fits to all rows.

Ways:
    ours                `asd_jax.scoring.states`: `fit_states` and `leave_out`
    sklearn             `sklearn.covariance.LedoitWolf`, fitted without some of the rows in turn
    sklearn one thread  the same with one thread
"""

import functools
from collections.abc import Sequence

import jax
import numpy as np
from threadpoolctl import threadpool_limits

from asd_jax.runtime.cores import usable_cores
from asd_jax.scoring.states import fit_states, leave_out
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.roofline import Work

# Which of scikit-learn's fits are made, as they take minutes: every tenth or fortieth. Its seconds
# are multiplied by it.
EVERY_OF_FEW, EVERY_OF_MANY = 10, 40


def make_clips(models: int, n: int, d: int) -> np.ndarray:
    """Rows (models, n, d) at the level of log-mels in dB."""
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(models, d, d)) / np.sqrt(d)
    return -60 + rng.normal(size=(models, n, d)) @ mixing


def ours(values: np.ndarray) -> np.ndarray:
    """(models, n)."""
    fit_states(values)
    return leave_out(values).squared


def sklearns(values: np.ndarray, every: int, threads: int | None) -> np.ndarray:
    """(models, n / every)."""
    from sklearn.covariance import LedoitWolf

    with threadpool_limits(threads):
        return np.array(
            [
                [
                    LedoitWolf().fit(np.delete(rows, i, axis=0)).mahalanobis(rows[i][None])[0]
                    for i in range(0, len(rows), every)
                ]
                for rows in values
            ]
        )


_THREADS = {"sklearn": usable_cores(), "sklearn one thread": 1}


def setup(quick: bool, peers: Sequence[str], *, cold: bool = False) -> Prepared:
    """All ways have the rows on the host."""
    models, n, d = (4, 300, 128) if quick else (23, 880, 128)
    every = EVERY_OF_FEW if quick else EVERY_OF_MANY
    values = make_clips(models, n, d)

    def check(peer, ours, theirs):
        found = largest(ours[:, ::every], theirs, relative=True)
        yield Difference("squared distances, relative", found, 1e-6, "rounding of float64")

    def work(result):
        # A row: the outer product is taken out, the rest factorised and inverted (2/3 d³), and
        # Ledoit and Wolf's formula goes through all rows once (2 n d).
        flops = models * n * (2 * d**3 / 3 + 2 * n * d)
        return Work(8 * values.size, flops, "float64; 2/3 d³ and 2 n d a row; float32's rate")

    return Prepared(
        f"{models} models of {n} clips of {d} values: each clip's distance by the fit without it"
        + (", compiling included" if cold else ""),
        {"ours": Way(functools.partial(ours, values), jax.clear_caches if cold else lambda: None)}
        | {
            peer: Way(functools.partial(sklearns, values, every, _THREADS[peer]), scale=every)
            for peer in peers
        },
        check,
        work,
    )


COMPARISONS = [
    Comparison(
        name,
        {peer: installed("sklearn", "") for peer in _THREADS},
        functools.partial(setup, cold=cold),
        {(backend, peer): goal for backend in ("cpu", "gpu") for peer in _THREADS},
        rounds=3,
        brief=not cold,
    )
    for name, cold, goal in (("left_out", False, 20), ("left_out.compiled", True, 2))
]
