"""Training steps of the systems: forward, backward and optimiser, as in a run.

Ours are the detectors' own tasks, driven as `asd_jax.training.fleet` drives one model: the steps
of a round in one compiled loop, or, for convolutional networks on a CPU, one compiled step after
another. All ways start with our values, read the same batches, already on the device, and use the
same optimiser; every round starts again.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import Config, TrainConfig, load_config
from asd_jax.detectors import make_detector
from asd_jax.detectors.base import Detector
from asd_jax.models import MobileNetV2, ResNet50
from asd_jax.models.ganomaly import Decoder
from asd_jax.models.layers import operations
from asd_jax.runtime.compilation import compiler_options
from asd_jax.training import Batch, TrainingStatistics, fleet, variables
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.roofline import Work, product_flops

MELS, CLASSES = 128, 4


@dataclasses.dataclass(frozen=True)
class Kind:
    """A system whose steps are timed.

    Attributes:
        config: name of its configuration.
        make: (configuration, batch size, peer) → its model in PyTorch.
        quick: overrides of the configuration with --quick.
        cpu: likewise, on a CPU without it.
        steps: in a round.
        compared: index of the step before which losses are compared, apart from the first.
        loss_after: largest relative difference of these losses.
        random: true if a step draws random numbers (dropout).
    """

    config: str
    make: Callable[[Config, int, str], Any]
    quick: dict[str, str] = dataclasses.field(default_factory=dict)
    cpu: dict[str, str] = dataclasses.field(default_factory=dict)
    steps: int = 8
    compared: int = -1
    loss_after: float = 1e-2
    random: bool = False


def _dense(config, batch, peer):
    from benchmarks.peers.torch_autoencoders import DenseAutoencoder

    return DenseAutoencoder(config.detector.frames * MELS)


def _interpolation(config, batch, peer):
    from benchmarks.peers.torch_autoencoders import InterpolationAutoencoder

    return InterpolationAutoencoder(config.detector.frames, MELS)


def _group_made(config, batch, peer):
    from benchmarks.peers.torch_autoencoders import GroupMADE

    return GroupMADE(MELS)


def _lstm(config, batch, peer):
    from benchmarks.peers.torch_autoencoders import LSTMAutoencoder

    return LSTMAutoencoder(MELS)


def _ganomaly(config, batch, peer):
    from benchmarks.peers.torch_ganomaly import GANomaly

    return GANomaly(config.detector.width, config.detector.frames, MELS)


def _classifier(config, batch, peer):
    import torch

    from benchmarks.peers import torch_models

    settings = config.detector
    module = MobileNetV2 if settings.network == "mobilenet_v2" else ResNet50
    stages = module.stages[: settings.stages or None]
    if module is MobileNetV2:
        network = torch_models.MobileNetV2(settings.width, CLASSES, stages, settings.momentum)
    else:
        network = torch_models.ResNet50(CLASSES, stages, settings.momentum)
    labels = torch.arange(batch) % CLASSES
    return torch_models.Classifier(network, labels, MELS, peer == "torch channels last")


_SMALL = {"train.batch_size": "8"}
KINDS = {
    "dense_ae": Kind("dense_ae", _dense, steps=32),
    "interpolation_ae": Kind("interpolation_ae", _interpolation, steps=32, compared=8),
    "group_made": Kind("group_made", _group_made, quick={"train.batch_size": "64"}, steps=4),
    "lstm_ae": Kind("lstm_ae", _lstm, loss_after=0.1, random=True),
    "ganomaly": Kind(
        "ganomaly",
        _ganomaly,
        quick={"train.batch_size": "4", "detector.width": "4", "detector.frames": "64"},
        cpu={"detector.width": "16"},
        steps=2,
    ),
    "mobilenet_v2": Kind(
        "mobilenet_v2_id",
        _classifier,
        quick={**_SMALL, "detector.stages": "3"},
        steps=4,
        compared=1,
        loss_after=0.1,
    ),
    "resnet50": Kind(
        "resnet50_id",
        _classifier,
        quick={**_SMALL, "detector.stages": "1"},
        steps=2,
        compared=1,
        loss_after=0.2,
    ),
}


def make_batches(steps: int, batch: int, frames: int) -> np.ndarray:
    """Views (steps, batch, frames, mels) in dB, of bands of different levels."""
    rng = np.random.default_rng(0)
    level = -40 + 10 * np.cos(np.arange(MELS) / 20)
    return (level + 6 * rng.normal(size=(steps, batch, frames, MELS))).astype(np.float32)


def _our_way(task, learner, views: jax.Array, *, native: bool = False) -> Way:
    """Steps of a task from a learner; `native`: XLA's own convolutions and compiler options."""
    n, batch = views.shape[:2]
    labels, mask = jnp.arange(batch, dtype=jnp.int32) % CLASSES, jnp.ones(batch, bool)
    off = functools.partial(mock.patch.object, operations, "_on_cpu", return_value=False)
    tracing = off if native else contextlib.nullcontext
    keys = jax.random.split(jax.random.key(1), n)

    def step(learner, views, key):
        return task.step(learner, Batch(views, labels, mask), key)

    def scan(learner, views, keys):
        return jax.lax.scan(lambda learner, part: step(learner, *part), learner, (views, keys))

    looped = fleet.choose_driver(TrainConfig(), task.kind) == "loop"
    options = None if native else compiler_options(task.kind)
    compiled = jax.jit(step if looped else scan, donate_argnums=0, compiler_options=options)
    evaluation = float(jax.jit(task.loss)(learner, Batch(views[0], labels, mask)))
    state = {}
    if looped:
        views, keys = list(views), list(keys)  # a slice would be a copy in every step

    def before():
        state["learner"] = jax.block_until_ready(jax.tree.map(jnp.copy, learner))

    def run():
        current = state.pop("learner")
        with tracing():
            if looped:
                losses = []
                for part in zip(views, keys, strict=True):
                    current, loss = compiled(current, *part)
                    losses.append(loss)
            else:
                current, losses = compiled(current, views, keys)
        jax.block_until_ready(current)
        return {"evaluation": evaluation, "losses": np.array(losses)}

    return Way(run, before)


