"""Training steps of MobileNetV2 and ResNet-50: ours, XLA's own convolutions, and PyTorch.

    python benchmarks/classifiers.py [--network=mobilenet_v2] [--rounds=8] [--xla_rounds=2]

A step is forward, backward, plain gradient descent, and the running statistics of the batch
normalisation, for a batch of 64 × 128 images of three channels and four classes. The ways take
turns, round by round, after a first round that compiles. All start with the same values; their
logits, and how the first step changes them, are compared first. PyTorch is timed with its usual
memory format and with its channels last; with a GPU, compiled.

Needs the extra `bench`. Ways:
    ours          `asd_jax.models`, a step a call
    ours, scanned the steps of a round as one `lax.scan`
    xla           the same networks with XLA's convolutions and gradients everywhere
    torch, torch channels last
"""

import contextlib
import os
import time
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torch_models
from absl import app, flags

from asd_jax.models import MobileNetV2, ResNet50, convolution

_NETWORK = flags.DEFINE_multi_enum(
    "network", ["mobilenet_v2", "resnet50"], ["mobilenet_v2", "resnet50"], "may be repeated"
)
_WIDTH = flags.DEFINE_float("width", 0.5, "of MobileNetV2")
_BATCH = flags.DEFINE_integer("batch", 32, "images in a step")
_STEPS = flags.DEFINE_integer("steps", 4, "steps of each way in a round")
_ROUNDS = flags.DEFINE_integer("rounds", 8, "rounds timed")
_XLA_ROUNDS = flags.DEFINE_integer("xla_rounds", 2, "rounds in which XLA's own way takes part")
_THREADS = flags.DEFINE_integer("threads", os.cpu_count(), "threads of PyTorch on a CPU")

HEIGHT, WIDTH, CHANNELS, CLASSES = 64, 128, 3, 4
RATE = 1e-5  # more, and steps would magnify rounding, see `compare`


def networks(name: str):
    """Our module and PyTorch's."""
    if name == "resnet50":
        return ResNet50(CLASSES), torch_models.ResNet50(CLASSES)
    return MobileNetV2(_WIDTH.value, CLASSES), torch_models.MobileNetV2(_WIDTH.value, CLASSES)


def batch():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_BATCH.value, HEIGHT, WIDTH, CHANNELS)).astype(np.float32)
    return x, np.arange(_BATCH.value) % CLASSES


class JaxWay:
    """Steps of a module, compiled one by one or as a scan over those of a round."""

    def __init__(self, module, variables, *, native=False, scanned=False):
        self.variables, self.scanned = variables, scanned
        x, labels = map(jnp.asarray, batch())
        off = mock.patch.object(convolution, "_on_cpu", return_value=False)
        self.tracing = off if native else contextlib.nullcontext()

        def apply(variables):
            return module.apply(variables, x, train=True, mutable=["batch_stats"])

        def loss(params, variables):
            logits, updates = apply({**variables, "params": params})
            return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(x)), labels]), updates

        def step(variables, _=None):
            gradients, updates = jax.grad(loss, has_aux=True)(variables["params"], variables)
            params = jax.tree.map(lambda p, g: p - RATE * g, variables["params"], gradients)
            return {"params": params, **updates}, None

        def steps(variables):
            return jax.lax.scan(step, variables, None, length=_STEPS.value)[0]

        self._apply = jax.jit(lambda variables: apply(variables)[0])
        self._step = jax.jit(lambda variables: step(variables)[0])
        self._steps = jax.jit(steps)

    def logits(self) -> np.ndarray:
        with self.tracing:
            return np.asarray(self._apply(self.variables))

    def run(self, steps: int) -> None:
        """So many steps; a scan has its own number."""
        with self.tracing:
            if self.scanned and steps == _STEPS.value:
                self.variables = self._steps(self.variables)
            else:
                for _ in range(steps):
                    self.variables = self._step(self.variables)
            jax.block_until_ready(self.variables)


