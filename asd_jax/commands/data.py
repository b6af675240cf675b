"""Commands about data: download, synth, index."""

import dataclasses
import functools
import os
from typing import TYPE_CHECKING

from absl import flags

from asd_jax.commands.base import (
    CONFIG,
    YEAR,
    Command,
    define_mirror,
    define_real,
    define_source,
    define_whole,
    source_of,
    with_progress,
)
from asd_jax.commands.output import define_format, print_csv, print_json
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import SEED, Between

if TYPE_CHECKING:
    from asd_jax.config import Config, MembersConfig
    from asd_jax.data.index import Summary
    from asd_jax.data.layouts import DataSource
    from asd_jax.runs.channels import WrongChannels
    from asd_jax.runs.lengths import TooShort

# Columns of the records of clips.
_KEY = ("year", "subset", "machine", "section", "domain")
_COUNTS = ("train", "normal", "anomaly", "unlabelled", "seconds")


def _define_download(values: flags.FlagValues) -> None:
    define_whole(values, "year", None, "challenge year, 2020 to 2026", YEAR)
    flags.DEFINE_list("machines", [], "machine types; all by default", flag_values=values)
    flags.DEFINE_enum(
        "subset", None, ["dev", "eval"], "which set; both by default", flag_values=values
    )
    flags.DEFINE_string(
        "out_dir", None, "folder for the recordings of one year", flag_values=values
    )
    define_mirror(values)


