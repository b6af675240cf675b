"""Classifiers from recordings to results: sections, changed recordings, weights."""

import pytest
from command_line import run_cli
from shared_runs import made_once, rows_of

import asd_jax
from asd_jax.data.synthetic.synthesis import synthesize

TINY = [
    "--config.train.epochs=1",
    "--config.seeds=0,",
    "--config.detector.stages=1",
    "--config.detector.frames=16",
]


def make_data(folder):
    synthesize(folder, machines=["fan", "valve"], sections=2, clips=4, duration=2.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two machines with two ids each; few clips, for they are used at several speeds."""
    return made_once(tmp_path_factory, "few", make_data)


@pytest.mark.slow
def test_ids_with_resampled_recordings(data, tmp_path, capsys):
    run_dir = tmp_path / "run"
    status, out, err = run_cli(
        capsys,
        "run",
        "--config=mobilenet_v2_id_resample",
        f"--data_dir={data}",
        f"--cache_dir={tmp_path / 'cache'}",
        f"--out_dir={run_dir}",
        "--config.front_end.n_mels=16",
        "--config.detector.resample=1.1,1.2",  # all of two seconds, for one program
        "--config.train.driver=map",  # compiles less
        *TINY,
    )
    assert status == 0, err
    assert "fan" in out and "valve" in out
    rows = rows_of(run_dir / "scores.csv")
    tests = [p for p in data.rglob("*.wav") if p.parent.name == "test"]
    assert len(rows) == len(tests)
    assert all(0 <= float(row["score"]) <= 1 for row in rows)
    fitted = asd_jax.load(run_dir)
    # Two ids at three speeds.
    assert fitted.weights["params"]["head"]["kernel"].shape[-1] == 6

    one = next(p for p in tests if p.parent.parent.name == "fan" and "id_00" in p.name)
    arguments = ["score", f"--run_dir={run_dir}", "--machine=fan", str(one)]
    status, out, err = run_cli(capsys, *arguments)
    assert status == 0, err
    (row,) = [r for r in rows if r["machine"] == "fan" and r["clip"] == one.name]
    assert f"{float(row['score']):.4g}"[:5] in out
    nameless = tmp_path / "recording.wav"
    nameless.write_bytes(one.read_bytes())
    status, _, err = run_cli(capsys, *arguments[:-1], str(nameless))
    assert status == 1 and "several sections of fan were fitted; choose one with section=" in err
    status, out, err = run_cli(capsys, *arguments[:-1], "--section=00", str(nameless))
    assert status == 0, err


def test_one_id_is_one_line(tmp_path, capsys):
    synthesize(tmp_path / "set", machines=["fan"], sections=1, clips=3, duration=2.0)
    status, _, err = run_cli(
        capsys,
        "run",
        "--config=mobilenet_v2_id",
        f"--data_dir={tmp_path / 'set'}",
        f"--cache_dir={tmp_path / 'cache'}",
        f"--out_dir={tmp_path / 'run'}",
        "--config.front_end.n_mels=16",
        *TINY,
    )
    assert status == 2
    assert "asd-jax: fan has training clips of only one id" in err
    assert "--config.detector.warp" in err


def picture_arguments(data, tmp_path):
    return [
        "run",
        "--config=picture_mobilenet",
        f"--data_dir={data}",
        f"--cache_dir={tmp_path / 'cache'}",
        f"--out_dir={tmp_path / 'run'}",
        "--config.front_end.n_mels=32",
        "--config.detector.size=32",
        "--config.detector.clips=3",
        *TINY,
        "--config.detector.frames=8",
    ]


def test_pictures_without_weights(data, tmp_path, capsys):
    status, _, err = run_cli(capsys, *picture_arguments(data, tmp_path))
    assert status == 2 and "--config.detector.weights=FILE" in err


@pytest.mark.slow  # tests/detectors has the network and the copies, the run above copies' features
def test_pictures_with_changed_recordings(data, tmp_path, capsys):
    scratch = ["--config.detector.from_scratch=true", "--config.detector.width=0.35"]
    status, out, err = run_cli(capsys, *picture_arguments(data, tmp_path), *scratch)
    assert status == 0, err
    # 8 training clips of each machine, and 2 copies of 3 of them.
    assert "features of training clips 28/28" in err + out
    for row in rows_of(tmp_path / "run" / "scores.csv"):
        assert float(row["threshold"]) == 0
        assert int(row["decision"]) == (float(row["score"]) > 0)
