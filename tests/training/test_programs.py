"""Programs that are compiled before the frames are there."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asd_jax.config import TrainConfig
from asd_jax.features.table import ArrayFeatures
from asd_jax.runtime.traces import Traces
from asd_jax.training import FleetModel, fleet_clips, gradient_task, train
from asd_jax.training.programs import Programs
from asd_jax.training.windows import schedule

N_FRAMES, WIDTH = 40, 8


def linear_task():
    """A linear map of a frame onto itself."""

    def init(key, statistics):
        return {"params": {"w": 0.1 * jax.random.normal(key, (WIDTH, WIDTH))}}

    def loss(variables, batch, key, train):
        x = batch.views[:, 0]
        return batch.mean(jnp.mean((x @ variables["params"]["w"] - x) ** 2, axis=-1)), {}

    return gradient_task(init, loss, optax.adam(0.01), view_length=1)


@pytest.fixture
def compiled():
    """Names of the functions that are compiled, or loaded, while a test runs."""
    names = []

    def listen(event, seconds, **facts):
        if event.endswith("backend_compile_duration"):
            names.append(facts.get("fun_name", ""))

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield names
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("driver", ["map", "vmap", "loop"])
@pytest.mark.parametrize("table_mib", [0.0, 0.006])
@pytest.mark.parametrize("kept", [False, True])
def test_training_calls_what_was_compiled_ahead(driver, table_mib, kept, compiled, tmp_path):
    config = TrainConfig(
        batch_size=16, epochs=2, driver=driver, validation_split=0.25, table_mib=table_mib
    )
    rng = np.random.default_rng(0)
    source = ArrayFeatures((), [rng.normal(size=(N_FRAMES, WIDTH)).astype("f4") for _ in range(8)])
    models = [FleetModel("fan", "", seed) for seed in (0, 1)]
    clips = fleet_clips(
        models,
        [(np.arange(8), np.zeros(8, np.int32))] * 2,
        np.full(8, N_FRAMES),
        view_length=1,
        view_hop=1,
        config=config,
    )
    task = linear_task()
    alone = train(task, clips, source, config)
    traces = Traces(tmp_path, "") if kept else None
    programs = Programs(task, config, None, traces)
    row_bytes = 4 * WIDTH
    limit = int(table_mib * 2**20) or 2**30
    programs.compile(clips, schedule(clips, row_bytes, limit), WIDTH, "float32")
    known = len(compiled)
    together = train(task, clips, source, config, programs=programs)
    jax.tree.map(np.testing.assert_array_equal, together, alone)
    # What is left is small: orders of views, the end of an epoch, stacks of arrays.
    large = ("train_step", "init", "validation_step", "<lambda>", "call")
    assert not [name for name in compiled[known:] if any(part in name for part in large)]
    if kept:
        again = Programs(never_traced(task), config, None, traces)
        again.compile(clips, schedule(clips, row_bytes, limit), WIDTH, "float32")
        together = train(task, clips, source, config, programs=again)
        jax.tree.map(np.testing.assert_array_equal, together, alone)


def never_traced(task):
    """The task, whose steps and losses cannot be traced."""

    def fail(*arguments):
        raise AssertionError("traced again")

    return task._replace(step=fail, loss=fail)
