"""Our numbers of what reports print: means, decisions and other formulas, by hand."""

import numpy as np
import pytest

from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.evaluation.results import ResultRow, ScoreRow
from asd_jax.papers.measures import FORMULA, PRINTED, RunNumbers, measure, with_scores
from asd_jax.papers.printing import as_text
from asd_jax.papers.tables import fill, tables_of
from asd_jax.published import load_published

MACHINES = machines_of(2020, "dev")


def number(system="lstm_ae", **fields):
    (found,) = [
        p
        for p in load_published(system, 2020)
        if p.source.startswith("Jalali") and all(getattr(p, k) == v for k, v in fields.items())
    ]
    return found


def results_of(machine, aucs, sections=None):
    """One seed."""
    sections = sections or sections_of(2020, "dev", machine)
    return [
        ResultRow(machine, section, "all", 0, 5, 5, auc, auc / 2, auc, 0.5, 0.5, 0.5)
        for section, auc in zip(sections, aucs, strict=True)
    ]


def test_averages_are_over_machine_types():
    """Four ids of one and three of the other: (0.8 + 0.5) / 2, not the mean over seven ids."""
    rows = results_of("ToyCar", [0.9, 0.7, 0.9, 0.7]) + results_of("ToyConveyor", [0.5] * 3)
    of_toys = number(row="ToyADMOS", metric="auc")
    found = measure(of_toys, MACHINES, RunNumbers(rows))
    assert found.values == pytest.approx((0.65,), abs=1e-12) and found.note == ""
    found = measure(number(row="ToyADMOS", metric="pauc_mcclish"), MACHINES, RunNumbers(rows))
    assert found.also == {FORMULA: pytest.approx((0.325,), abs=1e-12)}
    found = measure(number(row="both", metric="auc"), MACHINES, RunNumbers(rows))
    assert found.values == pytest.approx((0.65,), abs=1e-12)
    assert found.note == (
        "ours is a mean over 7 of the 23 sections of ToyCar, ToyConveyor, fan, pump, slider, valve"
    )


def scores_of(section, decisions, scores=None, labels=None, seed=0, machine="fan"):
    """Normal clips first."""
    labels = labels or [0] * 4 + [1] * 4
    scores = scores or [float(decision) for decision in decisions]
    return [
        ScoreRow(machine, section, "", seed, f"{i:03d}", label, score, 0.5, decision)
        for i, (label, score, decision) in enumerate(zip(labels, scores, decisions, strict=True))
    ]


def test_rates_are_of_the_clips_of_all_ids_together():
    """False alarms: 1 of 4, and 3 of 6; found: 3 of 4, and none of 2; the report has no id 01."""
    rows = scores_of("00", [1, 0, 0, 0, 1, 1, 1, 0])
    rows += scores_of("02", [1, 1, 1, 0, 0, 0, 0, 0], labels=[0] * 6 + [1] * 2)
    rows += scores_of("01", [1] * 8)
    rows += scores_of("04", [1] * 8, labels=[-1] * 8)
    numbers = with_scores(RunNumbers([]), rows, 0.05)
    found = {
        metric: measure(number(machine="fan", metric=metric), MACHINES, numbers)
        for metric in ("tpr", "fpr", "fnr")
    }
    assert found["fpr"].values == pytest.approx((4 / 10,), abs=1e-12)  # not (1/4 + 3/6) / 2
    assert found["tpr"].values == pytest.approx((3 / 6,), abs=1e-12)
    assert found["fnr"].values == pytest.approx((3 / 6,), abs=1e-12)
    assert found["fpr"].note == "ours is of 2 of the 4 sections of fan"
    assert measure(number(machine="slider", metric="accuracy"), MACHINES, numbers).values == ()


def test_equation_two_as_printed():
    """Of 40 normal clips the two highest count, and a tie with an anomaly is nothing."""
    labels = [0] * 40 + [1] * 2
    scores = [*range(40), 38.0, 38.5]  # below 39; one ties with 38, and one is above it
    rows = scores_of("00", [0] * 42, [float(score) for score in scores], labels)
    numbers = with_scores(RunNumbers(results_of("fan", [0.5], ["00"])), rows, 0.05)
    found = measure(number(machine="fan", section="00", metric="pauc_mcclish"), MACHINES, numbers)
    assert found.also[PRINTED] == pytest.approx((1 / 4,), abs=1e-12)
    assert found.also[FORMULA] == (0.25,)  # the column of results.csv
    # Nineteen normal clips: the sum is over none.
    rows = scores_of("00", [0] * 20, [1.0] * 20, [0] * 19 + [1])
    numbers = with_scores(RunNumbers(results_of("fan", [0.5], ["00"])), rows, 0.05)
    found = measure(number(machine="fan", section="00", metric="pauc_mcclish"), MACHINES, numbers)
    assert np.isnan(found.also[PRINTED]).all()


def test_other_formulas_and_unclear_numbers_have_no_difference():
    rows = [
        row
        for section in sections_of(2020, "dev", "pump")
        for row in scores_of(section, [1, 0, 0, 0, 1, 1, 1, 0], machine="pump")
    ]
    numbers = with_scores(RunNumbers(results_of("pump", [0.6] * 4)), rows, 0.05)
    tables = fill(tables_of("jalali2020"), {"dense_ae": numbers})
    of_pump = {row.labels: row.cells[0] for row in tables[-1].rows if row.labels[0] == "pump"}
    assert of_pump["pump", "precision"].values == pytest.approx((0.75,), abs=1e-12)
    assert of_pump["pump", "precision"].difference is None
    assert of_pump["pump", "tpr"].values == (0.75,)  # the report has that of its own system alone
    assert of_pump["pump", "tpr"].difference is None
    text = as_text(tables)
    block = text.split("Table 4: ")[1].split("Table 5: ")[0].splitlines()
    assert [line.split("  ")[0] for line in block if "ours, " in line] == [""] * 10
    average = [line.split() for line in block[-7:-2]]
    assert average[0] == ["Average", "ours", "60.00", "60.00", "–", "–"]
    assert average[1:3] == [["ours,", "formula", "30.00"], ["ours,", "eq.", "2", "–"]]
    assert average[3:] == [
        ["published", "72.89", "59.99", "73.94", "61.01"],
        ["difference", "-12.89", "+0.01", "–", "–"],
    ]
    assert text.count('"ours, formula": pAUC by the challenge') == 1
    assert '"ours, eq. 2": pAUC by the report\'s equation 2 as printed' in text


def test_numbers_of_another_score_or_other_recordings_have_no_difference():
    rows = results_of("fan", [0.6] * 4)
    some = frozenset({number("dense_ae", table="Table 3", row="00", metric="auc")})
    tables = fill(tables_of("jalali2020"), {"dense_ae": RunNumbers(rows, comparable=some)})
    differences = [cell.difference for row in tables[2].rows for cell in row.cells[:2]]
    assert differences == [pytest.approx(60 - 54.41)] + [None] * 9
