"""Several values a key: one fleet, and for each variant the run that it is alone."""

import json
import shutil
from unittest import mock

import numpy as np
import pytest
from command_line import run_cli
from shared_runs import (
    SETTINGS,
    made_once,
    rows_of,
    run_arguments,
    run_to_its_end,
    without_pictures,
)

import asd_jax
from asd_jax.errors import UserError
from asd_jax.runtime import compilation

RATE = "train.learning_rate"
FIRST, SECOND = f"{RATE}=0.001", f"{RATE}=0.01"  # the first is that of `finished`


@pytest.fixture(autouse=True)
def quick(no_pictures):
    """As its name says."""


@pytest.fixture(scope="module", autouse=True)
def compiled_as_for_users(finished, place):
    """Settings as arrays give the bits of constants with XLA's own code for fused operations.

    Other tests leave it out (conftest.py), for which the runs they share are made before.
    """
    options = compilation._CPU_OPTIONS
    with mock.patch.dict(options, dense=options["dense"] | {"xla_cpu_use_fusion_emitters": True}):
        compilation.compiler_options.cache_clear()
        yield
    compilation.compiler_options.cache_clear()


class Told(asd_jax.Reporter):
    """Keeps what it is told; fails after an epoch."""

    def __init__(self, fails_after=None):
        super().__init__()
        self.lines, self.entries, self.fails_after = [], [], fails_after

    def line(self, text):
        self.lines.append(text)

    def epoch(self, entry):
        self.entries.append(entry)
        if entry["epoch"] == self.fails_after:
            raise RuntimeError("as a reporter may")


def sweep(data, cache, out_dir, reporter=None, **lists):
    variants = asd_jax.load_variants("dense_ae", SETTINGS | lists)
    return asd_jax.sweep(variants, data, out_dir, cache_dir=cache, reporter=reporter or Told())


def in_two_parts(data, cache, folder):
    """Stopped within the third epoch of four; the last checkpoint is of the second."""
    with pytest.raises(RuntimeError):
        sweep(data, cache, folder, Told(fails_after=3), **{RATE: "1e-3,1e-2"})
    told = Told()
    sweep(data, cache, folder, told, **{RATE: "1e-3,1e-2"})
    assert "continuing after epoch 2 of 4" in told.lines
    assert "2 variants are trained as one program: 8 models" in told.lines
    assert [e["variant"] for e in told.entries] == [FIRST, SECOND] * 2


@pytest.fixture(scope="module")
def swept(data, cache, tmp_path_factory):
    return made_once(tmp_path_factory, "swept", lambda folder: in_two_parts(data, cache, folder))


@pytest.fixture(scope="module")
def alone(data, cache, tmp_path_factory):
    """The run `finished`, compiled as the variants are."""
    with without_pictures():
        return made_once(
            tmp_path_factory,
            "alone",
            lambda folder: run_to_its_end(run_arguments(data, cache, folder)),
        )


@pytest.fixture
def copy(swept, tmp_path):
    return shutil.copytree(swept, tmp_path / "sweep")


def test_a_variant_is_the_run_with_its_value(swept, alone):
    """To the bit, though it was trained beside another and interrupted."""
    one = swept / FIRST
    assert (one / "scores.csv").read_bytes() == (alone / "scores.csv").read_bytes()
    with np.load(one / "model.npz") as ours, np.load(alone / "model.npz") as theirs:
        assert set(ours) == set(theirs)
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])
    for name in ("config.json", "data.json"):
        assert (one / name).read_bytes() == (alone / name).read_bytes()
    assert {*map(str, one.glob("checkpoints/*"))}
    logs = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (one, alone)
    ]
    own = ("epoch", "steps", "learning_rate", "loss", "validation_loss")
    assert [[e[k] for k in own] for e in logs[0]] == [[e[k] for k in own] for e in logs[1]]
    assert {entry["variants"] for entry in logs[0]} == {2}


