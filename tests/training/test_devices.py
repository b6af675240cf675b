"""A fleet over several devices is the fleet on one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
import jax, numpy as np
from asd_jax.features.table import ArrayFeatures
from asd_jax.config import load_config
from asd_jax.data.clips import NORMAL, Clip

sys.path.insert(0, "tests")
from fits import fit_table

rng = np.random.default_rng(0)
config = load_config(sys.argv[2], {
    "train.epochs": "3", "train.batch_size": "32", "train.driver": sys.argv[3], "seeds": "0,1,2",
    "train.validation_split": "0.2", "train.patience": "1", "train.data_devices": sys.argv[4],
})
clips = [
    Clip(machine, "00", "train", str(i), "", label=NORMAL)
    for machine in ("fan", "pump") for i in range(4 if machine == "fan" else 5)
]
features = ArrayFeatures(clips, [rng.normal(-30, 5, (25 + i, 128)) for i in range(len(clips))])
fitted = fit_table(config, features)
strange = [rng.normal(-30, 6, (30, 128))]
scores = [fitted.score_features(strange, machine="pump", seed=seed)[0] for seed in (0, 1, 2)]
weights = {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(fitted.weights))}
np.savez(sys.argv[1], devices=jax.device_count(), scores=scores, **weights)
"""


def fit(path: Path, devices: int, *arguments: str):
    """What a process with so many devices makes of the same clips."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), *arguments],
        cwd=ROOT,
        # XLA's threads, of which each device needs one where devices exchange.
        env={**os.environ, "XLA_FLAGS": flags, "NPROC": "8"},
        check=True,
    )
    return np.load(path)


@pytest.mark.parametrize(
    ("config", "driver", "together"),
    [
        ("interpolation_ae", "map", 0),
        ("dense_ae", "map", 4),  # batch normalisation over the views of all devices
        pytest.param("dense_ae", "vmap", 2, marks=pytest.mark.slow),
    ],
)
def test_four_devices_give_the_scores_of_one(config, driver, together, tmp_path):
    """Six models, so that two places of eight are filled up, or each on two or four devices.

    To 1e-3 of the largest weight: with fewer cores a device, and with the views of a step on
    several, XLA sums in another order, and Adam makes much of little in its first steps; scores
    to 1e-3. The weights of a network with batch normalisation are not compared: its biases have
    gradients of rounding alone. Its scores are, to 4e-3: compiled with other options on one
    device, which rounds differently, they differ by 2e-3.
    """
    one = fit(tmp_path / "1.npz", 1, config, driver, "0")
    four = fit(tmp_path / "4.npz", 4, config, driver, str(together))
    assert (one["devices"], four["devices"]) == (1, 4)
    rtol = 4e-3 if config == "dense_ae" else 1e-3
    np.testing.assert_allclose(four["scores"], one["scores"], rtol=rtol)
    assert len(set(four["scores"].tolist())) == 3
    for name in set(one.files) - {"devices", "scores"} if config != "dense_ae" else ():
        largest = np.abs(one[name]).max()
        np.testing.assert_allclose(four[name], one[name], atol=1e-3 * max(largest, 1e-3))
