"""Fitting a system to clips in memory: features, or recordings."""

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
from asd_jax.features.embeddings import embeddings_of
from asd_jax.features.frames import frames_in_memory
from asd_jax.features.table import ArrayFeatures
from asd_jax.fitting.by_machine import flattened
from asd_jax.fitting.copies import with_copies_together
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitting import fit_clips
from asd_jax.fitting.judging import given_states
from asd_jax.fitting.layout import lay_out, plan_lines, with_held_out, with_perturbed
from asd_jax.fitting.normal import with_normal
from asd_jax.fitting.operating import fitted_states
from asd_jax.fitting.scores import score_training
from asd_jax.fitting.thresholds import with_thresholds
from asd_jax.runtime.arguments import check, check_machine, check_section, composed
from asd_jax.runtime.progress import Reporter, Silent

Clips = Sequence[np.ndarray] | np.ndarray


def fit(
    config: Config | str,
    features: Clips | Mapping[str, Clips] | None = None,
    *,
    waveforms: Clips | Mapping[str, Clips] | None = None,
    sample_rate: int | None = None,
    machine: str = "machine",
    machines: Sequence[str] | None = None,
    sections: Sequence[str | int] | str | int | Mapping[str, Any] = "00",
    domains: Sequence[str] | str | Mapping[str, Any] = "",
    attributes: Sequence[Mapping[str, str | int | float] | str] | Mapping[str, Any] | None = None,
    groups: Sequence[str | int] | Mapping[str, Any] | None = None,
    states: Sequence[Any] | Mapping[str, Any] | None = None,
    outliers: Sequence[np.ndarray] = (),
    embeddings: np.ndarray | None = None,
    reporter: Reporter | None = None,
) -> FittedDetector:
    """Fits a system to normal clips in memory.

    Args:
        config: a configuration, or the name of one.
        features: (frames, mels) of each normal clip, of any lengths; with a `sample_rate`, these
            are recordings, as `waveforms`. Of several machines a mapping, as {"fan": …, "pump": …};
            then `sections`, `domains`, `attributes`, `groups`, `states` may be mappings likewise.
        waveforms: (samples,) of each normal clip in place of its features, of any lengths, −1 to 1
            or signed integers; a system that hears waveforms needs them. Of several machines a
            mapping, as of `features`. With `front_end.canceller` (samples, 2), near the machine
            and far from it.
        sample_rate: of the waveforms, in Hz.
        machine: the machine type's name; the models' random numbers depend on it.
        machines: that of each clip, where there are several and no mapping names them.
        sections: the section or machine id of each clip, or one for all.
        domains: "source" or "target" of each clip, or one for all; for systems that
            distinguish them.
        attributes: what else is known of each clip, as {"speed": 6} or a text; for systems that
            learn to tell it apart, or that have a centre for each.
        groups: what each clip was recorded with, as the recording, session or day. Groups are held
            out, left out and counted as a whole where thresholds and p-values are made.
        states: of the machine in each clip, as {"speed": 6, "load": "high"}, "speed=6 load=high",
            "off" or "transient", in place of `data.state`. Clips that are off or transient are
            not learned from.
        outliers: (frames, mels) of each clip of another machine; for systems that also learn
            from such clips.
        embeddings: (clips, values) of each clip, by the network that the configuration names.
        reporter: shows progress; none by default.

    Returns:
        The fitted system.

    Raises:
        UserError: features of a wrong shape, with NaN, or with fewer frames than a view; not as
            many sections or domains as clips; a domain of another name; an argument of another
            type; or a system that also learns from changed recordings.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> sounds = rng.normal(0, 0.1, (8, 16_000))
        >>> fitted = fit("mel_mahalanobis", waveforms=sounds, sample_rate=16_000, machine="fan")
        >>> fitted.score(sounds[:2], 16_000, machine="fan").shape
        (2,)
        >>> both = {"fan": sounds[:4], "pump": sounds[4:]}
        >>> fit("mel_mahalanobis", both, sample_rate=16_000, sections={"fan": "01"}).sections
        {'fan': ('01',), 'pump': ('00',)}
    """
    detector = make_detector(_one_system(config))
    config = detector.config
    if sample_rate is not None and waveforms is None:
        features, waveforms = None, features
    given = features if waveforms is None else waveforms
    if isinstance(given, Mapping):
        if machines is not None or machine != "machine":
            raise UserError("clips are given by machine; leave machine= and machines= out")
        name = "features" if waveforms is None else "waveforms"
        known: dict[str, Any] = {"sections": sections, "domains": domains}
        known |= {"attributes": attributes, "groups": groups, "states": states}
        clips_of, machines, by_name = flattened(given, name, known)
        own: Any = by_name.values()
        sections, domains, attributes, groups, states = own
        features, waveforms = (None, clips_of) if features is None else (clips_of, None)
    arrays = _features(detector, features, waveforms, sample_rate)
    texts = given_states(states, len(arrays))
    if states is not None:
        detector = _with_state_names(detector, texts)
        config = detector.config
    columns = (
        _machines(machine, machines, len(arrays)),
        _sections(sections, len(arrays)),
        _domains(domains, len(arrays)),
        _attributes(attributes, len(arrays)),
        _groups(groups, len(arrays), config),
    )
    clips = [
        dataclasses.replace(clip, state=text)
        for clip, text in zip(_normal_clips(detector, columns), texts, strict=True)
    ]
    if len(with_perturbed(detector, clips)) > len(clips):
        raise UserError(
            f"{config.name or config.detector.name} also learns from changed recordings, which "
            "features cannot give: use `asd-jax run`, or turn them off in config.detector"
        )
    outliers = _clips(outliers, "outliers")
    if outliers and config.detector.hears_waveforms:
        raise UserError(
            f"outliers are given, which {config.detector.name} does not learn from; leave them out"
        )
    if outliers:
        outliers = check_features(outliers, detector.front_end.width, detector.views)
    not_ours = Clip(f"not {clips[0].machine}", "", "other", "", "", label=NORMAL)
    clips += [dataclasses.replace(not_ours, name=f"{i:08}") for i in range(len(outliers))]
    reporter = reporter or Silent()
    table = ArrayFeatures(clips, [*arrays, *outliers], embeddings)
    table.embeddings = embeddings_of(config, table)
    together = with_copies_together(detector, table, reporter.line)
    kept, operating = fitted_states(detector, together, reporter.line)
    labelled = detector.labelled(kept)
    layout = lay_out(detector, labelled.clips, labelled.n_frames)
    for line in plan_lines(detector, labelled.clips):
        reporter.line(line)
    learnt = (clips for part in layout.fleet.training for clips in part.clips)
    if outliers and not any(clip >= len(arrays) for clip in learnt):
        raise UserError(
            f"outliers are given, which {detector.config.detector.name} does not learn from; leave "
            "them out"
        )
    fitted = fit_clips(detector, labelled, layout, reporter=reporter, operating=operating)
    fitted = with_normal(fitted, labelled, layout)
    rows = score_training(fitted, labelled, layout, reporter)
    return with_thresholds(fitted, rows, reporter)