def test_the_table_is_for_looking(swept, capsys):
    status, out, err = run_cli(capsys, "report", swept)
    lines = out.splitlines()
    assert (status, err) == (0, "")
    assert lines[0].split("  ")[0] == RATE and "AUC" in lines[0] and "seconds" in lines[0]
    assert [line.split()[0] for line in lines[2:4]] == ["0.001", "0.01"]
    assert "For looking" in out and "best" not in out.lower()
    rows = rows_of(swept / "sweep.csv")
    assert [row[RATE] for row in rows] == ["0.001", "0.01"]
    for row in rows:
        results = rows_of(swept / row["variant"] / "results.csv")
        seeds = [np.mean([float(r["auc"]) for r in results if r["seed"] == seed]) for seed in "01"]
        assert float(row["auc_mean"]) == pytest.approx(np.mean(seeds), abs=1e-12)
        assert float(row["auc_std"]) == pytest.approx(np.std(seeds, ddof=1), abs=1e-12)
        log = (swept / row["variant"] / "log.jsonl").read_text().splitlines()
        last = json.loads(log[-1])["validation_loss"]
        assert float(row["validation_loss"]) == pytest.approx(np.mean([*last.values()]))
        assert float(row["seconds"]) > sum(json.loads(line)["seconds"] for line in log) / 2


def test_variants_stand_beside_other_runs(swept, finished, capsys):
    status, out, _ = run_cli(capsys, "report", swept, finished, "--format=csv")
    assert status == 0 and {line.split(",")[0] for line in out.splitlines()[1:]} >= {FIRST, SECOND}
    status, _, err = run_cli(capsys, "score", swept, "x.wav")
    assert status == 2 and "has the runs of several variants; name one of its folders" in err


def test_other_lists_add_variants_and_repeat_none(data, cache, copy):
    before = {name: (copy / name / "model.npz").stat().st_mtime_ns for name in (FIRST, SECOND)}
    told = Told()
    # The same value by another key's list, too: it has a folder already.
    result = sweep(data, cache, copy, told, **{RATE: "1e-2,1e-3", "threshold_quantile": "0.9,0.8"})
    assert {name: (copy / name / "model.npz").stat().st_mtime_ns for name in before} == before
    quantile = "threshold_quantile=0.8"
    added = [f"{RATE}=0.01,{quantile}", f"{RATE}=0.001,{quantile}"]
    assert {path.name for path in copy.iterdir() if path.is_dir()} == {FIRST, SECOND, *added}
    assert len(told.entries) == 8, "two networks of four epochs"
    assert str(result).count("\n") >= 5 and len(result.runs) == 4
    same = [np.load(copy / name / "model.npz") for name in (FIRST, added[1])]
    weights = [name for name in same[0] if name.startswith("weights")]
    assert weights
    for name in weights:
        np.testing.assert_array_equal(same[0][name], same[1][name])


def test_what_no_network_depends_on_is_trained_once(data, cache, tmp_path):
    told = Told()
    lists = {"threshold_quantile": "0.7,0.9", "train.epochs": "1"}
    result = sweep(data, cache, tmp_path / "sweep", told, **lists)
    assert [entry["epoch"] for entry in told.entries] == [1]
    thresholds = [run.scores["threshold"] for run in result.runs.values()]
    assert (thresholds[0] < thresholds[1]).all()
    assert (
        result.runs["threshold_quantile=0.7"].scores["score"]
        == result.runs["threshold_quantile=0.9"].scores["score"]
    ).all()


def test_systems_without_training_follow_one_another(single, cache, tmp_path, capsys):
    arguments = ["run", "--config=mel_mahalanobis", f"--data_dir={single}", f"--cache_dir={cache}"]
    lists = ["--config.threshold_quantile=0.8,0.9"]
    status, out, err = run_cli(capsys, *arguments, *lists, f"--out_dir={tmp_path / 's'}")
    assert status == 0, err
    assert "val. loss" not in out and [line.split()[0] for line in out.splitlines()[2:4]] == [
        "0.8",
        "0.9",
    ]
    status, out, _ = run_cli(capsys, *arguments, *lists, "--dry_run")
    assert status == 0 and out.startswith("2 variants in 2 programs, one after another")


