"""Fitting a system to clips in memory: features, or recordings."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from asd_jax.config import Config
from asd_jax.data.clips import NORMAL, Clip
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.checks import check_features
from asd_jax.features.embeddings import embeddings_of
from asd_jax.features.table import ArrayFeatures
from asd_jax.fitting.adapting import adapt_clips, not_known
from asd_jax.fitting.adapting_states import with_new_states
from asd_jax.fitting.by_machine import flattened
from asd_jax.fitting.copies import with_copies_together
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitting import fit_clips
from asd_jax.fitting.given_clips import (
    attributes_of,
    clips_of,
    domains_of,
    features_of,
    groups_of,
    machines_of,
    normal_clips,
    one_system,
    sections_of,
    with_state_names,
)
from asd_jax.fitting.history import with_history
from asd_jax.fitting.judging import check_states, given_states
from asd_jax.fitting.kept import with_kept
from asd_jax.fitting.layout import lay_out, plan_lines, with_perturbed
from asd_jax.fitting.normal import with_normal
from asd_jax.fitting.operating import fitted_states
from asd_jax.fitting.thresholds import with_training_scores
from asd_jax.runtime.progress import Reporter, Silent, check_reporter

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
        reporter: shows progress and hears of each epoch, see `Reporter.epoch`; none by default.

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
    check_reporter(reporter)
    detector = make_detector(one_system(config))
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
        every, machines, by_name = flattened(given, name, known)
        own: Any = by_name.values()
        sections, domains, attributes, groups, states = own
        features, waveforms = (None, every) if features is None else (every, None)
    arrays = features_of(detector, features, waveforms, sample_rate)
    texts = given_states(states, len(arrays))
    if states is not None:
        detector = with_state_names(detector, texts)
        config = detector.config
    columns = (
        machines_of(machine, machines, len(arrays)),
        sections_of(sections, len(arrays)),
        domains_of(domains, len(arrays)),
        attributes_of(attributes, len(arrays)),
        groups_of(groups, len(arrays), config),
    )
    clips = [
        dataclasses.replace(clip, state=text)
        for clip, text in zip(normal_clips(detector, columns), texts, strict=True)
    ]
    if len(with_perturbed(detector, clips)) > len(clips):
        raise UserError(
            f"{config.name or config.detector.name} also learns from changed recordings, which "
            "features cannot give: use `asd-jax run`, or turn them off in config.detector"
        )
    outliers = clips_of(outliers, "outliers")
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
    fitted = with_history(with_normal(fitted, labelled, layout), labelled, layout)
    fitted = with_kept(fitted, labelled, layout)
    return with_training_scores(fitted, labelled, layout, reporter)[0]


def adapt(
    fitted: FittedDetector,
    features: Clips | None = None,
    *,
    waveforms: Clips | None = None,
    sample_rate: int | None = None,
    machine: str | None = None,
    section: str | int | None = None,
    domains: Sequence[str] | str = "",
    attributes: Sequence[Mapping[str, str | int | float] | str] | None = None,
    groups: Sequence[str | int] | None = None,
    states: Sequence[Any] | Mapping[str, Any] | str | None = None,
    embeddings: np.ndarray | None = None,
    max_bank: int | None = None,
    reporter: Reporter | None = None,
) -> FittedDetector:
    """Adapts a fitted system to more normal clips in memory.

    A system without training becomes the one that is fitted to all clips, those before and these.
    A network keeps its weights, and gets thresholds and p-values by these clips as well; where it
    compares with training clips, what it compares with becomes the fit to all clips. Where no clip
    was held out from it, fewer than ten at once set no threshold. Clips that the system knows
    already, by their features, are not counted again.

    Args:
        fitted: the system, which stays as it is.
        features: as of `fit`, of one machine.
        waveforms: as of `fit`, of one machine.
        sample_rate: as of `fit`.
        machine: as of `FittedDetector.score`.
        section: as of `FittedDetector.score`.
        domains: as of `fit`.
        attributes: as of `fit`.
        groups: as of `fit`; a name that the fit knows is that of the same group.
        states: as of `fit`, or one for all clips. Clips that are off or transient are not learned
            from; what is off by its level stays as the fit found it.
        embeddings: as of `fit`.
        max_bank: clips that a system of nearest neighbours keeps, see
            `asd_jax.scoring.thinning.thinned`.
        reporter: shows lines about thresholds; none by default.

    Returns:
        The adapted system; the given one where all clips are known, or none is learned from.

    Raises:
        UserError: as `fit`; the machine or section was not fitted; the system has no bank; or it
            was fitted without states, and some are given.

    Examples:
        >>> sounds = np.random.default_rng(0).normal(0, 0.1, (12, 16_000))
        >>> eight = fit("mel_mahalanobis", waveforms=sounds[:8], sample_rate=16_000)
        >>> adapted = adapt(eight, waveforms=sounds[8:], sample_rate=16_000)
        >>> twelve = fit("mel_mahalanobis", waveforms=sounds, sample_rate=16_000)
        >>> bool(np.isclose(adapted.threshold(), twelve.threshold(), rtol=1e-5))
        True
    """
    detector = fitted.detector
    machine, section = fitted.resolve(machine, section)
    if sample_rate is not None and waveforms is None:
        features, waveforms = None, features
    arrays = features_of(detector, features, waveforms, sample_rate)
    columns = (
        [machine] * len(arrays),
        [section or "00"] * len(arrays),
        domains_of(domains, len(arrays)),
        attributes_of(attributes, len(arrays)),
        groups_of(groups, len(arrays), detector.config),
    )
    first = 0 if fitted.history is None else fitted.history.version + 1
    texts = given_states(states, len(arrays))
    check_states(fitted, (machine, section), texts)
    clips = [
        dataclasses.replace(clip, split="train", name=f"{first}/{clip.name}", state=text)
        for clip, text in zip(normal_clips(detector, columns), texts, strict=True)
    ]
    table = ArrayFeatures(clips, arrays, embeddings)
    table.embeddings = embeddings_of(detector.config, table)
    rows = not_known(fitted, table)
    reporter = reporter or Silent()
    fitted_before = fitted
    fitted, new = with_new_states(fitted, table.take(rows), reporter.line)
    if not len(new.clips):
        return fitted_before
    return adapt_clips(fitted, new, None, reporter, max_bank=max_bank).fitted
