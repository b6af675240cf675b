"""Gaussian mixtures of bands pooled by rank, one model a machine id; no training.

    asd-jax run --config=configs/twfr_gmm.py --data_dir=DATA --out_dir=RUN

Published for DCASE 2022, in percent, with r and components chosen for each machine by its test
clips' labels (github.com/liuyoude/TWFR-GMM, README): means of the AUC of source clips, that of
target clips, and the pAUC.

| development | evaluation | |
|---|---|---|
| 84.19 / 73.15 / 63.29 | 79.37 / 66.63 / 60.90 | r by machine, 0.46 to 1; 1 to 4 components |
| 85.97 / 74.08 / 64.89 | 78.64 / 67.27 / 61.67 | with SMOTE |
| 77.04 / 63.41 / 58.63 | 71.85 / 62.44 / 58.87 | the mean, r = 1 |
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config
from asd_jax.detectors.twfr_gmm import TwfrGmmConfig


def get_config() -> Config:
    """The front end of the report's program, with the floor of its decibels."""
    return Config(
        detector=TwfrGmmConfig(),
        front_end=FrontEnd(scale="htk", norm=None, eps=1e-10),
        seeds=(0,),
    )
