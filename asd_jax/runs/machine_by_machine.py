"""What is made of each machine's scores while the next one is scored: pictures and intervals."""

from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from asd_jax.evaluation import analysis
from asd_jax.evaluation.intervals import ByMachine
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.row_table import RowTable
from asd_jax.evaluation.tables import Intervals
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import Features


class MachineByMachine:
    """Spectrograms and bootstrap intervals of a run, each in a thread of their own.

    Args:
        folder: the run directory.
        features: of the test clips.
        front_end: of the features.
        year: challenge year.
    """

    def __init__(self, folder: Path, features: Features, front_end: ClipFrontEnd, year: int):
        self._folder, self._of_clips = folder, (features, front_end)
        self._pools = [ThreadPoolExecutor(1, thread_name_prefix=n) for n in ("draw", "resample")]
        self._drawn: dict[str, Future] = {}
        self._resampled: list[Future] = []
        sections = features.clips.groups("machine", "section").values()
        self._intervals = ByMachine(year, max(map(len, sections), default=0))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pool in self._pools:
            pool.shutdown(wait=True, cancel_futures=True)

    def begin(self, machine: str, rows: RowTable[ScoreRow]) -> None:
        """Begins with a machine, the next in ascending order, whose clips are all scored."""
        draw, resample = self._pools
        self._resampled.append(resample.submit(self._intervals.add, rows))
        rows = analysis.decided(rows)
        if (rows.numbers("label") >= 0).any():
            path = analysis.picture_of(self._folder, machine)
            self._drawn[machine] = draw.submit(
                analysis.write_spectrograms, path, rows, machine, *self._of_clips
            )

    def draw(self, path: Path, rows: Iterable[ScoreRow], machine: str, *of_clips: Any) -> None:
        """Waits for a machine's pictures, or draws them, as `analysis.write_spectrograms` does."""
        if machine in self._drawn:
            self._drawn[machine].result()
        else:
            analysis.write_spectrograms(path, rows, machine, *of_clips)

    def intervals(self, rows: Iterable[ScoreRow]) -> Intervals:
        """The intervals of all machines, as of `bootstrap_results`."""
        for resampled in self._resampled:
            resampled.result()
        return self._intervals.of(rows)