class TorchWay:
    """Steps of PyTorch's network, on its GPU, compiled, where there is one."""

    def __init__(self, network, variables, *, channels_last=False):
        self.on_gpu = torch.cuda.is_available()
        device = "cuda" if self.on_gpu else "cpu"
        form = torch.channels_last if channels_last else torch.contiguous_format
        network.load(variables)
        self.network = network.to(device, memory_format=form).train()
        x, labels = batch()
        self.x = torch.from_numpy(x.transpose(0, 3, 1, 2)).contiguous(memory_format=form)
        self.x, self.labels = self.x.to(device), torch.from_numpy(labels).to(device)
        self.forward = torch.compile(self.network) if self.on_gpu else self.network
        self.optimizer = torch.optim.SGD(self.network.parameters(), RATE)

    def logits(self) -> np.ndarray:
        before = {name: value.clone() for name, value in self.network.state_dict().items()}
        with torch.no_grad():
            logits = self.forward(self.x).cpu().numpy()
        self.network.load_state_dict(before)  # a look must not move the running statistics
        return logits

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.optimizer.zero_grad()
            torch.nn.functional.cross_entropy(self.forward(self.x), self.labels).backward()
            self.optimizer.step()
        if self.on_gpu:
            torch.cuda.synchronize()


def make_ways(name: str):
    module, network = networks(name)
    image = jnp.zeros((1, HEIGHT, WIDTH, CHANNELS))
    variables = jax.jit(module.init)(jax.random.key(0), image)
    ours = sum(leaf.size for leaf in jax.tree.leaves(variables))
    if ours != network.count():
        raise ValueError(f"{name}: {ours} values, PyTorch's network has {network.count()}")
    print(f"{name}, {ours} values, batch of {_BATCH.value}")
    return {
        "ours": JaxWay(module, variables),
        "ours, scanned": JaxWay(module, variables, scanned=True),
        "xla": JaxWay(module, variables, native=True),
        "torch": TorchWay(network, variables),
        "torch channels last": TorchWay(networks(name)[1], variables, channels_last=True),
    }


def compare(ways) -> None:
    """Logits of all ways before a step and after it, of order 1.

    Before, to 1e-3. After, to 5e-2 of the most that the step changed: rounding the weights anew,
    by 1e-7, already moves the gradients of these networks by 5e-3. On a GPU, whose products have
    ten bits of fraction by default, to 3e-2 and to half of the change.
    """
    tolerance, share = (1e-3, 5e-2) if jax.default_backend() == "cpu" else (3e-2, 0.5)
    before = {name: way.logits() for name, way in ways.items()}
    for name, way in ways.items():
        np.testing.assert_allclose(before[name], before["ours"], atol=tolerance, err_msg=name)
        way.run(1)
    after = {name: way.logits() for name, way in ways.items()}
    change = {name: after[name] - before[name] for name in ways}
    for name in ways:
        limit = share * np.abs(change["ours"]).max()
        np.testing.assert_allclose(change[name], change["ours"], atol=limit, err_msg=name)


def measure(ways) -> dict[str, np.ndarray]:
    """Seconds of a step by way and round."""
    seconds = {name: [] for name in ways}
    for turn in range(_ROUNDS.value + 1):
        for name, way in ways.items():
            if name == "xla" and turn > _XLA_ROUNDS.value:
                continue
            begin = time.perf_counter()
            way.run(_STEPS.value)
            if turn:
                seconds[name].append((time.perf_counter() - begin) / _STEPS.value)
    return {name: np.array(found) for name, found in seconds.items() if found}


def main(_):
    torch.set_num_threads(_THREADS.value)
    torch.backends.cuda.matmul.allow_tf32 = True  # as JAX, and as PyTorch's own convolutions
    backend, device = jax.default_backend(), jax.devices()[0].device_kind
    print(f"jax {jax.__version__} on {backend} ({device}), torch {torch.__version__}")
    print(f"float32, default precision; {os.cpu_count()} cores, {_THREADS.value} torch threads")
    for name in _NETWORK.value:
        ways = make_ways(name)
        compare(ways)
        seconds = measure(ways)
        fastest = min(("torch", "torch channels last"), key=lambda way: np.median(seconds[way]))
        for way, found in seconds.items():
            ratio = found / seconds[fastest][: len(found)]
            print(
                f"{way:<20} {1e3 * np.median(found):8.1f} ms a step, least "
                f"{1e3 * found.min():8.1f}; {np.median(ratio):6.2f} times {fastest}'s "
                f"(rounds {ratio.min():.2f} to {ratio.max():.2f})"
            )


if __name__ == "__main__":
    app.run(main)
