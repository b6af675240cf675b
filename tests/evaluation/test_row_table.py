"""Scores in columns: the same rows, values and texts as objects, in a fraction of their memory."""

import itertools
import tracemalloc

import numpy as np
import pytest

from asd_jax.data.columns import Categorical, Strings, StringsBuilder, group_rows
from asd_jax.errors import UserError
from asd_jax.evaluation import results
from asd_jax.evaluation.challenge import write_challenge_files
from asd_jax.evaluation.decisions import ranked_clips
from asd_jax.evaluation.intervals import bootstrap_results
from asd_jax.evaluation.promises import numbered, promise_lines
from asd_jax.evaluation.results import (
    ScoreRow,
    TrainingRow,
    evaluate,
    read_scores_csv,
    write_scores_csv,
)
from asd_jax.evaluation.row_table import BLOCK, RowTable, over_seeds


def rows_of(sections=("00", "01"), clips=9, seeds=(3, 1), kind=np.float32, machine="fän"):
    """Rows of both seeds in unlike orders, with names that are no ASCII."""
    rng = np.random.default_rng(0)
    return [
        ScoreRow(
            machine,
            section,
            ("source", "target")[i % 2],
            seed,
            f"größe {i}.wav",
            i % 3 - 1,
            kind(rng.normal()),
            0.5,
            int(rng.random() > 0.5),
        )
        for section in sections
        for seed in seeds
        for i in rng.permutation(clips).tolist()
    ]


def texts(rows):
    return [tuple(map(repr, row)) for row in rows]


def peak_of(function):
    """What a function returns, and the most bytes that it took."""
    tracemalloc.start()
    try:
        made = function()
        return made, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [np.float32, np.float64, float])
def test_rows_are_those_that_were_given(kind):
    rows = rows_of(kind=kind)
    rows[3] = rows[3]._replace(score=kind("nan"), threshold=float("nan"))
    table = RowTable.of(rows, ScoreRow)
    python = [row._replace(score=float(row.score)) for row in rows] if kind != np.float32 else rows
    assert texts(table) == texts(python)
    assert texts([table[0], table[-1], *table[2:4], *table[np.array([5, 1])]]) == texts(
        [python[i] for i in (0, -1, 2, 3, 5, 1)]
    )
    assert len(table) == len(rows) and table[:0] == [] and RowTable.of((), ScoreRow) == ()
    with pytest.raises(IndexError, match="no row 36 in a table of 36"):
        table[36]


def test_scores_of_unlike_precision_keep_theirs(tmp_path):
    """0.1 of float32 is no 0.1 of float64, and is written with as few digits."""
    rows = [row._replace(score=0.1) for row in rows_of()[:2]]
    rows[1] = rows[1]._replace(score=np.float32(0.1))
    parts = [RowTable.of([row], ScoreRow) for row in rows]
    for table in (RowTable.of(rows, ScoreRow), RowTable.concatenate(parts, ScoreRow)):
        assert texts(table) == texts(rows)
        write_scores_csv(tmp_path / "scores.csv", table)
        assert [row.score for row in read_scores_csv(tmp_path / "scores.csv")] == [0.1, 0.1]
        assert table.numbers("score").tolist() == [0.1, float(np.float32(0.1))]


def test_files_of_tables_are_those_of_rows(tmp_path):
    rows = rows_of(clips=30)
    table = RowTable.of(rows, ScoreRow)
    for name, given in (("rows", rows), ("table", table)):
        write_scores_csv(tmp_path / f"{name}.csv", given)
        write_challenge_files(tmp_path / name, given, 2023)
    for path in (tmp_path / "rows").rglob("*.csv"):
        other = tmp_path / "table" / path.relative_to(tmp_path / "rows")
        assert other.read_bytes() == path.read_bytes()
    assert (tmp_path / "rows.csv").read_bytes() == (tmp_path / "table.csv").read_bytes()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "it is empty"),
        ("machine,section\n", "its first line is not machine,section,domain"),
        ("fan,00,,0,a,1,2.5,1.0\n", "strict|shorter|has not"),
        ("fan,00,,0,a,1,loud,1.0,1,nan,,\n", "could not convert string to float"),
        ("fan,00,,0,a,x,2.5,1.0,1,nan,,\n", "invalid literal"),
        ("\n", "shorter|has not"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, text, what):
    head = ",".join(ScoreRow._fields) + "\n"
    whole = text if not text or text.startswith("machine") else head + text
    (tmp_path / "scores.csv").write_text(whole)
    with pytest.raises(UserError, match=f"scores.csv is damaged: .*({what}).*; remove it"):
        read_scores_csv(tmp_path / "scores.csv")


def test_rows_of_one_number_in_several_texts_are_alike(tmp_path):
    head = ",".join(ScoreRow._fields) + "\n"
    lines = "fan,00,,0,a,1,1,2,1,nan,,\nfan,00,,00,b,+1,1,2,1,nan,,\n"
    (tmp_path / "scores.csv").write_text(head + lines)
    table = read_scores_csv(tmp_path / "scores.csv")
    assert table.column("seed").distinct() == [0] and table.column("label").values == (1,)


