"""Classification of machine ids and of their warped images, Giri et al. 2020, section 2.2.3.

    asd-jax run --config=configs/mobilenet_v2_id_warp.py --data_dir=DATA --out_dir=RUN

Warped images make every id a second class, so one id is enough.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.id_classifier import IdClassifierConfig


def get_config() -> Config:
    """Those of mobilenet_v2_id but for what is named here."""
    return Config(
        detector=IdClassifierConfig(warp=0.2),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
