"""The nearest mean magnitude spectrum, by local density, one model a machine id; no training.

    asd-jax run --config=configs/spectrum_knn.py --data_dir=DATA --out_dir=RUN

Of a transform of another length, n, the bands are front_end.n_mels = n / 2 − 1.
"""

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config
from asd_jax.detectors.spectrum_knn import SpectrumKnnConfig


def get_config() -> Config:
    """Magnitudes of each frequency of the transform but the lowest and the highest."""
    return Config(
        detector=SpectrumKnnConfig(),
        front_end=FrontEnd(n_mels=511, power=1.0, scale="linear", norm=None),
        seeds=(0,),
    )
