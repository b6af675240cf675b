"""Ensembles of runs written by hand: nothing is trained, every number is known."""

import json

import numpy as np
import pytest
import scipy.stats
from command_line import run_cli
from ensemble_runs import RESULTS, combined, given, numbers, write_run
from shared_runs import rows_of
from sklearn.metrics import roc_auc_score


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
    made = {"config.json", "data.json", "environment.json", "ensemble.json", "recordings.csv"}
    assert RESULTS | made == {
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
