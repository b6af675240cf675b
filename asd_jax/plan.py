"""What a run will take, told before anything starts: models, values, steps, bytes, time."""

import functools
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.compilation import compiler_options
from asd_jax.config import Config
from asd_jax.data.audio_files import inspect
from asd_jax.data.clips import Clip
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting import lay_out, with_perturbed
from asd_jax.training import Batch, TrainingStatistics, fleet
from asd_jax.training.members import FleetData, Views
from asd_jax.training.task import count_values
from asd_jax.training.trainer import table_bytes
from asd_jax.training.windows import schedule

# Training clips of the development set of DCASE 2020 by machine id, and their seconds.
_DCASE_2020 = {
    "ToyCar": ({"01": 1000, "02": 1000, "03": 1000, "04": 1000}, 11),
    "ToyConveyor": ({"01": 1000, "02": 1000, "03": 1000}, 10),
    "fan": ({"00": 911, "02": 916, "04": 933, "06": 915}, 10),
    "pump": ({"00": 906, "02": 905, "04": 602, "06": 936}, 10),
    "slider": ({"00": 968, "02": 968, "04": 434, "06": 434}, 10),
    "valve": ({"00": 891, "02": 608, "04": 900, "06": 892}, 10),
}


class Plan(NamedTuple):
    """What training takes on the device that JAX uses by default.

    Attributes:
        models: models in the fleet.
        clips: clips they learn from.
        values: weights and running statistics of a model.
        steps: optimiser steps of all models in an epoch.
        epochs: the most epochs.
        driver: how the models share the device, see `TrainConfig.members`.
        windows: parts of an epoch of which the frames are on the device one after another; 1
            where all of them are there.
        frames_bytes: frames that are there at once.
        views_bytes: starts and labels of their views.
        state_bytes: weights, best weights and optimiser state of all models.
        step_bytes: intermediate values of a step, by XLA's own account, of as many models as
            are computed together.
        device_bytes: what the device has; None where it does not say.
        seconds: of training on one device, where that was asked for; see `plan`.
    """

    models: int
    clips: int
    values: int
    steps: int
    epochs: int
    driver: str
    windows: int
    frames_bytes: int
    views_bytes: int
    state_bytes: int
    step_bytes: int
    device_bytes: int | None
    seconds: float | None = None

    @property
    def total_bytes(self) -> int:
        """All of them together."""
        return self.frames_bytes + self.views_bytes + self.state_bytes + self.step_bytes


def dcase2020_clips(config: Config) -> tuple[list[Clip], np.ndarray]:
    """The training clips of DCASE 2020's development set and their frames, without the files."""
    clips, frames = [], {}
    for machine, (sections, seconds) in _DCASE_2020.items():
        if config.data.machines and machine not in config.data.machines:
            continue
        frames[machine] = config.front_end.frames(seconds * config.front_end.sample_rate)
        for section, count in sections.items():
            clips += [Clip(machine, section, "train", f"{i}.wav", "", 2020) for i in range(count)]
    if not clips:
        raise UserError(f"data.machines: DCASE 2020 has {', '.join(_DCASE_2020)}")
    clips = with_perturbed(config, clips)
    return clips, np.array([frames[clip.machine] for clip in clips])


