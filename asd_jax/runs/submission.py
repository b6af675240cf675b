"""A finished run of an evaluation set as a submission to the challenge."""

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax import config as configs
from asd_jax.data.official_sets import official_sections, subset_of
from asd_jax.data.years import YEARS
from asd_jax.detectors import config_classes
from asd_jax.errors import UserError
from asd_jax.evaluation.challenge import write_challenge_files
from asd_jax.evaluation.results import ScoreRow, evaluate, read_scores_csv
from asd_jax.evaluation.submission_check import (
    META,
    SubmissionCheck,
    check_published_name,
    check_submission,
    place_of,
)
from asd_jax.evaluation.submission_form import UNNAMED, parse_label
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.fitted import Fitted
from asd_jax.runs.both_sets import sets_in
from asd_jax.runs.complexity import complexity_of
from asd_jax.runs.directory import RunDirectory, completed
from asd_jax.runs.loading import load
from asd_jax.runs.report import finished_run
from asd_jax.runs.submission_meta import meta_of, results_of, write_meta
from asd_jax.runtime.arguments import check_path
from asd_jax.runtime.files import disk_errors


class Submission(NamedTuple):
    """A submission that was made.

    Attributes:
        folder: its files.
        check: what is still wrong with it.
        lines: what it is made of, for its author.
    """

    folder: Path
    check: SubmissionCheck
    lines: tuple[str, ...]


class _Run(NamedTuple):
    """A finished run of one set of the challenge."""

    path: Path
    stored: Mapping[str, Any]
    data: Mapping[str, Any]
    rows: Sequence[ScoreRow]


def make_submission(
    run_dir: os.PathLike | str,
    out_dir: os.PathLike | str,
    *,
    label: str = UNNAMED,
    seed: int | None = None,
    dev_run: os.PathLike | str | None = None,
) -> Submission:
    """Writes the result files of a year and the description of the system, and checks them.

    Scores are the mean over the seeds, and decisions are by the fitted system's threshold for that
    mean, as `Fitted.threshold` gives it and `asd-jax score` decides.

    Args:
        run_dir: finished run of an evaluation set, or the folder of the runs of both sets.
        out_dir: where the folder `<label>` is made.
        label: `<last name>_<institute>_task2_<1 to 4>`.
        seed: takes one seed in place of the mean over all.
        dev_run: finished run of the development set, for its results; by default that of the folder
            with both.

    Raises:
        UserError: nothing can be made of the run, and why; nothing is written then.
    """
    check_path("run_dir", run_dir)
    check_path("out_dir", out_dir)
    check_path("dev_run", dev_run, optional=True)
    if label != UNNAMED:
        parse_label(label)
    folder = Path(out_dir) / label
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise UserError(
            f"{folder} is there already; choose another --label or --out_dir, or remove it"
        )
    sets = sets_in(run_dir)
    if sets and "eval" not in sets:
        raise UserError(f"{run_dir} has no run of the evaluation set, which a submission is of")
    run = _read(Path(run_dir) / "eval" if sets else Path(run_dir))
    year: int = run.data["year"]
    _check_evaluation_set(run)
    if dev_run is None and "dev" in sets:
        dev_run = Path(run_dir) / "dev"
    dev = None if dev_run is None else _read_dev(Path(dev_run), run)
    fitted = load(run.path)
    if seed is not None and seed not in fitted.seeds:
        raise UserError(
            f"--seed={seed}: {run.path} has the seeds {', '.join(map(str, fitted.seeds))}"
        )
    rows = _decided(run, fitted, seed)
    results = {}
    if dev is not None:
        of_dev = mean_rows(dev.rows, seed, str(dev.path), lambda _: np.dtype(np.float64))
        results = results_of(evaluate(of_dev, year), year)
    n_seeds = 1 if seed is not None else len(fitted.seeds)
    complexity = complexity_of(fitted, run.data.get("clip_seconds", 0.0), n_seeds)
    config = configs.from_dict(run.stored, config_classes())
    classes = RunDirectory(run.path).classes
    meta = meta_of(label, year, config, fitted, n_seeds, complexity, results, classes)
    with _whole_folder(folder) as made:
        write_challenge_files(made, rows, year)
        write_meta(made / f"{label}{META}", meta, year)
    expected: dict[tuple[str, str, str], set[str]] = {}
    for row in rows:
        place = place_of(row.machine, row.section, row.domain, year)
        expected.setdefault(place, set()).add(row.clip)
    lines = [_what(fitted, seed)]
    if dev is not None and not results:
        lines.append(f"{dev.path} has no labels, so results of the development set are left out")
    elif dev is None:
        lines.append("results of the development set are left out; --dev_run=RUN gives them")
    return Submission(folder, check_submission(folder, year=year, expected=expected), tuple(lines))


