"""Classification of machine ids by ResNet-50, in System 1 of Giri et al. 2020, section 4.

    asd-jax run --config=configs/resnet50_id.py --data_dir=DATA --out_dir=RUN

As mobilenet_v2_id, with the larger of the report's two networks.
"""

import dataclasses

from asd_jax.config import Config, MembersConfig, load_config


def get_config() -> Config | MembersConfig:
    """Those of mobilenet_v2_id but for what is named here."""
    changes = {"detector.network": "resnet50"}
    return dataclasses.replace(load_config("mobilenet_v2_id", changes), name="")
