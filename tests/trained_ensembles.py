"""Small ensembles to train, and what is read of their runs."""

import io

from shared_runs import rows_of

from asd_jax import pipeline
from asd_jax.config import EnsembleConfig, load_config
from asd_jax.runtime.progress import Reporter

SEEDS = (1, 0)  # not ascending: models are in this order, files in that of their lines
TINY = {"front_end.n_mels": "16", "train.epochs": "1", "train.batch_size": "64"}


def members():
    return {
        "dense": load_config("dense_ae", {**TINY, "detector.hidden": "8", "detector.latent": "2"}),
        "between": load_config("interpolation_ae", {**TINY, "detector.encoder": "8"}),
    }


def mean_config(**changes):
    return EnsembleConfig(**{"members": members(), "seeds": SEEDS, "name": "pair"} | changes)


def run(config, data, folder, name, members_dir="shared"):
    """Runs it in `folder/name`; returns what it said."""
    said = io.StringIO()
    pipeline.run(
        config,
        data,
        folder / name,
        members_dir=folder / members_dir if members_dir else None,
        cache_dir=folder / "cache",
        reporter=Reporter(said),
    )
    return said.getvalue()


def by_clip(path):
    """(machine, section, clip) → row, a dictionary a seed."""
    found = {}
    for row in rows_of(path):
        key = row["machine"], row["section"], row["clip"]
        found.setdefault(int(row["seed"]), {})[key] = row
    return found


def files_of(data, machine="*", section="*"):
    files = sorted(data.rglob(f"{machine}/test/*_id_{section}_*.wav"))
    assert files
    return files
