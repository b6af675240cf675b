"""What a run tells of a submission's description, see `evaluation.submission_form`."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, EnsembleConfig, MembersConfig
from asd_jax.data.official_sets import official_sections
from asd_jax.evaluation.printed import MEAN, SCORE, system_of
from asd_jax.evaluation.results import ResultRow
from asd_jax.evaluation.row_files import read_rows
from asd_jax.evaluation.submission_form import FILL_IN, author, fill_in
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.fitted import Fitted
from asd_jax.runs.classes import ClassRow
from asd_jax.runs.complexity import Complexity, detectors_of
from asd_jax.runtime.files import atomic_write

_SHOWN = ("AUC", "pAUC")  # of the lines of a printed table
_HEADING = """# Description of a submission to DCASE {year} Task 2.
# Fill in what says {fill_in}, then: asd-jax submission --check=FOLDER
"""


def results_of(results: Sequence[ResultRow], year: int) -> dict[str, Any]:
    """AUC and pAUC of each machine of the development set and their means, in percent.

    The means are the year's: arithmetic over all machine ids in 2020, harmonic over all sections
    since. pAUC is that of the official programs.

    Args:
        results: of one seed.
        year: challenge year.

    Returns:
        Machine, and the mean → name → percent; empty without labels.
    """
    lines = system_of("", results, year).lines
    machines = [column for column in lines[SCORE] if column != MEAN]
    if not machines:
        return {}
    shown = {_key(title): line for title, line in lines.items() if title.split()[0] in _SHOWN}
    mean = "arithmetic_mean" if year == 2020 else "harmonic_mean"
    found: dict[str, Any] = {
        name: {key: _percent(line[column]) for key, line in shown.items()}
        for name, column in [*zip(machines, machines, strict=True), (mean, MEAN)]
    }
    if year > 2020:
        found[mean]["official_score"] = _percent(lines[SCORE][MEAN])
    return found


def _key(title: str) -> str:
    """A line of a printed table as a key.

    Examples:
        >>> _key("AUC (source)"), _key("pAUC")
        ('auc_source', 'pauc')
    """
    return title.lower().replace(" (", "_").removesuffix(")")


def _percent(values: Any) -> float | str:
    """The value (1,) of one seed in percent, with two decimals; to be filled in where undefined."""
    if not len(values) or np.isnan(values[0]):
        return fill_in("percent")
    return round(100 * float(values[0]), 2)


def meta_of(
    label: str,
    year: int,
    config: Config | MembersConfig,
    fitted: Fitted,
    n_seeds: int,
    complexity: Complexity,
    results: Mapping[str, Any],
    classes: os.PathLike | str,
) -> dict[str, Any]:
    """The description of a fitted system, with what only its authors know left to fill in.

    Args:
        label: of the submission.
        year: challenge year.
        config: of the run.
        fitted: the system.
        n_seeds: seeds whose scores are averaged.
        complexity: of the models whose scores are submitted.
        results: of the development set, from `results_of`; empty for none.
        classes: the run's classes.csv, which may be missing.
    """
    parts = dict(detectors_of(fitted))
    pretrained = {
        name: own.config.embedding.kind
        for name, own in parts.items()
        if own.config.embedding.pretrained
    }
    others_weights = [name for name, own in parts.items() if _weights(own.config)]
    networks = [name for name, own in parts.items() if own.config.detector.trains]
    no_network = not networks and not pretrained
    macs: int | str = complexity.macs
    parameters: int | str = complexity.parameters
    if no_network:
        macs = "none, as there is no network"
    elif pretrained:
        kinds = ", ".join(sorted(set(pretrained.values())))
        macs = fill_in(f"{macs} and those of {kinds}")
        parameters = fill_in(f"{parameters} and those of {kinds}")
    external: str | None = None
    if pretrained or others_weights:
        external = fill_in("data that the pretrained weights were learned from, with its address")
    embeddings = sorted({own.config.embedding.kind for own in parts.values()} - {"none"})
    return {
        "submission": {
            "label": label,
            "name": fill_in("name of the system, in a few words"),
            "abbreviation": fill_in("at most 10 characters"),
            "authors": [author(label)],
        },
        "system": {
            "description": {
                "input_sampling_rate": _listed(_rate(own) for own in parts.values()),
                "acoustic_features": _listed(_features(own) for own in parts.values()),
                "data_augmentation": fill_in("as mixup, or null") if networks else None,
                "embeddings": ", ".join(embeddings) or None,
                "machine_learning_method": _method(parts),
                "ensemble_method_subsystem_count": (
                    complexity.subsystems if complexity.subsystems > 1 else None
                ),
                "decision_making": _decisions(config, fitted, parts, n_seeds),
            },
            "complexity": {"total_parameters": parameters, "MACS": macs},
            "external_datasets": external,
            "train_datasets": train_datasets(year, parts, classes),
            "source_code": fill_in("address, or null"),
        },
        "results": {
            "development_dataset": dict(results) or fill_in("AUC and pAUC of each machine")
        },
    }


def write_meta(path: Path, meta: Mapping[str, Any], year: int) -> None:
    """Writes a description as YAML, in the order of its keys."""
    import yaml

    with atomic_write(path) as file:
        file.write(_HEADING.format(year=year, fill_in=FILL_IN))
        yaml.safe_dump(meta, file, sort_keys=False, allow_unicode=True, width=90)


def _listed(texts: Any) -> str:
    return "; ".join(dict.fromkeys(texts))


def _weights(config: Config) -> bool:
    return bool(getattr(config.detector, "weights", ""))


def _rate(fitted: FittedDetector) -> str:
    return f"{fitted.detector.front_end.sample_rate / 1000:g} kHz"


def _features(fitted: FittedDetector) -> str:
    front_end = fitted.detector.front_end
    cancelled = fitted.config.front_end.canceller
    before = "channel 0 without what channel 1 explains of it: " if cancelled else ""
    if not isinstance(front_end, FrontEnd):
        return f"{before}waveform"
    return (
        f"{before}log-mel energies of {front_end.n_mels} bands, frames of {front_end.n_fft} "
        f"samples every {front_end.hop_length}"
    )


def _method(parts: Mapping[str, FittedDetector]) -> str:
    """The system, or those that it is made of by their names."""
    titles = {name: own.detector.title for name, own in parts.items()}
    if len(titles) == 1:
        return next(iter(titles.values()))
    return "; ".join(f"{name}: {title}" for name, title in titles.items())


def _decisions(
    config: Config | MembersConfig,
    fitted: Fitted,
    parts: Mapping[str, FittedDetector],
    n_seeds: int,
) -> str:
    """How scores are combined, and what they are decided by."""
    steps = []
    if isinstance(fitted, FittedChoice):
        chosen = ", ".join(f"{machine} by {name}" for machine, name in fitted.chosen.items())
        steps.append(f"one system for each machine type: {chosen}")
    if isinstance(fitted, FittedEnsemble):
        steps.append(f"{fitted.combine} of the members' standardised scores")
    if n_seeds > 1:
        steps.append(f"mean of the scores over {n_seeds} seeds")
    if isinstance(config, EnsembleConfig):
        rules = [_threshold("gamma", config.threshold_quantile)]
    else:
        rules = [_rule(own.config) for own in parts.values()]
    return f"{'; '.join([*steps, 'threshold: '])}{_listed(rules)}"


def _rule(config: Config) -> str:
    """The threshold that a configuration asks for."""
    if config.threshold == "zero" and config.backend.kind == "own":
        return "0"
    if config.threshold == "mean":
        more = f" and {config.threshold_deviations:g} deviations" * bool(
            config.threshold_deviations
        )
        return f"mean{more} of the training clips' scores"
    kind = "gamma" if config.threshold == "zero" else config.threshold
    return _threshold(kind, config.threshold_quantile)


def _threshold(kind: str, quantile: float) -> str:
    """A threshold at a quantile of normal clips' scores."""
    share = f"{100 * quantile:g} %"
    return {
        "gamma": f"{share} quantile of a gamma distribution fitted to the training clips' scores",
        "quantile": f"{share} quantile of the training clips' scores",
        "conformal": f"conformal, for {100 * (1 - quantile):g} % false alarms by normal clips that "
        "the system was not fitted to",
    }[kind]


def train_datasets(
    year: int, parts: Mapping[str, FittedDetector], classes: os.PathLike | str
) -> list[str]:
    """The challenge's data that the system learned from."""
    of_evaluation = f"DCASE {year} Task 2 additional training dataset"
    if not any(own.detector.both_sets for own in parts.values()):
        return [of_evaluation]
    of_development = f"DCASE {year} Task 2 development dataset"
    if not Path(classes).is_file():  # of an ensemble, or of a network a machine
        return [of_evaluation, fill_in(f"{of_development}, if it was there")]
    rows = read_rows(classes, ClassRow)
    both = {(row.machine, row.section) for row in rows} & official_sections(year, "dev")
    return [of_evaluation, *[of_development] * bool(both)]
