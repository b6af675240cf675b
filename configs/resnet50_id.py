"""Classification of machine ids by ResNet-50, in System 1 of Giri et al. 2020, section 4.

    asd-jax run --config=configs/resnet50_id.py --data_dir=DATA --out_dir=RUN

As mobilenet_v2_id, with the larger of the report's two networks.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.id_classifier import IdClassifierConfig


def get_config() -> Config:
    """Those of mobilenet_v2_id but for what is named here."""
    return Config(
        detector=IdClassifierConfig(network="resnet50"),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
