"""The joint network of several branches: its training step, and five seeds, beside PyTorch.

Waveforms are on the device before, ours as blocks of 16 bits. No way mixes them, so that losses
can be compared: a mixture costs a few passes over the waveforms.
"""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import load_config
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.detectors import make_detector
from asd_jax.detectors.base import Detector
from asd_jax.features.compute import compute_features
from asd_jax.runtime.compilation import compiler_options
from asd_jax.training import Batch, TrainingStatistics, variables
from asd_jax.training.task import Task
from asd_jax.training.windows import Window, read_rows
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.roofline import Work, product_flops

_READING = "reading the clips from the cache"
RATE, SECONDS, CLASSES, SEEDS = 16_000, 10, 41, 5
_QUICK = {"detector.n_ffts": "1024,", "train.batch_size": "8"}


def make_waveforms(steps: int, batch: int) -> np.ndarray:
    """Noise (steps, batch, samples) with a tone each."""
    rng = np.random.default_rng(0)
    time = np.arange(RATE * SECONDS) / RATE
    hz = rng.uniform(200, 4000, (steps, batch, 1))
    noise = rng.normal(0, 0.05, (steps, batch, len(time)))
    return (noise + 0.1 * np.sin(2 * np.pi * hz * time)).astype(np.float32)


def _started(detector: Detector, classes: int, seeds: int) -> tuple[Task, list[Any]]:
    """The task of so many classes, and a learner of each seed."""
    task = detector.task(classes)
    zeros = jnp.zeros(detector.front_end.width)
    statistics = TrainingStatistics(zeros, zeros, zeros, zeros, classes)
    init = jax.jit(task.init, compiler_options=compiler_options("init"))
    return task, [init(jax.random.key(seed), statistics) for seed in range(seeds)]


def _our_way(task: Any, learners: Sequence[Any], blocks: Sequence[jax.Array], batch: int) -> Way:
    """Steps of each learner, one compiled step after another, as a run on a CPU drives them."""
    labels, mask = jnp.arange(batch, dtype=jnp.int32) % CLASSES, jnp.ones(batch, bool)
    step = jax.jit(task.step, donate_argnums=0, compiler_options=compiler_options(task.kind))
    keys = jax.random.split(jax.random.key(1), len(blocks))
    waiting: list[Any] = []

    def before() -> None:
        waiting[:] = [jax.block_until_ready(jax.tree.map(jnp.copy, each)) for each in learners]

    def run() -> np.ndarray:
        losses = []
        for learner in waiting:
            for views, key in zip(blocks, keys, strict=True):
                learner, loss = step(learner, Batch(views, labels, mask), key)
                losses.append(loss)
            jax.block_until_ready(learner)
        return np.array(losses).reshape(len(waiting), -1)

    return Way(run, before)


def _torch_way(
    config: Any, values: Sequence[Any], waveforms: np.ndarray, channels_last: bool
) -> Way:
    """The same steps of each model in PyTorch; on a GPU, if there is one, compiled."""
    import torch

    from benchmarks.peers.torch_multibranch import Multibranch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batch, samples = waveforms.shape[1:]
    labels = torch.arange(batch) % CLASSES
    starts = []
    for each in values:
        model = Multibranch(
            config.detector, samples, labels, channels_last, config.train.learning_rate
        )
        model.load(each)
        starts.append({name: value.clone() for name, value in model.state_dict().items()})
    model.to(device).train()
    batches = torch.from_numpy(waveforms).to(device)
    if device == "cuda":
        model.compile_all()

    def run() -> np.ndarray:
        losses = []
        for start in starts:
            model.load_state_dict(start)
            optimizers = model.optimizers()
            losses.append(torch.stack([model.train_step(part, optimizers) for part in batches]))
        return torch.stack(losses).cpu().numpy()

    return Way(run)


