"""The dense autoencoder of DCASE 2020 to 2022, one model a machine type.

    asd-jax run --config=configs/dense_ae.py --data_dir=DATA --out_dir=RUN

Published for the development set of DCASE 2020 (AUC / pAUC, averaged over machine ids):
ToyCar .788/.676, ToyConveyor .725/.604, fan .658/.525, pump .729/.600, slider .848/.665,
valve .663/.510.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.dense_ae import DenseAutoencoderConfig


def get_config() -> Config:
    """The challenge's settings."""
    return Config(
        detector=DenseAutoencoderConfig(),
        train=TrainConfig(epochs=100, batch_size=512, learning_rate=1e-3),
        seeds=(0, 1, 2),
    )
