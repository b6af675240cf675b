"""Draws the pictures of docs/concepts.md: views, scores, fleets and windows.

    .venv/bin/python scripts/concept_pictures.py

The sounds are of a synthetic valve whose faults are loud, so that the eye sees what the score
measures; the scores are of a dense autoencoder trained on them, in about a minute.
"""

import tempfile
from pathlib import Path

import librosa
import numpy as np
import scipy.stats
from absl import app, flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pictures import save

import asd_jax
from asd_jax.audio import FrontEnd
from asd_jax.data import ANOMALY, Clip, audio_files, find_clips, synthetic

_OUT_DIR = flags.DEFINE_string("out_dir", "docs/pictures", "folder of the pictures")

MACHINE = "valve"
FRONT_END = FrontEnd()
FRAME_SECONDS = FRONT_END.hop_length / FRONT_END.sample_rate
VIEW = 5  # frames
SHOWN = 14  # frames in the close-up
PIECE = 8  # frames scored by themselves, a quarter of a second
BLUE, ORANGE, GREY, GREEN = "#3b6ea5", "#d9822b", "#9a9a9a", "#4c9a6a"
SEED_COLOURS = (BLUE, ORANGE, GREEN)


def main(argv: list[str]) -> None:
    """Makes the sounds, trains, and draws all pictures."""
    del argv
    folder = Path(_OUT_DIR.value)
    waveforms, clips = recordings()
    waveform = next(
        w for w, (clip, _) in zip(waveforms, clips, strict=True) if clip.split == "train"
    )
    training = [features for clip, features in clips if clip.split == "train"]
    test = [(clip, features) for clip, features in clips if clip.split == "test"]
    config = asd_jax.load_config("dense_ae", {"train.epochs": "150", "seeds": "0"})
    detector = asd_jax.fit(config, training, machine=MACHINE)

    failing = max(
        (features for clip, features in test if clip.label == ANOMALY),
        key=lambda features: detector.score_features([features])[0],
    )
    save(draw_views(waveform, training[0]), folder / "concept_views.png")
    save(draw_pieces(detector, training[0], failing), folder / "concept_detector.png")
    save(draw_threshold(detector, training, test), folder / "concept_threshold.png")
    save(draw_fleet(), folder / "concept_fleet.png")
    save(draw_windows(), folder / "concept_windows.png")


def recordings() -> tuple[list[np.ndarray], list[tuple[Clip, np.ndarray]]]:
    """Waveforms (samples,), and clips with their features (frames, mels) in dB."""
    with tempfile.TemporaryDirectory() as folder:
        synthetic.synthesize(
            folder,
            machines=(MACHINE,),
            sections=1,
            clips=60,
            duration=4.0,
            difficulty="easy",
        )
        clips = find_clips(folder)
        waveforms = [audio_files.read(clip.path, FRONT_END.sample_rate) for clip in clips]
    features = [np.asarray(FRONT_END(waveform)) for waveform in waveforms]
    return waveforms, list(zip(clips, features, strict=True))


