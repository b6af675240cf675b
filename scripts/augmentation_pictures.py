"""Draws docs/pictures/: what each augmentation does to the spectrogram of a synthetic machine.

    .venv/bin/python scripts/augmentation_pictures.py

The first three change log-mel views inside a training step, the last two a waveform.
"""

import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from matplotlib.figure import Figure
from pictures import save

from asd_jax.audio import FrontEnd
from asd_jax.audio.augmentation import draw_warp, mix, warp
from asd_jax.audio.perturbation import perturb
from asd_jax.data import audio_files, synthetic

_OUT_DIR = flags.DEFINE_string("out_dir", "docs/pictures", "folder of the pictures")
_SEED = flags.DEFINE_integer("seed", 0, "seed of the sounds and of what is drawn")

SAMPLE_RATE = 16000
SECONDS = 4.0


def main(argv: list[str]) -> None:
    """Makes the sounds and draws all pictures."""
    del argv
    seed = _SEED.value
    one, other = waveforms(seed)
    front_end = FrontEnd(SAMPLE_RATE)
    views = jnp.stack([front_end(one), front_end(other)])
    partners, proportions = jnp.array([1, 0]), jnp.array([0.4, 0.4])
    moved = warp(views, draw_warp(jax.random.key(seed), 2))
    faster, shifted = "resample 1.1", f"pitch_and_stretch {seed}"
    machines = {"valve id_00": views[0], "slider id_00": views[1]}
    for space in ("power", "log"):
        title = f"0.4 valve + 0.6 slider, {space}"
        draw(f"mix_{space}", {**machines, title: mix(views, partners, proportions, space)[0]})
    draw("warp", {"slider id_00": views[1], "warped, degree 3, strength 0.2": moved[1]})
    for name, text in (("resample", faster), ("pitch_and_stretch", shifted)):
        changed = front_end(perturb(other, SAMPLE_RATE, text))
        draw(name, {"slider id_00": views[1], text: changed})


def waveforms(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """One recording of a synthetic valve and one of a slide rail, each float32 (samples,)."""
    with tempfile.TemporaryDirectory() as folder:
        synthetic.synthesize(
            folder,
            machines=("valve", "slider"),
            sections=1,
            clips=1,
            seed=seed,
            duration=SECONDS,
            sample_rate=SAMPLE_RATE,
        )
        paths = [
            min(Path(folder).rglob(f"{machine}/train/*.wav")) for machine in ("valve", "slider")
        ]
        one, other = (audio_files.read(path, SAMPLE_RATE) for path in paths)
    return one, other


def draw(name: str, spectrograms: dict[str, np.ndarray]) -> None:
    """Writes a picture of spectrograms (frames, mels) in dB, side by side on one scale."""
    front_end = FrontEnd(SAMPLE_RATE)
    levels = np.concatenate([np.ravel(spectrogram) for spectrogram in spectrograms.values()])
    low, high = np.percentile(levels, [1, 99.9])
    longest = max(len(spectrogram) for spectrogram in spectrograms.values())
    figure = Figure(figsize=(3.2 * len(spectrograms) + 0.6, 2.8), layout="constrained")
    axes = figure.subplots(1, len(spectrograms), sharey=True)
    for axis, (title, spectrogram) in zip(axes, spectrograms.items(), strict=True):
        frames, mels = spectrogram.shape
        seconds = front_end.hop_length / front_end.sample_rate
        image = axis.imshow(
            np.asarray(spectrogram).T,
            origin="lower",
            aspect="auto",
            vmin=low,
            vmax=high,
            extent=(0, frames * seconds, 0, mels),
            cmap="magma",
        )
        axis.set_xlim(0, longest * seconds)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("seconds")
    axes[0].set_ylabel("mel band")
    figure.colorbar(image, ax=axes, label="dB")
    save(figure, Path(_OUT_DIR.value) / f"{name}.png")


if __name__ == "__main__":
    app.run(main)
