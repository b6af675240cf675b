"""Asymmetric GANomaly of Hassankhani et al. 2021, one model a machine and section.

    asd-jax run --config=configs/ganomaly.py --data_dir=DATA --out_dir=RUN

As the report has it. Its authors' published program differs:

    --config.detector.activation=relu --config.detector.adversarial=features
    --config.train.learning_rate=1e-6

On a CPU, a version an eighth as wide, 60 times fewer values:

    --config.detector.width=16

Published for the development set of DCASE 2021, AUC in source / target domain, averaged here
over the three sections of the report's tables: fan .617/.650, gearbox .707/.693, pump .637/.579,
slide rail .746/.649, ToyCar .647/.615, ToyTrain .559/.540, valve .572/.570.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.ganomaly import GANomalyConfig


def get_config() -> Config:
    """The report's settings."""
    return Config(
        detector=GANomalyConfig(),
        front_end=FrontEnd(pad_mode="reflect"),
        train=TrainConfig(
            epochs=300,
            batch_size=64,
            learning_rate=1e-3,
            validation_split=0.0,
            checkpoint_every=50,
        ),
        seeds=(0, 1, 2),
    )
