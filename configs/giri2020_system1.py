"""System 1 of Giri et al. 2020, section 4: MobileNetV2, ResNet-50 and Group MADE together.

    asd-jax run --config=configs/giri2020_system1.py --data_dir=DATA --out_dir=RUN

Published for the development set of DCASE 2020 (Table 1): the mean of the standardised scores,
as here, and the largest, `--config.combine=max`. With `--members_dir=DIR` the systems 1 to 4
share the runs of their members.

The report trains its classifiers with augmentations that were chosen for each machine type by
the development set's test labels, and does not say which. Here both classifiers learn from
mixtures of two ids, which suit any machine type; others are settings of the members:

    --config.members.mobilenet_v2_id.detector.warp=0.2
"""

from asd_jax.config import EnsembleConfig, load_config


def get_config() -> EnsembleConfig:
    """The report's members."""
    return EnsembleConfig(
        members={
            "mobilenet_v2_id_mix": load_config("mobilenet_v2_id_mix"),
            "resnet50_id_mix": load_config("resnet50_id", {"detector.mix": "both"}),
            "group_made": load_config("group_made"),
        }
    )
