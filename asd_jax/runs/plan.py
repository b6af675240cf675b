"""Estimates a run's cost before anything starts: models, values, steps, bytes, time."""

from collections.abc import Sequence

import jax
import numpy as np

from asd_jax.data.audio_files import AudioInfo
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.dcase2020 import TRAINING_CLIPS
from asd_jax.data.index import read_headers
from asd_jax.detectors import Detector
from asd_jax.errors import UserError
from asd_jax.fitting.layout import (
    groups_of,
    lay_out,
    plan_lines,
    with_held_out,
    with_perturbed,
)
from asd_jax.runs.lengths import frames_of_header, too_short
from asd_jax.runtime.memory import size
from asd_jax.training.cost import Cost, estimate_cost


def dcase2020_clips(detector: Detector) -> tuple[ClipTable, np.ndarray]:
    """Training clips of DCASE 2020's development set and their frames, without the files."""
    config = detector.config
    clips: list[Clip] = []
    frames = {}
    for machine, (sections, seconds) in TRAINING_CLIPS.items():
        if config.data.machines and machine not in config.data.machines:
            continue
        frames[machine] = detector.front_end.frames(seconds * config.front_end.sample_rate)
        for section, count in sections.items():
            clips += [Clip(machine, section, "train", f"{i}.wav", "", 2020) for i in range(count)]
    if not clips:
        raise UserError(f"data.machines: DCASE 2020 has {', '.join(TRAINING_CLIPS)}")
    table = with_perturbed(detector, with_held_out(detector, clips))
    return table, np.array([frames[clip.machine] for clip in table])


def frames_of(
    detector: Detector, clips: Sequence[Clip], headers: Sequence[AudioInfo] | None = None
) -> tuple[ClipTable, np.ndarray]:
    """Usable clips and their frames, from the headers of their files.

    Assumes that a perturbed recording keeps its length.

    Args:
        detector: the system, with the run's configuration.
        clips: training clips.
        headers: of the clips; read by default.

    Raises:
        UserError: no clip can be used.
    """
    front_end, views, clips = detector.front_end, detector.views, ClipTable.of(clips)
    if headers is None:
        headers = read_headers((clip.path for clip in clips), total=len(clips))
    kept, n_frames = [], []
    for row, header in enumerate(headers):
        frames = 0 if header.problem else frames_of_header(front_end, header)
        if frames >= views.fewest:
            kept.append(row)
            n_frames.append(max(frames, views.filled))
    if not kept:
        if short := too_short(detector, clips, headers):
            raise UserError(short.line)
        raise UserError("no training clip can be used; `asd-jax index` says what is wrong")
    return clips[kept], np.array(n_frames)


def about(seconds: float) -> str:
    """Formats a duration in two digits at most."""
    lengths = {"days": 86_400, "hours": 3600, "minutes": 60, "seconds": 1}
    unit = next((unit for unit, length in lengths.items() if seconds >= 1.5 * length), "seconds")
    return f"about {float(f'{seconds / lengths[unit]:.2g}'):g} {unit}"


def describe(cost: Cost) -> str:
    """Formats the cost as lines of text."""
    device = jax.devices()[0]
    streamed = f", two of {cost.windows} windows at a time" if cost.windows > 1 else ""
    lines = [
        ("models", f"{cost.models:,}, by {cost.driver}"),
        ("training clips", f"{cost.clips:,}"),
        ("values a model", f"{cost.values:,}"),
        ("steps", f"{cost.steps:,} an epoch, at most {cost.steps * cost.epochs:,}"),
        ("frames", size(cost.frames_bytes) + streamed),
        ("views", size(cost.views_bytes)),
        ("weights and optimiser", size(cost.state_bytes)),
        ("a step", size(cost.step_bytes)),
        ("in all", f"{size(cost.total_bytes)} on {device.device_kind}"),
    ]
    if cost.seconds is not None:
        lines.append(("training", f"at most {about(cost.seconds)}, extrapolated from timed steps"))
    if cost.device_bytes is not None:
        fits = "it fits" if cost.total_bytes < cost.device_bytes else "it does not fit"
        lines.append(("the device has", f"{size(cost.device_bytes)}: {fits}"))
    return _table(lines)


def describe_untrained(detector: Detector, clips: ClipTable, n_frames: np.ndarray) -> str:
    """Formats what a system without training reads."""
    groups = groups_of(detector, clips)
    frame_bytes = 4 * detector.config.front_end.width
    return _table(
        [
            ("models", f"{len(groups):,}, fitted together"),
            ("training clips", f"{sum(map(len, groups.values())):,}"),
            ("training", "none: one pass over the features"),
            ("frames", f"{size(frame_bytes * int(n_frames.sum()))}, read in blocks"),
        ]
    )


def _table(lines: Sequence[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def plan_clips(detector: Detector, clips: Sequence[Clip] | None, *, timed: bool = False) -> Cost:
    """Estimates a run's cost on the chosen clips, by default on DCASE 2020's development set."""
    return cost_of(detector, *_training_clips(detector, clips), timed=timed)


def _training_clips(
    detector: Detector, clips: Sequence[Clip] | None
) -> tuple[ClipTable, np.ndarray]:
    """Training clips that can be used, and their frames."""
    if clips is None:
        return dcase2020_clips(detector)
    clips = ClipTable.of(clips)
    return frames_of(detector, clips[~clips.where(split="test")])


def cost_of(
    detector: Detector,
    clips: Sequence[Clip],
    n_frames: np.ndarray,
    *,
    timed: bool = False,
    variants: int = 1,
) -> Cost:
    """Estimates the cost of training on clips from their numbers of frames.

    Args:
        detector: the system, with the run's configuration.
        clips: training clips.
        n_frames: (clips,) frames of each.
        timed: as in `estimate_cost`.
        variants: runs that are trained as one fleet.
    """
    layout = lay_out(detector, clips, n_frames)
    task = detector.task(layout.n_labels)
    front_end, fleet = detector.front_end, layout.fleet
    fleet = fleet._replace(
        models=[*fleet.models] * variants,
        training=[*fleet.training] * variants,
        validation=[*fleet.validation] * variants,
    )
    return estimate_cost(
        task, fleet, layout.settings, front_end.width, dtype=front_end.dtype, timed=timed
    )


def plan_run(detector: Detector, clips: Sequence[Clip] | None, variants: int = 1) -> str:
    """Estimates a run's cost as lines of text; arguments as in `cost_of`, `plan_clips`."""
    where = "by the headers of the recordings"
    if clips is None:
        where = "as if on the development set of DCASE 2020 (give --data_dir for your own)"
        detector = detector.settled(dcase2020_clips(detector)[0])
    usable, n_frames = _training_clips(detector, clips)
    if detector.config.detector.trains:
        lines = describe(cost_of(detector, usable, n_frames, variants=variants))
    else:
        lines = describe_untrained(detector, usable, n_frames)
    return "\n".join([lines, *plan_lines(detector, usable), f"{where}; nothing was started"])
