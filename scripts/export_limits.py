"""Prints docs/export.md's table of what float32 resolves of some clips' scores.

    .venv/bin/python scripts/export_limits.py

Systems without training are fitted to eight seconds of noise. Of each clip: its score by the run,
how much a file's program differs from it, relatively, and the clip's limit.
"""

import jax
import numpy as np

import asd_jax
from asd_jax.deploy.export.choosing import targets_of
from asd_jax.deploy.export.comparing import Compared, resolved_scores
from asd_jax.deploy.export.exporting import in_float32
from asd_jax.deploy.export.program import Program

RATE = 16_000
SYSTEMS = ("spectral", "mel_knn", "mel_mahalanobis")


def main() -> None:
    """Prints a line for each system and clip."""
    rng = np.random.default_rng(0)
    sounds = rng.normal(0, 0.1, (8, RATE)).astype(np.float32)
    tones = {
        f"tone of {hz} Hz": np.sin(2 * np.pi * hz * np.arange(RATE) / RATE).astype(np.float32) / 2
        for hz in (440, 1000, 3000, 7000)
    }
    clips = {
        **tones,
        "training clip": sounds[0],
        "training clip of 16 bits": np.round(sounds[5] * 2**15) / np.float32(2**15),
        "other noise": rng.normal(0, 0.1, RATE).astype(np.float32),
    }
    print("| system | clip | score | difference | limit |\n|---|---|---|---|---|")
    for name in SYSTEMS:
        fitted = in_float32(asd_jax.fit(name, waveforms=sounds, sample_rate=RATE))
        program = Program(fitted, targets_of(fitted))
        file = jax.jit(program)
        wanted, resolutions = resolved_scores(program, [(0, clip) for clip in clips.values()])
        for (words, clip), score, resolution in zip(
            clips.items(), wanted, resolutions, strict=True
        ):
            own = Compared(score, float(file(clip[None])[0][0]), resolution)
            print(
                f"| `{name}` | {words} | {score:.2g} | {own.difference:.2g} | {own.allowed:.2g} |"
            )


if __name__ == "__main__":
    main()