def _with_state_names(detector: Detector, states: Sequence[str]) -> Detector:
    """The system with the names of given states, `data.state`."""
    data = detector.config.data
    if data.state:
        raise UserError(f"states are given, and data.state is {data.state}; leave one of them out")
    names = tuple(sorted({name for state in states for name in pairs_of(state)}))
    data = dataclasses.replace(data, state=names or (ON,))
    return make_detector(dataclasses.replace(detector.config, data=data))


def _normal_clips(detector: Detector, columns: Sequence[Sequence[Any]]) -> list[Clip]:
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


def _features(
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
        return check_features(_clips(features, "features"), front_end.width, views)
    if sample_rate is None:
        raise UserError("waveforms need their sample_rate, in Hz")
    arrays, canceller = [], detector.config.front_end.canceller
    for i, waveform in enumerate(_clips(waveforms, "waveforms")):
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


def _machines(machine: Any, machines: Any, count: int) -> list[str]:
    """The machine type of each clip."""
    check_machine(machine)
    column = [machine] * count if machines is None else _column(machines, "machines", count)
    for name in column:
        check("a machine", name or None, (str,), "a name, as in 'fan'")
    return [composed(name) for name in column]


def _sections(sections: Any, count: int) -> list[str]:
    column = _column(sections, "sections", count)
    for section in column:
        check_section("a section", section)
    return [str(section) for section in column]


def _domains(domains: Any, count: int) -> list[str]:
    column = _column(domains, "domains", count)
    for domain in column:
        if not (isinstance(domain, str) and domain in ("", "source", "target")):
            raise UserError(f'domains: {domain!r} is neither "source" nor "target" (nor "")')
    return column


def _attributes(attributes: Any, count: int) -> list[tuple[tuple[str, str], ...]]:
    """`Clip.attributes` of each clip."""
    if attributes is None:
        return [()] * count
    column = _column(attributes, "attributes", count)
    for each in column:
        check("a clip's attributes", each, (Mapping, str), "a mapping, as {'speed': 6}, or a text")
    return [_pairs(each) for each in column]


def _groups(groups: Any, count: int, config: Config) -> list[str]:
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


def _one_system(config: Any) -> Config:
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


def _clips(values: Any, name: str) -> list[np.ndarray]:
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
