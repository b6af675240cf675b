"""A sweep: runs of all variants of a configuration, each in a directory of its own."""

import dataclasses
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from asd_jax.config.variants import Variant
from asd_jax.data.layouts import DataSource
from asd_jax.errors import UserError
from asd_jax.runs.directory import SWEEP_FILE, RunDirectory, stored_differences
from asd_jax.runs.outcome import RunResult
from asd_jax.runs.report import table
from asd_jax.runs.sweep_table import Sweep, logged_seconds, run_dirs_of, sweep_table, write_table
from asd_jax.runs.system import RunOptions
from asd_jax.runs.together import Job, programs_of, run_together
from asd_jax.runtime import distributed
from asd_jax.runtime.progress import Reporter


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """A finished sweep; printed, it is its table.

    Attributes:
        path: the folder.
        table: a line for each variant.
        runs: what the run of each variant gives, by the variants' names.
    """

    path: Path
    table: str
    runs: Mapping[str, RunResult]

    def __str__(self) -> str:
        return self.table

    __repr__ = __str__


def run_variants(
    run: Callable[..., RunResult],
    check: Callable[..., None],
    variants: Sequence[Variant],
    data_dir: DataSource,
    out_dir: os.PathLike | str,
    options: RunOptions,
    reporter: Reporter,
    *,
    members_dir: os.PathLike | str | None = None,
    width: int | None = None,
) -> SweepResult:
    """Runs all variants, those of one program as one fleet; arguments as of `pipeline.sweep`.

    `check` raises what is wrong with a variant before any is begun.
    """
    if distributed.several():
        raise UserError(
            "variants are run by one process: leave the lists of values out, or --num_processes"
        )
    root = Path(out_dir)
    _check_free(root)
    if members_dir is not None:
        _check_members(variants)
    programs = programs_of(variants)
    for program in programs:
        for variant in program if len(program) == 1 else program[:1]:
            with of_variant(variant):
                check(
                    variant.config,
                    data_dir,
                    ground_truth=options.ground_truth,
                    on_bad_clip=options.on_bad_clip,
                )
    with RunDirectory(root).lock(reporter.line):
        sweep = Sweep.read(root)
        folders = {variant.name: _folder_of(variant, root, sweep) for variant in variants}
        sweep = sweep.joined({folders[each.name]: each.values for each in variants})
        sweep.write(root)
        watch = _Watch(sweep, root)
        for number, program in enumerate(programs, 1):
            jobs = [Job(each, RunDirectory(root / folders[each.name])) for each in program]
            if len(jobs) > 1:
                reporter.line(f"program {number} of {len(programs)}: {len(jobs)} variants")
                run_together(jobs, data_dir, options, reporter, watch.passed)
            else:
                (job,) = jobs
                reporter.line(f"variant {job.variant.name}, {number} of {len(programs)} programs")
                run(
                    job.variant.config,
                    data_dir,
                    job.run_dir.path,
                    **options._asdict(),
                    members_dir=members_dir,
                    reporter=reporter,
                )
                watch.passed(jobs)
        write_table(root)
        text = sweep_table(root, width)
        reporter.line(f"the runs of all variants are in {root}")
    runs = {}
    for variant in variants:
        path = root / folders[variant.name]
        parts = run_dirs_of(path)
        alone = parts == (path,)
        runs[variant.name] = RunResult(
            path, "\n\n".join(table(part) for part in parts), () if alone else parts
        )
    return SweepResult(root, text, runs)


class of_variant:  # noqa: N801 - called like a function
    """Errors inside name the variant that they are of."""

    def __init__(self, variant: Variant):
        self._name = variant.name

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, UserError) and not str(error).startswith(self._name):
            raise UserError(f"{self._name}: {error}", error.exit_status) from error


class _Watch:
    """Adds up the seconds of each variant but for its training, which its log has."""

    def __init__(self, sweep: Sweep, root: Path):
        self._sweep, self._root = sweep, root
        self._begin, self._trained = time.monotonic(), self._logged()

    def passed(self, jobs: Sequence[Job]) -> None:
        """The seconds since the last call were spent on these variants, in equal shares."""
        now, trained = time.monotonic(), self._logged()
        share = max(0.0, now - self._begin - (trained - self._trained)) / len(jobs)
        for job in jobs:
            self._sweep = self._sweep.with_seconds(job.run_dir.path.name, share)
        self._sweep.write(self._root)
        self._begin, self._trained = now, trained

    def _logged(self) -> float:
        return sum(logged_seconds(self._root / name) for name in self._sweep.variants)


def _folder_of(variant: Variant, root: Path, sweep: Sweep) -> str:
    """The folder of a variant's run: one that has this configuration, else that of its name."""
    for name in sweep.variants:
        stored = RunDirectory(root / name).config
        if stored.is_file() and not stored_differences(stored, variant.config):
            return name
    path = RunDirectory(root / variant.name)
    if path.path.is_dir() and not run_dirs_of(path.path)[1:]:
        path.check(variant.config)
    return variant.name


def _check_members(variants: Sequence[Variant]) -> None:
    """Raises UserError where variants of an ensemble cannot share the runs of its members."""
    members: list[Any] = [getattr(variant.config, "member_configs", dict)() for variant in variants]
    if any(own != members[0] for own in members):
        raise UserError(
            "--members_dir is for members that all variants share, and here they differ; leave it "
            "out, so that each variant has its own"
        )


def _check_free(root: Path) -> None:
    """Raises UserError where a folder has something else than runs of variants."""
    if RunDirectory(root).config.exists():
        raise UserError(
            f"{root} holds a run of one configuration; choose another --out_dir for several"
        )
    if (root / SWEEP_FILE).is_file() or not root.is_dir():
        return
    others = sorted(entry.name for entry in root.iterdir() if not entry.name.startswith("."))
    if others:
        raise UserError(f"{root} holds other files ({others[0]}); choose another --out_dir")
