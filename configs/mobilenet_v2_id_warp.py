"""Classification of machine ids and of their warped images, Giri et al. 2020, section 2.2.3.

    asd-jax run --config=configs/mobilenet_v2_id_warp.py --data_dir=DATA --out_dir=RUN

Warped images make every id a second class, so one id is enough.
"""

import dataclasses

from asd_jax.config import Config, MembersConfig, load_config


def get_config() -> Config | MembersConfig:
    """Those of mobilenet_v2_id but for what is named here."""
    changes = {"detector.warp": "0.2"}
    return dataclasses.replace(load_config("mobilenet_v2_id", changes), name="")
