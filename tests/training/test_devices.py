"""A fleet over several devices is the fleet on one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# test_fleet.py compares several devices with one by default, of a task that compiles faster.
pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import jax, numpy as np
from asd_jax.features.table import ArrayFeatures
from asd_jax.config import load_config
from asd_jax.data.clips import NORMAL, Clip

sys.path.insert(0, "tests")
from fits import fit_table

SMALL = {
    "dense_ae": {"detector.hidden": "16,16", "detector.latent": "4"},
    "interpolation_ae": {"detector.encoder": "16,8"},
}
arrays = {"devices": jax.device_count()}
for case in sys.argv[2:]:
    name, driver, together = case.split()
    rng = np.random.default_rng(0)
    config = load_config(name, SMALL[name] | {
        "train.epochs": "3", "train.batch_size": "32", "train.driver": driver, "seeds": "0,1,2",
        "train.validation_split": "0.2", "train.patience": "1", "front_end.n_mels": "16",
        "train.data_devices": together if jax.device_count() > 1 else "0",
    })
    clips = [
        Clip(machine, "00", "train", str(i), "", label=NORMAL)
        for machine in ("fan", "pump") for i in range(4 if machine == "fan" else 5)
    ]
    features = ArrayFeatures(clips, [rng.normal(-30, 5, (25 + i, 16)) for i in range(len(clips))])
    fitted = fit_table(config, features)
    strange = [rng.normal(-30, 6, (30, 16))]
    arrays[f"{case} scores"] = [
        fitted.score_features(strange, machine="pump", seed=seed)[0] for seed in (0, 1, 2)
    ]
    for i, leaf in enumerate(jax.tree.leaves(fitted.weights)):
        arrays[f"{case} {i}"] = leaf
np.savez(sys.argv[1], **arrays)
"""

# Configuration, driver, and how many devices share the views of a model.
CASES = (
    "interpolation_ae map 0",
    "dense_ae map 4",  # batch normalisation over the views of all devices
    "dense_ae vmap 2",
)


def fit(path: Path, devices: int, cases):
    """What a process with so many devices makes of the same clips."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), *cases],
        cwd=ROOT,
        # XLA's threads, of which each device needs one where devices exchange.
        env={**os.environ, "XLA_FLAGS": flags, "NPROC": "8"},
        check=True,
    )
    return np.load(path)


@pytest.fixture(scope="module")
def fits(tmp_path_factory):
    """The arrays of one device and of four, in processes that serve all cases."""
    folder = tmp_path_factory.mktemp("fits")
    return [fit(folder / f"{count}.npz", count, CASES) for count in (1, 4)]


@pytest.mark.parametrize("case", CASES)
def test_four_devices_give_the_scores_of_one(case, fits):
    """Six models, so that two places of eight are filled up, or each on two or four devices.

    To 1e-3 of the largest weight: with fewer cores a device, and with the views of a step on
    several, XLA sums in another order, and Adam makes much of little in its first steps; scores
    to 1e-4.
    """
    one, four = fits
    assert (one["devices"], four["devices"]) == (1, 4)
    scores = f"{case} scores"
    np.testing.assert_allclose(four[scores], one[scores], rtol=1e-4)
    assert len(set(four[scores].tolist())) == 3
    weights = {name for name in one.files if name.startswith(case)} - {scores}
    assert weights
    for name in weights:
        largest = np.abs(one[name]).max()
        np.testing.assert_allclose(four[name], one[name], atol=1e-3 * max(largest, 1e-3))