def setup(overrides: dict[str, str], seeds: int, quick: bool, peers: Sequence[str]) -> Prepared:
    """Every model starts with the same values in all ways."""
    overrides = {**overrides, **(_QUICK if quick else {})}
    fixed = {"detector.seconds": str(SECONDS), "detector.mix": "0"}
    config = load_config("multibranch", {**fixed, **overrides})
    detector = make_detector(config)
    batch, steps = config.train.batch_size, 2
    # Labels go around, so that the last class is there whatever the batch.
    classes = min(CLASSES, batch)
    task, learners = _started(detector, classes, seeds)
    waveforms = make_waveforms(steps, batch)
    blocks = [detector.front_end.of_padded(each) for each in waveforms]
    values = [jax.device_get(variables(learner)) for learner in learners]
    count = sum(leaf.size for leaf in jax.tree.leaves(values[0]["params"]))
    ways = {"ours": _our_way(task, learners, blocks, batch)}
    for peer in peers:
        ways[peer] = _torch_way(config, values, waveforms, peer == "torch channels last")

    def check(peer: str, ours: Any, theirs: Any):
        exact = 1e-3 if jax.default_backend() == "cpu" else 2e-2
        first, last = (largest(ours[:, i], theirs[:, i], relative=True) for i in (0, -1))
        yield Difference("loss of step 1, relative", first, exact, "same values, same batch")
        yield Difference(
            f"loss of step {steps}, relative", last, 0.1, "updates magnify differences"
        )

    def work(_: Any) -> Work:
        one = Batch(blocks[0], jnp.zeros(batch, jnp.int32), jnp.ones(batch, bool))
        rows = seeds * steps
        return Work(
            4 * rows * (8 * count + waveforms[0].size),
            rows * 3 * product_flops(task.loss, learners[0], one),
            "8 float32 passes over the values (gradients, AdamW) and one over the waveforms, "
            "activations not counted; matrix products and convolutions, a backward pass as two "
            "forward ones",
        )

    named = f"{seeds} models, {steps} steps each" if seeds > 1 else f"{steps} training steps"
    n_ffts = " and ".join(map(str, config.detector.n_ffts))
    return Prepared(
        f"{named} of `multibranch` ({count} values, spectrograms of {n_ffts} samples), batches of "
        f"{batch} × {SECONDS} s at 16 kHz; float32; one model after another",
        ways,
        check,
        work,
        notes=["values are carried over from ours to all ways, and losses compared"],
    )


def setup_reading(quick: bool, peers: Sequence[str]) -> Prepared:
    """Recordings are in the feature cache, whose files are in the system's cache, before."""
    clips_of_each = 16 if quick else 64
    settings = {"detector.seconds": str(SECONDS), "detector.mix": "0", "detector.n_ffts": "1024,"}
    detector = make_detector(load_config("multibranch", settings))
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    data, cache = Path(temporary.name, "data"), Path(temporary.name, "cache")
    synthesize(data, sections=1, clips=clips_of_each, duration=SECONDS)
    clips = find_clips(data)
    features = compute_features(
        *(clips[clips.where(split="train")], detector.front_end), cache_dir=cache
    )
    window = Window(True, np.arange(len(features.clips)), 0)
    rows = int(features.n_frames.sum())
    task, (learner,) = _started(detector, CLASSES, 1)
    table = read_rows(features, window, 0, rows)
    length = detector.views.length
    starts = np.cumsum(features.n_frames) - features.n_frames
    views = [jnp.asarray(table[start : start + length]) for start in starts]
    blocks = [
        jnp.stack(views[first : first + clips_of_each])
        for first in range(0, len(views), clips_of_each)
    ]
    ours = _our_way(task, [learner], blocks, clips_of_each)

    def read() -> np.ndarray:
        return read_rows(features, window, 0, rows)

    def check(peer: str, ours: Any, theirs: Any):
        yield Difference("values read", largest(theirs, table), 0, "what was written")

    return Prepared(
        f"training on {len(views)} clips of {SECONDS} s of `multibranch` with one spectrogram, and "
        "reading as many from the cache, which one thread does ahead",
        {"ours": ours, _READING: Way(read)},
        check,
        close=temporary.cleanup,
    )


_PEERS = ("torch", "torch channels last")
COMPARISONS = [
    Comparison(
        f"joint.{name}",
        {peer: installed("torch") for peer in _PEERS},
        functools.partial(setup, overrides, seeds),
        {("cpu", "torch"): 0.9, ("cpu", "torch channels last"): 0.9},
        rounds=rounds,
    )
    for name, overrides, seeds, rounds in (
        ("three_spectrograms", {}, 1, 5),
        ("one_spectrogram", {"detector.n_ffts": "1024,"}, 1, 5),
        ("five_seeds", {"detector.n_ffts": "1024,", "train.batch_size": "16"}, SEEDS, 3),
    )
] + [Comparison("joint.reading", {_READING: lambda: ""}, setup_reading, rounds=3)]
