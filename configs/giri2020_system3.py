"""System 3 of Giri et al. 2020, section 4: MobileNetV2, the same with ArcFace, and Group MADE.

    asd-jax run --config=configs/giri2020_system3.py --data_dir=DATA --out_dir=RUN

Published for the development set of DCASE 2020 (Table 1): the mean of the standardised scores,
as here, and the largest, `--config.combine=max`. See giri2020_system1 for the augmentation of the
first member. The one with ArcFace learns from ids as they are, so that the two differ by more than
the loss; the same mixtures for it:

    --config.members.mobilenet_v2_arcface.detector.mix=both
"""

from asd_jax.config import EnsembleConfig, load_config


def get_config() -> EnsembleConfig:
    """The report's members."""
    return EnsembleConfig(
        members={
            "mobilenet_v2_id_mix": load_config("mobilenet_v2_id_mix"),
            "mobilenet_v2_arcface": load_config("mobilenet_v2_arcface"),
            "group_made": load_config("group_made"),
        }
    )
