"""The MobileNetV2 baseline of the challenges of 2021 and 2022: classification of sections.

    asd-jax run --config=configs/mobilenet_v2_baseline.py --data_dir=DATA --out_dir=RUN

Published for the development set of DCASE 2021 by Hassankhani et al. 2021, beside their own
system: tables 1 and 2, shown with the results.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.id_classifier import IdClassifierConfig


def get_config() -> Config:
    """The baseline's settings."""
    return Config(
        detector=IdClassifierConfig(momentum=0.999, scaling="none", score="log_odds"),
        front_end=FrontEnd(pad_mode="reflect"),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=1e-5, validation_split=0.1),
        seeds=(0, 1, 2),
    )
