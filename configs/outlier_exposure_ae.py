"""The autoencoder with outlier exposure of Kazakova et al. 2022, one model a machine type.

    asd-jax run --config=configs/outlier_exposure_ae.py --data_dir=DATA --out_dir=RUN

Without exposure, the "clear" autoencoder of Table 1: --config.detector.outlier_weight=0

Published for the development set of DCASE 2022 (Table 2; AUC / pAUC in percent): ToyCar 56.6/53.2,
ToyTrain 52.4/52.8, bearing 48.8/53.8, fan 58.9/54.6, gearbox 50.2/53.1, slider 52.3/56.4,
valve 14.3/49.3.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, TrainConfig
from asd_jax.detectors.outlier_exposure_ae import OutlierExposureConfig


def get_config() -> Config:
    """The report's settings; where it names none, PyTorch's defaults and the baseline's."""
    return Config(
        detector=OutlierExposureConfig(framework="pytorch", momentum=0.9, epsilon=1e-5),
        front_end=FrontEnd(pad_mode="reflect"),
        train=TrainConfig(epochs=100, batch_size=512, learning_rate=1e-3),
        seeds=(0, 1, 2),
    )
