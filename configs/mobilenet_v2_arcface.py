"""Classification of machine ids by ArcFace, in System 3 of Giri et al. 2020, section 4.

    asd-jax run --config=configs/mobilenet_v2_arcface.py --data_dir=DATA --out_dir=RUN

The score is the negative cosine to the centre of the clip's own id.
"""

from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.id_classifier import IdClassifierConfig


def get_config() -> Config:
    """Those of mobilenet_v2_id but for what is named here."""
    return Config(
        detector=IdClassifierConfig(head="arcface", score="cosine"),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
