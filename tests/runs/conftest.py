"""An ensemble, and both sets of a year, that several files look at."""

import shutil

import pytest
from shared_runs import made_once, without_pictures
from trained_ensembles import mean_config, run

from asd_jax.data.synthetic import synthesize


@pytest.fixture(autouse=True)
def quick(no_pictures):
    """As its name says."""


@pytest.fixture(scope="module")
def place(data, tmp_path_factory):
    """A folder with the run `pair` and the runs of its members in `shared`."""
    with without_pictures():
        trained = made_once(
            tmp_path_factory, "pair", lambda folder: run(mean_config(), data, folder, "pair")
        )
    return shutil.copytree(trained, tmp_path_factory.mktemp("runs") / "copy")


@pytest.fixture(scope="session")
def both_sets(tmp_path_factory):
    """Both sets of 2023, two machines each, and the ground truth of the second."""
    folder = tmp_path_factory.mktemp("both") / "data"
    machines = ["fan", "valve", "ToyDrone", "shaker"]
    synthesize(folder, year=2023, subset="both", machines=machines, clips=8, duration=2.0)
    return folder
