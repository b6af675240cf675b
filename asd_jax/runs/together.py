"""Variants of a run whose networks are one fleet; each has a run directory of its own."""

import contextlib
import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from asd_jax.config import Config, to_dict
from asd_jax.config.plugins import package_of_settings
from asd_jax.config.variants import Variant, value_of
from asd_jax.detectors import Detector, make_detector
from asd_jax.errors import UserError
from asd_jax.runs.both_sets import BOTH
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.system import Begun, Found, RunOptions, begin, find, finish, hear
from asd_jax.runs.training import RunLog, stopped_by
from asd_jax.runtime.interruption import stop_signals
from asd_jax.runtime.memory import needed_for, usable_memory
from asd_jax.runtime.progress import Reporter
from asd_jax.training import Batch, FleetClips, Task, check_fit, train
from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.cost import estimate_cost
from asd_jax.training.fleet import choose_driver
from asd_jax.training.task import abstract_learner
from asd_jax.training.varied import VariantCheckpoints, can_vary, newest_of_all, varied_task

# Settings that no network depends on: variants in these alone share one training.
_AFTER_TRAINING = ("threshold", "threshold_quantile", "threshold_deviations")
# Share of a device's memory for the models' state and the values of a step, see `_at_once`.
_STATE_SHARE = 0.25
_LESS_AT_ONCE = "allow more, lower --config.train.batch_size, or name fewer values at once"


class Job(NamedTuple):
    """A variant, and its run directory.

    Attributes:
        variant: with its configuration.
        run_dir: its directory.
    """

    variant: Variant
    run_dir: RunDirectory


class _Run(NamedTuple):
    """A variant that is under way: the system, and its claimed directory."""

    job: Job
    found: Found
    begun: Begun


def programs_of(variants: Sequence[Variant]) -> list[list[Variant]]:
    """Groups variants that one compiled program can train; others are alone.

    They have one system, network and data, and differ in settings that can be arrays of its step
    (`train.learning_rate`, and `DetectorConfig.varied`), or that no network depends on.

    Examples:
        >>> from asd_jax.config.variants import load_variants
        >>> lists = {"train.learning_rate": "1e-3,1e-4", "train.batch_size": "64,512"}
        >>> [len(program) for program in programs_of(load_variants("dense_ae", lists))]
        [2, 2]
        >>> [len(program) for program in programs_of(load_variants("spectral", {"seeds": "0"}))]
        [1]
    """
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        groups.setdefault(_shape_of(variant), []).append(variant)
    programs = []
    for group in groups.values():
        together = len(group) == 1 or _is_traceable(group)
        programs += [group] if together else [[variant] for variant in group]
    return programs


def _shape_of(variant: Variant) -> str:
    """A text that variants of one program share."""
    config = variant.config
    if not (isinstance(config, Config) and config.detector.trains and config.data.subset != BOTH):
        return variant.name
    settings = to_dict(config)
    for key in (*varied_keys(config), *_AFTER_TRAINING):
        *groups, name = key.split(".")
        inside = settings
        for group in groups:
            inside = inside[group]
        del inside[name]
    return json.dumps(settings)


def varied_keys(config: Config) -> tuple[str, ...]:
    """Settings that may be arrays of the step."""
    own = getattr(config.detector, "varied", ())
    return ("train.learning_rate", *(f"detector.{name}" for name in own))


def _settings_of(config: Any) -> dict[str, float]:
    return {key: float(value_of(config, key)) for key in varied_keys(config)}