def _download(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.data.download import download

    say = functools.partial(print, flush=True)
    download(values.year, values.machines, values.subset, values.out_dir, values.mirror, report=say)


def _define_synth(values: flags.FlagValues) -> None:
    flags.DEFINE_string("out_dir", None, "folder to make", flag_values=values)
    define_whole(values, "year", 2020, "layout: 2020 to 2026, or 0 for MIMII", YEAR)
    flags.DEFINE_enum("subset", "dev", ["dev", "eval", "both"], "which set", flag_values=values)
    flags.DEFINE_list("machines", [], "machine types; three by default", flag_values=values)
    define_whole(
        values, "sections", None, "sections or ids a machine; all by default", Between(1, 1000)
    )
    define_whole(values, "clips", 40, "training clips a section", Between(1, 10**6))
    define_real(values, "duration", 10.0, "seconds a clip", Between(2, 86400))
    define_whole(values, "sample_rate", 16000, "Hz", Between(8000, 10**6))
    flags.DEFINE_enum(
        "difficulty",
        "default",
        ["easy", "default", "hard"],
        "faults 6 dB louder, as they are, or 6 dB fainter",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "hall",
        "own",
        ["own", "factory", "loudspeaker"],
        "background: each id's own, one factory's places, from clip to clip, or one loudspeaker, "
        "which all microphones hear",
        flag_values=values,
    )
    define_real(
        values,
        "far_db",
        -6.0,
        "with --year=2026: level of the machine at the far microphone, re the near one",
        Between(-200, 0),
    )
    define_whole(
        values,
        "supplemental",
        None,
        "with --year=2025: supplemental clips a machine; a tenth of the training clips by default",
        Between(0, 10**6),
    )
    flags.DEFINE_enum(
        "faults",
        "added",
        ["added", "all"],
        "sounds that come on top, or also changes of the machine's own sound",
        flag_values=values,
    )
    define_whole(
        values,
        "states",
        1,
        "with --year=2022 or later: speeds at which a machine runs, `spd` in the names",
        Between(1, 6),
    )
    define_whole(values, "seed", 0, "of all that is random", SEED)


def _synth(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.data.synthetic import synthesize

    made = with_progress(
        "clips",
        lambda progress: synthesize(
            values.out_dir,
            year=values.year,
            subset=values.subset,
            machines=values.machines or None,
            sections=values.sections,
            clips=values.clips,
            duration=values.duration,
            sample_rate=values.sample_rate,
            difficulty=values.difficulty,
            hall=values.hall,
            far_db=values.far_db,
            supplemental=values.supplemental,
            faults=values.faults,
            states=values.states,
            seed=values.seed,
            progress=progress,
        ),
    )
    print(
        f"{made.out_dir}: {made.clips} clips of {', '.join(made.machines)}, {made.anomalies} of "
        f"them anomalous ({made.written} written now, in {made.seconds:.0f} s)"
    )


def _define_index(values: flags.FlagValues) -> None:
    define_source(values)
    define_whole(values, "year", None, "challenge year, if not told", YEAR)
    flags.DEFINE_bool(
        "headers_only",
        False,
        "read no samples: faster, and silent about constant, clipped and loud recordings",
        flag_values=values,
    )
    flags.DEFINE_string(
        "config",
        None,
        "path or name of a configuration: say also which recordings are too short for it, or lack "
        "a channel that it reads",
        flag_values=values,
    )
    define_format(values)


def _index(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.config import load_config
    from asd_jax.data.index import Problem, index

    if overrides and not values.config:
        raise UserError(f"{CONFIG}{next(iter(overrides))} needs --config=…")
    config = load_config(values.config, overrides) if values.config else None
    source = source_of(values)
    assert source is not None
    summary = with_progress(
        "recordings",
        lambda progress: index(
            source,
            values.year,
            progress=progress,
            headers_only=values.headers_only,
        ),
    )
    wrong: list[TooShort | WrongChannels] = []
    try:
        if config is not None and summary.usable:
            wrong = _unusable(config, source)
    finally:  # what the configuration lacks, such as a machine, is said below the summary
        problems = (*summary.problems, *(Problem(e.what, e.paths, e.hint) for e in wrong))
        summary = dataclasses.replace(summary, problems=problems)
        _print_summary(values, source, summary)
    if not summary.usable:
        raise UserError(f"no recording in {source} can be used, as said above")
    for each in wrong:
        if each.none_left:
            raise UserError(each.line)


def _print_summary(values: flags.FlagValues, source: "DataSource", summary: "Summary") -> None:
    from asd_jax.data.index import format_summary
    from asd_jax.runtime.text_tables import terminal_width

    if values.format == "table":
        folder = os.path.abspath(values.data_dir or values.normal or values.manifest)
        print(f"{source}\n\n{format_summary(summary, folder, terminal_width())}")
        return
    rows = [
        {
            **dict(zip(_KEY, row.key, strict=True)),
            **{field: getattr(row, field) for field in _COUNTS},
        }
        for row in summary.rows
    ]
    if values.format == "json":
        print_json(
            {
                "data": str(source),
                "clips": rows,
                "formats": [
                    {"sample_rate": rate, "channels": channels, "clips": count}
                    for (rate, channels), count in summary.formats.items()
                ],
                "lengths": [
                    {"machine": machine, "shortest": shortest, "longest": longest}
                    for machine, (shortest, longest) in summary.lengths.items()
                ],
                "usable": summary.usable,
                "supplemental": summary.supplemental,
                "problems": [
                    {"problem": problem.what, "hint": problem.hint, "where": problem.where}
                    for problem in summary.problems
                ],
                "others": summary.others,
                "skipped": summary.skipped,
            }
        )
        return
    problems = [
        {"record": "problem", "problem": problem.what, "hint": problem.hint, "where": where}
        for problem in summary.problems
        for where in problem.where
    ]
    for paths, what in ((summary.others, "other file"), (summary.skipped, "skipped folder")):
        problems += [{"record": what, "where": path} for path in paths]
    clips = [{"record": "clips", **row} for row in rows]
    print_csv(("record", *_KEY, *_COUNTS, "problem", "where", "hint"), [*clips, *problems])


def _unusable(
    config: "Config | MembersConfig", data_dir: "DataSource"
) -> "list[TooShort | WrongChannels]":
    """The recordings that a configuration, or each of its members, cannot use."""
    from asd_jax.config import MembersConfig
    from asd_jax.detectors import make_detector
    from asd_jax.runs.channels import wrong_channels
    from asd_jax.runs.clips import find_chosen
    from asd_jax.runs.ensemble import member_keys, members_on
    from asd_jax.runs.lengths import too_short

    if isinstance(config, MembersConfig):
        return [
            each._replace(hint=member_keys(each.hint, name))
            for name, member in members_on(config, data_dir).items()
            for each in _unusable(member, data_dir)
        ]
    detector = make_detector(config)
    clips = find_chosen(detector, data_dir, lambda line: None, "skip")
    short = too_short(detector, clips)
    return [*wrong_channels(config, clips), *([] if short is None else [short])]


DOWNLOAD = Command(
    "fetch the challenge's recordings from where they are published",
    _define_download,
    _download,
    ("year", "out_dir"),
)
SYNTH = Command("make a labelled data set", _define_synth, _synth, ("out_dir",))
INDEX = Command(
    "what a data folder holds, and what is wrong with it",
    _define_index,
    _index,
    ("data_dir|normal|manifest",),
)
