"""Arguments of `fit` and `adapt` of clips in memory, checked, as a value for each clip."""

import dataclasses
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asd_jax import config as configs
from asd_jax.config import Config
from asd_jax.data.clips import NORMAL, Clip, ClipTable
from asd_jax.data.groups import with_groups
from asd_jax.data.states import ON, pairs_of
from asd_jax.detectors import make_detector
from asd_jax.detectors.base import Detector
from asd_jax.errors import UserError
from asd_jax.features.checks import check_features
from asd_jax.features.frames import frames_in_memory
from asd_jax.fitting.layout import with_held_out
from asd_jax.runtime.arguments import check, check_machine, check_section, composed


def with_state_names(detector: Detector, states: Sequence[str]) -> Detector:
    """The system with the names of given states, `data.state`."""
    data = detector.config.data
    if data.state:
        raise UserError(f"states are given, and data.state is {data.state}; leave one of them out")
    names = tuple(sorted({name for state in states for name in pairs_of(state)}))
    data = dataclasses.replace(data, state=names or (ON,))
    return make_detector(dataclasses.replace(detector.config, data=data))


def normal_clips(detector: Detector, columns: Sequence[Sequence[Any]]) -> list[Clip]:
    """Normal clips, with the groups that the configuration names, of which some are held out.

    Args:
        detector: the system.
        columns: machine, section, domain, attributes and group of each clip.
    """
    clips = [
        Clip(
            *(machine, section, "train", f"{i:08}", ""),
            domain=domain,
            label=NORMAL,
            attributes=attributes,
            group=group,
        )
        for i, (machine, section, domain, attributes, group) in enumerate(
            zip(*columns, strict=True)
        )
    ]
    grouped = with_groups(ClipTable.of(clips), detector.config.data.group)
    return [*with_held_out(detector, grouped)]


def features_of(
    detector: Detector, features: Any, waveforms: Any, sample_rate: Any
) -> list[np.ndarray]:
    """Features of each clip, as the system takes them, from either kind of argument."""
    name, front_end, views = detector.config.detector.name, detector.front_end, detector.views
    if (features is None) == (waveforms is None):
        raise UserError("give either features, or waveforms and their sample_rate")
    if features is not None:
        if detector.config.detector.hears_waveforms:
            raise UserError(
                f"{name} hears waveforms, not features: give waveforms= and sample_rate="
            )
        return check_features(clips_of(features, "features"), front_end.width, views)
    if sample_rate is None:
        raise UserError("waveforms need their sample_rate, in Hz")
    arrays, canceller = [], detector.config.front_end.canceller
    for i, waveform in enumerate(clips_of(waveforms, "waveforms")):
        if waveform.ndim != 1 + canceller:
            needed = "(samples, 2) with front_end.canceller" if canceller else "(samples,)"
            raise UserError(f"waveforms[{i}] has shape {waveform.shape}; a clip is {needed}")
        try:
            arrays += frames_in_memory(waveform, sample_rate, front_end, views, canceller)
        except UserError as error:
            raise UserError(f"waveforms[{i}]: {error}") from error
    if not arrays:
        raise UserError("no clips: waveforms is empty")
    return arrays


def machines_of(machine: Any, machines: Any, count: int) -> list[str]:
    """The machine type of each clip."""
    check_machine(machine)
    column = [machine] * count if machines is None else _column(machines, "machines", count)
    for name in column:
        check("a machine", name or None, (str,), "a name, as in 'fan'")
    return [composed(name) for name in column]


def sections_of(sections: Any, count: int) -> list[str]:
    """The section of each clip."""
    column = _column(sections, "sections", count)
    for section in column:
        check_section("a section", section)
    return [str(section) for section in column]


def domains_of(domains: Any, count: int) -> list[str]:
    """The domain of each clip."""
    column = _column(domains, "domains", count)
    for domain in column:
        if not (isinstance(domain, str) and domain in ("", "source", "target")):
            raise UserError(f'domains: {domain!r} is neither "source" nor "target" (nor "")')
    return column


def attributes_of(attributes: Any, count: int) -> list[tuple[tuple[str, str], ...]]:
    """`Clip.attributes` of each clip."""
    if attributes is None:
        return [()] * count
    column = _column(attributes, "attributes", count)
    for each in column:
        check("a clip's attributes", each, (Mapping, str), "a mapping, as {'speed': 6}, or a text")
    return [_pairs(each) for each in column]


def groups_of(groups: Any, count: int, config: Config) -> list[str]:
    """`Clip.group` of each clip."""
    if groups is None:
        return [""] * count
    if config.data.group:
        raise UserError(
            f"groups are given, and data.group is {config.data.group!r}; leave one of them out"
        )
    column = _column(groups, "groups", count)
    for group in column:
        check("a group", group, (str, int, np.integer), "a name or a whole number")
    return [str(group) for group in column]


def _pairs(attributes: Mapping[str, Any] | str) -> tuple[tuple[str, str], ...]:
    """Attributes as names and values in the order of the names."""
    if isinstance(attributes, str):
        return (("attributes", attributes),) if attributes else ()
    return tuple(sorted((str(name), str(value)) for name, value in attributes.items()))


def one_system(config: Any) -> Config:
    """The configuration of a system, given itself or by its name; UserError for anything else."""
    if isinstance(config, str):
        config = configs.load_config(config)
    check("config", config, (Config, configs.MembersConfig), "a configuration or the name of one")
    if isinstance(config, configs.MembersConfig):
        raise UserError(
            f"{config.name or 'the configuration'} is an ensemble, which combines finished runs; "
            f"fit its members one by one ({', '.join(config.members)}), or use `asd-jax run`"
        )
    return config


def clips_of(values: Any, name: str) -> list[np.ndarray]:
    """The clips of an argument; UserError for what holds none."""
    try:
        clips = [] if isinstance(values, str | bytes) else [np.asarray(clip) for clip in values]
        right = not isinstance(values, str | bytes | Mapping)
    except (TypeError, ValueError):  # nothing to iterate over, or a clip of unequal frames
        right = False
    if not right or any(clip.dtype.kind not in "fiu" for clip in clips):
        raise UserError(
            f"{name} is {reprlib.repr(values)}; it must be a list of arrays of numbers, (frames, "
            "mels) of each clip"
        )
    return clips


def _column(values: Any, name: str, count: int) -> list[Any]:
    """A value for each clip, from one for all or one for each."""
    if isinstance(values, str | int | np.integer):
        return [values] * count
    try:
        column = [*values]
    except TypeError:
        raise UserError(f"{name} is {values!r}; it must be one for all clips, or a list") from None
    if len(column) != count:
        raise UserError(f"{count} clips, but {len(column)} {name}")
    return column
