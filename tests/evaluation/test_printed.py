"""Tables as papers print them, and the evaluators' interval."""

import shutil
import subprocess

import numpy as np
import pytest
import scipy.stats
from sklearn.metrics import roc_auc_score

from asd_jax.evaluation.printed import (
    MEAN,
    SCORE,
    Cell,
    System,
    cells,
    system_of,
    to_latex,
    to_markdown,
)
from asd_jax.evaluation.results import ResultRow
from asd_jax.metrics.jackknife import jackknife


def row(machine, domain, auc, pauc, f1, section="00", seed=0, counts=(4, 4)):
    return ResultRow(machine, section, domain, seed, *counts, auc, np.nan, pauc, 1.0, 1.0, f1)


def rows_of_2023(machine, source, target, pauc, seed=0):
    return [
        row(machine, "all", 0.9, pauc, 0.5, seed=seed),
        row(machine, "source", source, 0.1, 0.4, seed=seed),
        row(machine, "target", target, 0.2, 0.6, seed=seed),
    ]


def test_figures_of_2023_by_hand():
    """Harmonic means: of 0.8, 0.4 it is 8/15; of 0.8, 0.5, 0.5 it is 4/7."""
    results = rows_of_2023("fan", 0.8, 0.5, 0.5) + rows_of_2023("pump", 0.4, 0.5, 0.5)
    lines = system_of("ours", results, 2023).lines
    assert [*lines] == ["AUC (source)", "AUC (target)", "pAUC", "F1 (source)", "F1 (target)", SCORE]
    for title, machine, expected in (
        ("AUC (source)", "fan", 0.8),
        ("AUC (source)", MEAN, 8 / 15),
        ("F1 (target)", MEAN, 0.6),
        (SCORE, "fan", 4 / 7),
        (SCORE, MEAN, 6 / (1 / 0.8 + 1 / 0.4 + 4 / 0.5)),
    ):
        np.testing.assert_allclose(lines[title][machine], [expected], rtol=1e-12)


def test_figures_of_2020_and_2021_by_hand():
    of_2020 = [
        row("fan", "all", 0.6, 0.5, 0.1, "00"),
        row("fan", "all", 0.8, 0.7, 0.2, "02"),
        row("pump", "all", 0.9, 0.6, 0.3),
        row("slider", "all", np.nan, np.nan, np.nan, counts=(0, 0)),  # without labels
    ]
    lines = system_of("ours", of_2020, 2020).lines
    assert [*lines] == ["AUC", "pAUC", SCORE] and {*lines["AUC"]} == {"fan", "pump", MEAN}
    np.testing.assert_allclose(lines["AUC"]["fan"], [0.7])
    np.testing.assert_allclose(lines[SCORE]["fan"], [0.65])
    of_2021 = [row("fan", "source", 0.8, 0.4, 1.0), row("fan", "target", 0.8, 0.4, 1.0)]
    lines = system_of("ours", of_2021, 2021).lines
    assert "pAUC (target)" in lines
    np.testing.assert_allclose(lines[SCORE][MEAN], [4 / (2 / 0.8 + 2 / 0.4)])


def test_seeds_runs_and_the_baseline_are_rows():
    two = [r for seed in (0, 1) for r in rows_of_2023("fan", 0.8 - 0.2 * seed, 0.5, 0.5, seed)]
    systems = [
        System("challenge baseline", {SCORE: {MEAN: "61.05"}}),
        system_of("a_b", two, 2023),
        system_of("c", rows_of_2023("fan", 0.9, 0.4, 0.5), 2023),
    ]
    table = cells(systems)
    texts = [[cell.text for cell in row] for row in table]
    assert texts[0] == ["system", "metric", "fan", MEAN]
    assert texts[1] == ["challenge baseline", SCORE, "", "61.05"]
    assert texts[2] == ["a_b", "AUC (source)", "70.00 ± 14.14", "70.00 ± 14.14"]
    assert texts[8][:3] == ["c", "AUC (source)", "90.00"]
    assert [row[2].is_best for row in (table[2], table[8])] == [False, True]
    # Equal figures are both the best.
    assert table[4][2] == Cell("50.00 ± 0.00", True) and table[10][2] == Cell("50.00", True)
    text = to_markdown(table, ["A note."])
    assert "| a_b | AUC (source) | 70.00 ± 14.14 |" in text and text.endswith("\n\nA note.")
    assert "**90.00**" in text
    one = cells(systems[2:])
    assert not any(cell.is_best for line in one for cell in line)
    # A name is a name, whatever stands in it.
    starred = cells([system_of("*c*", rows_of_2023("fan", 0.9, 0.4, 0.5), 2023)])
    assert "| *c* |" in to_markdown(starred)


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no LaTeX")
def test_the_table_in_latex_compiles(tmp_path):
    results = [r for machine in "abcdef" for r in rows_of_2023(machine, 0.8, 0.5, 0.5)]
    names = ["plain", "odd_name & 100% #1 {x} ~ ^ \\ $"]
    text = to_latex(cells([system_of(name, results, 2023) for name in names]), ["50 % of_it."])
    document = f"\\documentclass{{article}}\n\\begin{{document}}\n{text}\n\\end{{document}}\n"
    (tmp_path / "table.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert (tmp_path / "table.pdf").is_file()


def test_the_jackknife_is_that_of_leaving_out_each_clip():
    """To 1e-12, beside scikit-learn's metrics in a loop; with ties."""
    rng = np.random.default_rng(3)
    labels = np.repeat([0, 1], [45, 30])
    scores = np.round(rng.normal(labels), 1)
    count = len(labels)
    values = np.array(
        [
            [
                roc_auc_score(np.delete(labels, i), np.delete(scores, i), max_fpr=most)
                for most in (None, 0.1)
            ]
            for i in range(count)
        ]
    )
    squares = ((values - values.mean(axis=0)) ** 2).sum(axis=0)
    official = scipy.stats.t.ppf(0.975, count - 1) * np.sqrt(squares / (count * (count - 1)))
    apart = values.mean(axis=1)
    found = jackknife(labels, scores)
    assert found.official == pytest.approx(official.mean(), rel=1e-9)
    # Σ (t − mean)² is N times the variance.
    assert found.standard_error == pytest.approx(np.sqrt((count - 1) * apart.var()), rel=1e-9)
    assert np.isnan(jackknife([1], [0.3]).official)
