"""IAEO3 from recordings to results, with and without a network for embeddings."""

import shutil

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from shared_runs import rows_of

SETTINGS = {
    "detector.encoder": "8,",
    "detector.trainings": "2",
    "front_end.n_mels": "8",
    "train.epochs": "1",
    "train.batch_size": "64",
    "seeds": "0,",
}


def run(capsys, single, cache, out_dir, *more):
    return run_cli(
        capsys,
        "run",
        "--config=iaeo3",
        f"--data_dir={single}",
        f"--cache_dir={cache}",
        f"--out_dir={out_dir}",
        *(f"--config.{key}={text}" for key, text in SETTINGS.items()),
        *more,
    )


def scores_of(out_dir):
    """Test clip → score."""
    return {row["clip"]: float(row["score"]) for row in rows_of(out_dir / "scores.csv")}


@pytest.mark.parametrize("weights", ["", "missing.h5"])
def test_without_weights_nothing_is_done(single, tmp_path, capsys, weights):
    more = [f"--config.embedding.weights={tmp_path / weights}"] if weights else []
    status, out, err = run(capsys, single, tmp_path / "cache", tmp_path / "run", *more)
    assert status == 2 and not out
    (line,) = [line for line in err.splitlines() if "openl3_audio_mel256_env" in line]
    assert line == err.splitlines()[-1]
    assert "--config.embedding.weights=PATH" in line
    assert weights in line
    assert not any(tmp_path.iterdir())


@pytest.mark.slow  # tests/fitting runs it by the errors of several trainings
def test_it_runs_by_the_errors_alone(single, cache, tmp_path, capsys):
    status, _, err = run(capsys, single, cache, tmp_path / "run", "--config.embedding=none")
    assert status == 0, err
    scores = scores_of(tmp_path / "run")
    assert set(scores) == {path.name for path in single.rglob("test/*.wav")}
    assert np.isfinite([*scores.values()]).all()


@pytest.mark.slow
def test_it_runs_with_edgel3(shared, single, cache, tmp_path, capsys):
    """The real weights: clips left out leave the others their embeddings, and a file of the
    test clips scored by itself has the score of the run.
    """
    weights = shared / "weights/edgel3_sea/edgel3_sea_ust_audio_emb_64.h5"
    embedding = {"kind": "edgel3", "weights": weights, "hop": "0.5"}
    more = [f"--config.embedding.{key}={text}" for key, text in embedding.items()]
    spoiled, without = (shutil.copytree(single, tmp_path / name) for name in ("spoiled", "without"))
    train, test = (sorted(spoiled.rglob(f"{split}/*.wav"))[2] for split in ("train", "test"))
    train.write_bytes(train.read_bytes()[:20])
    # Enough for the network, which pads; too short for the autoencoder.
    soundfile.write(test, np.full(300, 0.1), 16000)
    for bad in (train, test):
        (without / bad.relative_to(spoiled)).unlink()
    found = {}
    for folder in (spoiled, without):
        out_dir = tmp_path / f"{folder.name}_run"
        status, _, err = run(capsys, folder, cache, out_dir, *more, "--on_bad_clip=skip")
        assert status == 0, err
        assert (train.name in err and test.name in err) == (folder is spoiled)
        found[folder] = scores_of(out_dir)
    assert set(found[without]) == {path.name for path in without.rglob("test/*.wav")}
    assert np.isfinite([*found[without].values()]).all()
    # The same numbers in batches of other clips; one row off, and all scores would be others.
    assert found[spoiled] == pytest.approx(found[without], rel=1e-3)

    files = sorted(without.rglob("test/*.wav"))[::7]
    command = ["score", f"--run_dir={out_dir}", "--machine=fan", "--section=00"]
    status, out, err = run_cli(capsys, *command, *files)
    assert status == 0, err
    lines = out.splitlines()
    assert len(lines) == len(files) > 1
    for line, file in zip(lines, files, strict=True):
        printed = float(line.split("score ")[1].split()[0])
        assert printed == pytest.approx(found[without][file.name], rel=1e-3)
