"""Profiles of a run's two slowest parts, operation by operation.

    python -m benchmarks.profiles

Traces the log-mel front end and the training step of the dense baseline with JAX's profiler and
prints, for each, the share of the traced operations' time by their origin in the program. On a
CPU the operations of a step run one after another but use several threads inside.
"""

import collections
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.runtime.compilation import compiler_options
from asd_jax.training import Batch
from asd_jax.training.task import TrainingStatistics

_TURNS, _SHOWN = 20, 8
_INSTRUCTION = re.compile(r"%([\w.\-]+) = \S+ ([\w\-]+)\(.*metadata={.*?op_name=\"([^\"]*)\"")


def profile(
    function: Callable, *arguments, options: dict[str, str] | None = None
) -> list[tuple[str, float]]:
    """Share of the operations' time by their origin, the largest first.

    Args:
        function: to be compiled and called.
        arguments: its arguments.
        options: the compiler's.

    Returns:
        (the primitive, with its pass in a training step; its share of the total). Operations
        without a pass are the optimiser's or prepare the batch.
    """
    compiled = jax.jit(function, compiler_options=options).lower(*arguments).compile()
    # A product fused with a transposition has the latter's name.
    origins = {
        name: re.sub(r"[^/]+$", "dot_general", origin) if operation == "dot" else origin
        for name, operation, origin in _INSTRUCTION.findall(compiled.as_text())
    }
    jax.block_until_ready(compiled(*arguments))
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(_TURNS):
                jax.block_until_ready(compiled(*arguments))
        (file,) = Path(folder).rglob("*.xplane.pb")
        planes = jax.profiler.ProfileData.from_file(str(file)).planes
        seconds: collections.Counter[str] = collections.Counter()
        for plane in planes:
            for line in plane.lines:
                for event in line.events:
                    # Loops and calls are the sum of their operations.
                    if not origins.get(event.name, "while").endswith(("while", "call")):
                        seconds[_short(origins[event.name])] += event.duration_ns / 1e9
    total = sum(seconds.values())
    return [(name, value / total) for name, value in seconds.most_common()]


def _short(origin: str) -> str:
    """The primitive at the end of a path in the program, with its pass in a step."""
    primitive = origin.rpartition("/")[2]
    if "transpose(" in origin:
        return f"{primitive}, backward"
    return f"{primitive}, forward" if "jvp(" in origin else primitive


def front_end() -> list[tuple[str, float]]:
    """Profiles the front end on 32 clips of 10 s."""
    waveforms = np.random.default_rng(0).normal(0, 0.1, (32, 160_000)).astype(np.float32)
    return profile(load_config("dense_ae").front_end, jnp.asarray(waveforms))


def dense_step() -> list[tuple[str, float]]:
    """Profiles a step of one model on 512 views."""
    config = load_config("dense_ae")
    task, size = make_detector(config).task(), config.train.batch_size
    rng = np.random.default_rng(0)
    views = jnp.asarray(rng.normal(-40, 8, (size, task.view_length, 128)), jnp.float32)
    statistics = TrainingStatistics(*[jnp.ones(128)] * 4)
    learner = jax.jit(task.init)(jax.random.key(0), statistics)
    batch = Batch(views, jnp.zeros(size, jnp.int32), jnp.ones(size, bool))
    key = jax.random.key(1)
    return profile(task.step, learner, batch, key, options=compiler_options(task.kind))


def main() -> None:
    """Prints a table for each part."""
    print(f"profiling on {jax.devices()[0].device_kind}", file=sys.stderr)
    for title, part in (
        ("log-mels of 32 clips of 10 s", front_end),
        ("training step of `dense_ae`, 512 views", dense_step),
    ):
        shares = part()
        print(f"\n| {title} | share |\n|---|---|")
        for name, share in shares[:_SHOWN]:
            print(f"| `{name}` | {100 * share:.0f} % |")
        rest = sum(share for _, share in shares[_SHOWN:])
        print(f"| the rest | {100 * rest:.0f} % |")


if __name__ == "__main__":
    main()