def frames_of(config: Config, clips: Sequence[Clip]) -> tuple[list[Clip], np.ndarray]:
    """The clips that can be used and their frames, by the headers of their files.

    A recording that is perturbed is taken to keep its length.
    """
    front_end, detector = config.front_end, make_detector(config)
    with ThreadPoolExecutor(8) as pool:
        headers = list(pool.map(lambda clip: inspect(clip.path), clips))
    kept, n_frames = [], []
    for clip, header in zip(clips, headers, strict=True):
        if header.problem:
            continue
        n_samples = -(-header.n_samples * front_end.sample_rate // header.sample_rate)
        try:
            frames = front_end.frames(n_samples)
        except UserError:  # shorter than a frame
            continue
        if frames >= detector.fewest_frames:
            kept.append(clip)
            n_frames.append(max(frames, detector.view_length))
    if not kept:
        raise UserError("no training clip can be used; `asd-jax index` says what is wrong")
    return kept, np.array(n_frames)


def plan(
    config: Config, clips: Sequence[Clip], n_frames: np.ndarray, *, timed: bool = False
) -> Plan:
    """Plans a run; nothing is read or trained, one step is compiled.

    Args:
        config: its configuration.
        clips: training clips.
        n_frames: (clips,) frames of each.
        timed: whether to tell the seconds of training as well, extrapolated from a few steps of
            made-up weights and views to all steps and epochs: those of the model with the most
            where the models are computed together, of all models where they are not. Shuffling,
            gathering views, features, scoring and early stopping are left out.
    """
    detector = make_detector(config)
    n_mels = config.front_end.n_mels
    clips_of_fleet, _, settings, n_labels = lay_out(config, clips, n_frames)
    task = detector.task(n_labels)

    n_views = clips_of_fleet.n_views()
    parts = [
        [int(n_views[part.clips].sum()) for part in both]
        for both in zip(clips_of_fleet.training, clips_of_fleet.validation, strict=True)
    ]
    size = settings.batch_size
    windows = schedule(clips_of_fleet, n_mels, table_bytes(settings))
    widths = windows.training_width, windows.validation_width
    at_once = 1 if windows.resident else 2  # one is trained on, the next one is read

    def shape(*axes, dtype=jnp.int32):
        return jax.ShapeDtypeStruct(axes, dtype)

    count = len(clips_of_fleet.members)
    data = FleetData(
        key=jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count)),
        statistics=TrainingStatistics(
            *[shape(count, n_mels, dtype=jnp.float32)] * 4, n_labels=shape(count)
        ),
        training=Views(shape(count, widths[0]), shape(count, widths[0]), shape(count)),
        validation=Views(shape(count, widths[1]), shape(count, widths[1]), shape(count)),
    )
    state = jax.eval_shape(lambda data: fleet.init_state(task, data, settings), data)
    learner = jax.tree.map(lambda leaf: shape(*leaf.shape[1:], dtype=leaf.dtype), state.learner)
    batch = Batch(
        shape(size, detector.view_length, n_mels, dtype=jnp.float32),
        shape(size),
        shape(size, dtype=jnp.bool_),
    )
    key = jax.eval_shape(lambda: jax.random.key(0))
    jit = functools.partial(jax.jit, compiler_options=compiler_options(task.kind))
    compiled = jit(task.step, donate_argnums=0).lower(learner, batch, key).compile()
    memory = compiled.memory_analysis()
    driver = fleet.choose_driver(settings, task.kind)
    step_bytes = memory.temp_size_in_bytes + _bytes(batch)
    limits = jax.devices()[0].memory_stats() or {}
    steps = [[-(-views // size) for views in column] for column in zip(*parts, strict=True)]
    found = Plan(
        models=count,
        clips=len(clips),
        values=count_values(task, n_mels),
        steps=sum(steps[0]),
        epochs=settings.epochs,
        driver=driver,
        windows=windows.n_training,
        frames_bytes=at_once * windows.rows * n_mels * 4,
        views_bytes=at_once * _bytes((data.training, data.validation)),
        state_bytes=_bytes(state),
        step_bytes=step_bytes * (count if driver == "vmap" else 1),
        device_bytes=limits.get("bytes_limit"),
    )
    if not timed:
        return found
    step, loss, turns = compiled, jit(task.loss), [sum(column) for column in steps]
    if driver == "vmap":
        step = jit(jax.vmap(task.step), donate_argnums=0)
        loss, turns = jit(jax.vmap(task.loss)), [max(column) for column in steps]
        learner, batch, key = state.learner, _stacked(batch, count), data.key
    seconds = _seconds_of_steps(step, loss, learner, batch, key)
    return found._replace(seconds=settings.epochs * float(np.dot(turns, seconds)))


def _stacked(tree, count: int):
    """The shapes with a leading axis."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct((count, *x.shape), x.dtype), tree)


def _seconds_of_steps(step, loss, learner, batch, key) -> tuple[float, float]:
    """Median seconds of a training and of a validation step; trees of shapes as arguments."""

    def made_up(tree):
        # Small numbers, other than 0, which some hardware multiplies faster.
        return jax.tree.map(lambda leaf: jnp.full(leaf.shape, 0.01).astype(leaf.dtype), tree)

    learner, batch = made_up(learner), made_up(batch)
    batch = batch._replace(mask=jnp.ones_like(batch.mask))
    keys = jax.random.split(jax.random.key(0), key.shape)
    medians = []
    for training in (True, False):
        taken: list[float] = []
        # One call to compile and warm up, then for half a second, at least three.
        while len(taken) < 4 or (sum(taken[1:]) < 0.5 and len(taken) < 100):
            begin = time.perf_counter()
            if training:
                learner, _ = jax.block_until_ready(step(learner, batch, keys))
            else:
                jax.block_until_ready(loss(learner, batch))
            taken.append(time.perf_counter() - begin)
        medians.append(float(np.median(taken[1:])))
    return medians[0], medians[1]


def _bytes(tree) -> int:
    return sum(
        int(np.prod(leaf.shape, dtype=np.int64)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def size(n: int) -> str:
    """Bytes for people."""
    return f"{n / 2**30:.2f} GiB" if n >= 2**29 else f"{n / 2**20:.1f} MiB"


def about(seconds: float) -> str:
    """A time for people, in two digits at most."""
    for unit, length in (("days", 86_400), ("hours", 3600), ("minutes", 60), ("seconds", 1)):
        if seconds >= 1.5 * length or unit == "seconds":
            return f"about {float(f'{seconds / length:.2g}'):g} {unit}"


def describe(plan: Plan) -> str:
    """The plan as lines for people."""
    device = jax.devices()[0]
    streamed = f", two of {plan.windows} windows at a time" if plan.windows > 1 else ""
    lines = [
        ("models", f"{plan.models:,}, by {plan.driver}"),
        ("training clips", f"{plan.clips:,}"),
        ("values a model", f"{plan.values:,}"),
        ("steps", f"{plan.steps:,} an epoch, at most {plan.steps * plan.epochs:,}"),
        ("frames", size(plan.frames_bytes) + streamed),
        ("views", size(plan.views_bytes)),
        ("weights and optimiser", size(plan.state_bytes)),
        ("a step", size(plan.step_bytes)),
        ("in all", f"{size(plan.total_bytes)} on {device.device_kind}"),
    ]
    if plan.seconds is not None:
        lines.append(("training", f"at most {about(plan.seconds)}, extrapolated from timed steps"))
    if plan.device_bytes is not None:
        fits = "it fits" if plan.total_bytes < plan.device_bytes else "it does not fit"
        lines.append(("the device has", f"{size(plan.device_bytes)}: {fits}"))
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines)


def plan_clips(config: Config, clips: Sequence[Clip] | None, *, timed: bool = False) -> Plan:
    """The plan of a run on the chosen clips, or as if on DCASE 2020's development set."""
    if clips is None:
        chosen, n_frames = dcase2020_clips(config)
    else:
        chosen, n_frames = frames_of(config, [clip for clip in clips if clip.split != "test"])
    return plan(config, chosen, n_frames, timed=timed)


def plan_run(config: Config, clips: Sequence[Clip] | None) -> str:
    """Lines about a run; arguments as in `plan_clips`."""
    where = "by the headers of the recordings"
    if clips is None:
        where = "as if on the development set of DCASE 2020 (give --data_dir for your own)"
    return f"{describe(plan_clips(config, clips))}\n{where}; nothing was started"
