"""The selective Mahalanobis baseline of DCASE 2023 onwards, one model a machine type.

    asd-jax run --config=configs/mahalanobis_2023.py --data_dir=DATA --out_dir=RUN

Published official scores: 61.05 for the evaluation set of DCASE 2023, 56.49 for that of 2024, 57.66
and 54.76 for the development and the evaluation set of 2026; by machine, they are shown with the
results. The mean squared error of the same training is the score of `dense_ae_2023`.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.dense_ae import DenseAutoencoderConfig


def get_config() -> Config:
    """The challenge's settings since 2023."""
    return Config(
        detector=DenseAutoencoderConfig(framework="pytorch", score="mahalanobis"),
        train=TrainConfig(epochs=100, batch_size=256, learning_rate=1e-3),
        seeds=(0, 1, 2),
    )
