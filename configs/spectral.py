"""Statistics of the mel bands beside a Gaussian each, one model a machine id; no training.

    asd-jax run --config=configs/spectral.py --data_dir=DATA --out_dir=RUN

Our own; docs/results.md has what we measured.
"""

from asd_jax.config import Config
from asd_jax.detectors.spectral import SpectralConfig


def get_config() -> Config:
    """The front end of the challenge's baselines; a threshold that keeps a rate of false alarms."""
    return Config(detector=SpectralConfig(), seeds=(0,), threshold="conformal")
