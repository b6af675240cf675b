"""Classification of machine ids by ArcFace, in System 3 of Giri et al. 2020, section 4.

    asd-jax run --config=configs/mobilenet_v2_arcface.py --data_dir=DATA --out_dir=RUN

The score is the negative cosine to the centre of the clip's own id.
"""

import dataclasses

from asd_jax.config import Config, MembersConfig, load_config


def get_config() -> Config | MembersConfig:
    """Those of mobilenet_v2_id but for what is named here."""
    changes = {"detector.head": "arcface", "detector.score": "cosine"}
    return dataclasses.replace(load_config("mobilenet_v2_id", changes), name="")
