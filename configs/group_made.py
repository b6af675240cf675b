"""Group MADE of Giri et al. 2020, one model a machine type.

    asd-jax run --config=configs/group_made.py --data_dir=DATA --out_dir=RUN

Table 1 of the report, system 4, on the development set of DCASE 2020, means over the ids, AUC
and McClish pAUC in percent: ToyCar 80.51, 71.89; ToyConveyor 76.03, 60.70; fan 70.10, 53.62;
pump 75.68, 68.97; slider 93.29, 83.46; valve 89.68, 70.95. How long it was trained and how a
clip's score comes from its views, it does not say. It learns from all ids of a machine type, those
of the additional training set (`eval_data` beside `dev_data`) included.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.group_made import GroupMADEConfig


def get_config() -> Config:
    """The report's settings."""
    return Config(
        detector=GroupMADEConfig(both_sets=True),
        front_end=FrontEnd(pad_mode="reflect"),
        train=TrainConfig(epochs=20, batch_size=512, learning_rate=1e-3, validation_split=0.0),
        seeds=(0, 1, 2),
    )
