"""Classification of machine ids with mixtures of two ids, Giri et al. 2020, section 2.2.3.

    asd-jax run --config=configs/mobilenet_v2_id_mix.py --data_dir=DATA --out_dir=RUN

Half of the images are mixed with another one of the batch, in mel power or in dB by chance.
"""

import dataclasses

from asd_jax.config import Config, MembersConfig, load_config


def get_config() -> Config | MembersConfig:
    """Those of mobilenet_v2_id but for what is named here."""
    changes = {"detector.mix": "both"}
    return dataclasses.replace(load_config("mobilenet_v2_id", changes), name="")
