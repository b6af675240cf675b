"""Ensembles of runs that are trained, once for all tests."""

import shutil

import jax
import numpy as np
import pytest
import scipy.stats
from command_line import run_cli
from ensemble_runs import combined, numbers
from fits import trained_before
from shared_runs import rows_of
from trained_ensembles import SEEDS, TINY, by_clip, files_of, mean_config, members, run

import asd_jax
from asd_jax.config import override
from asd_jax.data import audio_files
from asd_jax.errors import UserError
from asd_jax.fitting import recordings
from asd_jax.runs import ensemble


def test_a_run_of_an_ensemble_against_numpy(place):
    """From the members' CSV files to the ensemble's; float64, so to 1e-12."""
    tests = [by_clip(place / f"shared/{name}/scores.csv") for name in members()]
    trainings = [by_clip(place / f"shared/{name}/training_scores.csv") for name in members()]
    found = by_clip(place / "pair/scores.csv")
    assert found.keys() == set(SEEDS)
    for seed, rows in found.items():
        assert rows.keys() == tests[0][seed].keys()
        assert len(rows) == 2 * 2 * 16
        for key, row in rows.items():
            z = []
            for test, training in zip(tests, trainings, strict=True):
                own = numbers(r for k, r in training[seed].items() if k[:2] == key[:2])
                assert len(own) == 12
                z.append((float(test[seed][key]["score"]) - np.mean(own)) / np.std(own))
            assert float(row["score"]) == pytest.approx(np.mean(z), rel=1e-10, abs=1e-12)
            assert row["label"] == str(int(key[2].startswith("anomaly")))
            assert row["decision"] == str(int(float(row["score"]) > float(row["threshold"])))


def test_members_are_shared_and_not_trained_again(place, data):
    models = [place / f"shared/{name}/model.npz" for name in members()]
    before = [path.stat().st_mtime_ns for path in models]
    said = run(mean_config(combine="max"), data, place, "largest")
    for name in members():
        assert f"member {place / 'shared' / name}\n" in said
        assert f"{place / 'shared' / name} is finished; nothing to do" in said
    assert "epoch" not in said
    assert [path.stat().st_mtime_ns for path in models] == before
    mean, largest = (numbers(rows_of(place / f"{n}/scores.csv")) for n in ("pair", "largest"))
    assert all(a <= b for a, b in zip(mean, largest, strict=True))
    assert f"{place / 'largest'} is finished; nothing to do" in run(
        mean_config(combine="max"), data, place, "largest"
    )
    assert not (place / "largest/members").exists()


def test_one_member_alone_is_standardised(place, data):
    """As in the report's system 4: another scale, the same ranking."""
    said = run(mean_config(members={"dense": members()["dense"]}), data, place, "single")
    assert "epoch" not in said
    training = rows_of(place / "single/training_scores.csv")
    own = numbers(
        r for r in training if (r["machine"], r["section"], r["seed"]) == ("fan", "00", "0")
    )
    assert np.mean(own) == pytest.approx(0, abs=1e-9)
    assert np.std(own) == pytest.approx(1, rel=1e-9)
    results = [rows_of(place / f"{name}/results.csv") for name in ("single", "shared/dense")]
    assert [numbers(rows, "auc") for rows in results][0] == numbers(results[1], "auc")


def test_a_folder_of_members_with_another_configuration(place, data):
    config = override(mean_config(), {"members.dense.detector.latent": "3"})
    with pytest.raises(UserError) as caught:
        run(config, data, place, "other")
    assert str(caught.value) == (
        f"{place / 'shared/dense'} holds a run of another configuration (detector.latent is 2 "
        "there and 3 here); choose another --out_dir"
    )
    assert not (place / "other/config.json").exists()


def test_the_command_ensemble_gives_what_the_run_gave(place, tmp_path, capsys):
    runs = [place / "shared" / name for name in members()]
    rows = combined(capsys, tmp_path / "both", *runs)
    assert rows == rows_of(place / "pair/scores.csv")


