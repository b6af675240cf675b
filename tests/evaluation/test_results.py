"""Score and result files, evaluation and bootstrap intervals of a run."""

import numpy as np
import pytest
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from asd_jax.errors import UserError
from asd_jax.evaluation import results as module
from asd_jax.evaluation.intervals import bootstrap_results
from asd_jax.evaluation.results import (
    MEAN,
    ResultRow,
    ScoreRow,
    constant_scores,
    evaluate,
    read_results_csv,
    read_scores_csv,
    write_results_csv,
    write_scores_csv,
)


def make_rows(year, seeds=(0, 1), machines=("fan", "ToyCar"), sections=("00", "01"), seed=0):
    """Shuffled rows of a small test set, with ties, unequal sizes and unlike domains."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, (machine, section) in enumerate((m, s) for m in machines for s in sections):
        domains = ("",) if year <= 2020 else ("source", "target")
        for domain in domains:
            for i in range(24 + 3 * number):
                label = int(i % 2 if i > 1 else i)
                for training in seeds:
                    score = np.float32(
                        np.round(rng.normal() + label - 0.3 * (domain == "target"), 1)
                    )
                    clip = f"{domain}_{section}_{label}_{i:04d}.wav"
                    decision = int(score > 0.8)
                    rows.append(
                        ScoreRow(
                            machine, section, domain, training, clip, label, score, 0.8, decision
                        )
                    )
    return [rows[i] for i in rng.permutation(len(rows))]


def _select(rows, machine, section, seed):
    chosen = [r for r in rows if (r.machine, r.section, r.seed) == (machine, section, seed)]
    columns = zip(*[(r.label, r.score, r.decision, r.domain) for r in chosen], strict=True)
    return map(np.array, columns)


def test_scores_that_say_nothing_are_named():
    rows = make_rows(2020)

    def constant(row):
        return row.machine == "fan" and (row.section == "01" or row.seed == 1)

    rows = [row._replace(score=np.float32(0.5)) if constant(row) else row for row in rows]
    sizes = [
        len([r for r in rows if (r.machine, r.section, r.seed) == ("fan", section, 0)])
        for section in ("00", "01")
    ]
    said = "test clips have the same score, which says nothing about them"
    assert sorted(constant_scores(rows)) == [
        f"fan 00, seed 1: all {sizes[0]} {said}",
        f"fan 01, seeds 0, 1: all {sizes[1]} {said}",
    ]
    nan = float("nan")
    assert constant_scores([row._replace(score=nan) for row in rows]) == []
    assert constant_scores(rows[:1]) == []


@pytest.mark.parametrize("year", [0, 2020, 2021, 2022, 2024])
def test_evaluate_equals_scikit_learn(year):
    rows = make_rows(year)
    evaluated = evaluate(rows, year)
    domains = {0: ["all"], 2020: ["all"], 2021: ["source", "target"]}
    views = domains.get(year, ["all", "source", "target"])
    expected_keys = [
        (m, s, d, t) for m in ("ToyCar", "fan") for s in ("00", "01") for d in views for t in (0, 1)
    ]
    assert [tuple(r[:4]) for r in evaluated] == expected_keys
    for row in evaluated:
        label, score, decision, domain = _select(rows, row.machine, row.section, row.seed)
        own = np.full(len(label), True) if row.domain == "all" else domain == row.domain
        ranked = own | (label == 1) if year >= 2022 else own
        assert (row.n_normal, row.n_anomaly) == ((label[own] == 0).sum(), (label[own] == 1).sum())
        prf = precision_recall_fscore_support(label[own], decision[own], average="binary")[:3]
        # Both sides are float64; only the last divisions round.
        expected = [
            roc_auc_score(label[ranked], score[ranked]),
            roc_auc_score(label[own], score[own], max_fpr=0.1),
            *prf,
        ]
        ours = [row.auc, row.pauc_mcclish, row.precision, row.recall, row.f1]
        np.testing.assert_allclose(ours, expected, rtol=0, atol=1e-12)


def test_evaluate_leaves_unlabelled_and_one_class_sections_undefined():
    rows = make_rows(2020, machines=("fan",))
    rows = [r._replace(label=-1) if r.section == "00" else r for r in rows]
    rows += [r._replace(section="02", label=0) for r in rows if r.section == "01"]
    by_section = {r.section: r for r in evaluate(rows, 2020) if r.seed == 0}
    unlabelled, labelled, normal = (by_section[s] for s in ("00", "01", "02"))
    assert (unlabelled.n_normal, unlabelled.n_anomaly) == (0, 0)
    assert np.isnan(unlabelled[6:]).all()
    assert np.isfinite(labelled[6:]).all()
    assert normal.n_anomaly == 0 and np.isnan(normal.auc) and normal.recall == 0
    assert evaluate([], 2020) == () and bootstrap_results([], 2020) == {}


def test_hidden_domains_are_evaluated_together_only():
    rows = [r._replace(domain="") for r in make_rows(2023, machines=("fan",))]
    assert {r.domain for r in evaluate(rows, 2023)} == {"all"}


def test_what_cannot_be_evaluated():
    rows = make_rows(2020, machines=("fan",))
    with pytest.raises(UserError, match=r"wav of fan, section \d\d, is scored twice by seed"):
        evaluate([*rows, rows[0]], 2020)
    with pytest.raises(UserError, match="seeds 0, 1 did not score the same clips of fan, section"):
        evaluate(rows[1:], 2020)


@pytest.mark.parametrize("year", [2020, 2021, 2023])
def test_bootstrap_intervals_of_every_line(year):
    rows = make_rows(year)
    intervals = bootstrap_results(rows, year, n_resamples=300, seed=1)
    evaluated = evaluate(rows, year)
    keys = {(r.machine, r.section, r.domain) for r in evaluated}
    assert intervals.keys() == keys | {(m, MEAN, d) for m, _, d in keys}
    for key in keys:
        for name in ("auc", "pauc", "pauc_mcclish"):
            low, high = getattr(intervals[key], name)
            mean = np.mean([getattr(r, name) for r in evaluated if tuple(r[:3]) == key])
            assert low <= mean <= high and (name != "auc" or high - low > 0.05)
    for machine, domain in {(m, d) for m, _, d in keys}:
        low, high = intervals[machine, MEAN, domain].auc
        of_sections = np.array([intervals[machine, s, domain].auc for s in ("00", "01")])
        assert of_sections[:, 0].min() < low < high < of_sections[:, 1].max()
        if year == 2020:  # an arithmetic mean: independent resamples narrow its interval
            assert high - low < 0.9 * np.ptp(of_sections, axis=1).mean()
    again = bootstrap_results(rows, year, n_resamples=300, seed=1)
    np.testing.assert_array_equal(
        again["fan", MEAN, key[2]].auc, intervals["fan", MEAN, key[2]].auc
    )


def test_one_undefined_section_does_not_hide_the_others():
    rows = make_rows(2020, machines=("fan",))
    rows = [r._replace(label=-1) if r.section == "00" else r for r in rows]
    intervals = bootstrap_results(rows, 2020, n_resamples=50)
    assert np.isnan(intervals["fan", "00", "all"].auc).all()
    np.testing.assert_array_equal(
        intervals["fan", MEAN, "all"].auc, intervals["fan", "01", "all"].auc
    )


def test_scores_csv_round_trip(tmp_path):
    floats = [np.float32(0.1), 0.1, np.float64(1) / 3, np.float32(1e-40), -1e300, np.inf, 3.0]
    rows = [
        ScoreRow("fan", "00", "", 0, f"a,{i}.wav", -1, x, x, 1, 0.5) for i, x in enumerate(floats)
    ]
    write_scores_csv(tmp_path / "scores.csv", rows)
    text = (tmp_path / "scores.csv").read_text()
    header = "machine,section,domain,seed,clip,label,score,threshold,decision,p_value,state,verdict"
    assert text.splitlines()[0] == header
    assert text.splitlines()[1] == 'fan,00,,0,"a,0.wav",-1,0.1,0.1,1,0.5,,'
    back = read_scores_csv(tmp_path / "scores.csv")
    for row, original in zip(back, rows, strict=True):
        assert type(original.score)(row.score) == original.score
        assert row._replace(score=0, threshold=0) == original._replace(score=0, threshold=0)
    write_scores_csv(tmp_path / "again.csv", back)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "scores.csv").read_bytes()


def test_evaluation_of_read_scores_is_the_same(tmp_path):
    rows = make_rows(2022)
    write_scores_csv(tmp_path / "scores.csv", rows)
    assert evaluate(read_scores_csv(tmp_path / "scores.csv"), 2022) == evaluate(rows, 2022)


def test_results_csv_round_trip(tmp_path):
    row = ResultRow("fan", "00", "all", 3, 100, 99, 1 / 3, 0.5, 0.1, 0.2, 0.3, 0.4)
    write_results_csv(tmp_path / "results.csv", [row, row._replace(auc=float("nan"))])
    lines = (tmp_path / "results.csv").read_text().splitlines()
    assert lines[0] == (
        "machine,section,domain,seed,n_normal,n_anomaly,auc,pauc,pauc_mcclish,precision,recall,f1"
    )
    assert lines[1] == "fan,00,all,3,100,99,0.3333333333333333,0.5,0.1,0.2,0.3,0.4"
    first, second = read_results_csv(tmp_path / "results.csv")
    assert first == row and np.isnan(second.auc)


@pytest.mark.parametrize(
    "content", ["", "a,b\n1,2\n", ",".join(ResultRow._fields) + "\nfan,00,all,x\n", b"\xff\x00"]
)
def test_a_file_of_another_kind_is_named(tmp_path, content):
    path = tmp_path / "results.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match="results.csv is damaged"):
        read_results_csv(path)
    with pytest.raises(UserError, match="cannot read .*missing.csv: No such file"):
        read_scores_csv(tmp_path / "missing.csv")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.csv"
    path.write_text("old")
    with pytest.raises(ValueError):
        write_scores_csv(path, [("too", "short")])
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_domains_of_every_year():
    assert [module.domains_of(y) for y in (0, 2020, 2021)] == [
        ("all",),
        ("all",),
        ("source", "target"),
    ]
    assert all(module.domains_of(y) == ("all", "source", "target") for y in (2022, 2026))
