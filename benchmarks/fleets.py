"""A fleet of 23 machines and 5 seeds: one epoch, and the same models in PyTorch one by one."""

import functools
from collections.abc import Sequence

import jax
import numpy as np

from asd_jax.config import TrainConfig, load_config
from asd_jax.detectors import make_detector
from asd_jax.training import FleetModel, fleet, fleet_clips, variables
from benchmarks.drivers import epoch_way, resident_data
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.roofline import Work

MELS, MACHINES, SEEDS, BATCH = 128, 23, 5, 512


def make_frames(machines: int, frames: int) -> np.ndarray:
    """Frames in dB (machines, frames, mels), each machine's of a spectrum of its own."""
    rng = np.random.default_rng(0)
    level = -40 + np.cumsum(rng.normal(size=(machines, 1, MELS)), axis=-1)
    return (level + 6 * rng.normal(size=(machines, frames, MELS))).astype(np.float32)


def _torch_way(name: str, frames: np.ndarray, values: Sequence, length: int, count: int) -> Way:
    """Models one after another; views of a machine are one tensor, batches drawn by indices."""
    import torch

    from benchmarks.peers import torch_autoencoders

    on_gpu = torch.cuda.is_available()
    device = "cuda" if on_gpu else "cpu"
    if name == "dense_ae":
        model = torch_autoencoders.DenseAutoencoder(length * MELS)
    else:
        model = torch_autoencoders.InterpolationAutoencoder(length, MELS)
    starts = []
    for each in values:
        model.load(each)
        starts.append({name: value.clone() for name, value in model.state_dict().items()})
    model.to(device).train()
    table = torch.from_numpy(frames).to(device)
    if on_gpu:
        model.compile_all()

    def run():
        losses = []
        for i, start in enumerate(starts):
            views = table[i // SEEDS].unfold(0, length, 1).transpose(1, 2)
            model.load_state_dict(start)
            optimizers = model.optimizers()
            order = torch.randperm(count, device=device)
            steps = [model.train_step(views[part], optimizers) for part in order.split(BATCH)]
            losses.append(torch.stack(steps).mean())
        return torch.stack(losses).cpu().numpy()

    return Way(run)


def setup(name: str, quick: bool, peers: Sequence[str]) -> Prepared:
    """Frames are on the device before, and every model starts with the same values both ways."""
    machines, steps = (2, 2) if quick else (MACHINES, 20)
    task = make_detector(load_config(name)).task()
    length = task.view_length
    frames = make_frames(machines, steps * BATCH + length - 1)
    models = [FleetModel(f"m{m}", "", seed) for m in range(machines) for seed in range(SEEDS)]
    config = TrainConfig(batch_size=BATCH, validation_split=0.0)
    table = frames.reshape(-1, MELS)
    clips = fleet_clips(
        models,
        [(np.array([i // SEEDS]), np.array([0], np.int32)) for i in range(len(models))],
        np.full(machines, frames.shape[1]),
        view_length=length,
        view_hop=1,
        config=config,
    )
    data = resident_data(clips, frames)
    state = jax.device_get(jax.jit(lambda data: fleet.init_state(task, data, config))(data))
    values = [
        variables(jax.tree.map(lambda leaf, i=i: leaf[i], state.learner))
        for i in range(len(models))
    ]
    per_model = sum(leaf.size for leaf in jax.tree.leaves(values[0]["params"]))
    kernels = sum(p.size for p in jax.tree.leaves(values[0]["params"]) if p.ndim == 2)

    def check(peer, ours, theirs):
        yield Difference(
            "mean loss of a model's epoch, relative",
            largest(ours, theirs, relative=True),
            0.05,
            "same views and first values, shuffled in another order",
        )

    def work(_):
        rows = len(models) * steps
        return Work(
            4 * rows * (8 * per_model + BATCH * length * MELS),
            rows * 6 * kernels * BATCH,
            "8 float32 passes over the values a step (gradients, Adam) and one over the views, "
            "activations not counted; 6 flops a connection and view",
        )

    return Prepared(
        f"an epoch of {len(models)} models `{name}` ({machines} machines, {SEEDS} seeds), "
        f"{steps} steps of {BATCH}; float32; ours by "
        f"{fleet.choose_driver(config, task.kind)}, PyTorch one model after another",
        {"ours": epoch_way(task, config, table, data)}
        | {peer: _torch_way(name, frames, values, length, steps * BATCH) for peer in peers},
        check,
        work,
    )


COMPARISONS = [
    Comparison(
        f"fleets.{name}",
        {"torch": installed("torch")},
        functools.partial(setup, name),
        {("cpu", "torch"): 1.2, ("gpu", "torch"): 20},
        rounds=3,
        brief=name == "dense_ae",
    )
    for name in ("interpolation_ae", "dense_ae")
]