def _is_traceable(group: Sequence[Variant]) -> bool:
    """Whether the system takes arrays in place of these settings; those of this package do."""
    config: Any = group[0].config
    if package_of_settings(config.detector) is None:
        return True
    detector = make_detector(config)
    shape: Any = jax.ShapeDtypeStruct
    size, views = config.train.batch_size, (detector.views.length, detector.front_end.width)
    batch = Batch(
        shape((size, *views), np.dtype(detector.front_end.dtype)),
        shape((size,), np.int32),
        shape((size,), bool),
        shape((), np.int32),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    return can_vary(task_of_variants(detector, 1), varied_keys(config), batch, key)


def task_of_variants(detector: Detector, n_labels: int) -> Task:
    """The task of a system whose settings are arrays."""

    def make(settings: Mapping[str, Any]) -> Task:
        config = detector.config
        for key, value in settings.items():
            config = _with_value(config, key, value)
        own = type(detector)(config)
        own.cache_dir = detector.cache_dir
        return own.task(n_labels)

    return varied_task(detector.task(n_labels), make)


def _with_value(config: Any, key: str, value: Any) -> Any:
    """A configuration with another value, an array that is traced, which no check can look at."""
    head, _, rest = key.partition(".")
    changed = copy.copy(config)
    inner = _with_value(getattr(config, head), rest, value) if rest else value
    object.__setattr__(changed, head, inner)
    return changed


def run_together(
    jobs: Sequence[Job],
    data_dir: Any,
    options: RunOptions,
    reporter: Reporter,
    passed: Callable[[Sequence[Job]], None],
) -> None:
    """Runs variants of one program: recordings and features once, and one fleet.

    Args:
        jobs: from `programs_of`.
        data_dir: where the recordings are.
        options: of the runs.
        reporter: shows progress.
        passed: called with the variants that the time since the last call was spent on.
    """
    configs: list[Any] = [job.variant.config for job in jobs]
    found = find(configs[0], data_dir, options, reporter, variants=len(jobs))
    with contextlib.ExitStack() as locks:
        for job, config in zip(jobs, configs, strict=True):
            locks.enter_context(job.run_dir.lock(reporter.line))
            job.run_dir.check(config)
        heard = hear(found, reporter, None)
        runs = []
        for job, config in zip(jobs, configs, strict=True):
            own = found.of_variant(config)
            runs.append(_Run(job, own, begin(own, heard, job.run_dir, reporter)))
        weights = _trained([run for run in runs if _is_untrained(run)], reporter)
        passed(jobs)
        for run in runs:
            reporter.line(f"variant {run.job.variant.name}")
            own_weights = weights.get(run.job.variant.name)
            finish(run.found, heard, run.begun, reporter, weights=own_weights)
            passed([run.job])


def _is_untrained(run: _Run) -> bool:
    return run.begun.training is not None and not run.job.run_dir.model.is_file()


def _trained(runs: Sequence[_Run], reporter: Reporter) -> dict[str, Any]:
    """Weights of the variants by their names; those of one alone are left to its own run."""
    trainings: dict[Any, list[_Run]] = {}
    for run in runs:
        settings = _settings_of(run.job.variant.config)
        trainings.setdefault((*settings.values(),), []).append(run)
    weights: dict[str, Any] = {}
    for together in _begun_alike([*trainings.values()]):
        count = _at_once(together[0][0])
        for first in range(0, len(together), count):
            part = together[first : first + count]
            if sum(map(len, part)) == 1:
                continue
            if len(together) > count:
                last = min(first + count, len(together))
                reporter.line(
                    f"variants {first + 1} to {last} of {len(together)}, as many as memory has "
                    "room for"
                )
            weights |= _train(part, reporter)
    return weights


def _begun_alike(trainings: Sequence[list[_Run]]) -> list[list[list[_Run]]]:
    """Groups trainings that can go on from one epoch: new ones, and those with a common one."""
    groups: list[tuple[list[list[_Run]], set[int]]] = []
    for training in trainings:
        common: set[int] | None = None
        for run in training:
            with contextlib.closing(Checkpoints(run.job.run_dir.checkpoints)) as kept:
                own = {0, *kept.epochs} if not kept.epochs else set(kept.epochs)
            common = own if common is None else common & own
        common = common or {0}
        for number, (group, epochs) in enumerate(groups):
            if epochs & common:
                group.append(training)
                groups[number] = group, epochs & common
                break
        else:
            groups.append(([training], common))
    return [group for group, _ in groups]


def _at_once(run: _Run) -> int:
    """How many trainings like this one fit into the memory beside one another, at least one."""
    layout, detector = run.begun.layout, run.found.detector
    assert layout is not None
    task = detector.task(layout.n_labels)
    learner = abstract_learner(task, detector.front_end.width)
    kept = 2 if layout.settings.patience else 1
    each = kept * sum(
        int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(learner)
    )
    if choose_driver(layout.settings, task.kind) == "vmap":
        cost = estimate_cost(
            *(task, layout.fleet, layout.settings, detector.front_end.width),
            dtype=detector.front_end.dtype,
        )
        each += cost.step_bytes // cost.models
    limits = jax.local_devices()[0].memory_stats() or {}
    memory = limits.get("bytes_limit") or usable_memory()
    memory *= jax.local_device_count() if limits.get("bytes_limit") else 1
    return max(1, int(_STATE_SHARE * memory // (each * len(layout.fleet.models))))


def _fleet_of(runs: Sequence[_Run]) -> FleetClips:
    """The models of all variants, one variant after another, beside one table of clips."""
    layout = runs[0].begun.layout
    assert layout is not None
    fleet, models = layout.fleet, []
    for run in runs:
        settings = (*_settings_of(run.job.variant.config).items(),)
        name = run.job.variant.name
        models += [model.as_variant(name, settings) for model in fleet.models]
    return fleet._replace(
        models=models,
        training=[*fleet.training] * len(runs),
        validation=[*fleet.validation] * len(runs),
    )


def _train(trainings: Sequence[list[_Run]], reporter: Reporter) -> dict[str, Any]:
    """Trains variants as one fleet; several runs that share a training get the same weights."""
    first = trainings[0][0]
    features, layout = first.begun.training, first.begun.layout
    assert features is not None and layout is not None
    fleet = _fleet_of([runs[0] for runs in trainings])
    task = task_of_variants(first.found.detector, layout.n_labels)
    row_bytes = features.width * features.dtype.itemsize
    check_fit(fleet, layout.settings, row_bytes, task.kind)
    reporter.line(
        f"{len(trainings)} variants are trained as one program: {len(fleet.models)} models"
    )
    with (
        _saved(trainings) as (checkpoints, log),
        stop_signals() as received,
        stopped_by(received),
        needed_for("training", _LESS_AT_ONCE),
    ):
        weights = train(
            *(task, fleet, features, layout.settings),
            checkpoints=checkpoints,
            log=log,
            should_stop=lambda: bool(received),
            reporter=reporter,
        )
    if received:  # too late to interrupt the training
        raise UserError(
            f"stopped by {received[0].name} after training, which is saved; the same command "
            "continues from there",
            exit_status=128 + received[0],
        )
    count = len(layout.fleet.models)
    return {
        run.job.variant.name: jax.tree.map(
            lambda leaf, i=i: leaf[i * count : (i + 1) * count], weights
        )
        for i, runs in enumerate(trainings)
        for run in runs
    }


@contextlib.contextmanager
def _saved(
    trainings: Sequence[list[_Run]],
) -> Iterator[tuple[VariantCheckpoints, Callable[[Mapping[str, Any]], None]]]:
    """Checkpoints and log of the fleet, in each variant's own directory."""
    logs: dict[str, list[RunLog]] = {}
    with contextlib.ExitStack() as stack:
        folders = [[Checkpoints(run.job.run_dir.checkpoints) for run in runs] for runs in trainings]
        for checkpoints in (each for own in folders for each in own):
            stack.callback(_closed, checkpoints)
        kept = newest_of_all([each.epochs for own in folders for each in own]) or 0
        for runs in trainings:
            name = runs[0].job.variant.name
            for run in runs:
                run.job.run_dir.write_environment()
                tensorboard = run.found.options.tensorboard
                logs.setdefault(name, []).append(RunLog(run.job.run_dir, kept, tensorboard))
                stack.callback(logs[name][-1].close)

        def log(entry: Mapping[str, Any]) -> None:
            own = dict(entry)
            for each in logs[own.pop("variant")]:
                each(own)

        yield VariantCheckpoints(folders), log


def _closed(checkpoints: Checkpoints) -> None:
    with contextlib.suppress(UserError):  # the error that ended the training is the one to show
        checkpoints.close()
