"""Ensembles: what they make of given scores, the runs they share, and scoring recordings."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest
import scipy.stats
from command_line import run_cli
from sklearn.metrics import roc_auc_score

import asd_jax
from asd_jax import config as configs
from asd_jax import pipeline, recordings
from asd_jax.config import EnsembleConfig, load_config, override
from asd_jax.data import audio_files
from asd_jax.data.clips import Clip
from asd_jax.data.synthetic import synthesize
from asd_jax.errors import UserError
from asd_jax.progress import Reporter
from asd_jax.results import write_results_csv

TEST = ["machine", "section", "domain", "seed", "clip", "label", "score", "threshold", "decision"]
TRAINING = ["machine", "section", "domain", "seed", "clip", "score"]
RESULTS = {"scores", "scores.csv", "training_scores.csv", "results.csv", "results.md"}


# Runs written by hand: nothing is trained, every number is known.


def given(training, test, labels=None, machine="fan", section="00", seed=0):
    """Scores of a machine id's training and test clips by one seed; the first half is normal."""
    labels = [int(2 * i >= len(test)) for i in range(len(test))] if labels is None else labels
    return {
        "key": (machine, section, seed),
        "training": {f"train_{i:02d}.wav": score for i, score in enumerate(training)},
        "test": {
            f"test_{i:02d}.wav": pair for i, pair in enumerate(zip(test, labels, strict=True))
        },
    }


