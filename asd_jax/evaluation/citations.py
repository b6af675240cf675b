"""Published numbers beside the lines of result tables, with numbered sources."""

from collections.abc import Collection, Mapping, Sequence

from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.evaluation.results import MEAN, ResultRow
from asd_jax.published import Published

Line = tuple[str, str, str]  # machine, section, domain
Numbers = Mapping[tuple[Line, str], Published]  # by line and metric


def beside(published: Sequence[Published], results: Sequence[ResultRow], year: int) -> Numbers:
    """The published numbers of what a run's lines are of; of several the first.

    A published mean is the arithmetic one over all of a machine's sections in the challenge's set.
    So it has no place beside a mean over some of them, nor beside a harmonic one, as the lines'
    are since 2021, but for machines of a single section.

    Args:
        published: numbers of the run's score, see `published.load_published`.
        results: rows of the run.
        year: challenge year.

    Returns:
        (machine, section, domain) and metric → the number.
    """
    labelled: dict[tuple[str, str], set[str]] = {}  # sections of a machine and domain
    for row in results:
        if row.n_normal + row.n_anomaly:
            labelled.setdefault((row.machine, row.domain), set()).add(row.section)
    found: dict[tuple[Line, str], Published] = {}
    for number in published:
        there = labelled.get((number.machine, number.domain), set())
        if number.section == MEAN:
            fits = there == _sections_of(number) and (year <= 2020 or len(there) == 1)
        else:
            fits = number.section in there
        if fits and number.year == year:
            line = number.machine, number.section, number.domain
            found.setdefault((line, number.metric), number)
    return found


def agree(numbers: Sequence[Numbers], lines: Sequence[Collection[Line]]) -> bool:
    """Whether one column of published numbers is true beside several runs.

    Args:
        numbers: of each run, from `beside`.
        lines: of each run.
    """
    every = {key: number for of_run in numbers for key, number in of_run.items()}
    return all(
        of_run.get(key) == number
        for of_run, own in zip(numbers, lines, strict=True)
        for key, number in every.items()
        if key[0] in own
    )


def _sections_of(number: Published) -> set[str]:
    """The sections that a machine's published mean is over."""
    subset = "dev" if number.machine in machines_of(number.year, "dev") else "eval"
    return {*sections_of(number.year, subset, number.machine)}


class Citations:
    """Cells of published numbers, and notes on their sources.

    Args:
        numbers: from `beside`.
        sources: where numbers are printed; columns that share the list are numbered together.
    """

    def __init__(self, numbers: Numbers, sources: list[str] | None = None):
        self._numbers = numbers
        self._sources = [] if sources is None else sources

    def has(self, metric: str) -> bool:
        """Whether a line has a published number of a metric."""
        return any(name == metric for _, name in self._numbers)

    def cell(self, line: Line, metric: str) -> str:
        """The number of a line and metric with its source's; "" where there is none."""
        number = self._numbers.get((line, metric))
        if number is None:
            return ""
        source = f"{number.source}, {number.table}" + f" ({number.note})" * bool(number.note)
        if source not in self._sources:
            self._sources.append(source)
        return f"{number.percent} [{self._sources.index(source) + 1}]"

    def notes(self) -> list[str]:
        """The sources of the cells until now."""
        return [f"[{i}] {source}" for i, source in enumerate(self._sources, 1)]
