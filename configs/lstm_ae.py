"""The LSTM autoencoder of Jalali et al. 2020, one model a machine and id.

    asd-jax run --config=configs/lstm_ae.py --data_dir=DATA --out_dir=RUN

Published for the development set of DCASE 2020 (AUC / pAUC, averaged over machine ids, in the
report's tables 1 to 6): ToyCar .756/.664, ToyConveyor .708/.576, fan .673/.521, pump .739/.610,
slider .850/.675, valve .678/.511.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.lstm_ae import LSTMAutoencoderConfig


def get_config() -> Config:
    """The report's settings."""
    return Config(
        detector=LSTMAutoencoderConfig(),
        front_end=FrontEnd(pad_mode="reflect"),
        train=TrainConfig(
            epochs=100, batch_size=32, learning_rate=1e-4, validation_split=0.1, patience=20
        ),
        seeds=(0, 1, 2),
        threshold="mean",
    )