def _torch_way(model, values, views: np.ndarray) -> Way:
    """Steps of a model with our values in PyTorch; on a GPU, if there is one, compiled."""
    import torch

    on_gpu = torch.cuda.is_available()
    model.load(values)
    model.train()
    start = {name: value.clone() for name, value in model.state_dict().items()}
    model.to("cuda" if on_gpu else "cpu")
    batches = torch.from_numpy(views).to("cuda" if on_gpu else "cpu")
    evaluation = float(model.evaluate(batches[0]))
    if on_gpu:
        model.compile_all()
    state = {}

    def before():
        torch.manual_seed(0)
        model.load_state_dict(start)
        state["optimizers"] = model.optimizers()

    def run():
        losses = [model.train_step(batch, state["optimizers"]) for batch in batches]
        return {"evaluation": evaluation, "losses": torch.stack(losses).cpu().numpy()}

    return Way(run, before)


def _keras_way(name: str, values, views: np.ndarray) -> tuple[Way, int]:
    """Steps of a model in Keras with our values, and their number."""
    from benchmarks.peers import keras_models

    if name == "dense_ae":
        inputs = targets = views.reshape(*views.shape[:2], -1)
        model = keras_models.dense_autoencoder(inputs.shape[-1])
    else:
        middle = views.shape[2] // 2
        inputs = np.delete(views, middle, axis=2).reshape(*views.shape[:2], -1)
        targets = views[:, :, middle]
        model = keras_models.interpolation_autoencoder(inputs.shape[-1], MELS)
    keras_models.load(model, values["params"])
    return keras_models.steps_way(model, inputs, targets), model.count_params()


def _step_flops(detector: Detector, task, learner, batch: Batch) -> float:
    """A backward pass costs two forward passes: by the inputs and by the weights."""
    with mock.patch.object(operations, "_on_cpu", return_value=False):
        forward = product_flops(task.loss, learner, batch)
        if detector.Config.name != "ganomaly":
            return 3 * forward
        # In the loss are the generator and the discriminator twice. The step has of the latter
        # two forward passes, one backward by inputs, two by both.
        params = learner["params"]
        stats = learner["model_state"]["batch_stats"]
        views = batch.views[..., None]
        values = {name: {"params": params[name], "batch_stats": stats[name]} for name in params}
        judged = product_flops(detector.discriminator.apply, values["discriminator"], views)
        # Our transposed convolutions are 3 × 3 of four outputs each, of whose 36 taps 25 count.
        width = detector.settings.width
        _, latent, _ = jax.eval_shape(detector.generator.apply, values["generator"], views)
        decoder = {name: part["decoder"] for name, part in values["generator"].items()}
        decoded = product_flops(Decoder(width).apply, decoder, latent)
        return 3 * (forward - 2 * judged - decoded * 11 / 36) + 7 * judged