def test_no_published_numbers_beside_another_system_of_that_name(place, data, tmp_path, capsys):
    """A small system takes the report's name; its members are there already."""
    path = tmp_path / "giri2020_system2.py"
    settings = [f'"{key}": "{text}"' for key, text in TINY.items()]
    small = ", ".join(settings)
    path.write_text(
        "from asd_jax.config import ChoiceConfig, EnsembleConfig, load_config\n"
        "def get_config():\n"
        f'    dense = {{{small}, "detector.hidden": "8", "detector.latent": "2"}}\n'
        f'    between = {{{small}, "detector.encoder": "8"}}\n'
        "    return EnsembleConfig({\n"
        '        "dense": load_config("dense_ae", dense),\n'
        '        "between": load_config("interpolation_ae", between),\n'
        "    })\n"
    )
    status, out, err = run_cli(
        capsys,
        "run",
        f"--config={path}",
        f"--data_dir={data}",
        f"--out_dir={tmp_path / 'run'}",
        f"--members_dir={place / 'shared'}",
        f"--cache_dir={place / 'cache'}",
        "--config.seeds=1,0",
        "--config.combine=max",
    )
    assert status == 0, err
    assert "epoch" not in err
    note = "Published numbers of giri2020_system2_max are of another score: members."
    assert note in out and note in (tmp_path / "run/results.md").read_text()
    assert "Giri et al. 2020" not in out
    status, out, _ = run_cli(
        capsys, "report", f"--run_dir={tmp_path / 'run'}", place / "shared/dense"
    )
    assert status == 0
    assert f"run: {note}" in out and "published  " not in out


# Scoring recordings.


def test_recordings_have_the_scores_of_the_run(place, data, capsys):
    """Files as the run had them: their mean over the seeds, to 1e-5 as from float32 scores.

    Standardising magnifies float32's rounding by score over deviation, here below 100.
    """
    nested = place / "nested"
    if not nested.exists():
        combined(capsys, nested, place / "pair", place / "shared/dense", how="max")
    for name in ("pair", "nested"):
        stored = by_clip(place / name / "scores.csv")
        expected = {
            key: np.mean([float(stored[seed][key]["score"]) for seed in SEEDS]) for key in stored[0]
        }
        fitted = asd_jax.load(place / name)
        files = files_of(data) if name == "pair" else files_of(data)[::8]
        rows = recordings.score_files(fitted, files)
        assert [row.file for row in rows] == [str(file) for file in files]
        for file, row in zip(files, rows, strict=True):
            section = file.stem.split("_")[2]
            key = file.parts[-3], section, file.name
            assert row.machine == key[0]
            assert row.score == pytest.approx(expected[key], rel=1e-5, abs=1e-5)
            assert row.threshold == fitted.threshold(machine=key[0], section=section)
            assert row.decision == int(row.score > row.threshold)


def test_waveforms_have_the_scores_of_the_run_and_of_each_seed(place, data):
    """As above, to 1e-5; the seeds are in the order they were given, not that of the files."""
    fitted = asd_jax.load(place / "pair")
    stored = by_clip(place / "pair/scores.csv")
    files = files_of(data, "fan", "02")[::3]
    waveforms = np.stack([audio_files.read(file, 16000) for file in files])
    of_seeds = {}
    for seed in SEEDS:
        rows = [stored[seed]["fan", "02", file.name] for file in files]
        of_seeds[seed] = fitted.score(waveforms, 16000, machine="fan", section="02", seed=seed)
        np.testing.assert_allclose(of_seeds[seed], numbers(rows), rtol=1e-5, atol=1e-5)
        threshold = fitted.threshold(machine="fan", section="02", seed=seed)
        assert threshold == float(rows[0]["threshold"])
    both = fitted.score(waveforms, 16000, machine="fan", section="02")
    np.testing.assert_allclose(both, sum(of_seeds.values()) / 2, rtol=1e-12)
    assert np.abs(of_seeds[0] - of_seeds[1]).max() > 1e-3  # or the order would not show
    with pytest.raises(UserError, match="seed 7 was not fitted; there are 1, 0"):
        fitted.score(waveforms, 16000, machine="fan", section="02", seed=7)


