"""Tables for people: numbers derived by hand, undefined numbers, published numbers beside ours."""

import numpy as np
import pytest

from asd_jax.evaluation.results import MEAN, ResultRow
from asd_jax.evaluation.tables import Run, format_report, format_table, write_results_md
from asd_jax.metrics import RankingMetrics
from asd_jax.published import Published


def _result(section, seed, auc, *, domain="all", pauc=0.2, mcclish=0.6, counts=(100, 50)):
    return ResultRow("fan", section, domain, seed, *counts, auc, pauc, mcclish, 0.5, 0.5, 0.5)


def _published(section, metric, percent, year=2020, domain="all", source="Paper", note=""):
    return Published(
        source, "Table 1", "a", "dense_ae", year, "fan", section, domain, metric, percent, note
    )


def _cells(text):
    """Lines of an aligned table, split at runs of two blanks."""
    return [[c.strip() for c in line.split("  ") if c.strip()] for line in text.splitlines()]


RESULTS = [
    _result("00", 0, 0.70), _result("00", 1, 0.74),
    _result("02", 0, 0.80), _result("02", 1, 0.90),
]  # fmt: skip


def test_mean_and_std_over_seeds():
    lines = _cells(format_table(RESULTS, 2020))
    assert lines[0] == ["machine", "section", "domain", "normal/anomaly", "AUC", "pAUC",
                        "pAUC (McClish)"]  # fmt: skip
    # Standard deviations with n - 1: |a - b| / sqrt(2).
    paucs = ["20.00 ± 0.00", "60.00 ± 0.00"]
    assert lines[2] == ["fan", "00", "all", "100/50", "72.00 ± 2.83", *paucs]
    assert lines[3] == ["fan", "02", "all", "100/50", "85.00 ± 7.07", *paucs]
    # The machine's mean of each seed: 0.75 and 0.82.
    assert lines[4] == ["fan", MEAN, "all", "200/100", "78.50 ± 4.95", *paucs]
    text = format_table(RESULTS, 2020)
    assert "mean over all machine ids, AUC %: 78.50 ± 4.95" in text
    assert "mean over all machine ids, pAUC (McClish) %: 60.00 ± 0.00" in text
    assert "over 2 seeds" in text and "arithmetic mean" in text


def test_one_seed_has_no_std():
    text = format_table(RESULTS[::2], 2020)
    assert "±" not in text and "one seed" in text
    assert ["fan", "00", "all", "100/50", "70.00", "20.00", "60.00"] in _cells(text)


def test_harmonic_means_and_official_score_of_later_years():
    results = [
        _result(section, 0, auc, domain=domain, mcclish=0.4)
        for section, auc in (("00", 0.5), ("01", 1.0))
        for domain in ("all", "source", "target")
    ]
    text = format_table(results, 2022)
    lines = _cells(text)
    # 2 / (1/0.5 + 1/1) = 2/3; all, source, target in this order.
    assert [line[1:3] for line in lines[2:11:3]] == [["00", "all"], ["01", "all"], [MEAN, "all"]]
    assert lines[9][:5] == ["fan", MEAN, "source", "200/100", "66.67"]
    # 6 / (2 (1/0.5 + 1/1) + 2 / 0.4) = 6 / 11.
    assert "official score of 2022" in text and "%: 54.55" in text


def test_intervals_and_published_numbers():
    intervals = {("fan", "00", "all"): RankingMetrics(*[np.array([0.651, 0.789])] * 3)}
    published = [
        _published("00", "auc", "54.41"),
        _published("00", "auc", "54.4", source="Later"),
        _published("02", "pauc_mcclish", "52.45", note="as printed"),
    ]
    text = format_table(RESULTS, 2020, intervals, published)
    header, _, first, second, mean = _cells(text)[:5]
    assert header[4:] == ["AUC", "published", "pAUC", "pAUC (McClish)", "published"]
    assert first[4:6] == ["72.00 ± 2.83 [65.1, 78.9]", "54.41 [1]"]
    assert "[" not in "".join(second[:-1] + mean) and second[-1] == "52.45 [2]"
    assert "[1] Paper, Table 1" in text and "[2] Paper, Table 1 (as printed)" in text
    assert "Later" not in text and "95 % bootstrap interval" in text


