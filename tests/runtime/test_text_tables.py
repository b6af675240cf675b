"""Text tables: whole where they fit, folded where they do not, and nothing of them lost."""

import time

import pytest

from asd_jax.runtime.text_tables import aligned, columns_of, filled

RESULTS = [
    ["machine", "section", "domain", "AUC", "published", "pAUC", "published"],
    ["fan", "00", "all", "73.68 ± 37.22 [73.7, 100.0]", "54.41 [1]", "90.00 ± 1.00", "52.00 [1]"],
    ["pump", "mean", "all", "85.56 ± 8.11 [72.4, 93.2]", "61.53 [2]", "–", ""],
]
MEANINGS = [
    ["key", "meaning"],
    ["train.validation_split", "share of each model's training clips held out, by whole clips"],
    ["name", "[bold]of[/bold] the configuration; load_config gives it the file's name"],
]


def words_of(lines):
    return sorted(word for line in lines for word in line.split() if set(word) != {"-"})


def test_a_table_that_fits_is_as_without_a_width():
    lines = aligned(RESULTS)
    widest = max(map(len, lines))
    assert len(lines) == 4 and lines[1].startswith("-------  -------")
    assert aligned(RESULTS, width=widest, keys=3) == lines
    assert aligned(RESULTS, width=widest - 1, keys=3) != lines


@pytest.mark.parametrize("width", [56, 70, 80, 86])
def test_columns_move_below_and_no_number_is_broken(width):
    lines = aligned(RESULTS, width=width, keys=3)
    assert max(map(len, lines)) <= width
    for row in RESULTS[1:]:
        for cell in row[3:]:
            assert any(cell in line for line in lines)
    tables = "\n".join(lines).split("\n\n")
    assert len(tables) > 1
    assert all(part.startswith("machine  section  domain") for part in tables)


@pytest.mark.parametrize("width", [40, 50, 60, 75])
def test_long_texts_are_wrapped_and_keep_every_word(width):
    lines = aligned(MEANINGS, width=width)
    assert max(map(len, lines)) <= width and len(lines) > 4
    assert words_of(lines) == words_of(aligned(MEANINGS))


def test_a_word_that_is_wider_than_its_column_is_folded():
    path = "/data/" + 30 * "long"
    lines = aligned([["a", path], ["b", "x"]], headings=0, width=40)
    assert max(map(len, lines)) <= 40
    assert "".join(line[1:].strip() for line in lines[:-1]) == path


def test_wide_characters_take_two_columns():
    lines = aligned([["風扇", "1"], ["Lüfter", "2"]], headings=0)
    assert lines == ["風扇    1", "Lüfter  2"]
    assert all(columns_of(line) <= 12 for line in aligned([[4 * "風扇", "1"]], 0, width=12))


def test_numbers_are_flush_right():
    assert aligned([["n", "a"], ["10", "b"]], 0, right=[0]) == [" n  a", "10  b"]


def test_empty_tables():
    assert aligned([], 0) == [] and aligned([], 0, width=40) == []
    assert aligned([["machine", "AUC"]], width=40) == ["machine  AUC", "-------  ---"]
    assert aligned([["", ""], ["", 50 * "a "]], width=40)


def test_ten_thousand_rows_are_folded_in_seconds():
    rows = [[f"/data/machine/test/{i:06}.wav", 3 * "a long text ", f"{i}"] for i in range(10_000)]
    begin = time.perf_counter()
    assert len(aligned(rows, 0, width=60)) > 10_000
    assert time.perf_counter() - begin < 20


def test_lines_are_filled_between_words():
    text = "  from            Koizumi et al. 2020, the challenge's baseline"
    assert filled(text, None, 18) == filled(text, 100, 18) == [text]
    lines = filled(text, 40, 18)
    assert max(map(len, lines)) <= 40 and lines[1].startswith(18 * " ")
    assert words_of(lines) == words_of([text])
