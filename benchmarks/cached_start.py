"""What noticing changed recordings costs: a start with 31,000 cached clips, in several states.

The clips are short, so that what is timed is the looking at files, not their sound.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from asd_jax.audio import FrontEnd
from asd_jax.data.layouts import find_clips
from asd_jax.features.compute import compute_features
from benchmarks.harness import Comparison, Difference, Prepared, Way

_LISTED, _TOUCHED, _FIRST = "listing the clips alone", "all files touched", "an empty cache"
_FRONT_END = FrontEnd(n_mels=16, n_fft=512, hop_length=256)
_SAMPLES = 4000


def _write(place: Path, count: int) -> None:
    """Recordings of a quarter of a second, of four machines, no two alike."""
    rng = np.random.default_rng(0)
    for i in range(count):
        folder = place / f"machine{i % 4}" / ("test" if i % 8 > 3 else "train")
        folder.mkdir(parents=True, exist_ok=True)
        samples = rng.integers(-9000, 9000, _SAMPLES).astype(np.int16)
        soundfile.write(folder / f"normal_id_00_{i:08}.wav", samples, 16000)


def setup(quick: bool, peers: Sequence[str]) -> Prepared:
    """One data set, and a cache for each state of it."""
    temporary = tempfile.TemporaryDirectory(prefix="asd_jax_benchmark_")
    place = Path(temporary.name)
    data, count = place / "data", 310 if quick else 31_000
    _write(data, count)

    def start(cache: str) -> Any:
        clips = find_clips(data, report=lambda line: None)
        features = compute_features(
            clips, _FRONT_END, cache_dir=place / cache, report=lambda line: None
        )
        return len(features.clips), features.key

    def touch() -> None:
        for path in data.rglob("*.wav"):
            os.utime(path)
        time.sleep(1.5)  # a file that is younger than a second is read again each time

    def list_alone() -> Any:
        return len(find_clips(data, report=lambda line: None)), ""

    def settle() -> None:
        start("kept")

    ways = {
        "ours": Way(lambda: start("kept"), settle),
        _LISTED: Way(list_alone),
        _TOUCHED: Way(lambda: start("kept"), touch),
        _FIRST: Way(
            lambda: start("empty"), lambda: shutil.rmtree(place / "empty", ignore_errors=True)
        ),
    }

    def check(peer: str, ours: Any, theirs: Any) -> Any:
        same = ours[0] == theirs[0] == count and theirs[1] in ("", ours[1])
        yield Difference("clips or contents that differ", float(not same), 0, "the same files")

    return Prepared(
        f"from a folder of {count} recordings of 0.25 s to their table of features; ours is from a "
        "cache whose notes hold, so that each file's status is looked at",
        {name: way for name, way in ways.items() if name == "ours" or name in peers},
        check,
        notes=["a touched file is read and digested, and not decoded"],
        close=temporary.cleanup,
    )


COMPARISONS = [
    Comparison(
        "cached_start",
        {peer: lambda: "" for peer in (_LISTED, _TOUCHED, _FIRST)},
        setup,
        rounds=3,
    )
]