@pytest.mark.parametrize(
    "result,reason",
    [
        (_result("00", 0, np.nan, counts=(0, 0), pauc=np.nan, mcclish=np.nan), "no labels"),
        (_result("00", 0, np.nan, counts=(9, 0), pauc=np.nan, mcclish=np.nan), "one class only"),
        (_result("00", 0, np.nan, pauc=np.nan, mcclish=np.nan), "a score that is not a number"),
        (_result("00", 0, 0.5, pauc=np.nan), "too few normal clips for a pAUC"),
    ],
)
def test_undefined_numbers_are_a_dash_with_the_reason(result, reason):
    text = format_table([result, _result("01", 0, 0.5)], 2020)
    assert "nan" not in text
    assert "–" in _cells(text)[2] and f"– undefined: {reason}." in text
    mean = _cells(text)[4]
    # Sections without labels are left out of the mean; anything else undefined spoils it.
    assert ("–" not in mean) == (reason == "no labels")


def test_results_md(tmp_path):
    published = [_published("00", "auc", "54.41")]
    write_results_md(tmp_path / "results.md", RESULTS, 2020, None, published)
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert lines[0] == "# Results"
    assert lines[2].count("|") == lines[3].count("|") == 9
    assert lines[4].startswith("| fan | 00 | all | 100/50 | 72.00 ± 2.83 | 54.41 [1] |")
    assert "[1] Paper, Table 1" in lines


def test_report_of_several_runs():
    other = [r._replace(auc=0.6) for r in RESULTS[:2]]
    later = [_result("00", 0, 0.5, domain=d) for d in ("source", "target")]
    published = [_published("00", "auc", "54.41"), _published("00", "auc", "99", year=2021)]
    runs = [Run("a", 2020, RESULTS), Run("later", 2021, later), Run("b", 2020, other)]
    first, second = format_report(runs, [published] * 3).split("machine  section")[1:]
    assert "a AUC" in first and "b AUC" in first and "later" not in first
    lines = _cells("machine  section" + first)
    assert lines[2] == [
        "fan", "00", "all", "72.00 ± 2.83", "60.00 ± 0.00", "54.41 [1]",
        "60.00 ± 0.00", "60.00 ± 0.00",
    ]  # fmt: skip
    assert lines[3][:4] == ["fan", "02", "all", "85.00 ± 7.07"]  # b has no section 02
    assert "a: mean over all machine ids, AUC %: 78.50 ± 4.95" in first
    assert "b: mean over all machine ids, AUC %: 60.00 ± 0.00" in first
    assert "later AUC" in second and "99" not in second
    assert "later: official score of 2021" in second and "54.55" in second


def test_each_run_of_a_report_has_its_own_published_numbers():
    """One column where they agree; else one a run, and none beside a run without."""
    runs = [Run(name, 2020, RESULTS) for name in ("a", "b", "own")]
    published = [[_published("00", "auc", "54.41")], [_published("00", "auc", "56.68")], []]
    header, _, first, second, _ = _cells(format_report(runs, published))[:5]
    assert header[3:9] == [
        "a AUC",
        "a published",
        "b AUC",
        "b published",
        "own AUC",
        "a pAUC (McClish)",
    ]
    assert first[3:8] == ["72.00 ± 2.83", "54.41 [1]", "72.00 ± 2.83", "56.68 [1]", "72.00 ± 2.83"]
    assert second[3:6] == ["85.00 ± 7.07"] * 3
    header = _cells(format_report(runs[:1] + runs[2:], [published[0], []]))[0]
    assert header[3:6] == ["a AUC", "a published", "own AUC"]
    header = _cells(format_report(runs[:2], [published[0]] * 2))[0]
    assert header[3:6] == ["a AUC", "b AUC", "published"]


def test_nothing_to_show():
    assert "machine" in format_table([], 2020)
    assert format_report([]) == ""
