"""Calls in threads with their results in order, and rows over devices."""

import os
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest

from asd_jax.runtime.side_by_side import in_order, over_devices

# The log-mels of clips, and the scores of a run, by the devices that JAX has.
PROGRAM = """
import sys
import jax
import numpy as np
from asd_jax.audio import FrontEnd
from asd_jax.features.frames import frames_in_memory
from asd_jax.runtime.side_by_side import over_devices

rng = np.random.default_rng(0)
clips = rng.normal(scale=0.1, size=(5, 20_000)).astype(np.float32)
frames = frames_in_memory(clips, 16_000, FrontEnd(n_mels=32))
sums = over_devices(lambda factor, rows: {"sum": factor * rows.sum(axis=1)}, divide=True)
found = sums(np.float32(2), clips)["sum"]
np.savez(sys.argv[1], devices=jax.device_count(), frames=np.stack(frames), sums=found)
"""


def test_results_are_in_the_order_of_their_arguments():
    def late(number):
        time.sleep(0.01 * (3 - number % 4))
        return number

    assert [*in_order(late, range(12), threads=3)] == [*range(12)]


def test_arguments_are_made_a_few_ahead():
    made, done = [], []

    def items():
        for number in range(8):
            made.append(number)
            yield number

    for result in in_order(lambda number: number, items(), threads=2):
        done.append(result)
        assert len(made) <= len(done) + 2


def test_one_thread_computes_one_ahead():
    started, lock = [], threading.Lock()

    def compute(number):
        with lock:
            started.append(number)
        return number

    seen = []
    for item in in_order(compute, range(5), threads=1):
        time.sleep(0.02)
        seen.append(item)
        assert len(started) <= item + 2
    assert seen == started == [*range(5)]


def test_an_error_reaches_the_caller_and_leaves_no_thread():
    def fail(number):
        if number == 2:
            raise ValueError("the third")
        return number

    results = in_order(fail, range(100), threads=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="the third"):
        next(results)
    assert not any(thread.name.startswith("in_order") for thread in threading.enumerate())


def test_devices_divide_rows_and_change_no_result(tmp_path):
    found = []
    for devices in (1, 3):
        path = tmp_path / f"{devices}.npz"
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices)}
        subprocess.run([sys.executable, "-c", PROGRAM, path], env=environment, check=True)
        found.append(np.load(path))
    one, three = found
    assert (one["devices"], three["devices"]) == (1, 3)
    # dB of a float64 transform, rounded to float32.
    np.testing.assert_allclose(three["frames"], one["frames"], atol=1e-4)
    # Sums of 20,000 values of float32 in another order.
    np.testing.assert_allclose(three["sums"], one["sums"], rtol=1e-4, atol=1e-3)


def test_a_cpu_computes_rows_together():
    shared = jax.device_put(np.float32(3))
    thirds = over_devices(lambda factor, rows: rows / factor)
    found = thirds(shared, np.ones((5, 2), np.float32))
    assert found.devices() == {jax.devices()[0]}
    np.testing.assert_allclose(found, 1 / 3, rtol=1e-6)  # a rounding of float32
