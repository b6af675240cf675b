"""Classification of machine ids with mixtures of two ids, Giri et al. 2020, section 2.2.3.

    asd-jax run --config=configs/mobilenet_v2_id_mix.py --data_dir=DATA --out_dir=RUN

Half of the images are mixed with another one of the batch, in mel power or in dB by chance.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.id_classifier import IdClassifierConfig


def get_config() -> Config:
    """Those of mobilenet_v2_id but for what is named here."""
    return Config(
        detector=IdClassifierConfig(mix="both"),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
