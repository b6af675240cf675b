"""The interpolation autoencoder of Grollmisch et al. 2020, one model a machine and id.

    asd-jax run --config=configs/interpolation_ae.py --data_dir=DATA --out_dir=RUN

The report has results for it alone on the development set of DCASE 2020 for valves only, by the
largest error of a clip (--config.detector.pooling=max).
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.interpolation_ae import InterpolationAutoencoderConfig


def get_config() -> Config:
    """The report's general settings."""
    return Config(
        detector=InterpolationAutoencoderConfig(),
        front_end=FrontEnd(pad_mode="reflect"),
        train=TrainConfig(epochs=30, batch_size=512, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
