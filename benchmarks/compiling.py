"""How long the programs of each configuration take to trace, lower and compile.

    python -m benchmarks.compiling                   # all that train, a quarter of an hour
    python -m benchmarks.compiling dense_ae ganomaly

The step is one training step of one model, as `asd_jax.training.fleet` gives it to its drivers;
the scoring program pools pieces of clips. Nothing is computed by either. Each configuration has two
processes: one that compiles, and one that finds the programs in the cache that the first left.
Seconds are of the processor, over all threads, which other work on the machine hardly changes.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.views import ViewSpec
from asd_jax.config import Config, MembersConfig, load_config, shipped_configs
from asd_jax.detectors import Detector, make_detector
from asd_jax.features.batches import views_in_piece
from asd_jax.features.table import ClipInput
from asd_jax.runtime.compilation import compiler_options, keep_compiled
from asd_jax.training import Batch, TrainingStatistics, variables

MELS, CLASSES = 128, 4
_PARTS = ("trace", "lower", "compile")


def _shape(*axes: int, dtype: Any = jnp.float32) -> Any:
    return jax.ShapeDtypeStruct(axes, dtype)


def programs(config: Config) -> dict[str, tuple[Callable, tuple[Any, ...]]]:
    """The training step and the scoring program of a configuration, with shapes as arguments."""
    detector = make_detector(config)
    task = detector.task(CLASSES)
    band = _shape(MELS)
    statistics = TrainingStatistics(band, band, band, band)
    key = jax.eval_shape(lambda: jax.random.key(0))
    learner = jax.eval_shape(
        lambda key, statistics: task.init(key, statistics._replace(n_labels=CLASSES)),
        key,
        statistics,
    )
    batch = Batch(
        _shape(config.train.batch_size, task.view_length, MELS),
        _shape(config.train.batch_size, dtype=jnp.int32),
        _shape(config.train.batch_size, dtype=jnp.bool_),
    )
    return {
        "step": (task.step, (learner, batch, key)),
        "scoring": (_pool(detector), (jax.eval_shape(variables, learner), _pieces(detector.views))),
    }


def _pool(detector: Detector) -> Callable[[Any, ClipInput], Any]:
    return lambda weights, pieces: jax.vmap(detector.pool, in_axes=(None, 0))(weights, pieces)


def _pieces(views: ViewSpec) -> ClipInput:
    """Shapes of one batch of pieces of clips."""
    frames = views.length + (views_in_piece(views) - 1) * views.hop
    return ClipInput(
        _shape(1, frames, MELS), _shape(1, dtype=jnp.int32), _shape(1, dtype=jnp.int32)
    )


def compile_all(config: Config) -> dict[str, dict[str, float]]:
    """Compiles the programs of a configuration.

    Returns:
        For each, seconds of the processor by part, and "instructions" of the compiled program.
    """
    kind = make_detector(config).kind
    result = {}
    for name, (function, arguments) in programs(config).items():
        jitted = jax.jit(function, compiler_options=compiler_options(kind))
        times = [time.process_time()]
        traced = jitted.trace(*arguments)
        times.append(time.process_time())
        lowered = traced.lower()
        times.append(time.process_time())
        compiled = lowered.compile()
        times.append(time.process_time())
        text = compiled.as_text()
        instructions = 0 if text is None else text.count(" = ")
        result[name] = dict(zip(_PARTS, np.diff(times).tolist(), strict=True))
        result[name]["instructions"] = instructions
    return result


def _start(name: str, cache: str) -> dict[str, dict[str, float]]:
    """`compile_all` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.compiling", "--cache_dir", cache, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def measure(name: str) -> list[str]:
    """A configuration's rows of the table."""
    with tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_") as cache:
        cold, warm = _start(name, cache), _start(name, cache)
    rows = []
    for program, values in cold.items():
        seconds = [f"{values[part]:.2f}" for part in _PARTS]
        kept = sum(warm[program][part] for part in _PARTS)
        cells = [f"`{name}`", program, *seconds, f"{kept:.2f}", f"{values['instructions']:.0f}"]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def _trained() -> list[str]:
    """Configurations of one system with a network that starts from no other weights."""
    names = []
    for name in shipped_configs():
        config = load_config(name)
        if not isinstance(config, MembersConfig) and config.detector.trains:
            names.append(name)
    return names


def main() -> int:
    """Runs the command and returns its exit status."""
    parser = argparse.ArgumentParser("python -m benchmarks.compiling", description=__doc__)
    parser.add_argument("names", nargs="*", help="configurations; all that train without")
    parser.add_argument("--cache_dir", help="compile one configuration into a cache, print JSON")
    options = parser.parse_args()
    if options.cache_dir:
        keep_compiled(options.cache_dir)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        print(json.dumps(compile_all(load_config(options.names[0]))))
        return 0
    print(
        "| configuration | program | trace | lower | compile | all, from the cache | operations |"
    )
    print("|---|---|---|---|---|---|---|", flush=True)
    failed = False
    for name in options.names or _trained():
        try:
            print("\n".join(measure(name)), flush=True)
        except RuntimeError as error:
            failed = True
            print(error, file=sys.stderr, flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
