"""A run's place among the published official scores of its year's set."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax import metrics
from asd_jax.evaluation.results import ResultRow
from asd_jax.evaluation.tables import markdown, mean_std
from asd_jax.published.scores import Score, load_scores
from asd_jax.runtime.text_tables import aligned

SETS = {"dev": "development set", "eval": "evaluation set"}
_AROUND = 2  # systems shown above and below a run


class Entry(NamedTuple):
    """A published system of a set.

    Attributes:
        score: its official score; of 2020, the mean of its AUC and pAUC where it is not printed.
        percent: that as a number.
        is_same: whether it is the run's own configuration.
    """

    score: Score
    percent: float
    is_same: bool


def set_scores(results: Sequence[ResultRow], year: int) -> np.ndarray:
    """The official score of a run for each seed, as a fraction.

    Args:
        results: rows of one run; those without labels do not count.
        year: challenge year.

    Returns:
        (seeds,) scores. Of 2020: the mean of AUC and McClish pAUC over a machine's ids, then over
        machines, which is one number where `metrics.official_score` gives two.
    """
    rows = [row for row in results if row.n_normal + row.n_anomaly]
    values = []
    for seed in sorted({row.seed for row in rows}):
        own = [row for row in rows if row.seed == seed]
        if year > 2020:
            values.append(float(_official(own, year)["official score"]))
            continue
        machines = sorted({row.machine for row in own})
        of_machines = [_official([r for r in own if r.machine == m], year) for m in machines]
        values.append(float(np.mean([[s["AUC"], s["pAUC"]] for s in of_machines])))
    return np.array(values)


def _official(rows: Sequence[ResultRow], year: int) -> dict[str, np.ndarray]:
    domains = [row.domain for row in rows]
    aucs = [row.auc for row in rows]
    return metrics.official_score(year, domains, aucs, [row.pauc_mcclish for row in rows])


def entries_of(
    year: int, subset: str, is_same: Callable[[Score], bool] = lambda score: False
) -> tuple[Entry, ...]:
    """The published systems of a set, best first; of equal names the first one.

    Args:
        year: challenge year.
        subset: "dev" or "eval".
        is_same: whether a system is the run's own configuration.

    Examples:
        >>> [entry.score.system for entry in entries_of(2025, "eval")][:2]
        ['BEATs, training-free, RDP', 'challenge winner']
    """
    numbers = load_scores(year, subset)
    found: dict[str, Entry] = {}
    for number in [n for n in numbers if n.metric == "score"]:
        found.setdefault(number.system, Entry(number, float(number.percent), is_same(number)))
    paucs = {n.system: float(n.percent) for n in numbers if n.metric == "pauc"}
    for number in [n for n in numbers if n.metric == "auc" and year == 2020]:
        if number.system in paucs:
            mean = (float(number.percent) + paucs[number.system]) / 2
            note = "; ".join(filter(None, ("the mean of its AUC and pAUC", number.note)))
            text = f"{mean:.2f}"
            number = number._replace(metric="score", percent=text, note=note)
            found.setdefault(number.system, Entry(number, mean, is_same(number)))
    return tuple(sorted(found.values(), key=lambda entry: -entry.percent))


def place_of(entries: Sequence[Entry], scores: np.ndarray) -> int:
    """The place of a run's mean score, from 1, among published ones and its own."""
    return 1 + sum(entry.percent > 100 * scores.mean() for entry in entries)


def place_line(year: int, subset: str, entries: Sequence[Entry], scores: np.ndarray) -> str:
    """One line: the score, its set, and its place."""
    text = (
        f"official score of DCASE {year}'s {SETS[subset]}, %: {mean_std(scores)} (chance is 50), "
        f"place {place_of(entries, scores)} beside {len(entries)} published"
    )
    if year <= 2020:
        text = text.replace("%:", "mean of AUC and pAUC (McClish) over ids, then over machines, %:")
    return text


def place_table(
    entries: Sequence[Entry], scores: np.ndarray, width: int | None = None
) -> list[str]:
    """Lines of a short table: the run, those around it, the best with and without weights.

    The run's own configuration as published is there, too.

    Args:
        entries: from `entries_of`.
        scores: (seeds,) from `set_scores`.
        width: as in `aligned`.
    """
    at = place_of(entries, scores) - 1
    kept = {*range(max(at - _AROUND, 0), min(at + _AROUND, len(entries)))}
    for weights in ("yes", "no"):
        kept |= {*[i for i, e in enumerate(entries) if e.score.weights == weights][:1]}
    kept |= {i for i, entry in enumerate(entries) if entry.is_same}
    rows = [_cells(i + 1 + (i >= at), entries[i])[:-2] for i in sorted(kept)]
    rows.insert(sum(i < at for i in kept), _own_cells(at + 1, scores)[:-2])
    return aligned([_HEADING[:-2], *rows], width=width, keys=2)


def full_markdown(
    year: int, subset: str, entries: Sequence[Entry], scores: np.ndarray, notes: Sequence[str]
) -> str:
    """The run among all published systems as Markdown, with means over several years below.

    Args:
        year: challenge year.
        subset: "dev" or "eval".
        entries: from `entries_of`.
        scores: (seeds,) from `set_scores`.
        notes: lines to add.
    """
    at = place_of(entries, scores) - 1
    rows = [_cells(i + 1 + (i >= at), entry) for i, entry in enumerate(entries)]
    rows.insert(at, _own_cells(at + 1, scores))
    blocks = [
        f"# Published official scores of DCASE {year}'s {SETS[subset]}",
        f"This run: {place_line(year, subset, entries, scores)}.",
        *notes,
        markdown([_HEADING, *rows]),
    ]
    others = [n for n in load_scores(year, subset) if n.metric != "score"]
    if others:
        blocks += [
            "## Parts of the score, as printed",
            markdown([["metric", *_HEADING[1:]], *([n.metric, *_printed(n)] for n in others)]),
        ]
    means = sorted(load_scores(0), key=lambda n: (n.years, n.metric, -float(n.percent)))
    blocks += [
        "## Means over both sets of several years",
        "Not to be compared with one set's score.",
        markdown(
            [
                ["years", "mean", *_HEADING[1:]],
                *([n.years, _MEANS[n.metric], *_printed(n)] for n in means),
            ]
        ),
    ]
    return "\n\n".join(blocks) + "\n"


_HEADING = ["place", "system", "configuration here", "pretrained", "score", "source", "note"]
_MEANS = {"amean": "arithmetic", "hmean": "harmonic"}


def _cells(place: int, entry: Entry) -> list[str]:
    system, configuration, *rest = _printed(entry.score)
    if entry.is_same:
        configuration += " (this run's)"
    return [str(place), system, configuration, *rest]


def _printed(score: Score) -> list[str]:
    """A number's cells behind the first: system, configuration, weights, percent, source, note."""
    configuration = f"{score.configuration} {score.settings}".strip()
    source = f"{score.source}, {score.table}"
    return [score.system, configuration, score.weights, score.percent, source, score.note]


def _own_cells(place: int, scores: np.ndarray) -> list[str]:
    return [str(place), "THIS RUN", "", "", mean_std(scores), "", ""]
