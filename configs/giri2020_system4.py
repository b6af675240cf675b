"""System 4 of Giri et al. 2020, section 4: Group MADE alone, its scores standardised.

    asd-jax run --config=configs/giri2020_system4.py --data_dir=DATA --out_dir=RUN

With `--members_dir=DIR` it takes the run that the other systems' ensembles have trained. Its
AUCs are those of group_made.
"""

from asd_jax.config import EnsembleConfig, load_config


def get_config() -> EnsembleConfig:
    """The report's one member."""
    return EnsembleConfig(members={"group_made": load_config("group_made")})
