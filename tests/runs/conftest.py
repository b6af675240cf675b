"""An ensemble that several files look at."""

import shutil

import pytest
from shared_runs import made_once, without_pictures
from trained_ensembles import mean_config, run


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
