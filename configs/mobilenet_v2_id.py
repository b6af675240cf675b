"""Classification of machine ids of Giri et al. 2020: MobileNetV2, softmax, no augmentation.

    asd-jax run --config=configs/mobilenet_v2_id.py --data_dir=DATA --out_dir=RUN

The report combines label augmentations and does not say which serves which machine:

    --config.detector.mix=power|log|both   mixtures of two images
    --config.detector.warp=0.2             warped images as further ids
    --config.detector.resample=0.9,1.1     recordings played slower and faster as further ids

It learns from the ids of development and additional training set together, where the data has both
(`eval_data` beside `dev_data`). Published only as part of the report's ensembles.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.id_classifier import IdClassifierConfig


def get_config() -> Config:
    """The report's settings, and ours where it names none."""
    return Config(
        detector=IdClassifierConfig(both_sets=True),
        front_end=FrontEnd(pad_mode="reflect"),
        train=TrainConfig(epochs=20, batch_size=32, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
