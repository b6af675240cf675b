"""Ratios kept in the repository, by processor, and what got slower or faster since.

    python -m benchmarks NAMES --keep      # puts what was measured into benchmarks/ratios.json
    python -m benchmarks NAMES --compare   # says what is beyond the ranges kept there

A file, not a database: {processor: {benchmark: {peer: Kept}}}. The processor is the kind of
accelerator where there is one, else the CPU and the number of cores; ratios of others say nothing
about this one's.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from asd_jax.errors import UserError
from asd_jax.runtime.files import atomic_write

PATH = Path(__file__).resolve().parent / "ratios.json"

# Medians that are closer than this share are not told apart: a range of few rounds is too narrow.
_SCATTER = 0.1

Table = dict[str, dict[str, dict[str, dict[str, Any]]]]


class Kept(NamedTuple):
    """A measured ratio: a peer's seconds over ours.

    Attributes:
        median: of the rounds.
        low: smallest of them.
        high: largest of them.
        rounds: their number.
        date: of the measurement.
        commit: of this project; with a + where files were changed.
        versions: of Python and of the packages.
    """

    median: float
    low: float
    high: float
    rounds: int
    date: str
    commit: str
    versions: dict[str, str]


def processor_of(environment: Mapping[str, Any]) -> str:
    """What measurements are kept by: the accelerator, or the CPU with its cores.

    Args:
        environment: of a measurement, from `benchmarks.report.environment`.

    Examples:
        >>> processor_of({"device": "1 × cpu (cpu)", "processor": "AMD EPYC", "cores": 2})
        'AMD EPYC, 2 cores'
        >>> processor_of({"device": "1 × NVIDIA H200 (gpu)", "processor": "Xeon", "cores": 16})
        '1 × NVIDIA H200 (gpu)'
    """
    if environment["device"].endswith("(cpu)"):
        return f"{environment['processor']}, {environment['cores']} cores"
    return environment["device"]


def read(path: Path = PATH) -> Table:
    """The file's table; empty without a file.

    Raises:
        UserError: it is not such a table.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        for benchmarks in table.values():
            for peers in benchmarks.values():
                for kept in peers.values():
                    Kept(**kept)
    except FileNotFoundError:
        return {}
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not a table of ratios ({error}); restore it from git") from error
    return table


def ratios_of(measured: Mapping[str, Any]) -> dict[str, dict[str, Kept]]:
    """Benchmark → peer → ratio, of what was measured without errors."""
    found: dict[str, dict[str, Kept]] = {}
    for record in measured["comparisons"]:
        where = measured["environment"]
        for peer, ratio in record.get("ratios", {}).items() if not record["error"] else ():
            found.setdefault(record["name"], {})[peer] = Kept(
                float(f"{ratio['median']:.4g}"),
                *(float(f"{value:.4g}") for value in ratio["range"]),
                len(ratio["rounds"]),
                record["date"],
                where["commit"],
                where["versions"],
            )
    return found


def keep(measured: Mapping[str, Any], path: Path = PATH) -> int:
    """Puts the measured ratios in the place of those kept; others stay. Returns their number.

    Raises:
        UserError: small sizes were measured, or the file is not a table of ratios.
    """
    if measured["quick"]:
        raise UserError("figures of --quick mean nothing and are not kept; measure without it")
    table = read(path)
    own = table.setdefault(processor_of(measured["environment"]), {})
    new = ratios_of(measured)
    for name, peers in new.items():
        own.setdefault(name, {}).update({peer: kept._asdict() for peer, kept in peers.items()})
    with atomic_write(path) as file:
        json.dump(table, file, indent=1, sort_keys=True, ensure_ascii=False)
        file.write("\n")
    return sum(map(len, new.values()))


class Change(NamedTuple):
    """A ratio beyond the range that was kept.

    Attributes:
        name: of the benchmark.
        peer: the peer.
        slower: whether ours got slower beside the peer.
        line: for people.
    """

    name: str
    peer: str
    slower: bool
    line: str


def changes(measured: Mapping[str, Any], table: Table) -> Iterator[Change]:
    """Ratios whose range does not touch the one kept, and whose medians differ by more than 10 %.

    Args:
        measured: a measurement.
        table: that of `read`.
    """
    own = table.get(processor_of(measured["environment"]), {})
    for name, peers in ratios_of(measured).items():
        for peer, new in peers.items():
            if peer not in own.get(name, {}):
                continue
            old = Kept(**own[name][peer])
            slower = new.high < old.low and new.median < (1 - _SCATTER) * old.median
            faster = new.low > old.high and new.median > (1 + _SCATTER) * old.median
            if slower or faster:
                yield Change(
                    name,
                    peer,
                    slower,
                    f"{'slower' if slower else 'faster'}: {name} beside {peer}, {_range(new)}; "
                    f"kept {_range(old)}, {old.date[:10]}, commit {old.commit[:7]}",
                )


def compared(measured: Mapping[str, Any], table: Table) -> int:
    """Number of measured ratios that have one kept to compare with."""
    own = table.get(processor_of(measured["environment"]), {})
    return sum(peer in own.get(name, {}) for name, of in ratios_of(measured).items() for peer in of)


def _range(kept: Kept) -> str:
    return f"{kept.median:.3g} ({kept.low:.3g} to {kept.high:.3g})"
