"""The command adapt: files, versions, kills at any moment, and runs that go on after it."""

import shutil
from unittest import mock

import numpy as np
import pytest
from command_line import run_cli
from shared_runs import rows_of, run_to_its_end, without_pictures

import asd_jax
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.errors import UserError
from asd_jax.runs import versions
from asd_jax.runs.directory import RunDirectory
from asd_jax.runtime import files

FLAGS = ("--config=mel_mahalanobis", "--config.front_end.n_mels=16")
STATE = ("model.npz", "training_scores.csv")


def run_flags(data, cache, run_dir):
    return ["run", *FLAGS, f"--data_dir={data}", f"--cache_dir={cache}", f"--out_dir={run_dir}"]


@pytest.fixture(scope="module")
def run_once(single, cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("adapting") / "run"
    with without_pictures():
        run_to_its_end(run_flags(single, cache, folder))
    return folder


@pytest.fixture(scope="module")
def more(tmp_path_factory):
    """A folder of normal recordings of the machine, with names of their own."""
    folder = tmp_path_factory.mktemp("more")
    synthesize(folder / "synth", machines=["fan"], sections=1, clips=6, duration=2.0, seed=7)
    (folder / "normal").mkdir()
    for i, path in enumerate(sorted((folder / "synth").rglob("train/*.wav"))):
        shutil.copy(path, folder / "normal" / f"Montag früh {i}.wav")
    return folder / "normal"


@pytest.fixture
def run(run_once, tmp_path):
    return shutil.copytree(run_once, tmp_path / "run")


def bytes_of(run, names=STATE):
    return {name: (run / name).read_bytes() for name in names}


def test_it_adapts_and_rolls_back_to_the_same_bytes(capsys, run, more, single, cache, no_pictures):
    names = (*STATE, "data.json", "scores.csv", "results.csv", "results.md")
    before = bytes_of(run, names)
    adapt = ["adapt", f"--run_dir={run}", f"--normal={more}", f"--cache_dir={cache}"]
    status, out, err = run_cli(capsys, *adapt)
    assert status == 0 and "has version 1: 6 new normal clips" in out and "→" in out
    assert len(rows_of(run / "training_scores.csv")) == 10 + 6
    assert not (run / "scores.csv").exists()  # they are of the version before
    status, _, err = run_cli(capsys, "report", run)
    assert status == 2 and "was adapted (version 1)" in err and "--rollback" in err
    status, out, _ = run_cli(capsys, *adapt)
    assert status == 0 and "all 6 clips are known already" in out
    adapted = bytes_of(run)
    # The command of the run scores the test clips by the adapted system.
    run_cli(capsys, *run_flags(single, cache, run))
    assert bytes_of(run) == adapted and (run / "scores.csv").read_bytes() != before["scores.csv"]
    fitted = asd_jax.load(run)
    row = rows_of(run / "scores.csv")[0]
    assert float(row["threshold"]) == pytest.approx(fitted.threshold(), rel=1e-6)
    scored = bytes_of(run, names)
    status, out, _ = run_cli(capsys, "adapt", run, "--rollback")
    assert status == 0 and "has version 0 again, with its results" in out
    assert bytes_of(run, names) == before
    status, out, _ = run_cli(capsys, "adapt", run, "--list")
    assert [line[:3].strip() for line in out.splitlines()] == ["* 0", "1"]
    status, out, _ = run_cli(capsys, "adapt", run, "--rollback=1")
    assert status == 0 and bytes_of(run, names) == scored


def test_it_is_the_fit_to_all_recordings(capsys, run, more, single, cache, tmp_path, no_pictures):
    """Of a data set with all of them, in one run: to 1e-5."""
    run_cli(capsys, "adapt", run, f"--normal={more}", f"--cache_dir={cache}")
    shutil.copytree(single, tmp_path / "all")
    (train,) = {path.parent for path in (tmp_path / "all").rglob("train/*.wav")}
    for i, path in enumerate(sorted(more.iterdir())):
        shutil.copy(path, train / f"normal_id_00_{900 + i:08}.wav")
    run_to_its_end(run_flags(tmp_path / "all", cache, tmp_path / "whole"))
    adapted, whole = asd_jax.load(run), asd_jax.load(tmp_path / "whole")
    assert adapted.threshold() == pytest.approx(whole.threshold(), rel=1e-5)
    sounds = np.random.default_rng(0).normal(0, 0.1, (3, 32_000))
    np.testing.assert_allclose(adapted.score(sounds, 16_000), whole.score(sounds, 16_000), 1e-5)
    own, all_of_them = (
        sorted(float(row["score"]) for row in rows_of(path / "training_scores.csv"))
        for path in (run, tmp_path / "whole")
    )
    np.testing.assert_allclose(own, all_of_them, rtol=1e-5)


def test_a_kill_leaves_the_old_version_or_the_new_one(run, tmp_path):
    """At each of the moments at which a file gets its name."""
    folder = RunDirectory(run)
    old = bytes_of(run)
    new = {name: content + b" " for name, content in old.items()}

    def keep(where):
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        for name, content in new.items():
            (made / name).write_bytes(content)
        versions.keep(where, {name: made / name for name in new}, {"new_clips": 1})

    moments = 0
    while True:
        own = RunDirectory(shutil.copytree(run, tmp_path / f"killed{moments}"))
        replace, left = files.os.replace, [moments]

        def killed(source, target, replace=replace, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            replace(source, target)

        with mock.patch.object(files.os, "replace", killed):
            try:
                keep(own)
                break
            except KeyboardInterrupt:
                pass
        # What a reader gets is whole, before anything is put right.
        model = versions.model_of(own).read_bytes()
        number = versions.current_version(own)
        assert model == (new if number else old)["model.npz"]
        versions.settle(own)
        assert bytes_of(own.path) == (new if number else old)
        assert own.finished == (number == 0)
        keep(own) if not number else versions.switch(own, 0)
        assert bytes_of(own.path) == (old if number else new)
        moments += 1
    assert moments > 10 and bytes_of(own.path) == new
    assert bytes_of(folder.path) == old


def test_what_cannot_be_is_one_line(capsys, run, more, cache, tmp_path, data):
    adapt = ["adapt", f"--run_dir={run}", f"--cache_dir={cache}"]
    (tmp_path / "empty").mkdir()
    (test,) = {path.parent for path in data.rglob("fan/test/*.wav")}
    flat = tmp_path / "flat"
    flat.mkdir()
    shutil.copy(next(iter(test.glob("anomaly_*.wav"))), flat)
    before = bytes_of(run)
    for flags, message in [
        ([], "adapt needs --normal=FOLDER, --rollback or --list"),
        ([f"--normal={tmp_path / 'nowhere'}"], "does not exist"),
        ([f"--normal={tmp_path / 'empty'}"], "is a folder without recordings"),
        ([f"--normal={test}"], "its name says that it is anomalous"),
        ([f"--normal={flat}"], "its name says that it is anomalous"),
        ([f"--normal={more}", "--machine=fann"], "was not fitted; did you mean fan"),
        ([f"--normal={more}", "--max_bank=4"], "mel_mahalanobis has no such bank"),
        ([f"--normal={more}", "--max_bank=1"], "max_bank"),
        ([f"--normal={more}", "--list"], "--normal and --list are of two commands"),
        (["--rollback"], "nothing to roll back"),
        (["--rollback=3"], "has no version 3; it was never adapted"),
        (["--rollback=x"], "it must be the number of a version"),
        (["--list", "--machine=fan"], "--machine has no effect without --normal"),
        ([f"--normal={more}", "more"], "adapt takes one run"),
    ]:
        status, _, err = run_cli(capsys, *adapt, *flags)
        assert status == 2 and message in err, (flags, err)
    status, _, err = run_cli(capsys, "adapt", tmp_path / "empty", f"--normal={more}")
    assert status == 2 and "is no run directory" in err
    with RunDirectory(run).lock(), pytest.raises(UserError, match="is in use"):
        from asd_jax.runs.adapting import adapt_run

        adapt_run(run, more, cache_dir=cache)
    assert bytes_of(run) == before and not (run / "versions").exists()


def test_test_recordings_among_the_normal_ones_are_named(capsys, run, single, cache, tmp_path):
    files_of = sorted(single.rglob("test/normal_*.wav"))[:2]
    folder = tmp_path / "own"
    folder.mkdir()
    for i, path in enumerate(files_of):
        shutil.copy(path, folder / f"{i}.wav")
    status, out, err = run_cli(capsys, "adapt", run, f"--normal={folder}", f"--cache_dir={cache}")
    assert status == 0 and "2 of these recordings are test recordings of the run" in err + out


def test_networks_of_a_run_get_thresholds(capsys, copied, data, cache):
    """A network with two seeds: from ten new clips on, they set the threshold."""
    before = asd_jax.load(copied)
    normal = sorted(data.rglob("fan/test/normal_*.wav"))
    folder = copied.parent / "new" / "fan" / "test"
    folder.mkdir(parents=True)
    for path in normal:
        shutil.copy(path, folder / path.name)
    status, out, err = run_cli(
        capsys, "adapt", copied, f"--normal={folder}", f"--cache_dir={cache}"
    )
    assert status == 0, err
    after = asd_jax.load(copied)
    rows = [row for row in rows_of(copied / "training_scores.csv") if row["unseen"] == "1"]
    assert len(rows) == 2 * len(normal)
    enough = len(normal) >= 10
    assert ("are now by" in err + out) == enough
    assert (after.group_thresholds["fan/"] != before.group_thresholds["fan/"]) == enough
    assert after.group_thresholds["valve/"] == before.group_thresholds["valve/"]


def test_ensembles_are_adapted_member_by_member(capsys, run_once, more, cache, tmp_path):
    """The ensemble of a member that was adapted since is not loaded."""
    members = [shutil.copytree(run_once, tmp_path / name) for name in ("a", "b")]
    status, _, err = run_cli(capsys, "ensemble", *members, f"--out_dir={tmp_path / 'both'}")
    assert status == 0, err
    status, _, err = run_cli(capsys, "adapt", tmp_path / "both", f"--normal={more}")
    assert status == 2 and "combines other runs; adapt these one by one" in err
    asd_jax.load(tmp_path / "both")
    run_cli(capsys, "adapt", members[1], f"--normal={more}", f"--cache_dir={cache}")
    with pytest.raises(UserError, match="adapted or rolled back since"):
        asd_jax.load(tmp_path / "both")
    run_cli(capsys, "adapt", members[1], "--rollback")
    asd_jax.load(tmp_path / "both")


@pytest.mark.slow
def test_a_network_that_compares_goes_back_to_the_same_bytes(
    capsys, more, single, cache, tmp_path, no_pictures
):
    run = tmp_path / "network"
    settings = {
        **{"front_end.n_mels": 16, "detector.hidden": "8,", "train.epochs": 1, "backend": "knn"},
        **{"train.threshold_split": 0.2, "seeds": "0,"},
    }
    run_to_its_end(
        [
            *("run", "--config=dense_ae", f"--data_dir={single}", f"--cache_dir={cache}"),
            *(f"--config.{name}={value}" for name, value in settings.items()),
            f"--out_dir={run}",
        ]
    )
    before, first = bytes_of(run), asd_jax.load(run)
    adapt = ["adapt", f"--run_dir={run}", f"--normal={more}", f"--cache_dir={cache}"]
    status, _, _ = run_cli(capsys, *adapt)
    adapted = asd_jax.load(run)
    rows = rows_of(run / "training_scores.csv")
    held_out = sum(row["unseen"] == "1" for row in rows) - 6
    assert status == 0 and len(rows) == 10 + 6
    banks = [each.calibration["embeddings"].shape[2] for each in (first, adapted)]
    assert banks == [10 - held_out, 16 - held_out]
    sound = np.random.default_rng(0).normal(0, 0.1, (1, 32_000))
    assert adapted.score(sound, 16_000) <= first.score(sound, 16_000)  # a bank that has grown
    status, _, _ = run_cli(capsys, "adapt", run, "--rollback")
    assert status == 0 and bytes_of(run) == before
