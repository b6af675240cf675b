"""Recordings of several machines that are scored together have the scores of each alone."""

import numpy as np
import pytest
from shared_runs import run_to_its_end

import asd_jax
from asd_jax.fitting import together
from asd_jax.fitting.recordings import score_files

SETTINGS = {
    "spectral": {},
    "multibranch": {
        "detector.seconds": "1.25",
        "detector.spectrum": "false",
        "detector.n_ffts": "1024,",
        "detector.width": "8",
        "train.epochs": "1",
        "seeds": "0,1",
    },
}


@pytest.fixture(
    scope="module", params=["spectral", pytest.param("multibranch", marks=pytest.mark.slow)]
)
def fitted(request, data, cache, tmp_path_factory):
    """Systems whose machines share their pools: without training, and a joint network."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    settings = [f"--config.{key}={text}" for key, text in SETTINGS[request.param].items()]
    flags = [f"--config={request.param}", f"--data_dir={data}", f"--cache_dir={cache}"]
    run_to_its_end(["run", *flags, f"--out_dir={folder}", *settings])
    return asd_jax.load(folder)


def test_scores_of_all_machines_together_are_those_of_each(fitted, data, monkeypatch):
    """In any order; pools of both machines come of one stream of batches."""
    files = [
        path
        for section in ("00", "02")
        for pair in zip(
            *(sorted(data.rglob(f"{name}/test/*_id_{section}_*.wav")) for name in ("fan", "valve")),
            strict=True,
        )
        for path in pair
    ]
    alone = [score_files(fitted, [path], report=str)[0] for path in files]
    streams, own = [], together.pool_clips

    def counted(*arguments):
        streams.append(arguments)
        return own(*arguments)

    monkeypatch.setattr(together, "pool_clips", counted)
    rows = score_files(fitted, files, report=str)
    assert len(streams) == 1
    assert [row._replace(score=0) for row in rows] == [row._replace(score=0) for row in alone]
    # Batches of other sizes are computed by other kernels, in float32.
    np.testing.assert_allclose([row.score for row in rows], [row.score for row in alone], rtol=1e-5)
    assert len({row.score for row in rows}) == len(rows)
    backwards = score_files(fitted, files[::-1], report=str)[::-1]
    np.testing.assert_allclose(
        [row.score for row in backwards], [row.score for row in rows], rtol=1e-5
    )
