"""What `asd_jax.run` gives: the table, and columns that have the numbers of the files."""

import builtins

import numpy as np
import pytest
from shared_runs import rows_of

from asd_jax.errors import UserError
from asd_jax.runs.outcome import RunResult
from asd_jax.runs.report import table


@pytest.fixture(scope="module")
def result(finished):
    return RunResult(finished, table(finished))


def test_printed_it_is_its_table(result, finished):
    assert str(result) == repr(result) == table(finished)


@pytest.mark.parametrize("name", ["scores", "results", "training_scores"])
def test_columns_are_those_of_the_files(result, finished, name):
    columns, rows = getattr(result, name), rows_of(finished / f"{name}.csv")
    assert [*columns] == [*rows[0]] and columns.n_rows == len(rows)
    for column, values in columns.items():
        texts = [row[column] for row in rows]
        expected = np.array(texts, object if values.dtype == object else float)
        np.testing.assert_array_equal(values, expected)
    assert columns["seed"].dtype.kind == "i" and columns["machine"].dtype == object


def test_pandas_is_asked_for_where_it_is_not(result, monkeypatch):
    """And makes a frame of the columns where it is."""
    real = builtins.__import__

    def without(name, *arguments, **options):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", without)
        with pytest.raises(UserError, match="pip install pandas"):
            result.scores.to_pandas()
    pandas = pytest.importorskip("pandas")
    frame = result.scores.to_pandas()
    assert isinstance(frame, pandas.DataFrame) and [*frame] == [*result.scores]