def mean_rows(
    rows: Iterable[ScoreRow], seed: int | None, where: str, dtype_of: Any
) -> list[ScoreRow]:
    """The rows of one seed, or the mean over the seeds as rows of seed 0.

    Args:
        rows: of a run.
        seed: the seed; None for the mean.
        where: the run, for messages.
        dtype_of: machine → type that its scores are averaged in.

    Raises:
        UserError: there are no rows of the seed, or the seeds did not score the same clips.
    """
    clips: dict[tuple[str, str, str, str], list[ScoreRow]] = {}
    for row in rows:
        if seed is None or row.seed == seed:
            clips.setdefault((row.machine, row.section, row.domain, row.clip), []).append(row)
    if not clips:
        raise UserError(f"{where} has no scores" + f" of seed {seed}" * (seed is not None))
    counts = {len(own) for own in clips.values()}
    if len(counts) > 1:
        raise UserError(f"the seeds of {where} did not score the same clips; score them again")
    found = []
    for own in clips.values():
        dtype = dtype_of(own[0].machine)
        scores = np.array([row.score for row in sorted(own, key=lambda row: row.seed)], dtype)
        found.append(own[0]._replace(seed=seed or 0, score=scores.mean()))
    return found


def _read(path: Path) -> _Run:
    run_dir, stored, data = finished_run(path)
    return _Run(path, stored, data, read_scores_csv(run_dir.scores_csv))


def _check_evaluation_set(run: _Run) -> None:
    """Raises UserError for a run of anything but a year's evaluation set, with names as there."""
    year, sections = run.data["year"], {(row.machine, row.section) for row in run.rows}
    if year not in YEARS:
        what = "MIMII" if year == 0 else "recordings of your own"
        raise UserError(f"{run.path} is of {what}; a submission is of the challenge's recordings")
    if not sections:
        raise UserError(f"{run.path} has no scores; its data had no test clips")
    subset = subset_of(sections, year)
    if subset == "dev":
        raise UserError(
            f"{run.path} is of the development set of {year}, and a submission is of the "
            "evaluation set; run that by --config.data.subset=eval, or both by =both"
        )
    others = sections - official_sections(year, "eval")
    if others:
        names = ", ".join(f"{machine} {section}" for machine, section in sorted(others))
        raise UserError(f"{run.path} has scores of {names}, not of {year}'s evaluation set")
    for row in run.rows:
        check_published_name(row.clip, str(run.path))


def _read_dev(path: Path, run: _Run) -> _Run:
    """The run of the development set with the same system; UserError for another one."""
    dev = _read(path)
    if dev.data["year"] != run.data["year"]:
        raise UserError(
            f"--dev_run={path} is of {dev.data['year']}, and {run.path} of {run.data['year']}"
        )
    if subset_of({(row.machine, row.section) for row in dev.rows}, dev.data["year"]) != "dev":
        raise UserError(f"--dev_run={path} is not of the development set")
    names = [each.stored["detector"]["name"] for each in (dev, run)]
    if names[0] != names[1]:
        raise UserError(f"--dev_run={path} is of {names[0]}, and {run.path} of {names[1]}")
    differences = configs.difference(*(_system(completed(each.stored)) for each in (run, dev)))
    if differences:
        raise UserError(
            f"--dev_run={path} is of another system than {run.path}: {'; '.join(differences[:3])}"
        )
    return dev


def _system(stored: Any) -> Any:
    """A configuration without what the runs of two sets differ in: data, names, and paths."""
    if not isinstance(stored, Mapping):
        return stored
    kept = {key: _system(value) for key, value in stored.items() if key not in ("data", "name")}
    if isinstance(kept.get("members"), Mapping):
        kept["members"] = {str(i): own for i, own in enumerate(kept["members"].values(), 1)}
    return kept


def _decided(run: _Run, fitted: Fitted, seed: int | None) -> list[ScoreRow]:
    """The run's test clips with one score each, and the decision on it."""
    rows = mean_rows(run.rows, seed, str(run.path), lambda machine: _dtype(fitted, machine))
    odd = [row for row in rows if not np.isfinite(row.score)]
    if odd:
        first = odd[0]
        raise UserError(
            f"{run.path} has {len(odd)} scores that are no finite numbers, first {first.score} of "
            f"{first.clip}, {first.machine} {first.section}; a model that diverged gives them: "
            "lower --config.train.learning_rate in a new run, or choose another --seed"
        )
    decided = []
    thresholds: dict[tuple[str, str], float] = {}
    for row in rows:
        key = row.machine, row.section
        if key not in thresholds:
            thresholds[key] = fitted.group_threshold(fitted.resolve(*key), seed)
        threshold = thresholds[key]
        if np.isnan(threshold):
            raise UserError(f"{run.path} has no threshold for {' '.join(key)}")
        decision = int(float(row.score) > threshold)
        decided.append(row._replace(threshold=threshold, decision=decision))
    return decided


def _dtype(fitted: Fitted, machine: str) -> np.dtype:
    """The type of a system's scores, in which it averages them over the seeds."""
    if isinstance(fitted, FittedChoice):
        return _dtype(fitted.members[fitted.chosen[machine]], machine)
    return np.dtype(np.float64 if isinstance(fitted, FittedEnsemble) else np.float32)


def _what(fitted: Fitted, seed: int | None) -> str:
    if seed is not None:
        return f"scores and decisions are those of seed {seed}"
    if len(fitted.seeds) == 1:
        return "scores and decisions are those of the run"
    seeds = ", ".join(map(str, fitted.seeds))
    return (
        f"scores are the mean over the seeds {seeds}; decisions are by the threshold of that mean"
    )


@contextlib.contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A folder beside another one, which takes its name when all is written."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        with disk_errors(folder):
            temporary.mkdir(parents=True)
        yield temporary
        with disk_errors(folder):
            os.replace(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
