"""A run beside the published official scores of its year's set: what can be compared, and why not.

A score can be compared that is over all machines and sections of a set, by recordings that may be
the challenge's (see `origin`). Synthetic data and recordings of one's own have no comparison.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.config import load_config, shipped_configs, to_dict
from asd_jax.data.official_sets import official_sections, subset_of
from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.detectors import holds_out_for_thresholds
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ResultRow, TrainingRow
from asd_jax.evaluation.standing import (
    SETS,
    entries_of,
    full_markdown,
    place_line,
    place_table,
    set_scores,
)
from asd_jax.metrics import domains_of
from asd_jax.published.scores import Score
from asd_jax.runs.origin import origins


class OfficialSet(NamedTuple):
    """The challenge's set that results are of.

    Attributes:
        year: challenge year.
        subset: "dev" or "eval".
        missing: machines, or sections like "fan 02", of the set without a number in the results.
        others: machines and sections of the results that the set does not have.
        n_sections: sections of the set.
        n_missing: those without a number.
    """

    year: int
    subset: str
    missing: tuple[str, ...]
    others: tuple[str, ...]
    n_sections: int
    n_missing: int


class Standing(NamedTuple):
    """A run among published scores.

    Attributes:
        line: the score and its place, or why there is none; "" where there is nothing to say.
        table: lines of a short table; empty without a place.
        notes: what is not known about the recordings.
        markdown: the full table; "" without a place.
    """

    line: str = ""
    table: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    markdown: str = ""


def official_set(results: Iterable[ResultRow], year: int) -> OfficialSet | None:
    """The set of a year that results are of, the one with more of their sections.

    Args:
        results: rows of one run.
        year: challenge year.

    Returns:
        The set; None if no section is of one.
    """
    there = _evaluated(results, year)
    subset = subset_of(there, year)
    if subset is None:
        return None
    wanted = official_sections(year, subset)
    missing, others = wanted - there, there - wanted
    names = _names(missing, there), _names(others, wanted)
    return OfficialSet(year, subset, *names, len(wanted), len(missing))


def _evaluated(results: Iterable[ResultRow], year: int) -> set[tuple[str, str]]:
    """Machines and sections with numbers for all domains of the year."""
    domains: dict[tuple[str, str], set[str]] = {}
    for row in results:
        if not np.isnan(row.auc + row.pauc_mcclish):
            domains.setdefault((row.machine, row.section), set()).add(row.domain)
    return {key for key, of_key in domains.items() if {*domains_of(year)} <= of_key}


def whole_machines(
    data: Mapping[str, Any],
    results: Iterable[ResultRow],
    read_rows: Callable[[], Iterable[TrainingRow]],
    subset: str,
) -> frozenset[str]:
    """Machines whose means are over the sections that a set's published means are over.

    They are by recordings that may be the challenge's, or synthetic ones.

    Args:
        data: a run's description of its recordings.
        results: its results.
        read_rows: as of `standing_of`.
        subset: "dev" or "eval".
    """
    year = data["year"]
    there = _evaluated(results, year)
    machines = machines_of(year, subset)
    whole = {
        machine
        for machine in machines
        if {s for m, s in there if m == machine} == {*sections_of(year, subset, machine)}
    }
    if not data["synthetic"] and whole:
        whole &= origins(read_rows(), year, subset).keys()
    return frozenset(whole)


def _names(sections: set[tuple[str, str]], others: set[tuple[str, str]]) -> tuple[str, ...]:
    """Names of machines; of those that have sections elsewhere, machine and section."""
    elsewhere = {machine for machine, _ in others}
    names = {m if m not in elsewhere else f"{m} {s}" for m, s in sections}
    return tuple(sorted(names))


def standing_of(
    stored: Mapping[str, Any],
    data: Mapping[str, Any],
    results: Sequence[ResultRow],
    read_rows: Callable[[], Iterable[TrainingRow]],
    width: int | None = None,
) -> Standing:
    """Compares a run with the published official scores.

    Args:
        stored: its configuration.
        data: its description of its recordings.
        results: its results.
        read_rows: gives its training clips, and is called where they are needed.
        width: as in `aligned`, of the short table.
    """
    year = data["year"]
    found = None if data["synthetic"] else official_set(results, year)
    if found is None:
        return Standing()
    known = origins(read_rows(), year, found.subset)
    name = f"DCASE {year}'s {SETS[found.subset]}"
    if not known:  # recordings of one's own, by machines that are called alike
        return Standing()
    machines = sorted({row.machine for row in results})
    foreign = [machine for machine in machines if machine not in known]
    why = ""
    if found.missing:
        why = f"without {', '.join(found.missing)}"
    elif foreign or found.others:
        why = f"{', '.join(foreign or found.others)}: not of it, by sections and training clips"
    if why:
        return Standing(f"no place beside published official scores of {name}: {why}")
    scores = set_scores(results, year)
    if not np.isfinite(scores).all():
        return Standing(
            f"no place beside published official scores of {name}: a seed has scores that are no "
            "numbers"
        )
    entries = entries_of(year, found.subset, lambda score: _is_same(score, stored))
    notes = []
    if unsure := [machine for machine in machines if not known[machine].is_sure]:
        notes.append(
            f"{', '.join(unsure)}: names and numbers are like those of {name}; whether they are "
            "its recordings is not known."
        )
    return Standing(
        place_line(year, found.subset, entries, scores),
        tuple(place_table(entries, scores, width)),
        tuple(notes),
        full_markdown(year, found.subset, entries, scores, notes),
    )


def _is_same(score: Score, stored: Mapping[str, Any]) -> bool:
    """Whether a run's configuration is that of a published score.

    Seeds, data and the kind of threshold may be others. Joint networks may learn from all clips,
    as the published ones, or hold some out for thresholds, as our configurations.
    """
    if score.configuration != stored["name"] or score.configuration not in shipped_configs():
        return False
    try:
        published = load_config(score.configuration, score.overrides)
    except UserError:  # settings that there were, or will be
        return False
    free = ("seeds", "data", "threshold", "threshold_quantile", "threshold_deviations")
    wanted = to_dict(published)
    of_all = {**wanted, "train": {**wanted["train"], "threshold_split": 0.0}}
    return any(
        all(stored.get(key) == value for key, value in each.items() if key not in free)
        for each in ([wanted, of_all] if holds_out_for_thresholds(published) else [wanted])
    )