def test_the_threshold_of_several_seeds_is_of_their_mean_score(place):
    """A gamma distribution fitted to the training clips' mean scores; the same fit, to 1e-12."""
    training = by_clip(place / "pair/training_scores.csv")
    own = [
        numbers(r for k, r in training[seed].items() if k[:2] == ("valve", "00")) for seed in SEEDS
    ]
    expected = scipy.stats.gamma.ppf(0.9, *scipy.stats.gamma.fit(np.mean(own, axis=0)))
    fitted = asd_jax.load(place / "pair")
    assert fitted.threshold(machine="valve", section="00") == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("noise.wav", (), "several machines were fitted; choose one with machine= (--machine=): "),
        ("noise.wav", ("--machine=fna",), "machine 'fna' was not fitted; did you"),
        ("noise.wav", ("--machine=fan",), "several sections of fan were fitted; choose one"),
        ("noise.wav", ("--machine=fan", "--section=04"), "fan: section 04 was not fitted"),
        ("gone.wav", ("--machine=fan", "--section=00"), "gone.wav"),
    ],
)
def test_recordings_that_cannot_be_scored_are_one_line(
    place, data, tmp_path, capsys, name, flags, message
):
    file = tmp_path / name
    if name == "noise.wav":
        shutil.copy(files_of(data)[0], file)
    command = ("score", f"--run_dir={place / 'pair'}", *flags, file)
    status, out, err = run_cli(capsys, *command)
    assert status != 0
    assert (out, err.count("\n")) == ("", 1)
    assert message in err
    assert str(file) in err
    # Skipped, it is said once, whatever the number of members.
    good = files_of(data)[0]
    status, out, err = run_cli(capsys, *command, good, "--on_bad_clip=skip")
    if "--machine=fna" in flags or "--section=04" in flags:
        return
    assert (status, err.count("\n")) == (0, 1)
    assert out.startswith(str(good))


def test_a_member_that_is_gone(place, data, tmp_path):
    """Members are where they were, seen from the ensemble; both may move together."""
    together = tmp_path / "elsewhere"
    for name in ("pair", "shared"):
        shutil.copytree(place / name, together / name)
    assert asd_jax.load(together / "pair").machines == ("fan", "valve")
    shutil.rmtree(together / "shared/between")
    with pytest.raises(UserError, match="between is no run directory") as caught:
        asd_jax.load(together / "pair")
    assert "\n" not in str(caught.value)
    (together / "pair/ensemble.json").write_text("{")
    with pytest.raises(UserError, match="ensemble.json is damaged"):
        asd_jax.load(together / "pair")


def test_machines_without_test_clips(place, data, tmp_path):
    """Nothing to evaluate; the ensemble scores recordings all the same, as its members do."""
    (tmp_path / "pairs").mkdir()
    for name in members():
        path = tmp_path / "pairs" / name
        shutil.copytree(place / "shared" / name, path)
        lines = (path / "scores.csv").read_text().splitlines()
        kept = [line for line in lines if not line.startswith("valve,")]
        (path / "scores.csv").write_text("\n".join(kept) + "\n")
    out = tmp_path / "out"
    ensemble.ensemble([tmp_path / "pairs" / name for name in members()], out)
    assert {row["machine"] for row in rows_of(out / "scores.csv")} == {"fan"}
    whole, part = asd_jax.load(place / "pair"), asd_jax.load(out)
    files = files_of(data, "valve")[:3]
    assert recordings.score_files(part, files) == recordings.score_files(whole, files)


def test_data_without_a_test_folder(place, data, tmp_path):
    """The run ends, has no results, and scores recordings."""
    for path in data.rglob("fan/train/*_id_00_*.wav"):
        copy = tmp_path / "data" / path.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    config = mean_config(members={"dense": members()["dense"]}, seeds=(0,))
    whole = asd_jax.load(place / "shared/dense").weights
    with trained_before(jax.tree.map(lambda leaf: leaf[:1], whole)):
        run(config, tmp_path / "data", tmp_path, "run")
    assert rows_of(tmp_path / "run/scores.csv") == []
    rows = recordings.score_files(asd_jax.load(tmp_path / "run"), files_of(data, "fan", "00")[:2])
    assert np.isfinite([row.score for row in rows]).all()
    assert "nothing to do" in run(config, tmp_path / "data", tmp_path, "run")
