"""Work of `asd_jax` in a process of its own; run by its path, see `benchmarks.processes`.

The package is the one that PYTHONPATH names, this state of it or an earlier one, so only what both
have is used here, and nothing of `benchmarks`. Reads requests from standard input, a JSON object a
line: "do" names a function of `_WORK`, the rest are its arguments. Answers each with a line.
"""

import concurrent.futures
import importlib
import json
import os
import shutil
import sys
import traceback
from pathlib import Path
from typing import Any


def _first(*places: str) -> Any:
    """The attribute of the first of the places "module:name" that there is.

    Raises:
        ImportError: there is none of them.
    """
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise ImportError(f"none of {', '.join(places)}")


def set_up(models: int, cores: int | None = None) -> dict[str, Any]:
    """Decides on devices and threads before JAX starts, as the command line does.

    Earlier states of the package decide nothing, and JAX does as it does by default.

    Args:
        models: that will be trained or fitted.
        cores: as of `--cores`; None for all that the process may use.
    """
    try:
        chosen = importlib.import_module("asd_jax.runtime.cores")
    except ModuleNotFoundError:
        pass
    else:
        chosen.claim(cores)
        chosen.set_up([chosen.Fleet("dense", models)])
    import jax

    import asd_jax

    return {
        "package": str(Path(asd_jax.__file__).parent.parent),
        "devices": jax.local_device_count(),
        "backend": jax.default_backend(),
    }


def clear(folders: list[str], programs: bool = False) -> dict[str, Any]:
    """Removes folders, and the programs that were compiled if so asked."""
    import jax

    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    if programs:
        jax.clear_caches()
    return {}


def features(data: str, cache: str, kept: str = "", every: int = 1) -> dict[str, Any]:
    """Features of the recordings in a folder, from their files to the cache.

    Args:
        data: the folder.
        cache: folder of the cache.
        kept: file that every so-manyth clip's features are written to, for a comparison; none
            by default.
        every: clips from one that is written to the next.
    """
    import numpy as np

    compute = _first(
        "asd_jax.features.compute:compute_features", "asd_jax.features:compute_features"
    )
    from asd_jax.audio import FrontEnd
    from asd_jax.data.layouts import find_clips

    clips = find_clips(Path(data), report=_nothing)
    table = compute(clips, FrontEnd(), cache_dir=Path(cache), report=_nothing)
    if kept:
        chosen = range(0, len(table.clips), every)
        ends = [(int(table.offsets[i]), int(table.n_frames[i])) for i in chosen]
        np.savez(
            kept,
            paths=[os.path.relpath(table.clips[i].path, data) for i in chosen],
            features=np.stack([table.read(start, start + n) for start, n in ends]),
        )
    return {"clips": len(table.clips), "frames": table.total_frames}


def _threads() -> int:
    """Threads by which a stream of batches is computed; one in earlier states of the package."""
    try:
        count: int = _first("asd_jax.runtime.side_by_side:dispatchers")()
    except ImportError:
        return 1
    return count


_held: dict[str, list[Any]] = {}  # parts of waveforms by their file, and the last result


def log_mels(waveforms: str, settings: dict[str, Any], batches: int) -> dict[str, Any]:
    """Log-mels of waveforms in memory, one batch after another, the same one each time.

    Each device computes its share of a batch, called by a thread of its own; a single CPU is called
    by as many threads as the package uses for it.

    Args:
        waveforms: file of float32 (clips, samples); read once, by the first call.
        settings: of the front end.
        batches: how many.
    """
    import jax
    import numpy as np

    from asd_jax.audio import FrontEnd

    devices = jax.local_devices()
    if len(devices) == 1 and jax.default_backend() == "cpu":
        devices = devices * _threads()
    if waveforms not in _held:
        parts = np.array_split(np.load(waveforms), len(devices))
        _held[waveforms] = [*map(jax.device_put, parts, devices)]
    front_end = FrontEnd(**settings)

    def compute(part: Any) -> Any:
        for _ in range(batches):
            result = jax.block_until_ready(front_end(part))
        return result

    parts = _held[waveforms]
    if len(parts) == 1:
        _held["levels"] = [compute(parts[0])]
    else:
        with concurrent.futures.ThreadPoolExecutor(len(parts)) as pool:
            _held["levels"] = [*pool.map(compute, parts)]
    return {}


def save_log_mels(kept: str) -> dict[str, Any]:
    """Writes the last result of `log_mels` into a file."""
    import numpy as np

    np.save(kept, np.concatenate([*map(np.asarray, _held["levels"])]))
    return {}


def run(config: str, overrides: dict[str, str], data: str, out: str, cache: str) -> dict[str, Any]:
    """A whole run of a configuration, from files to results."""
    from asd_jax import pipeline
    from asd_jax.config import load_config

    silent = _first("asd_jax.runtime.progress:Silent", "asd_jax.progress:Silent")
    config = load_config(config, overrides)
    pipeline.run(config, Path(data), Path(out), cache_dir=Path(cache), reporter=silent())
    return {}


def _nothing(line: str) -> None:
    """Reports nothing."""


_WORK = {
    "set_up": set_up,
    "clear": clear,
    "features": features,
    "log_mels": log_mels,
    "save_log_mels": save_log_mels,
    "run": run,
}


def main() -> None:
    """Answers requests until there are none."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what else is printed does not go among the answers
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = _WORK[request.pop("do")](**request)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
