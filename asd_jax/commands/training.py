"""Commands that train: run, reproduce."""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from absl import flags

from asd_jax.commands.base import (
    CONFIG,
    Command,
    define_cache_dir,
    define_cores,
    define_ground_truth,
    define_mirror,
    define_on_bad_clip,
    define_real,
    define_source,
    define_whole,
    prepare_jax,
    source_of,
)
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import Between
from asd_jax.runtime.launching import MOST_PROCESSES

if TYPE_CHECKING:
    from asd_jax.config.variants import Variant
    from asd_jax.data.layouts import DataSource

# Flags of `run` that its processes must have alike; paths may differ from host to host.
_ALIKE = ("on_bad_clip", "verify")


# Those that a sweep hands on to its runs.
_OF_RUNS = ("members_dir", "cache_dir", "verify", "tensorboard")


def _define_run(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "config",
        None,
        "path of a configuration, or the name of a shipped one; spectral with --normal, --manifest",
        flag_values=values,
    )
    define_source(values)
    define_ground_truth(values)
    flags.DEFINE_string("out_dir", None, "run directory to make or continue", flag_values=values)
    define_cache_dir(values, "features, compiled programs and fetched weights")
    flags.DEFINE_string(
        "members_dir",
        None,
        "of an ensemble: where its members' runs are or are made, to be shared by several",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "dry_run",
        False,
        "say what it would take and stop; without --data_dir as if on DCASE 2020",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "verify",
        False,
        "read every recording again, even one whose size, times and inode have not changed",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "tensorboard",
        False,
        "write TensorBoard's event files into the folder `tensorboard` of the run directory",
        flag_values=values,
    )
    flags.DEFINE_string(
        "coordinator",
        None,
        "of a run by several processes: HOST:PORT of the first (or JAX_COORDINATOR_ADDRESS)",
        flag_values=values,
    )
    define_whole(
        values,
        "num_processes",
        None,
        "how many there are (or JAX_NUM_PROCESSES); alone, so many are started on this machine",
        Between(1, MOST_PROCESSES),
    )
    define_whole(
        values,
        "process_id",
        None,
        "which one this is, from 0 (or JAX_PROCESS_ID)",
        Between(0, MOST_PROCESSES - 1),
    )
    flags.DEFINE_bool(
        "distributed",
        False,
        "find the processes out from Slurm, Open MPI, Kubernetes or a TPU pod",
        flag_values=values,
    )
    define_real(
        values,
        "wait",
        120.0,
        "seconds that processes of a run wait for one another when they start",
        Between(1, 86_400),
    )
    define_cores(values)
    define_on_bad_clip(values)


