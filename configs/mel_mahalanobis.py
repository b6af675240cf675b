"""The Mahalanobis distance of a clip's mean log-mel spectrum, one model a machine id; no training.

    asd-jax run --config=configs/mel_mahalanobis.py --data_dir=DATA --out_dir=RUN

No report has published it; docs/results.md has what we measured.
"""

from asd_jax.config import Config
from asd_jax.detectors.mel_mahalanobis import MelMahalanobisConfig


def get_config() -> Config:
    """The front end of the challenge's baselines."""
    return Config(detector=MelMahalanobisConfig(), seeds=(0,))
