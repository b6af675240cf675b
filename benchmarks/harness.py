"""Comparisons of two or more ways to compute the same: run in turns, checked, timed, reported.

A comparison sets up its ways once. Each way runs a first time, which compiles programs. Then
every round runs each way once, starting with another one each time. As a machine's speed changes
from minute to minute, the result is the ratio of the seconds inside a round. After every turn the
results are compared: a fast wrong answer is an error.
"""

import dataclasses
import gc
import importlib
import os
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.config import nearest
from asd_jax.errors import UserError
from benchmarks.roofline import Machine, Work

OURS = "ours"
# Seconds between ways: a library's threads wait actively for a while after their work.
_REST = 0.05


class WrongAnswer(Exception):
    """The results of two ways differ."""


class Difference(NamedTuple):
    """Difference of a peer's result from ours.

    Attributes:
        what: name of the quantity, with its unit.
        found: largest difference.
        limit: largest allowed difference.
        why: reason for the limit.
    """

    what: str
    found: float
    limit: float
    why: str


def largest(ours: Any, theirs: Any, *, relative: bool = False) -> float:
    """Largest difference of two arrays of one shape; infinite where one is not finite.

    Raises:
        WrongAnswer: they have different shapes.
    """
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        raise WrongAnswer(f"results have shapes {ours.shape} and {theirs.shape}")
    difference = np.abs(ours - theirs)
    if relative:
        difference = difference / np.maximum(np.abs(theirs), 1e-30)
    return float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to compute something.

    Attributes:
        run: computes it from the same start each time, waits for the result, and returns it.
        before: called before `run`, not timed; restores the start.
        scale: factor of its seconds, for a way that computes only a part of the work.
        close: called at the end.
    """

    run: Callable[[], Any]
    before: Callable[[], Any] = lambda: None
    scale: float = 1.0
    close: Callable[[], Any] = lambda: None


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A comparison that is set up.

    Attributes:
        computes: the computation, with sizes and precision, in a sentence.
        ways: by name; "ours" and the requested peers.
        check: (peer's name, our result, the peer's) → differences.
        work: least work for our result, if there is a formula for it.
        notes: remarks for the reader of the figures.
        close: called at the end.
        unit: of the compared amount.
        amount: result → compared amount; None for the seconds of a run.
        processor_time: whether that of each way is kept as well, of this process and of those that
            it waited for: on a machine with other work it says more than the clock.
    """

    computes: str
    ways: Mapping[str, Way]
    check: Callable[[str, Any, Any], Iterable[Difference]]
    work: Callable[[Any], Work] | None = None
    notes: Sequence[str] = ()
    close: Callable[[], Any] = lambda: None
    unit: str = "s"
    amount: Callable[[Any], float] | None = None
    processor_time: bool = False


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison.

    Attributes:
        name: group, or group.member.
        peers: by name, a function for the reason why the peer cannot run here; "" if it can.
        setup: (quick, names of the peers that can run) → the prepared comparison.
        goals: (backend, peer) → the intended ratio; backends are "cpu" and "gpu".
        rounds: default number of timed rounds; 0 where the first turn counts.
        brief: included in `--quick` without names.
    """

    name: str
    peers: Mapping[str, Callable[[], str]]
    setup: Callable[[bool, Sequence[str]], Prepared]
    goals: Mapping[tuple[str, str], float] = dataclasses.field(default_factory=dict)
    rounds: int = 7
    brief: bool = False


def installed(module: str, extra: str = "bench") -> Callable[[], str]:
    """A function that imports a module, and returns the reason if that fails.

    Args:
        module: its name, also for pip.
        extra: the extra of this package that installs it; "" for none.
    """

    def reason() -> str:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            how = f"pip install -e '.[{extra}]'" if extra else f"pip install {module}"
            return f"{module} is not installed ({how})"
        except Exception as error:  # such as a library of another version of PyTorch
            return f"{module} cannot be imported: {' '.join(str(error).split())[:100]}"
        return ""

    return reason


def on_gpu() -> str:
    """The reason to skip a comparison without a GPU; "" with one."""
    return "" if jax.default_backend() == "gpu" else "needs an NVIDIA GPU"


def choose(
    comparisons: Sequence[Comparison], names: Sequence[str], *, brief: bool = False
) -> list[Comparison]:
    """Selects comparisons by their names or their groups' names.

    Without names, all, or the brief ones.

    Raises:
        UserError: a name is unknown.
    """
    known = {c.name: {c.name, c.name.partition(".")[0]} for c in comparisons}
    every = list(dict.fromkeys(name for both in known.values() for name in sorted(both)))
    for name in names:
        if name not in every:
            raise UserError(
                f"no benchmark {name!r}{nearest(name, every)}; python -m benchmarks --list"
            )
    if not names:
        return [c for c in comparisons if c.brief or not brief]
    return [c for c in comparisons if known[c.name] & set(names)]


def measure(
    comparison: Comparison, machine: Machine, *, quick: bool, rounds: int | None, say: Callable
) -> dict[str, Any]:
    """Runs a comparison; errors are put into the record.

    Args:
        comparison: the comparison.
        machine: limits of the machine, for the share that ours reaches.
        quick: use small sizes.
        rounds: timed rounds after a first turn; None for the first turn alone if quick, else for
            the comparison's own number.
        say: called with lines of progress.

    Returns:
        The record, in JSON's types.
    """
    reasons = {peer: reason() for peer, reason in comparison.peers.items()}
    record: dict[str, Any] = {
        "name": comparison.name,
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "skipped": {peer: reason for peer, reason in reasons.items() if reason},
        "error": "",
    }
    peers = [peer for peer, reason in reasons.items() if not reason]
    say(f"{comparison.name}: " + (", ".join([OURS, *peers]) if peers else "skipped"))
    if not peers:
        return record
    prepared = None
    try:
        prepared = comparison.setup(quick, peers)
        record["computes"], record["notes"] = prepared.computes, list(prepared.notes)
        record["unit"], record["timed"] = prepared.unit, prepared.amount is None
        _run(record, prepared, machine, rounds or (0 if quick else comparison.rounds))
        goals = {peer: comparison.goals.get((machine.backend, peer)) for peer in peers}
        _compare(record, peers, goals)
    except WrongAnswer as error:
        record["error"] = f"wrong answer: {error}"
    except Exception as error:
        traceback.print_exc()
        record["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    finally:
        if prepared is not None:
            for way in prepared.ways.values():
                way.close()
            prepared.close()
        # Programs and arrays of one comparison would take memory from the next.
        del prepared
        jax.clear_caches()
        gc.collect()
    if record["error"]:
        say(f"{comparison.name}: {record['error']}")
    return record


def _run(record: dict[str, Any], prepared: Prepared, machine: Machine, rounds: int) -> None:
    """Runs a first turn of every way, then the rounds; without rounds, the first turn counts."""
    first: dict[str, float] = {}
    seconds: dict[str, list[float]] = {name: [] for name in prepared.ways}
    processor: dict[str, list[float]] = {name: [] for name in prepared.ways}
    worst: dict[tuple[str, str], Difference] = {}
    names = list(prepared.ways)
    for turn in range(rounds + 1):
        results = {}
        start = (turn - 1) % len(names) if turn else 0
        for name in names[start:] + names[:start]:
            way = prepared.ways[name]
            way.before()
            time.sleep(_REST)
            begin, spent = time.perf_counter(), _processor_seconds()
            results[name] = way.run()
            taken, spent = time.perf_counter() - begin, _processor_seconds() - spent
            if prepared.amount:
                taken = prepared.amount(results[name])
            if turn or not rounds:
                seconds[name].append(way.scale * taken)
                processor[name].append(way.scale * spent)
            if not turn:
                first[name] = taken
        _check(prepared, results, worst)
    record["differences"] = [
        {"peer": peer, **difference._asdict()} for (peer, _), difference in worst.items()
    ]
    record["ways"] = {
        name: _statistics(first[name], timed, prepared.ways[name].scale)
        for name, timed in seconds.items()
    }
    if prepared.processor_time:
        for name, statistics in record["ways"].items():
            statistics["processor_s"] = processor[name]
    if prepared.work:
        work = prepared.work(results[OURS])
        record["roofline"] = machine.limit(work, record["ways"][OURS]["median_s"])


def _processor_seconds() -> float:
    """Processor time of this process so far, and of those that it waited for."""
    return sum(os.times()[:4])


def _check(prepared: Prepared, results: Mapping[str, Any], worst: dict) -> None:
    """Compares every peer's result with ours; keeps the largest differences.

    Raises:
        WrongAnswer: one of them is too large.
    """
    for peer, theirs in results.items():
        if peer == OURS:
            continue
        for difference in prepared.check(peer, results[OURS], theirs):
            if not difference.found <= difference.limit:
                raise WrongAnswer(
                    f"{peer}: {difference.what} differs by {difference.found:.3g}, at most "
                    f"{difference.limit:.3g} is right ({difference.why})"
                )
            key = peer, difference.what
            if key not in worst or difference.found > worst[key].found:
                worst[key] = difference


def _statistics(first: float, seconds: Sequence[float], scale: float) -> dict[str, Any]:
    """Statistics of a way; `seconds` are multiplied by `scale` already, `first` is not."""
    low, median, high = np.percentile(seconds, [25, 50, 75])
    return {
        "first_s": first,
        "compile_s": max(0.0, first - float(median) / scale),
        "rounds_s": list(seconds),
        "median_s": float(median),
        "quartiles_s": [float(low), float(high)],
        "scale": scale,
    }


def _compare(record: dict[str, Any], peers: Sequence[str], goals: Mapping) -> None:
    """Adds the ratios of every round, each peer's time divided by ours."""
    ours = np.array(record["ways"][OURS]["rounds_s"])
    record["ratios"] = {}
    for peer in peers:
        ratio = np.array(record["ways"][peer]["rounds_s"]) / ours
        record["ratios"][peer] = {
            "rounds": ratio.tolist(),
            "median": float(np.median(ratio)),
            "range": [float(ratio.min()), float(ratio.max())],
            "goal": goals[peer],
        }
        if "processor_s" in record["ways"][peer]:
            spent, own = (np.array(record["ways"][way]["processor_s"]) for way in (peer, OURS))
            record["ratios"][peer]["processor"] = (spent / own).tolist()