def test_names_and_seeds_are_found():
    rows = rows_of(sections=("00", "01"), clips=12)
    table = RowTable.of(rows, ScoreRow)
    for section in ("00", "01"):
        own = [i for i, row in enumerate(rows) if row.section == section]
        names = sorted({rows[i].clip for i in own})
        assert table.name_ranks[own].tolist() == [names.index(rows[i].clip) for i in own]
    clips = over_seeds(table, np.arange(len(table)))
    keys = [row[:2] + row[4:5] for row in rows]
    assert [keys[i] for i in clips.first] == [*dict.fromkeys(keys)]
    assert clips.n_rows.tolist() == [2] * 24
    mean = clips.means(table.numbers("score"))
    for i, first in enumerate(clips.first):
        own = [row.score for row, key in zip(rows, keys, strict=True) if key == keys[first]]
        assert mean[i] == pytest.approx(np.mean(own, dtype=np.float64), rel=1e-12)


def test_clips_are_ranked_as_by_hand():
    rows = rows_of(clips=40, seeds=(0, 1, 2))
    rows[5] = rows[5]._replace(score=np.float32("nan"))
    found = ranked_clips(rows)["fän"]
    of_clips = {}
    for row in rows:
        of_clips.setdefault((row.section, row.clip), []).append(row)
    expected = []
    for (section, name), own in of_clips.items():
        score = float(np.mean([row.score for row in own], dtype=np.float64))
        called = sum(row.decision for row in own)
        verdict = {0: "no", 3: "yes"}.get(called, f"by {called} of 3 seeds")
        verdict = "–" if np.isnan(score) else verdict
        expected.append((section, name, called > 1, verdict, score))
    expected.sort(key=lambda each: -np.inf if np.isnan(each[-1]) else -each[-1])
    assert [(c.section, c.name, c.is_anomalous, c.verdict) for c in found] == [
        each[:-1] for each in expected
    ]
    np.testing.assert_allclose(found.numbers("score"), [each[-1] for each in expected], rtol=1e-12)


def test_results_do_not_depend_on_what_is_evaluated_together(monkeypatch):
    rows = [
        row
        for section, clips in (("00", 9), ("01", 90), ("02", 14))
        for row in rows_of((section,), clips)
    ]
    together = evaluate(rows, 2023)
    monkeypatch.setattr(results, "_TOGETHER", 1)
    assert texts(evaluate(rows, 2023)) == texts(together)


def test_clips_without_a_group_are_apart_from_every_group():
    """Whatever the order in which groups were first named."""
    for groups in itertools.permutations(["", "", "day 1", "day 1", "day 2", ""]):
        known = dict.fromkeys(groups)
        codes = np.array([[*known].index(group) for group in groups], np.uint8)
        found = numbered(Categorical(codes, tuple(known)))
        for (i, one), (j, other) in itertools.combinations(enumerate(groups), 2):
            assert (found[i] == found[j]) == (one == other != "")


def test_groups_of_many_values_are_in_the_order_of_their_first_rows():
    rng = np.random.default_rng(0)
    columns = [Categorical(rng.integers(0, n, 500), tuple(range(n))) for n in (3000, 2000)]
    keys = [*zip(*(column.codes.tolist() for column in columns), strict=True)]
    expected = {}
    for i, key in enumerate(keys):
        expected.setdefault(key, []).append(i)
    found = group_rows(columns)
    assert [*found] == [*expected]
    assert [own.tolist() for own in found.values()] == [*expected.values()]


def test_strings_of_sparse_rows_are_decoded_alone():
    builder = StringsBuilder()
    names = [f"ö{i}" for i in range(3000)]
    builder.extend(names)
    column: Strings = builder.column()
    rows = np.array([2999, 0, 1500])
    assert column[rows].tolist() == [names[i] for i in rows] and column.tolist() == names
    ranks = column.ranks()
    assert [names[i] for i in np.argsort(ranks)] == sorted(names)
    assert column[rows[:0]].tolist() == [] and len(column[rows[:0]].ranks()) == 0


@pytest.mark.slow
def test_memory_of_a_row(tmp_path):
    """Ten million rows of scores.csv in 2 GiB as they are written and read: 214 bytes each."""
    count = 4 * BLOCK
    names = StringsBuilder()
    names.extend(f"section_00_source_test_normal_{i:06}_vel_{i % 10}.wav" for i in range(count))
    scores = np.random.default_rng(0).normal(size=count).astype(np.float32)
    table = RowTable.of_columns(
        ScoreRow, count, machine="fan", section="00", domain="source", seed=0, label=0,
        clip=names.column(), score=scores, threshold=1.0, decision=0, p_value=0.5,
    )  # fmt: skip
    path = tmp_path / "scores.csv"
    _, written = peak_of(lambda: write_scores_csv(path, table))
    # Objects of some rows at a time, whatever the size of the table.
    assert written < 1500 * BLOCK
    read, peak = peak_of(lambda: read_scores_csv(path))
    assert peak < 214 * count + 1500 * BLOCK
    assert texts(read[-1:])[0][4] == texts(table[-1:])[0][4]


@pytest.mark.slow
def test_memory_of_sections_of_unlike_sizes():
    """A section of many clips beside many of few: what is padded to it is no more than itself."""
    few = [row for i in range(200) for row in rows_of((f"{i:03}",), 6, (0,))]
    table = RowTable.of([*few, *rows_of(("large",), 30_000, (0,))], ScoreRow)
    training = [
        TrainingRow("fän", section, "", 0, f"{i}.wav", float(i), 1, 1, "", 1)
        for section in table.column("section").distinct()
        for i in range(5)
    ]
    # 603 groups of a domain each, padded to 30,000 clips, would take 18 million cells.
    for function in (
        lambda: evaluate(table, 2023),
        lambda: bootstrap_results(table, 2023, n_resamples=4),
        lambda: ranked_clips(table),
        lambda: promise_lines(table, training),
    ):
        assert peak_of(function)[1] < 100 * 2**20
