"""A run's official score and its place among published ones, by hand."""

import numpy as np
import pytest

from asd_jax.evaluation import standing
from asd_jax.evaluation.results import ResultRow
from asd_jax.evaluation.standing import (
    entries_of,
    full_markdown,
    place_line,
    place_of,
    place_table,
    set_scores,
)
from asd_jax.published.scores import Score


def row(machine, section, auc, pauc, domain="all", seed=0, counts=(5, 5)):
    return ResultRow(machine, section, domain, seed, *counts, auc, pauc, pauc, 0.5, 0.5, 0.5)


def test_the_score_of_2020_is_over_ids_and_then_over_machines():
    rows = [row("fan", f"0{i}", 0.9, 0.7) for i in range(3)] + [row("pump", "00", 0.6, 0.5)]
    rows.append(row("pump", "01", np.nan, np.nan, counts=(0, 0)))  # no labels
    # (0.8 + 0.55) / 2, where the mean over ids is 0.7375.
    np.testing.assert_allclose(set_scores(rows, 2020), [0.675], rtol=1e-12)


def test_the_score_of_later_years_is_the_harmonic_mean_for_each_seed():
    rows = [
        row("fan", "00", auc, pauc, domain, seed)
        for seed, aucs in ((0, (0.8, 0.4)), (1, (0.5, 0.5)))
        for domain, auc, pauc in (
            ("all", 0.9, 0.5), ("source", aucs[0], 0.1), ("target", aucs[1], 0.1)
        )
    ]  # fmt: skip
    np.testing.assert_allclose(set_scores(rows, 2023), [3 / (1.25 + 2.5 + 2), 0.5], rtol=1e-12)


def test_systems_of_a_set_are_sorted_and_there_once():
    entries = entries_of(2022, "eval")
    assert [e.percent for e in entries] == sorted((e.percent for e in entries), reverse=True)
    names = [e.score.system for e in entries]
    assert len(names) == len({*names}) == 14  # two sources print the winner's
    assert next(e.percent for e in entries if e.score.system == "challenge winner") == 70.97


def test_of_2020_auc_and_pauc_give_the_score():
    found = {e.score.system: e for e in entries_of(2020, "dev")}
    assert found["STgram-MFN"].percent == pytest.approx((92.36 + 86.34) / 2)
    assert found["STgram-MFN"].score.percent == "89.35"
    assert found["STgram-MFN"].score.note.startswith("the mean of its AUC and pAUC; the checkpoint")
    # Of 2022 the parts are means of another kind than the score's.
    assert not {e.score.system for e in entries_of(2022, "dev")} & {"TWFR-GMM"}


@pytest.fixture
def made(monkeypatch):
    """Twenty systems, 90 to 71 percent, with weights where even, and a mean over years."""

    def score(i):
        weights = ("yes", "no")[i % 2]
        own = ("mel_knn", "a.b=1") if i == 15 else ("", "")
        return Score(
            "Paper", "T", f"s{i}", *own, weights, "2023", "dev", "score", str(90 - i), f"note {i}"
        )

    mean = score(30)._replace(years="2020-2023", subset="all", metric="amean")
    rows = [*map(score, reversed(range(20))), mean]
    monkeypatch.setattr(
        standing,
        "load_scores",
        lambda year, subset=None: [n for n in rows if (n.metric == "amean") == (year == 0)],
    )
    return entries_of(2023, "dev", lambda number: number.system == "s15")


def test_a_short_table_has_the_best_the_own_and_those_around(made):
    scores = np.array([0.804, 0.806])
    assert place_of(made, scores) == 11
    lines = [line.split() for line in place_table(made, scores)[2:]]
    assert [line[:2] for line in lines] == [
        ["1", "s0"], ["2", "s1"], ["9", "s8"], ["10", "s9"], ["11", "THIS"], ["12", "s10"],
        ["13", "s11"], ["17", "s15"],
    ]  # fmt: skip
    assert lines[4][2:] == ["RUN", "80.50", "±", "0.14"]
    assert lines[7][2:] == ["mel_knn", "a.b=1", "(this", "run's)", "no", "75"]
    assert place_line(2023, "dev", made, scores) == (
        "official score of DCASE 2023's development set, %: 80.50 ± 0.14 (chance is 50), place 11 "
        "beside 20 published"
    )


@pytest.mark.parametrize(("score", "place"), [(0.95, 1), (0.90, 1), (0.895, 2), (0.4, 21)])
def test_first_and_last_places(made, score, place):
    scores = np.array([score])
    assert place_of(made, scores) == place
    lines = place_table(made, scores)[2:]
    assert [line.split()[0] for line in lines if "THIS RUN" in line] == [str(place)]
    places = [int(line.split()[0]) for line in lines]
    assert places == sorted({*places})


def test_the_full_table(made):
    text = full_markdown(2023, "dev", made, np.array([0.805]), ["A note."])
    lines = text.splitlines()
    assert lines[0] == "# Published official scores of DCASE 2023's development set"
    assert "A note." in lines
    table = [line for line in lines if line.startswith("| ") and "| s" in line]
    assert len(table) == 20 + 1 + 2  # two headings have "| system"
    assert "| 11 | THIS RUN |  |  | 80.50 |  |  |" in lines
    assert "| 12 | s10 |  | yes | 80 | Paper, T | note 10 |" in lines
    assert "| 2020-2023 | arithmetic | s30 |  | yes | 60 | Paper, T | note 30 |" in lines
    assert text.count("chance") == 1
