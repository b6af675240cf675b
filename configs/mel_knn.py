"""The nearest mean mel spectrum, by the cosine, one model a machine id; no training.

    asd-jax run --config=configs/mel_knn.py --data_dir=DATA --out_dir=RUN

Published as `raw_spec`: official scores in percent, from `docs/results.png` of
github.com/TakuyaFujimura/dcase-asd-toolkit (at ed27d82, MIT).

| 2020 | 2021 | 2022 | 2023 | 2024 | set |
|---|---|---|---|---|---|
| 64.81 | 55.92 | 58.15 | 54.75 | 54.16 | development |
| 62.22 | 54.92 | 55.32 | 59.99 | 54.04 | evaluation |

Their harmonic mean is 57.22 and their arithmetic mean 57.43.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config
from asd_jax.detectors.mel_knn import MelKnnConfig


def get_config() -> Config:
    """Magnitudes in HTK's mel bands of equal peaks, as there."""
    return Config(
        detector=MelKnnConfig(),
        front_end=FrontEnd(power=1.0, scale="htk", norm=None),
        seeds=(0,),
    )