def draw_views(waveform: np.ndarray, features: np.ndarray) -> Figure:
    """A recording, its frames, and the views that consecutive frames make."""
    figure = Figure(figsize=(10, 5.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1)
    wave, frames = upper.subplots(1, 2)
    seconds = np.arange(len(waveform)) / FRONT_END.sample_rate
    wave.plot(seconds, waveform, color=BLUE, linewidth=0.3)
    wave.set(title="clip: one recording", xlabel="seconds", ylabel="amplitude")
    wave.set_xlim(0, seconds[-1])
    show_spectrogram(frames, features)
    frames.set_title(f"features: a frame every {1000 * FRAME_SECONDS:.0f} ms")

    first = int(np.argmax(features.mean(axis=1))) - SHOWN // 2  # around the loudest frame
    first = min(max(first, 0), len(features) - SHOWN)
    low, high = features.min(), features.max()
    start = first * FRAME_SECONDS
    frames.axvspan(start, start + SHOWN * FRAME_SECONDS, fill=False, edgecolor="white", linewidth=2)
    axes = lower.subplots(1, 4, width_ratios=(2.4, 1, 1, 1), sharey=True)
    show_spectrogram(axes[0], features[first : first + SHOWN], low, high, start)
    axes[0].set_title(f"the part in the box: {SHOWN} frames")
    for k, axis in enumerate(axes[1:]):
        place, colour = first + k, SEED_COLOURS[k]
        at = place * FRAME_SECONDS
        show_spectrogram(axis, features[place : place + VIEW], low, high, at)
        axis.set_title(f"view {k + 1} of it")
        axis.set_ylabel("")
        ends = (at, at + VIEW * FRAME_SECONDS)
        axes[0].plot(ends, [122 - 9 * k] * 2, color=colour, linewidth=5, solid_capstyle="butt")
        for spine in axis.spines.values():
            spine.set(color=colour, linewidth=3)
    return figure


def draw_pieces(detector, healthy: np.ndarray, failing: np.ndarray) -> Figure:
    """Spectrograms of a healthy and a failing clip, and the score of each piece of them."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    grid = figure.subplots(2, 2, sharex=True, sharey="row", height_ratios=(1.5, 1))
    low, high = np.percentile(np.concatenate([healthy, failing]), [1, 99.9])
    for column, (name, features) in enumerate({"healthy": healthy, "failing": failing}.items()):
        spectrogram, score = grid[:, column]
        show_spectrogram(spectrogram, features, low, high)
        spectrogram.set(title=f"{name} {MACHINE}", xlabel="")
        pieces = [features[i : i + PIECE] for i in range(0, len(features) - PIECE + 1, PIECE)]
        scores = detector.score_features(pieces)
        edges = np.arange(len(pieces) + 1) * PIECE * FRAME_SECONDS
        score.stairs(scores, edges, color=ORANGE, fill=True)
        score.set_xlabel("seconds")
    grid[0, 1].set_ylabel("")
    grid[1, 0].set_ylabel("score, dB²")
    return figure


def draw_threshold(detector, training: list[np.ndarray], test: list) -> Figure:
    """Scores of training clips with the fitted distribution, and of test clips."""
    scores = detector.score_features(training)
    tested = detector.score_features([features for _, features in test])
    anomalous = np.array([clip.label == ANOMALY for clip, _ in test])
    threshold = detector.threshold()
    edge = 1.5 * threshold  # louder faults are drawn at it
    figure = Figure(figsize=(8, 3.8), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.hist(scores, bins=8, density=True, color=BLUE, alpha=0.5, label="training clips")
    axis = np.linspace(0.95 * scores.min(), edge, 400)
    shape = scipy.stats.gamma.fit(scores)
    upper.plot(axis, scipy.stats.gamma.pdf(axis, *shape), color=BLUE, label="gamma distribution")
    upper.set(yticks=[], ylabel="density")
    for panel in (upper, lower):
        panel.axvline(
            threshold, color="black", linestyle="--", linewidth=1, label="its 90th percentile"
        )
    for row, (chosen, colour) in enumerate(((~anomalous, BLUE), (anomalous, ORANGE))):
        shown = np.minimum(tested[chosen], edge)
        lower.plot(shown, np.full(len(shown), row), "|", color=colour, markersize=14)
    lower.set(yticks=[0, 1], yticklabels=["normal", "anomalous"], ylim=(-0.7, 1.7))
    lower.set_xlabel("score of a clip: mean squared error, dB² (larger ones at the right edge)")
    lower.set_ylabel("test clips")
    upper.legend(loc="upper right", frameon=False)
    return figure


def draw_fleet() -> Figure:
    """A fleet's models, and when a device computes the steps of which model."""
    machines, seeds, steps = ("fan", "pump", "valve"), (0, 1), 4
    models = [(machine, seed) for machine in machines for seed in seeds]
    colours = dict(zip(machines, SEED_COLOURS, strict=True))
    figure = Figure(figsize=(10, 3.3), layout="constrained")
    fleet, *drivers = figure.subplots(1, 4, width_ratios=(1, 1, 1.7, 2.1))
    for row, (machine, seed) in enumerate(models):
        fleet.add_patch(
            Rectangle((0, row), 1, 0.85, color=colours[machine], alpha=1 if seed == 0 else 0.55)
        )
        fleet.text(
            0.5,
            row + 0.43,
            f"{machine}, seed {seed}",
            ha="center",
            va="center",
            color="white",
            fontsize=8,
        )
    fleet.set(title="a fleet of six", xlim=(0, 1), ylim=(len(models), -0.1))
    fleet.axis("off")
    plans = {
        "vmap": [[(step, 0.9) for step in range(steps)] for _ in models],
        "map": [
            [(0.42 * (steps * row + step), 0.42) for step in range(steps)]
            for row in range(len(models))
        ],
        "loop": [
            [(0.5 * (steps * row + step), 0.36) for step in range(steps)]
            for row in range(len(models))
        ],
    }
    titles = {
        "vmap": "vmap: together",
        "map": "map: in turn, one program",
        "loop": "loop: in turn, from Python",
    }
    for axis, (driver, rows) in zip(drivers, plans.items(), strict=True):
        for row, (machine, seed) in enumerate(models):
            for start, width in rows[row]:
                axis.add_patch(
                    Rectangle(
                        (start, row),
                        width,
                        0.85,
                        facecolor=colours[machine],
                        edgecolor="white" if driver == "map" else "none",
                        linewidth=0.5,
                        alpha=1 if seed == 0 else 0.55,
                    )
                )
        end = max(start + width for row in rows for start, width in row)
        axis.set(title=titles[driver], xlim=(0, end), ylim=(len(models), -0.1), yticks=[])
        axis.set_xticks([])
        axis.set_xlabel("time")
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
    return figure


def draw_windows() -> Figure:
    """Clips dealt into windows, and the two that are in memory at a time."""
    figure = Figure(figsize=(10, 2.9), layout="constrained")
    clips, time = figure.subplots(1, 2, width_ratios=(1, 1.1))
    n_windows, runs = 3, 12
    for epoch in range(2):
        order = np.random.default_rng(4 + epoch).permutation(runs)
        for run in range(runs):
            window = int(np.flatnonzero(order == run)[0]) % n_windows
            clips.add_patch(Rectangle((run, 1.2 * epoch), 0.92, 0.9, color=SEED_COLOURS[window]))
            clips.text(
                run + 0.46,
                1.2 * epoch + 0.45,
                window + 1,
                ha="center",
                va="center",
                color="white",
                fontsize=9,
            )
    clips.set(title="runs of neighbouring clips, and their window", xlim=(-0.1, runs))
    clips.set(ylim=(2.3, -0.1), yticks=[0.45, 1.65], yticklabels=["epoch 1", "epoch 2"], xticks=[])
    clips.set_xlabel("the table of clips")
    lanes = (("read", 0, GREY), ("train", 1, None))
    for lane, row, colour in lanes:
        for window in range(n_windows):
            start = window + row
            time.add_patch(
                Rectangle((start, row), 0.95, 0.85, color=colour or SEED_COLOURS[window], alpha=0.9)
            )
            time.text(
                start + 0.47,
                row + 0.42,
                f"{lane} {window + 1}",
                ha="center",
                va="center",
                color="white",
                fontsize=9,
            )
    time.set(title="two windows in memory at a time", xlim=(0, n_windows + 1), ylim=(2, -0.1))
    time.set(yticks=[0.42, 1.42], yticklabels=["host", "device"], xticks=[], xlabel="time")
    for axis in (clips, time):
        for side in ("top", "right", "left", "bottom"):
            axis.spines[side].set_visible(False)
    return figure


def show_spectrogram(
    axis: Axes,
    features: np.ndarray,
    low: float | None = None,
    high: float | None = None,
    start: float = 0.0,
) -> None:
    """Draws features (frames, mels) in dB over seconds, from `start` on, and Hz."""
    frames, mels = features.shape
    axis.imshow(
        features.T,
        origin="lower",
        aspect="auto",
        vmin=low,
        vmax=high,
        extent=(start, start + frames * FRAME_SECONDS, 0, mels),
        cmap="magma",
    )
    centres = librosa.mel_frequencies(mels + 2, fmin=0, fmax=FRONT_END.sample_rate / 2)[1:-1]
    hertz = (250, 1000, 2000, 4000)
    axis.set_yticks(np.interp(hertz, centres, np.arange(mels) + 0.5), hertz)
    axis.set(xlabel="seconds", ylabel="Hz")


if __name__ == "__main__":
    app.run(main)
