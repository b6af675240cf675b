"""What a run gives: its table, and its scores and results as columns."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.errors import UserError
from asd_jax.evaluation.results import (
    ResultRow,
    ScoreRow,
    TrainingRow,
    read_results_csv,
    read_scores_csv,
    read_training_csv,
)
from asd_jax.evaluation.row_table import RowTable
from asd_jax.runs.directory import RunDirectory


class Columns(Mapping[str, np.ndarray]):
    """A table as arrays by their names, all of one length.

    Args:
        rows: of one type.
        row_type: a named tuple's type, whose fields are the columns.

    Examples:
        >>> row = ScoreRow("fan", "00", "", 0, "a.wav", 1, 2.5, 2.0, 1, 0.05)
        >>> columns = Columns([row], ScoreRow)
        >>> columns["score"].tolist(), len(columns), columns.n_rows
        ([2.5], 12, 1)
    """

    def __init__(self, rows: Sequence[Any], row_type: Any):
        kinds = row_type.__annotations__
        table = RowTable.of(rows, row_type)
        self.n_rows = len(table)
        self._columns = {
            name: (
                np.array(table.values(name), object)
                if kind is str
                else table.numbers(name).astype(kind)
            )
            for name, kind in kinds.items()
        }

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __len__(self) -> int:
        return len(self._columns)

    def __repr__(self) -> str:
        return f"<{self.n_rows} rows of {', '.join(self)}>"

    def to_pandas(self) -> Any:
        """The table as a `pandas.DataFrame`.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise UserError(
                "pandas is not installed; `pip install pandas`, or take the columns as arrays"
            ) from None
        return pandas.DataFrame(self._columns)


@dataclasses.dataclass(frozen=True)
class RunResult:
    """A finished run; printed, it is its table.

    Attributes:
        path: the run directory.
        table: the table of results; empty in other processes than the first.
        parts: of both sets of a year, the run directory of each, whose columns are one after
            another; empty where `path` is the run directory.
    """

    path: Path
    table: str
    parts: tuple[Path, ...] = ()

    @functools.cached_property
    def scores(self) -> Columns:
        """The columns of scores.csv: `ScoreRow` of each test clip and seed."""
        tables = [read_scores_csv(run.scores_csv, every=True) for run in self._runs()]
        return Columns(RowTable.concatenate(tables, ScoreRow), ScoreRow)

    @functools.cached_property
    def results(self) -> Columns:
        """The columns of results.csv: `ResultRow` of each machine, section, domain and seed."""
        return Columns(
            [row for run in self._runs() for row in read_results_csv(run.results_csv)], ResultRow
        )

    @functools.cached_property
    def training_scores(self) -> Columns:
        """The columns of training_scores.csv: `TrainingRow` of each training clip and seed."""
        tables = [read_training_csv(run.training_csv) for run in self._runs()]
        return Columns(RowTable.concatenate(tables, TrainingRow), TrainingRow)

    def _runs(self) -> list[RunDirectory]:
        return [RunDirectory(path) for path in self.parts or (self.path,)]

    def __str__(self) -> str:
        return self.table

    __repr__ = __str__
