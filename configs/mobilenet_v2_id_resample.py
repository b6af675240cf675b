"""Classification of machine ids at three speeds, Giri et al. 2020, section 2.2.

    asd-jax run --config=configs/mobilenet_v2_id_resample.py --data_dir=DATA --out_dir=RUN

Every recording is also played a tenth slower and faster, and each speed of an id is a class.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.id_classifier import IdClassifierConfig


def get_config() -> Config:
    """Those of mobilenet_v2_id but for what is named here."""
    return Config(
        detector=IdClassifierConfig(resample=(0.9, 1.1)),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