def write_run(path, groups, *, year=2020, seeds=None, domain=""):
    """A finished run directory with these scores."""
    path.mkdir(parents=True, exist_ok=True)
    seeds = seeds or tuple(sorted({group["key"][2] for group in groups}))
    config = dataclasses.replace(load_config("dense_ae"), seeds=seeds)
    (path / "config.json").write_text(configs.to_json(config))
    data = {"year": year, "synthetic": False, "n_clips": 9, "fingerprint": "f"}
    (path / "data.json").write_text(json.dumps(data))
    test, training = [], []
    for group in groups:
        machine, section, seed = group["key"]
        where = [machine, section, domain, seed]
        training += [[*where, clip, score] for clip, score in group["training"].items()]
        test += [[*where, clip, label, s, 0.0, 0] for clip, (s, label) in group["test"].items()]
    for name, header, rows in (
        ("scores.csv", TEST, test),
        ("training_scores.csv", TRAINING, training),
    ):
        with open(path / name, "w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([header, *rows])
    for name in ("model.npz", "results.md"):
        (path / name).touch()
    write_results_csv(path / "results.csv", [])
    (path / "scores").mkdir(exist_ok=True)
    return path


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def numbers(rows, column="score"):
    return [float(row[column]) for row in rows]


def combined(capsys, out_dir, *runs, how="mean"):
    """Does it, and returns the rows of scores.csv."""
    flags = [f"--run_dir={run}" for run in runs]
    status, _, err = run_cli(capsys, "ensemble", *flags, f"--out_dir={out_dir}", f"--combine={how}")
    assert status == 0, err
    return rows_of(out_dir / "scores.csv")


@pytest.mark.parametrize(
    ("how", "scores", "decisions"),
    [
        # Of fan 00, seed 0: 0, 3 of the first run, 2, -2 of the second, threshold 0.8.
        ("mean", {(0, "00"): [1, 0.5], (1, "00"): [0, 0], (0, "02"): [5, -5]}, [1, 0, 0, 0, 1, 0]),
        ("max", {(0, "00"): [2, 3], (1, "00"): [2, 0], (0, "02"): [8, -2]}, [1, 1, 1, 0, 1, 0]),
    ],
)
def test_numbers_by_hand(tmp_path, capsys, how, scores, decisions):
    """Standardised by each run's, machine id's and seed's own two training clips.

    All means and deviations are whole, so that every score is exact. Training scores become -1
    and 1, whose nine tenths' quantile is 0.8: a gamma distribution takes 10 scores or more.
    """
    one = write_run(
        tmp_path / "one",
        [
            given([1, 3], [2, 5]),  # mean 2, deviation 1: 0, 3
            given([0, 20], [-10, 10], seed=1),  # 10, 10: -2, 0
            given([5, 7], [8, 4], section="02"),  # 6, 1: 2, -2
            given([5, 7], [6, 6], section="02", seed=1),  # 0, 0
        ],
    )
    two = write_run(
        tmp_path / "two",
        [
            given([10, 14], [16, 8]),  # 12, 2: 2, -2
            given([-1, -3], [0, -2], seed=1),  # -2, 1: 2, 0
            given([0, 0.5], [2.25, -1.75], section="02"),  # 0.25, 0.25: 8, -8
            given([0, 0.5], [0.25, 0.25], section="02", seed=1),  # 0, 0
        ],
    )
    rows = combined(capsys, tmp_path / "both", one, two, how=how)
    for (seed, section), expected in scores.items():
        own = [row for row in rows if row["section"] == section and row["seed"] == str(seed)]
        assert numbers(own) == expected
        assert [row["clip"] for row in own] == ["test_00.wav", "test_01.wav"]
        assert [row["label"] for row in own] == ["0", "1"]
    # The second run's training clips of seed 1 are -1 and -3, which become 1 and -1.
    assert {row["threshold"] for row in rows if (row["section"], row["seed"]) != ("00", "1")} == {
        "0.8"
    }
    shown = [r for r in rows if (int(r["seed"]), r["section"]) in scores]
    assert [int(row["decision"]) for row in shown] == decisions
    text = (tmp_path / "both/scores/seed_0/anomaly_score_fan_id_00.csv").read_text()
    first, second = scores[0, "00"]
    assert text == f"test_00.wav,{float(first)}\ntest_01.wav,{float(second)}\n"
    aucs = {
        (r["section"], r["seed"]): float(r["auc"]) for r in rows_of(tmp_path / "both/results.csv")
    }
    assert aucs["00", "0"] == float(second > first)
    assert aucs["02", "0"] == 0
    assert aucs["02", "1"] == 0.5


@pytest.mark.parametrize("how", ["mean", "max"])
def test_more_clips_against_numpy_scipy_and_scikit_learn(tmp_path, capsys, how):
    """Three runs, 30 training clips: scores, gamma thresholds, decisions, files, results.

    Sums of float64 in another order, so to 1e-12; the fit is of the same numbers, so exact.
    """
    rng = np.random.default_rng(3)
    keys = [(m, s, seed) for m in ("fan", "valve") for s in ("00", "01") for seed in (0, 4)]
    runs, expected = [], {}
    drawn = {
        key: rng.gamma(2.0, size=(3, 42)) * [[1], [50], [0.01]] - [[0], [9], [1]] for key in keys
    }
    for i in range(3):
        groups = [given(drawn[k][i, :30], drawn[k][i, 30:], None, *k) for k in keys]
        runs.append(write_run(tmp_path / f"run{i}", groups, year=2022, domain="source"))
    for key, scores in drawn.items():
        training = scores[:, :30]
        z = (scores - training.mean(1, keepdims=True)) / training.std(1, keepdims=True)
        z = z.mean(axis=0) if how == "mean" else z.max(axis=0)
        expected[key] = z
    out_dir = tmp_path / "ensemble"
    rows = combined(capsys, out_dir, *runs, how=how)
    training = rows_of(out_dir / "training_scores.csv")
    results = rows_of(out_dir / "results.csv")
    for key in keys:
        machine, section, seed = key
        of_key = [
            [
                r
                for r in table
                if (r["machine"], r["section"], r["seed"]) == (machine, section, str(seed))
            ]
            for table in (rows, training, results)
        ]
        np.testing.assert_allclose(numbers(of_key[0]), expected[key][30:], rtol=1e-12)
        np.testing.assert_allclose(numbers(of_key[1]), expected[key][:30], rtol=1e-12)
        threshold = scipy.stats.gamma.ppf(0.9, *scipy.stats.gamma.fit(numbers(of_key[1])))
        assert {float(row["threshold"]) for row in of_key[0]} == {threshold}
        decisions = [int(row["decision"]) for row in of_key[0]]
        assert decisions == [int(x > threshold) for x in expected[key][30:]]
        auc = roc_auc_score([0] * 6 + [1] * 6, expected[key][30:])
        found = next(row for row in of_key[2] if row["domain"] == "all")
        assert float(found["auc"]) == pytest.approx(auc, abs=1e-12)
        for kind, column in (("anomaly_score", "score"), ("decision_result", "decision")):
            file = out_dir / f"scores/seed_{seed}/{kind}_{machine}_section_{section}_test.csv"
            lines = [f"{row['clip']},{row[column]}" for row in of_key[0]]
            assert file.read_text().splitlines() == lines
    assert RESULTS | {"config.json", "data.json", "environment.json", "ensemble.json"} == {
        path.name for path in out_dir.iterdir() if not path.name.startswith(".")
    }


def test_only_training_clips_set_the_scale(tmp_path, capsys):
    """Other test clips and all labels changed: not a digit of this one's score changes."""
    training, labels = [[1.0, 2.0, 4.5], [30.0, 20.0, 70.0]], [0, 0, 1, 1]
    plain = [given(t, [2.5, 3.0, 8.0, 1.0], labels) for t in training]
    changed = [given(t, [2.5, -1e6, 1e3, 77.0], [1, 1, 0, 0]) for t in training]
    trained = [given([*t[:2], 1.01 * t[2]], [2.5, 3.0, 8.0, 1.0], labels) for t in training]
    found = {}
    for name, groups in (("plain", plain), ("changed", changed), ("trained", trained)):
        runs = [write_run(tmp_path / name / str(i), [g]) for i, g in enumerate(groups)]
        row, *others = combined(capsys, tmp_path / name / "out", *runs)
        scales = json.loads((tmp_path / name / "out/ensemble.json").read_text())["scales"]
        found[name] = (row["score"], row["threshold"]), numbers(others), scales
    assert found["plain"][0] == found["changed"][0]
    assert found["plain"][2] == found["changed"][2]
    assert found["plain"][1] != found["changed"][1]
    assert found["plain"][0] != found["trained"][0]
    assert all(a != b for a, b in zip(found["plain"][1], found["trained"][1], strict=True))


def test_scores_without_spread_or_value(tmp_path, capsys):
    """Equal training scores are centred; a NaN stays what it is and is no anomaly."""
    nan = float("nan")
    one = write_run(
        tmp_path / "one",
        [
            given([4, 4], [5, 2]),
            given([1, nan], [1, 2], section="02"),
            given([1, 3], [4, 6], section="04"),
        ],
    )
    two = write_run(
        tmp_path / "two",
        [
            given([1, 3], [2, 6]),
            given([1, 3], [1, 2], section="02"),
            given([1, 3], [nan, 2], section="04"),
        ],
    )
    rows = combined(capsys, tmp_path / "both", one, two)
    assert numbers(rows[:2]) == [0.5, 1]  # of 1, -2 and 0, 4
    assert np.isnan(numbers(rows[2:5])).all()
    assert np.isnan(numbers(rows[2:4], "threshold")).all()
    assert {row["decision"] for row in rows[2:5]} == {"0"}
    assert numbers(rows[5:]) == [2]  # of 4 and 0
    results = {row["section"]: row["auc"] for row in rows_of(tmp_path / "both/results.csv")}
    assert (float(results["00"]), results["02"], results["04"]) == (1, "nan", "nan")


def test_an_ensemble_of_ensembles(tmp_path, capsys):
    """What is standardised again are the inner ensemble's training scores; exact to 1e-12."""
    rng = np.random.default_rng(5)
    drawn = rng.normal(size=(3, 20)) * [[1], [9], [100]]
    paths = [
        write_run(tmp_path / name, [given(scores[:12], scores[12:])])
        for name, scores in zip("abc", drawn, strict=True)
    ]
    combined(capsys, tmp_path / "inner", *paths[:2], how="max")
    rows = combined(capsys, tmp_path / "outer", tmp_path / "inner", paths[2])

    def standardised(scores):
        return (scores - scores[:12].mean()) / scores[:12].std()

    inner = np.maximum(standardised(drawn[0]), standardised(drawn[1]))
    expected = (standardised(inner) + standardised(drawn[2])) / 2
    np.testing.assert_allclose(numbers(rows), expected[12:], rtol=1e-12)
    stored = json.loads((tmp_path / "outer/config.json").read_text())
    assert stored["members"]["inner"]["members"].keys() == {"a", "b"}
    status, out, err = run_cli(capsys, "report", f"--run_dir={tmp_path / 'outer'}", tmp_path / "c")
    assert (status, err) == (0, "")
    assert "outer AUC" in out


PLAIN = [given([1, 2], [3, 4]), given([1, 2], [3, 4], section="02")]


@pytest.mark.parametrize(
    ("groups", "options", "message"),
    [
        (
            [given([1, 2], [3, 4], seed=5)],
            {},
            "one has the seeds (0,) and two (5,); an ensemble is formed seed by seed",
        ),
        (PLAIN, {"year": 2022}, "one is of 2020 and {two} of 2022; combine runs on the same data"),
        (PLAIN[:1], {}, "{two} has no scores of fan, section 02, which another run has"),
        (
            [*PLAIN, given([1, 2], [3, 4], machine="pump")],
            {},
            "{one} has no scores of pump, section 00, which another run has",
        ),
        (
            [PLAIN[0], given([1, 2], [3, 4, 5], section="02")],
            {},
            "fan, section 02: {one} and {two} did not score the same test clips (2 and 3",
        ),
        (
            [PLAIN[0], given([1], [3, 4], section="02")],
            {},
            "fan, section 02: {one} and {two} did not score the same training clips (2 and 1",
        ),
        (
            [PLAIN[0], given([1, 2], [3, 4], [1, 0], section="02")],
            {},
            "did not score the same test clips (2 and 2, or others, or with other labels)",
        ),
        (
            [PLAIN[0], given([], [3, 4], section="02")],
            {},
            "{two} has no scores of fan, section 02, which another run has",
        ),
        (
            [*PLAIN, given([1, 2], [3, 4], seed=1)],
            {"seeds": (0,)},
            "fan, section 00: {two} has scores of the seeds 0, 1, not 0;",
        ),
    ],
)
def test_runs_that_do_not_fit_together(tmp_path, capsys, groups, options, message):
    """One line that says which and why, and no file of results."""
    one = write_run(tmp_path / "one", PLAIN)
    two = write_run(tmp_path / "two", groups, **options)
    out_dir = tmp_path / "both"
    command = ("ensemble", f"--run_dir={one}", f"--run_dir={two}", f"--out_dir={out_dir}")
    status, out, err = run_cli(capsys, *command)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert message.format(one=one, two=two) in err
    assert not out_dir.exists() or {path.name for path in out_dir.iterdir()} == {".lock"}
    combined(capsys, out_dir, one, write_run(tmp_path / "three", PLAIN))


def test_training_scores_of_some_seeds_only(tmp_path, capsys):
    """As when a file was cut: one line, not an array of unequal rows."""
    groups = [given([1, 2], [3, 4]), given([1, 2], [3, 4], seed=1)]
    one, two = (write_run(tmp_path / name, groups) for name in ("one", "two"))
    lines = (two / "training_scores.csv").read_text().splitlines()
    (two / "training_scores.csv").write_text("\n".join(lines[:-1]) + "\n")
    command = ["ensemble", f"--run_dir={one}", two, f"--out_dir={tmp_path / 'both'}"]
    status, _, err = run_cli(capsys, *command)
    assert (status, err.count("\n")) == (2, 1)
    assert "did not score the same training clips" in err
    (two / "training_scores.csv").write_text("\n".join(lines[:3]) + "\n")
    status, _, err = run_cli(capsys, *command)
    assert (status, err.count("\n")) == (2, 1)
    assert f"{two} has scores of the seeds 0, not 0, 1;" in err


def test_members_and_folders_that_will_not_do(tmp_path, capsys):
    one, two = (write_run(tmp_path / name, PLAIN) for name in ("one", "two"))
    unfinished = write_run(tmp_path / "unfinished", PLAIN)
    (unfinished / "results.md").unlink()
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.tex").touch()
    (tmp_path / "empty").mkdir()
    out = tmp_path / "out"
    for runs, folder, message in (
        ([one], out, "an ensemble needs two runs or more, not 1; repeat --run_dir"),
        ([one, one], out, f"{one} is named twice; name each run once"),
        ([one, f"{two}/../one"], out, "/two/../one is named twice; name each run once"),
        ([one, unfinished], out, f"{unfinished} has no results yet"),
        ([one, tmp_path / "empty"], out, f"{tmp_path / 'empty'} is no run directory"),
        ([one, two], full, f"{full} holds other files (thesis.tex) and no run"),
        ([one, two], one, f"{one} holds a run of another configuration"),
    ):
        flags = [f"--run_dir={run}" for run in runs]
        status, _, err = run_cli(capsys, "ensemble", *flags, f"--out_dir={folder}")
        assert (status, err.count("\n")) == (2, 1)
        assert message in err
    assert not out.exists()
    assert {p.name for p in full.iterdir() if not p.name.startswith(".")} == {"thesis.tex"}


def test_runs_of_one_name_in_two_folders(tmp_path, capsys):
    """And the same command again gives the same; another `combine` needs another folder."""
    one, two = (write_run(tmp_path / name / "run", PLAIN) for name in "ab")
    out = tmp_path / "out"
    before = combined(capsys, out, one, two)
    assert combined(capsys, out, one, two) == before
    status, _, err = run_cli(
        capsys, "ensemble", f"--run_dir={one}", two, f"--out_dir={out}", "--combine=max"
    )
    assert status == 2
    assert "(detector.combine is mean there and max here); choose another --out_dir" in err
    assert err.count("\n") == 1


# Runs that are trained, once for all that follows.

SUBSETS = (
    "\nthe data has a development and an evaluation set; the first is used, "
    "--config.data.subset=eval takes the other"
)
SEEDS = (1, 0)  # not ascending: models are in this order, files in that of their lines
TINY = {"front_end.n_mels": "16", "train.epochs": "1", "train.batch_size": "64"}


def members():
    return {
        "dense": load_config("dense_ae", {**TINY, "detector.hidden": "8", "detector.latent": "2"}),
        "between": load_config("interpolation_ae", {**TINY, "detector.encoder": "8"}),
    }


def mean_config(**changes):
    return EnsembleConfig(**{"members": members(), "seeds": SEEDS, "name": "pair"} | changes)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two machines of two ids; 2 s clips."""
    folder = tmp_path_factory.mktemp("data") / "set"
    synthesize(folder, machines=["fan", "valve"], sections=2, clips=12, duration=2.0)
    return folder


@pytest.fixture(scope="module")
def place(data, tmp_path_factory):
    """A folder with the run `pair` and the runs of its members in `shared`."""
    folder = tmp_path_factory.mktemp("runs")
    run(mean_config(), data, folder, "pair")
    return folder


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


@pytest.mark.parametrize(("how", "expected"), [("mean", "82.33"), ("max", "82.73")])
def test_published_numbers_are_those_of_the_combination(
    place, data, tmp_path, capsys, how, expected
):
    """By the name of the configuration, and of what is done with the scores.

    A small system of that name takes the report's place; its members are there already.
    """
    path = tmp_path / "giri2020_system2.py"
    settings = [f'"{key}": "{text}"' for key, text in TINY.items()]
    small = ", ".join(settings)
    path.write_text(
        "from asd_jax.config import EnsembleConfig, load_config\n"
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
        f"--config.combine={how}",
    )
    assert status == 0, err
    assert "epoch" not in err
    line = next(row.split() for row in out.splitlines() if row.split()[:2] == ["fan", "mean"])
    assert expected in line
    assert "Giri et al. 2020, Table 1" in out
    assert expected in (tmp_path / "run/results.md").read_text()
    status, out, _ = run_cli(
        capsys, "report", f"--run_dir={tmp_path / 'run'}", place / "shared/dense"
    )
    assert status == 0
    assert "Giri et al. 2020, Table 1" in out
    assert expected in out


# Scoring recordings.


def files_of(data, machine="*", section="*"):
    files = sorted(data.rglob(f"{machine}/test/*_id_{section}_*.wav"))
    assert files
    return files


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
        ("noise.wav", (), "the machine of the recordings is not told (machine=, --machine=)"),
        ("noise.wav", ("--machine=fna",), "'fna' was not fitted (machine=, --machine=); did you"),
        ("noise.wav", ("--machine=fan",), "fan: the section of the recordings is not told"),
        ("noise.wav", ("--machine=fan", "--section=04"), "section of the recordings 04 was not"),
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
    pipeline.ensemble([tmp_path / "pairs" / name for name in members()], out)
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
    run(config, tmp_path / "data", tmp_path, "run")
    assert rows_of(tmp_path / "run/scores.csv") == []
    rows = recordings.score_files(asd_jax.load(tmp_path / "run"), files_of(data, "fan", "00")[:2])
    assert np.isfinite([row.score for row in rows]).all()
    assert "nothing to do" in run(config, tmp_path / "data", tmp_path, "run")


# One member for each machine type.


def choose_config(**changes):
    return mean_config(
        combine="choose", choices=("fan:between",), default="dense", name="chosen", **changes
    )


def test_each_machine_has_the_rows_of_its_member(place, data, capsys):
    """And scores and thresholds of recordings; runs of the members on all machines are used."""
    said = run(choose_config(), data, place, "chosen")
    assert "epoch" not in said
    assert not list((place / "shared").glob("*-*"))
    chosen = by_clip(place / "chosen/scores.csv")
    of_members = {name: by_clip(place / f"shared/{name}/scores.csv") for name in members()}
    for seed in SEEDS:
        assert chosen[seed].keys() == of_members["dense"][seed].keys()
        for key, row in chosen[seed].items():
            assert row == of_members["between" if key[0] == "fan" else "dense"][seed][key]
    fitted = asd_jax.load(place / "chosen")
    assert fitted.machines == ("fan", "valve")
    for machine, name in (("fan", "between"), ("valve", "dense")):
        member = asd_jax.load(place / "shared" / name)
        files = files_of(data, machine)[:2]
        assert recordings.score_files(fitted, files) == recordings.score_files(member, files)
        for seed in (None, *SEEDS):
            where = {"machine": machine, "section": "00", "seed": seed}
            assert fitted.threshold(**where) == member.threshold(**where)
    # The dense autoencoder serves all ids alike, the other is fitted to each.
    assert fitted.resolve("valve", None) == ("valve", "")
    with pytest.raises(UserError, match="fan: section 04 was not fitted"):
        fitted.resolve("fan", "04")
    with pytest.raises(UserError, match="'pump' was not fitted"):
        fitted.resolve("pump", "00")


def test_an_unknown_section_is_skipped_where_a_member_is_chosen(place, data, tmp_path, capsys):
    if not (place / "chosen").exists():
        run(choose_config(), data, place, "chosen")
    good = files_of(data, "fan")[0]
    bad = tmp_path / "fan/test" / good.name.replace("_id_00_", "_id_04_")
    bad.parent.mkdir(parents=True)
    shutil.copy(good, bad)
    status, out, err = run_cli(
        capsys, "score", f"--run_dir={place / 'chosen'}", bad, good, "--on_bad_clip=skip"
    )
    assert (status, err.count("\n"), out.count("\n")) == (0, 1, 1)
    assert f"left out: {bad}: fan: section 04 was not fitted" in err


def test_members_are_trained_for_the_machines_they_serve(place, data):
    """In a folder without runs on all machines; a member that serves none is not trained."""
    config = choose_config(data=configs.DataConfig(machines=("fan",)))
    config = dataclasses.replace(config, seeds=(0,))
    run(config, data, place, "alone", members_dir=None)
    made = place / "alone/members"
    assert [path.name for path in made.iterdir()] == ["between-fan"]
    stored = json.loads((made / "between-fan/config.json").read_text())
    assert stored["data"]["machines"] == ["fan"]
    assert rows_of(place / "alone/scores.csv") == rows_of(made / "between-fan/scores.csv")
    assert asd_jax.load(place / "alone").machines == ("fan",)
    said = run(config, data, place, "alone", members_dir=None)
    assert f"{place / 'alone'} is finished; nothing to do" in said


def test_members_that_are_chosen_are_of_the_subset(data, tmp_path, monkeypatch):
    """In a data set whose evaluation set has other machine types than its development set."""
    clips = [
        Clip(machine, "00", "train", f"{i}.wav", f"/{machine}/{i}.wav", year=2023, subset=subset)
        for machine, subset in (("fan", "dev"), ("valve", "dev"), ("Vacuum", "eval"))
        for i in range(2)
    ]
    monkeypatch.setattr(pipeline, "find_clips", lambda *_: clips)
    planned = []
    monkeypatch.setattr(pipeline, "plan_run", lambda config, clips: planned.append(config) or "-")
    for subset, plan, machines in (
        ("auto", "member dense\n-\n\nmember between\n-", {"dense": "valve", "between": "fan"}),
        ("eval", "member dense\n-", {"dense": "Vacuum"}),
    ):
        config = choose_config(data=configs.DataConfig(subset=subset))
        assert pipeline.dry_run(config, data).replace(SUBSETS, "") == plan
        assert {member.name: member.data.machines for member in planned} == {
            name: (machine,) for name, machine in machines.items()
        }
        planned.clear()


# The configurations of the reports, as far as no training shows it.


def test_a_dry_run_prints_each_members_plan(data, capsys, monkeypatch):
    """The plan itself is another test's; here, of which configurations it is."""
    planned = []
    monkeypatch.setattr(pipeline, "plan_run", lambda config, clips: planned.append(config) or "-")
    status, out, err = run_cli(
        capsys, "run", "--config=giri2020_system2", "--dry_run", "--config.train.epochs=3"
    )
    assert (status, err) == (0, "")
    assert out == "member mobilenet_v2_id_mix\n-\n\nmember group_made\n-\n"
    config = load_config("giri2020_system2", {"train.epochs": "3"})
    assert planned == [*config.member_configs().values()]
    assert [member.train.epochs for member in planned] == [3, 3]


def test_the_reports_systems_share_their_members():
    """A member of one name has one configuration, or a shared folder would be refused."""
    systems = {n: load_config(f"giri2020_system{n}") for n in (1, 2, 3, 4)}
    of_name = {}
    for system in systems.values():
        assert system.combine == "mean"
        for name, member in system.member_configs().items():
            assert of_name.setdefault(name, member) == member
    assert [tuple(system.members) for system in systems.values()] == [
        ("mobilenet_v2_id_mix", "resnet50_id_mix", "group_made"),
        ("mobilenet_v2_id_mix", "group_made"),
        ("mobilenet_v2_id_mix", "mobilenet_v2_arcface", "group_made"),
        ("group_made",),
    ]
    assert of_name["group_made"] == load_config("group_made")  # an ordinary run is shared as well


def test_kazakovas_table_is_the_reports():
    """Kazakova et al. 2022, section 2, third system."""
    config = load_config("kazakova2022_system3")
    images = {m for m in config.choices if m.endswith(":picture_mobilenet")}
    assert images == {f"{m}:picture_mobilenet" for m in ("slider", "gearbox", "valve")}
    for machine in ("fan", "ToyCar", "ToyTrain", "bearing", "a machine it never saw"):
        assert config.member_for(machine) == "outlier_exposure_ae"
