"""Runs of a system without training: the command line, its files, ensembles with a trained one."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from shared_runs import CLIPS, SECTIONS, rows_of
from trained_ensembles import SEEDS, TINY, by_clip, files_of, mean_config, members, run

import asd_jax
from asd_jax.config import ChoiceConfig, load_config
from asd_jax.detectors.untrained import Untrained
from asd_jax.evaluation.explained import unpack_map
from asd_jax.fitting.recordings import score_files

MELS = {"front_end.n_mels": TINY["front_end.n_mels"]}
FLAGS = [f"--config.{key}={text}" for key, text in MELS.items()]


def spectral(**settings):
    return load_config("spectral", MELS | settings)


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained")
    said = run(spectral(), data, folder, "run", members_dir=None)
    assert "epoch" not in said and f"results are in {folder / 'run'}" in said
    return folder / "run"


def test_its_files_are_those_of_any_run(finished, data):
    rows, training = (rows_of(finished / name) for name in ("scores.csv", "training_scores.csv"))
    assert {row["seed"] for row in rows + training} == {"0"}
    assert len(training) == 2 * len(SECTIONS) * CLIPS
    for name in ("config.json", "environment.json", "data.json", "results.md", "results.csv"):
        assert (finished / name).is_file()
    assert not (finished / "checkpoints").exists() and not (finished / "log.jsonl").exists()
    fitted = asd_jax.load(finished)
    row = next(row for row in rows if row["machine"] == "valve" and row["section"] == "02")
    file = next(data.rglob(f"valve/test/{row['clip']}"))
    (scored,) = score_files(fitted, [file])
    assert scored.score == pytest.approx(float(row["score"]), rel=1e-6)
    assert scored.threshold == pytest.approx(float(row["threshold"]), rel=1e-6)
    # The fitted file keeps what a later fit needs.
    assert fitted.calibration["vectors"].shape == (4, CLIPS, 3 * 16)


def test_it_goes_on_where_it_was_lost(finished, data, tmp_path):
    """The same bytes without its training scores, and of a run from the start."""
    again = run(spectral(), data, finished.parent, "run", members_dir=None)
    assert "is finished; nothing to do" in again
    names = ("training_scores.csv", "scores.csv", "results.csv")
    before = {name: (finished / name).read_bytes() for name in names}
    for name in names:
        (finished / name).unlink()
    (finished / "results.md").unlink()
    run(spectral(), data, finished.parent, "run", members_dir=None)
    assert {name: (finished / name).read_bytes() for name in names} == before


def test_an_interrupted_pass_goes_on_with_the_next_machine(data, tmp_path, monkeypatch):
    """Killed in the third of four models: two are not gone through again, one of them damaged."""
    gone_through = []
    calibrate = Untrained.calibrate

    def interrupted(self, clips):
        gone_through.append(len(clips))
        if len(gone_through) == 3:
            raise KeyboardInterrupt
        return calibrate(self, clips)

    monkeypatch.setattr(Untrained, "calibrate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(spectral(), data, tmp_path, "run", members_dir=None)
    kept = sorted(path.name for path in (tmp_path / "run/vectors").iterdir())
    assert kept == ["0.npz", "1.npz"]
    (tmp_path / "run/vectors/0.npz").write_bytes(b"PK")
    run(spectral(), data, tmp_path, "run", members_dir=None)
    assert len(gone_through) == 3 + 3  # the damaged one, the interrupted one, and the last
    assert not (tmp_path / "run/vectors").exists()
    whole = asd_jax.load(tmp_path / "run")
    monkeypatch.undo()
    run(spectral(), data, tmp_path, "anew", members_dir=None)
    anew = asd_jax.load(tmp_path / "anew")
    np.testing.assert_array_equal(whole.calibration["vectors"], anew.calibration["vectors"])
    np.testing.assert_array_equal(whole.thresholds, anew.thresholds)


def test_commands_say_that_nothing_is_trained(capsys, data, tmp_path, finished):
    common = ["run", "--config=spectral", *FLAGS, f"--data_dir={data}"]
    status, out, _ = run_cli(capsys, *common, "--dry_run")
    assert status == 0 and "none: one pass over the features" in out and "models          4" in out
    for flag, message in [
        ("--config.train.epochs=3", "train.epochs is 3, which has no effect: spectral trains"),
        ("--config.train.driver=loop", "train.driver is loop"),
        ("--config.seeds=0,1", "seeds is (0, 1), which has no effect: spectral trains nothing"),
        ("--config.precision=bfloat16", "precision is bfloat16"),
        ("--config.backend=knn", "backend is knn, and spectral trains nothing"),
        ("--config.data.group=spd", "data.group=spd: "),
        (
            "--config.detector.group=(0)0",  # as it was called
            "all 12 training clips are of one group, '0'",
        ),
    ]:
        status, _, err = run_cli(capsys, *common, flag, f"--out_dir={tmp_path / 'refused'}")
        assert status and message in err, flag
    file = files_of(data, "fan", "00")[0]
    status, out, _ = run_cli(capsys, "score", "--explain", finished, file)
    lines = out.splitlines()
    assert status == 0 and len(lines) == 7 and "threshold" in lines[0]
    assert all("Hz" in line and "dB" in line for line in lines[1:4])
    assert [line.split(":")[0].strip() for line in lines[4:]] == [
        *("when", "where", "nearest normal clip")
    ]


def test_explanations_are_written_beside_one_another(capsys, data, finished, tmp_path):
    """Two recordings of one name have files of their own; the same one again has the same."""
    file = files_of(data, "fan", "00")[0]
    odd = tmp_path / "Lüfter $x" / Path(file).name
    odd.parent.mkdir()
    shutil.copy(file, odd)
    folder = tmp_path / "explained"
    arguments = ["score", "--explain", f"--out_dir={folder}", "--machine=fan", "--section=00"]
    for _ in range(2):
        status, out, _ = run_cli(capsys, *arguments, finished, file, odd)
        assert status == 0 and out.count(str(folder)) == 2
        assert len([*folder.iterdir()]) == 4
    contents = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    assert {content["path"] for content in contents} == {str(file), str(odd)}
    for content in contents:
        shares = unpack_map(content["map"])
        assert shares.shape == (len(content["times_s"]), len(content["hz"]))
        assert shares.sum() == pytest.approx(1, abs=1e-3)  # of float16
    status, _, err = run_cli(capsys, "score", f"--out_dir={folder}", finished, file)
    assert status == 2 and "--out_dir has no effect without --explain" in err


def test_clips_of_another_length_are_named(capsys, data, finished, tmp_path):
    """A file of a tenth of the length, and a test clip of five times; those like it are not."""
    file = files_of(data, "fan", "00")[0]
    status, out, err = run_cli(capsys, "score", finished, file)
    assert status == 0 and "last" not in out + err
    waveform = asd_jax.data.read(file, 16000)
    short = tmp_path / "short.wav"
    soundfile.write(short, waveform[: len(waveform) // 10], 16000)
    options = ("--machine=fan", "--section=00")
    status, out, err = run_cli(capsys, "score", finished, *options, file, short)
    (line,) = [line for line in (out + err).splitlines() if " clips last " in line]
    assert status == 0
    assert "fan 00: 1 of 2 clips last" in line and f"first {short}; statistics" in line

    own = tmp_path / "data"
    shutil.copytree(files_of(data, "fan", "00")[0].parents[1], own / "fan")
    longer = files_of(own, "fan", "02")[-1]
    soundfile.write(longer, np.tile(waveform, 5), 16000)
    said = run_cli(
        capsys,
        "run",
        "--config=spectral",
        *FLAGS,
        f"--data_dir={own}",
        f"--out_dir={tmp_path / 'r'}",
    )
    (line,) = [line for line in "".join(map(str, said)).splitlines() if " clips last " in line]
    assert "fan 02: 1 of " in line and f"first {longer.name}; statistics" in line


def test_groups_of_clips_come_from_their_names(data, tmp_path):
    """Clips 1, 10 and 11 are one group, as with groups= of `fit`."""
    config = spectral(**{"data.group": r"_0*([0-9])[0-9]*\.wav$", "data.machines": "fan"})
    run(config, data, tmp_path, "run", members_dir=None)
    rows = rows_of(tmp_path / "run/training_scores.csv")
    found = {row["clip"]: float(row["score"]) for row in rows if row["section"] == "00"}
    files = sorted(data.rglob("fan/train/normal_id_00_*.wav"))
    features = [np.asarray(config.front_end(asd_jax.data.read(file, 16000))) for file in files]
    groups = [1 if number in (1, 10, 11) else number for number in range(CLIPS)]
    expected, single = (
        asd_jax.fit(spectral(), features, groups=own).calibration["training_scores"][0]
        for own in (groups, None)
    )
    np.testing.assert_allclose([found[file.name] for file in files], expected, rtol=1e-4)
    assert (expected[[1, 10, 11]] > 1.05 * single[[1, 10, 11]]).any()


def test_it_joins_every_seed_of_an_ensemble(data, place):
    """Its scores stand for both seeds, from files, from memory and from the command line's."""
    config = mean_config(members={"dense": members()["dense"], "spectral": spectral()})
    run(config, data, place, "both")
    tests = [by_clip(place / f"shared/{name}/scores.csv") for name in ("dense", "spectral")]
    found = by_clip(place / "both/scores.csv")
    assert found.keys() == set(SEEDS) and tests[1].keys() == {0}
    trainings = [
        by_clip(place / f"shared/{name}/training_scores.csv") for name in ("dense", "spectral")
    ]
    for seed, rows in found.items():
        for key, row in rows.items():
            z = []
            for test, training, own in zip(tests, trainings, (seed, 0), strict=True):
                values = [
                    float(each["score"])
                    for place, each in training[own].items()
                    if place[:2] == key[:2]
                ]
                z.append((float(test[own][key]["score"]) - np.mean(values)) / np.std(values))
            assert float(row["score"]) == pytest.approx(np.mean(z), rel=1e-10, abs=1e-12)
    fitted = asd_jax.load(place / "both")
    (file,) = files_of(data, "fan", "00")[:1]
    (scored,) = score_files(fitted, [file])
    mean = np.mean([float(found[seed]["fan", "00", file.name]["score"]) for seed in SEEDS])
    assert scored.score == pytest.approx(mean, rel=1e-4, abs=1e-5)
    waveform = asd_jax.data.read(file, 16000)
    for seed in SEEDS:
        (score,) = fitted.score(waveform, 16000, machine="fan", section="00", seed=seed)
        expected = float(found[seed]["fan", "00", file.name]["score"])
        assert score == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_it_serves_a_machine_type_of_a_choice(data, place):
    choice = ChoiceConfig(
        members={"dense": members()["dense"], "spectral": spectral()},
        choices=("fan:spectral",),
        default="dense",
        seeds=SEEDS,
        name="choice",
    )
    run(choice, data, place, "choice")
    rows = rows_of(place / "choice/scores.csv")
    assert {row["seed"] for row in rows} == set(map(str, SEEDS))
    fitted = asd_jax.load(place / "choice")
    (file,) = files_of(data, "fan", "02")[:1]
    (scored,) = score_files(fitted, [file])
    expected = [
        float(row["score"])
        for row in rows
        if (row["machine"], row["section"], row["clip"]) == ("fan", "02", file.name)
    ]
    assert expected == pytest.approx([scored.score] * len(SEEDS), rel=1e-5)
    assert np.isfinite(fitted.threshold(machine="fan", section="02", seed=1))
