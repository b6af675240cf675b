"""Which published numbers are of a run's score: those of a system with the run's settings.

The settings of the system make its score: `detector`, `front_end`, `embedding`, `backend`, how an
ensemble combines, and which member serves a machine. Numbers of other ones are of another score.
Seeds, recordings, training and decision thresholds are a run's own, and so is whether waveforms
are mirrored at their ends: of that no report says anything.
"""

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

from asd_jax.config import difference, load_config, shipped_configs, to_dict
from asd_jax.published import Published, configuration_of, load_published
from asd_jax.runs.directory import completed

_OF_RUNS = ("name", "data", "train", "seeds", "precision")
_OF_DECISIONS = ("threshold", "threshold_quantile", "threshold_deviations")
_OWN_OF_GROUPS = {
    "embedding": ("weights", "sha256"),
    "front_end": ("pad_mode",),
    # Outliers are compared machine by machine; which set training clips are of is a run's own.
    "detector": ("weights", "weights_sha256", "outliers", "both_sets"),
}
_MOST = 3  # settings that a note names


class OfScore(NamedTuple):
    """Published numbers of a run's score, and why there are none where its system has some."""

    published: tuple[Published, ...]
    note: str = ""


def published_of(stored: Mapping[str, Any], year: int) -> OfScore:
    """The published numbers of a year that are of a run's score.

    Args:
        stored: the run's configuration, as stored.
        year: challenge year of its recordings.
    """
    names = (stored["name"], stored["detector"]["name"])
    printed = load_published(year=year)
    systems = dict.fromkeys(p.system for p in printed if configuration_of(p.system)[0] in names)
    own = completed(stored)
    differences = {}
    for system in systems:
        if (settings := _settings_of(system)) is not None:
            differences[system] = difference(_of_score(own), settings)
    same = [system for system, found in differences.items() if not found]
    outliers = own["detector"].get("outliers", ())
    numbers = tuple(
        number
        for number in printed
        if number.system in same
        and (not number.outliers or f"{number.machine}:{number.outliers}" in outliers)
    )
    if same or not differences:
        return OfScore(numbers)
    system, found = min(differences.items(), key=lambda pair: len(pair[1]))
    keys = [line.replace(" there and", " with them and") for line in found[:_MOST]]
    more = f" and {len(found) - _MOST} more" if len(found) > _MOST else ""
    return OfScore(
        (), f"Published numbers of {system} are of another score: {'; '.join(keys)}{more}."
    )


def _of_score(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, as of `to_dict`, without those that are a run's own."""
    kept = {key: value for key, value in settings.items() if key not in (*_OF_RUNS, *_OF_DECISIONS)}
    for group, names in _OWN_OF_GROUPS.items():
        if group in kept:
            kept[group] = {k: v for k, v in kept[group].items() if k not in names}
    if "members" in kept:
        kept["members"] = {name: _of_score(each) for name, each in kept["members"].items()}
    return kept


@functools.cache
def _settings_of(system: str) -> dict[str, Any] | None:
    """What makes the score of a published system; None without a configuration of it."""
    name, changes = configuration_of(system)
    return _of_score(to_dict(load_config(name, changes))) if name in shipped_configs() else None
