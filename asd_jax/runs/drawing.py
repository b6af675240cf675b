"""Draws the pictures of each machine while the next one is scored."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asd_jax.evaluation import analysis
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import Features


class Drawing:
    """Spectrograms of a run, made in a thread of their own.

    Args:
        folder: the run directory.
        features: of the test clips.
        front_end: of the features.
    """

    def __init__(self, folder: Path, features: Features, front_end: ClipFrontEnd):
        self._folder, self._of_clips = folder, (features, front_end)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._drawn: dict[str, Future] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, machine: str, rows: RowTable[ScoreRow]) -> None:
        """Draws the pictures of a machine, whose clips are all scored, where they have labels."""
        rows = analysis.decided(rows)
        if (rows.numbers("label") >= 0).any():
            path = analysis.picture_of(self._folder, machine)
            self._drawn[machine] = self._pool.submit(
                analysis.write_spectrograms, path, rows, machine, *self._of_clips
            )

    def draw(self, path: Path, rows: Iterable[ScoreRow], machine: str, *of_clips: Any) -> None:
        """Waits for a machine's pictures, or draws them, as `analysis.write_spectrograms` does."""
        if machine in self._drawn:
            self._drawn[machine].result()
        else:
            analysis.write_spectrograms(path, rows, machine, *of_clips)
