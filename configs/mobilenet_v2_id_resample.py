"""Classification of machine ids at three speeds, Giri et al. 2020, section 2.2.

    asd-jax run --config=configs/mobilenet_v2_id_resample.py --data_dir=DATA --out_dir=RUN

Every recording is also played a tenth slower and faster, and each speed of an id is a class.
"""

import dataclasses

from asd_jax.config import Config, MembersConfig, load_config


def get_config() -> Config | MembersConfig:
    """Those of mobilenet_v2_id but for what is named here."""
    changes = {"detector.resample": "0.9,1.1"}
    return dataclasses.replace(load_config("mobilenet_v2_id", changes), name="")
