"""Commands about systems and data: list, synth, index."""

import os

from absl import flags

from asd_jax.commands.base import Command, define_none, with_progress
from asd_jax.config import Config, EnsembleConfig, MembersConfig, load_config, shipped_configs
from asd_jax.errors import UserError


def _list(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.detectors import make_detector, registry
    from asd_jax.training.task import count_values

    names: dict[str, list[tuple[str, Config]]] = {}
    ensembles = {}
    for name in shipped_configs():
        config = load_config(name)
        if isinstance(config, MembersConfig):
            ensembles[name] = config
            continue
        names.setdefault(config.detector.name, []).append((name, config))
    for name, cls in registry().items():
        print(f"{name}: {cls.title}")
        print(f"  from            {cls.paper}")
        scope = cls.scope.replace(" by section", ", which distinguishes its sections")
        print(f"  one model a     {scope}")
        for configuration, config in names.get(name, []):
            # Four labels: classifiers are counted for a machine of four ids.
            parameters = count_values(make_detector(config).task(4), config.front_end.n_mels)
            print(f"  configuration   {configuration} ({parameters:,} values a model)")
    print("ensemble: the scores of several systems as one")
    for name, config in ensembles.items():
        how = config.combine if isinstance(config, EnsembleConfig) else "one for each machine type"
        print(f"  configuration   {name} ({how}: {', '.join(config.members)})")


def _define_synth(values: flags.FlagValues) -> None:
    flags.DEFINE_string("out_dir", None, "folder to make", flag_values=values)
    flags.DEFINE_integer("year", 2020, "layout: 2020 to 2026, or 0 for MIMII", flag_values=values)
    flags.DEFINE_enum("subset", "dev", ["dev", "eval"], "which set", flag_values=values)
    flags.DEFINE_list("machines", [], "machine types; three by default", flag_values=values)
    flags.DEFINE_integer(
        "sections", None, "sections or ids a machine; all by default", flag_values=values
    )
    flags.DEFINE_integer("clips", 40, "training clips a section", flag_values=values)
    flags.DEFINE_float("duration", 10.0, "seconds a clip", flag_values=values)
    flags.DEFINE_integer("sample_rate", 16000, "Hz", flag_values=values)
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
        ["own", "factory"],
        "background: each id's own, or one factory's places, from clip to clip",
        flag_values=values,
    )
    flags.DEFINE_enum(
        "faults",
        "added",
        ["added", "all"],
        "sounds that come on top, or also changes of the machine's own sound",
        flag_values=values,
    )
    flags.DEFINE_integer("seed", 0, "of all that is random", flag_values=values)


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
            faults=values.faults,
            seed=values.seed,
            progress=progress,
        ),
    )
    print(
        f"{made.out_dir}: {made.clips} clips of {', '.join(made.machines)}, {made.anomalies} of "
        f"them anomalous ({made.written} written now, in {made.seconds:.0f} s)"
    )


def _define_index(values: flags.FlagValues) -> None:
    flags.DEFINE_string("data_dir", None, "folder of recordings", flag_values=values)
    flags.DEFINE_integer("year", None, "challenge year, if not told", flag_values=values)
    flags.DEFINE_bool(
        "headers_only",
        False,
        "read no samples: faster, and silent about constant, clipped and loud recordings",
        flag_values=values,
    )


def _index(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.data.index import format_summary, index

    summary = with_progress(
        "recordings",
        lambda progress: index(
            values.data_dir,
            values.year,
            progress=progress,
            headers_only=values.headers_only,
        ),
    )
    print(f"{values.data_dir}\n\n{format_summary(summary, os.path.abspath(values.data_dir))}")
    if not summary.usable:
        raise UserError(f"no recording in {values.data_dir} can be used, as said above")


LIST = Command("detectors and configurations", define_none, _list)
SYNTH = Command("make a labelled data set", _define_synth, _synth, ("out_dir",))
INDEX = Command(
    "what a data folder holds, and what is wrong with it", _define_index, _index, ("data_dir",)
)