def test_a_dry_run_says_which_variants_are_one_program(data, cache, tmp_path, capsys):
    lists = f"--config.{RATE}=1e-3,1e-4"
    arguments = run_arguments(data, cache, tmp_path / "none", lists, "--dry_run")
    status, out, _ = run_cli(capsys, *arguments, "--config.train.batch_size=32,64")
    assert status == 0
    assert out.startswith("4 variants in 2 programs, one after another\n")
    assert not (tmp_path / "none").exists()
    assert out.count("2 variants as one fleet") == 2 and out.count("8, by map") == 2


@pytest.mark.parametrize(
    "more, line",
    [
        (["--num_processes=2"], "variants, which are run by one process"),
        (
            ["--config.data.machines=fan;pomp"],
            "data.machines=pomp: data.machines: there is no pomp",
        ),
    ],
)
def test_what_cannot_be_is_said_before_any_work(data, cache, tmp_path, capsys, more, line):
    arguments = run_arguments(data, cache, tmp_path / "new", f"--config.{RATE}=1e-3,1e-4", *more)
    status, out, err = run_cli(capsys, *arguments)
    assert (status, out) == (2, "") and line in err.splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_folders_of_something_else_are_left_alone(data, cache, copied, copy, capsys, tmp_path):
    lists = f"--config.{RATE}=1e-3,1e-2"
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copied, lists))
    assert status == 2 and "holds a run of one configuration" in err
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copy))
    assert status == 2 and "holds other files" in err
    status, _, err = run_cli(
        capsys, *run_arguments(data, cache, copy, lists, "--config.train.epochs=9")
    )
    assert status == 2 and "holds a run of another configuration (train.epochs is 4 there" in err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    status, _, err = run_cli(capsys, *run_arguments(data, cache, tmp_path / "full", lists))
    assert status == 2 and "holds other files (notes.txt)" in err
    (copy / "sweep.json").write_text("{")
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copy, lists))
    assert status == 2 and "sweep.json is damaged" in err and len(err.splitlines()) == 1


def test_both_sets_have_a_line_each(both_sets, cache, tmp_path):
    config = {
        "data.subset": "both",
        "threshold_quantile": "0.8,0.9",
        "data.machines": "fan,ToyDrone",
    }
    variants = asd_jax.load_variants("mel_mahalanobis", config)
    result = asd_jax.sweep(variants, both_sets, tmp_path / "s", cache_dir=cache, reporter=Told())
    rows = rows_of(tmp_path / "s" / "sweep.csv")
    assert [(r["threshold_quantile"], r["set"]) for r in rows] == [
        ("0.8", "dev"),
        ("0.8", "eval"),
        ("0.9", "dev"),
        ("0.9", "eval"),
    ]
    assert len(result.runs["threshold_quantile=0.8"].parts) == 2


def test_arguments_of_other_kinds_are_one_line(tmp_path):
    config = asd_jax.load_config("dense_ae")
    with pytest.raises(UserError, match="variants is"):
        asd_jax.sweep(config, "x", tmp_path)
    with pytest.raises(UserError, match="no key has several values"):
        asd_jax.sweep(asd_jax.load_variants("dense_ae"), "x", tmp_path)


def test_variants_of_an_ensemble_may_share_its_members(place, data, tmp_path):
    config = tmp_path / "pair.py"
    config.write_text("from trained_ensembles import mean_config as get_config\n")
    options = {"members_dir": place / "shared", "cache_dir": place / "cache"}
    variants = asd_jax.load_variants(config, {"combine": "mean,max"})
    result = asd_jax.sweep(variants, data, tmp_path / "s", reporter=Told(), **options)
    assert [*result.runs] == ["combine=mean", "combine=max"]
    assert {path.name for path in (place / "shared").iterdir()} == {"dense", "between"}
    variants = asd_jax.load_variants(config, {"members.dense.train.learning_rate": "0.1,0.2"})
    with pytest.raises(UserError, match="--members_dir is for members that all variants share"):
        asd_jax.sweep(variants, data, tmp_path / "t", reporter=Told(), **options)
    assert not (tmp_path / "t").exists()
