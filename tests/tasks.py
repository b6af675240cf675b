"""Starting a task and feeding it without a fleet."""

import jax
import numpy as np

from asd_jax.runtime.compilation import compiler_options
from asd_jax.training import Batch, TrainingStatistics


def standard(n_mels=128):
    """Statistics of input of mean 0, deviation 1, between −4 and 4."""
    ones = np.ones(n_mels, np.float32)
    return TrainingStatistics(0 * ones, ones, -4 * ones, 4 * ones)


def start(task, n_mels=128, seed=0):
    """A learner for standard input."""
    init = jax.jit(task.init, compiler_options=compiler_options("init"))
    return init(jax.random.key(seed), standard(n_mels))


def drawn(task, statistics, seed=0):
    """A learner with weights that NumPy draws, as the task's own draws take long to compile.

    No running statistic is at its start either; the rest, as the scaling of input, is the task's.
    """
    rng, key = np.random.default_rng(seed), jax.random.key(seed)

    def draw(path, leaf):
        if path[-1].key in ("scale", "var"):
            return rng.uniform(0.8, 1.2, leaf.shape).astype(leaf.dtype)
        inputs = np.prod(leaf.shape[:-1]) if leaf.ndim > 1 else 100
        return rng.normal(0, inputs**-0.5, leaf.shape).astype(leaf.dtype)

    def rest(key):
        state = task.init(key, statistics)["model_state"]
        return {name: value for name, value in state.items() if name != "batch_stats"}

    shapes = jax.eval_shape(task.init, key, statistics)
    weights = {"params": shapes["params"]}
    if "batch_stats" in shapes["model_state"]:
        weights["batch_stats"] = shapes["model_state"]["batch_stats"]
    weights = jax.tree_util.tree_map_with_path(draw, weights)
    return {
        "params": weights.pop("params"),
        "model_state": {**weights, **jax.device_get(jax.jit(rest)(key))},
        "opt_state": jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes["opt_state"]),
    }


def batch_of(views, labels=None):
    """A batch without padding."""
    labels = np.zeros(len(views)) if labels is None else labels
    return Batch(np.asarray(views), np.asarray(labels, np.int32), np.ones(len(views), bool))