def _losses(kind: Kind, n: int, ours: Any, theirs: Any) -> Iterator[Difference]:
    """Differences of two ways' losses: in evaluation, in the first step and in a later one."""
    exact = 1e-4 if jax.default_backend() == "cpu" else 2e-2
    rounding = "same values, same batch" if exact < 1e-3 else "TF32 products"
    yield Difference(
        "loss in evaluation, relative",
        largest(ours["evaluation"], theirs["evaluation"], relative=True),
        exact,
        rounding,
    )
    compared = kind.compared % n
    for step, limit, why in (
        (0, 0.1 if kind.random else exact, "dropout" if kind.random else rounding),
        (compared, max(exact, kind.loss_after), "updates magnify differences"),
    ):
        pair = [result["losses"][step] for result in (ours, theirs)]
        difference = largest(*pair, relative=True)
        yield Difference(f"loss of step {step + 1}, relative", difference, limit, why)


def setup(kind: Kind, quick: bool, peers: Sequence[str]) -> Prepared:
    """Batches and values are on the device before."""
    overrides = kind.quick if quick else kind.cpu if jax.default_backend() == "cpu" else {}
    config = load_config(kind.config, overrides)
    detector = make_detector(config)
    task = detector.task(CLASSES)
    batch, n = config.train.batch_size, 2 if quick else kind.steps
    views = make_batches(n, batch, detector.views.length)
    bands = views.reshape(-1, MELS)
    statistics = TrainingStatistics(
        *map(jnp.asarray, (bands.mean(0), bands.std(0), bands.min(0), bands.max(0))), CLASSES
    )
    learner = jax.jit(task.init)(jax.random.key(0), statistics)
    values = jax.device_get(variables(learner))
    count = sum(leaf.size for part in ("params", "batch_stats") for leaf in _leaves(values, part))
    device_views = jnp.asarray(views)
    ways, counts = {"ours": _our_way(task, learner, device_views)}, {}
    for peer in peers:
        if peer == "xla":
            ways[peer], counts[peer] = _our_way(task, learner, device_views, native=True), count
        elif peer == "keras":
            ways[peer], counts[peer] = _keras_way(kind.config, values, views)
        else:
            model = kind.make(config, batch, peer)
            ways[peer], counts[peer] = _torch_way(model, values, views), model.count()

    def check(peer, ours, theirs):
        yield Difference("number of values", abs(count - counts[peer]), 0, "the same network")
        yield from _losses(kind, n, ours, theirs)

    def work(_):
        first = Batch(device_views[0], jnp.zeros(batch, jnp.int32), jnp.ones(batch, bool))
        moved = len(jax.tree.leaves(learner["opt_state"])) / len(_leaves(values, "params"))
        copies = 8 if moved > 1.5 else 6
        weights = sum(leaf.size for leaf in _leaves(values, "params"))
        return Work(
            n * 4 * (copies * weights + views[0].size),
            n * _step_flops(detector, task, learner, first),
            f"{copies} float32 passes over the values (gradients, optimiser) and one over the "
            "views, activations not counted; matrix products and convolutions, a backward pass "
            "as two forward ones",
        )

    changed = "".join(f", {key.partition('.')[2]} {value}" for key, value in overrides.items())
    return Prepared(
        f"{n} training steps of `{kind.config}` ({count} values{changed}), batch of {batch} × "
        f"{detector.views.length} × {MELS}; float32",
        ways,
        check,
        work,
        notes=["values are carried over from ours to all ways, and losses compared"],
    )


def _leaves(values: Any, part: str) -> list[Any]:
    return jax.tree.leaves(values.get(part, {}))


def _comparison(name: str, kind: Kind) -> Comparison:
    peers = {"torch": installed("torch")}
    if name in ("dense_ae", "interpolation_ae"):
        peers["keras"] = installed("keras", "dev")
    if kind.make is _classifier:
        peers["torch channels last"] = installed("torch")
    if kind.make not in (_lstm, _ganomaly):
        peers["xla"] = lambda: "" if jax.default_backend() == "cpu" else "ours, but on a CPU"
    goals = {("cpu", peer): 1 for peer in peers if peer.startswith("torch")}
    return Comparison(
        f"steps.{name}", peers, functools.partial(setup, kind), goals, brief=name == "dense_ae"
    )


COMPARISONS = [_comparison(name, kind) for name, kind in KINDS.items()]