def _run(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.config.variants import load_variants
    from asd_jax.runtime import distributed
    from asd_jax.runtime.supervision import supervise
    from asd_jax.runtime.text_tables import terminal_width

    place = None
    if not values.dry_run:
        place = distributed.place_of(
            values.coordinator, values.num_processes, values.process_id, values.distributed
        )
    if place == distributed.HERE:
        _check_one(load_variants(values.config or "spectral", overrides))
        _launch(values, overrides)
    if place is not None:
        supervise(distributed.why_ended)
    try:
        source = source_of(values)
        # Without a configuration there are recordings of one's own.
        variants = load_variants(values.config or "spectral", overrides)
        if place is not None:
            _check_one(variants)
    except UserError as error:
        if place is not None:
            distributed.tell(place, str(error), _say)
        raise
    config = variants[0].config
    prepare_jax(values.cache_dir, values.cores, alone=place is None)
    if place is not None:
        from asd_jax.runs.agreeing import states_of

        options = {f"--{name}": str(values[name].value) for name in _ALIKE}
        distributed.join(place, states_of(config, options), values.wait, _say)
    from asd_jax import pipeline

    if len(variants) > 1:
        _sweep(values, variants, source)
        return
    if values.dry_run:
        shown = pipeline.dry_run(
            config, source, ground_truth=values.ground_truth, on_bad_clip=values.on_bad_clip
        )
        print(shown)
        return
    assert source is not None
    result = pipeline.run(
        config,
        source,
        values.out_dir,
        ground_truth=values.ground_truth,
        members_dir=values.members_dir,
        cache_dir=values.cache_dir,
        on_bad_clip=values.on_bad_clip,
        verify=values.verify,
        tensorboard=values.tensorboard,
        width=terminal_width(),
    )
    if result.table:
        print(result)
    if place is not None:
        distributed.leave()


def _check_one(variants: "Sequence[Variant]") -> None:
    """Raises UserError where several processes are to run several variants."""
    if len(variants) > 1:
        raise UserError(
            f"{variants[0].name} is one of {len(variants)} variants, which are run by one "
            "process; give one value of each key, or leave --num_processes out"
        )


def _sweep(
    values: flags.FlagValues, variants: "Sequence[Variant]", source: "DataSource | None"
) -> None:
    """Runs variants of the configuration, or says what they would take."""
    from asd_jax import pipeline
    from asd_jax.runtime.text_tables import terminal_width

    options: dict[str, Any] = {name: values[name].value for name in ("ground_truth", "on_bad_clip")}
    if values.dry_run:
        print(pipeline.dry_sweep(variants, source, **options))
        return
    assert source is not None
    options |= {name: values[name].value for name in _OF_RUNS}
    print(pipeline.sweep(variants, source, values.out_dir, **options, width=terminal_width()))


def _launch(values: flags.FlagValues, overrides: dict[str, str]) -> NoReturn:
    """Starts the run's processes on this machine, which share its cores, and ends as they do."""
    from asd_jax.runtime.cores import usable_cores
    from asd_jax.runtime.launching import launch

    given = {name: values[name].value for name in values if values[name].present}
    count = given.pop("num_processes", None) or int(os.environ["JAX_NUM_PROCESSES"])
    given.setdefault("cores", max(1, usable_cores() // count))
    arguments = [f"--{name}={value}" for name, value in given.items()]
    arguments += [f"{CONFIG}{key}={text}" for key, text in overrides.items()]
    sys.exit(launch(["run", *arguments], count))


def _say(line: str) -> None:
    print(f"asd-jax: {line}", file=sys.stderr, flush=True)


def _define_reproduce(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "paper",
        None,
        "whose tables: jalali2020, hassankhani2021, giri2020, grollmisch2020 or kazakova2022; or "
        "whose official scores of several years: asdkit2025 or rdp2026",
        flag_values=values,
    )
    flags.DEFINE_string(
        "data_dir",
        None,
        "folder of recordings; of official scores, of as many years' sets as there are",
        flag_values=values,
    )
    flags.DEFINE_string(
        "out_dir", None, "folder for the runs and tables, or to go on in", flag_values=values
    )
    define_cache_dir(values, "features, compiled programs and fetched weights")
    flags.DEFINE_bool(
        "dry_run",
        False,
        "say what would be trained, for how long and in how much memory, and stop; reports of "
        "2020 without --data_dir as if on DCASE 2020",
        flag_values=values,
    )
    flags.DEFINE_bool(
        "download",
        False,
        "fetch published recordings that --data_dir lacks; with --dry_run say which, and how large",
        flag_values=values,
    )
    define_mirror(values)
    define_ground_truth(values)
    define_cores(values)
    define_on_bad_clip(values)


def _reproduce(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.papers.layouts import SCORE_PAPERS
    from asd_jax.papers.reproduce import reproduce
    from asd_jax.papers.score_runs import reproduce_scores

    prepare_jax(values.cache_dir, values.cores)
    options: dict[str, Any] = {}
    if values.ground_truth is not None:
        if values.paper not in SCORE_PAPERS:
            raise UserError(
                f"--ground_truth is for tables of official scores ({', '.join(SCORE_PAPERS)}); "
                f"{values.paper} has none of an evaluation set"
            )
        options["ground_truth"] = values.ground_truth
    if values.paper in SCORE_PAPERS:
        if values.download:
            raise UserError(
                f"--download is for the reports of one year; {values.paper} is of several: fetch "
                "each with `asd-jax download`"
            )
    else:
        options = {"download": values.download, "mirror": values.mirror}
    if values.mirror and not values.download:
        raise UserError("--mirror has no effect without --download")
    outcome = (reproduce_scores if values.paper in SCORE_PAPERS else reproduce)(
        values.paper,
        values.data_dir,
        values.out_dir,
        overrides=overrides,
        cache_dir=values.cache_dir,
        on_bad_clip=values.on_bad_clip,
        dry_run=values.dry_run,
        **options,
    )
    print(outcome.text)
    if outcome.failed and not values.dry_run:
        raise UserError(
            f"without {', '.join(outcome.failed)}, as said above; the same command continues from "
            "there",
            exit_status=1,
        )


RUN = Command(
    "train, score and evaluate",
    _define_run,
    _run,
    ("config|normal|manifest", "data_dir|normal|manifest", "out_dir"),
)
REPRODUCE = Command(
    "a report's tables: train what they need, ours beside the published numbers",
    _define_reproduce,
    _reproduce,
    ("paper", "data_dir", "out_dir"),
)
