"""The command list: systems and configurations, keys of one, and which run on some recordings."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from absl import flags

from asd_jax.commands.base import (
    CONFIG,
    Command,
    define_on_bad_clip,
    define_source,
    source_of,
    with_progress,
)
from asd_jax.commands.output import define_format, print_csv, print_json, print_remarks
from asd_jax.errors import UserError

if TYPE_CHECKING:
    from asd_jax.config import Config
    from asd_jax.data.layouts import DataSource
    from asd_jax.detectors import Detector

_ENSEMBLE = "the scores of several systems as one"
_FIELDS = (
    *("system", "title", "paper", "scope", "joint", "configuration", "parameters"),
    *("combine", "members"),
)
_KEY_FIELDS = ("key", "type", "choices", "range", "default", "value", "meaning")
_DATA_FIELDS = ("configuration", "system", "runs", "reason", "remarks")


def _define_list(values: flags.FlagValues) -> None:
    flags.DEFINE_string(
        "config",
        None,
        "path or name of a configuration: list its keys, with type, range, value and meaning",
        flag_values=values,
    )
    define_source(values)
    define_on_bad_clip(values)
    define_format(values)


def _list(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    source = source_of(values)
    if source is not None:
        _print_suitability(values, source, overrides)
    elif values.config:
        _print_keys(values, overrides)
    elif overrides:
        raise UserError(f"{CONFIG}{next(iter(overrides))} needs --config=…, or --data_dir=…")
    else:
        _print_systems(values.format)


def shown() -> list[str]:
    """Names of the configurations that are listed."""
    from asd_jax.config import shipped_configs

    return [*shipped_configs()]


def _print_systems(how: str) -> None:
    records = _systems()
    if how == "csv":
        print_csv(_FIELDS, records)
    elif how == "json":
        print_json({"configurations": [*records]})
    else:
        _print_lines(records)


def _systems() -> Iterator[dict[str, Any]]:
    """A record for each configuration, and for each system that has none."""
    from asd_jax.config import Config, EnsembleConfig, MembersConfig, load_config
    from asd_jax.detectors import other_systems, registry

    of_system: dict[str, list[tuple[str, Config]]] = {}
    ensembles: dict[str, MembersConfig] = {}
    for name in shown():
        config = load_config(name)
        if isinstance(config, MembersConfig):
            ensembles[name] = config
        else:
            of_system.setdefault(config.detector.name, []).append((name, config))
    for system in registry().own:
        about = _about(system, registry()[system])
        for name, config in of_system.get(system, []):
            yield {**about, "configuration": name, "parameters": _parameters(config)}
        if system not in of_system:
            yield about
    others, lines = other_systems()
    print_remarks(lines)
    for system, cls in others.items():
        try:
            own = load_config(system)
            assert isinstance(own, Config)
            record = {"configuration": system, "parameters": _parameters(own)}
        except Exception as error:  # another package's; the list goes on
            print_remarks([f"detector {system!r}: {type(error).__name__}: {error}"])
            continue
        yield {**_about(system, cls), **record}
    for name, members in ensembles.items():
        yield {
            "system": "ensemble",
            "title": _ENSEMBLE,
            "configuration": name,
            "combine": members.combine if isinstance(members, EnsembleConfig) else "choose",
            "members": [*members.members],
        }


def _about(system: str, cls: "type[Detector]") -> dict[str, Any]:
    return {
        "system": system,
        "title": cls.title,
        "paper": cls.paper,
        "scope": cls.scope,
        "joint": cls.joint,
    }


def _parameters(config: "Config") -> int:
    """Values of one model; 0 without training."""
    from asd_jax.detectors import make_detector
    from asd_jax.training.task import count_values

    if not config.detector.trains:
        return 0
    detector = make_detector(config)
    # Four labels: classifiers are counted for a machine of four ids.
    return count_values(detector.task(4), detector.front_end.width)


def _print_lines(records: Iterable[dict[str, Any]]) -> None:
    from asd_jax.runtime.text_tables import filled, terminal_width

    width, before = terminal_width(), None
    for record in records:
        lines = []
        if record["system"] != before:
            lines = [f"{record['system']}: {record['title']}", *_origin(record)]
            before = record["system"]
        if "members" in record:
            how = record["combine"].replace("choose", "one for each machine type")
            size = f"{how}: {', '.join(record['members'])}"
        else:
            count = record.get("parameters")
            size = f"{count:,} values a model" if count else "no training"
        if "configuration" in record:
            lines.append(f"  configuration   {record['configuration']} ({size})")
        for line in lines:
            print(*filled(line, width, indent=18), sep="\n")


def _origin(record: Mapping[str, Any]) -> list[str]:
    if "paper" not in record:
        return []
    scope = record["scope"].replace(" by section", ", which distinguishes its sections")
    if record["joint"]:
        scope = f"run, for all machines; scored by {scope}"
    return [f"  from            {record['paper']}", f"  one model a     {scope}"]


def _print_keys(values: flags.FlagValues, overrides: dict[str, str]) -> None:
    from asd_jax.config import load_config
    from asd_jax.config.reference import as_text, reference
    from asd_jax.runtime.text_tables import aligned, terminal_width

    keys = [*reference(load_config(values.config, overrides))]
    missing = dataclasses.MISSING
    records = [
        {
            "key": key.key,
            "type": key.kind,
            "choices": key.choices,
            "range": key.range,
            "default": None if key.default is missing else key.default,
            "value": key.value,
            "meaning": key.meaning,
        }
        for key in keys
    ]
    if values.format == "csv":
        # As on the command line; the values of JSON are those of JSON's types.
        print_csv(
            _KEY_FIELDS,
            [
                {
                    **record,
                    "choices": ",".join(key.choices),
                    "default": "" if key.default is missing else as_text(key.default),
                    "value": as_text(key.value),
                }
                for record, key in zip(records, keys, strict=True)
            ],
        )
    elif values.format == "json":
        print_json({"configuration": values.config, "keys": records})
    else:
        rows = [
            [
                key.key,
                as_text(key.value),
                "–" if key.default is missing else as_text(key.default),
                f"{key.kind}: {key.range}" if key.range else key.kind,
                key.meaning,
            ]
            for key in keys
        ]
        heading = ["key", "value", "default", "type", "meaning"]
        print(*aligned([heading, *rows], width=terminal_width()), sep="\n")


def _print_suitability(
    values: flags.FlagValues, source: "DataSource", overrides: dict[str, str]
) -> None:
    from asd_jax.config import load_config
    from asd_jax.detectors import other_systems
    from asd_jax.runtime.text_tables import aligned, terminal_width

    if values.config:
        load_config(values.config, overrides)  # raises UserError, which is no reason of the data's
    names = [values.config]
    if not values.config:
        others, lines = other_systems()
        print_remarks(lines)
        names = [*shown(), *others]
    records = with_progress(
        "configurations",
        lambda progress: _suitable(names, source, overrides, values.on_bad_clip, progress),
    )
    if values.format == "csv":
        print_csv(_DATA_FIELDS, records)
    elif values.format == "json":
        print_json({"data": str(source), "configurations": records})
    else:
        said = [record["remarks"] for record in records if record["runs"]]
        print_remarks(line for line in (said or [[]])[0] if all(line in each for each in said))
        rows = [
            [record["configuration"], "runs" if record["runs"] else "cannot", record["reason"]]
            for record in records
        ]
        heading = ["configuration", "", "why not"]
        print(*aligned([heading, *rows], width=terminal_width()), sep="\n")


def _suitable(
    names: Sequence[str],
    source: "DataSource",
    overrides: dict[str, str],
    on_bad_clip: str,
    progress: Callable[[int, int], None],
) -> list[dict[str, Any]]:
    """A record for each configuration; UserError where there is nothing to run on."""
    from asd_jax.config import MembersConfig, load_config
    from asd_jax.runs.suitability import KnownRecordings, Suitability, suitability

    known = KnownRecordings(source)
    known.scan(source)
    records = []
    for name in names:
        system = None
        try:
            config = load_config(name, overrides)
            system = "ensemble" if isinstance(config, MembersConfig) else config.detector.name
            found = suitability(config, known, on_bad_clip)
        except UserError as error:  # a key that this configuration lacks
            found = Suitability(False, str(error))
        records.append({"configuration": name, "system": system, **found._asdict()})
        progress(len(records), len(names))
    return records


LIST = Command(
    "systems and configurations, keys of one, and which of them run on some recordings",
    _define_list,
    _list,
)
