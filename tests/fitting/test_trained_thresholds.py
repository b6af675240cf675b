"""Training clips above the thresholds of trained systems: 221 sets, with odd clips in them."""

import numpy as np
import pytest

import asd_jax
from asd_jax.config import load_config
from asd_jax.features.table import ArrayFeatures
from asd_jax.scoring.ensemble import combine, scale_of
from asd_jax.scoring.threshold import gamma_threshold

pytestmark = pytest.mark.slow

SYSTEMS = {
    "dense_ae": {"detector.hidden": "16,", "detector.latent": "2"},
    "mobilenet_v2_id": {
        **{"detector.frames": "16", "detector.stages": "1", "detector.momentum": "0.5"},
        "detector.hop": "8",
    },
}
MELS, FRAMES = 16, 24
FLOOR_DB = -156.0  # log-mels of silence
# Clips (clips, frames, mels) in dB made of as many normal ones.
ODD = {
    "dead": lambda normal, rng: np.full_like(normal, FLOOR_DB),
    "silent": lambda normal, rng: normal - 60,
    "loud": lambda normal, rng: normal + 40,
    "outlying": lambda normal, rng: normal + rng.normal(0, 15, normal.shape),
}


def make(name):
    settings = {"front_end.n_mels": str(MELS), "train.epochs": "2", "train.batch_size": "64"}
    return load_config(name, {**settings, **SYSTEMS[name], "seeds": "0"})


def draw(n, n_odd, kind, seed):
    """Clips of a tilted spectrum, whose level and noise differ from clip to clip."""
    rng = np.random.default_rng(seed)
    level, noise = rng.normal(0, 2, (n, 1, 1)), rng.gamma(9, 0.5, (n, 1, 1))
    tilt = np.linspace(-20, -60, MELS)
    clips = tilt + level + noise * rng.normal(0, 1, (n, FRAMES, MELS))
    clips[: n // 2] += np.linspace(0, 9, MELS)  # another section
    odd = rng.permutation(n)[:n_odd]
    clips[odd] = ODD[kind](clips[odd], rng)
    return clips.astype(np.float32)


def sets(sizes):
    for n in sizes:
        for n_odd in (0, 1, 2, round(0.05 * n)):
            for kind in ODD if n_odd else ("dead",):
                yield n, n_odd, kind


def train(name, clips):
    """Threshold of a fitted system, and its scores (clips,) of the training clips."""
    n = len(clips)
    sections = ["00"] * (n // 2) + ["02"] * (n - n // 2)
    fitted = asd_jax.fit(make(name), clips, machine="fan", sections=sections)
    table = ArrayFeatures((), [*clips])
    labels = np.array([fitted.label_of(("fan", section)) for section in sections], np.int32)
    (scores,) = fitted.model_scores([0], table, range(n), labels, trained_on=True)
    return fitted.thresholds[0], scores


def check(scores, threshold, what):
    above, n = int(np.sum(scores > threshold)), len(scores)
    # A third to three times of the tenth that is asked for, in whole clips.
    assert np.floor(n / 30) <= above <= np.ceil(0.3 * n), (above, n, what)


@pytest.mark.parametrize(
    ("name", "sizes"),
    [("dense_ae", (30, 60, 100, 300, 1000)), ("mobilenet_v2_id", (30, 60, 100, 200))],
)
def test_odd_clips_move_no_threshold_of_a_trained_system(name, sizes):
    """One model serves both sections of the machine, and has one threshold."""
    for seed, (n, n_odd, kind) in enumerate(sets(sizes)):
        threshold, scores = train(name, draw(n, n_odd, kind, seed))
        check(scores, threshold, (name, n, n_odd, kind))


@pytest.mark.parametrize("how", ["mean", "max"])
def test_odd_clips_move_no_threshold_of_an_ensemble(how):
    """Of two autoencoders, standardised by their training scores, as `asd-jax ensemble` does."""
    for seed, (n, n_odd, kind) in enumerate(sets((30, 60, 100, 300))):
        clips = draw(n, n_odd, kind, 100 + seed)
        upside_down = clips[..., ::-1]
        scores = np.stack([train("dense_ae", own)[1] for own in (clips, upside_down)])
        mean, deviation = scale_of(scores)
        both = combine(scores, mean[:, None], deviation[:, None], how)
        check(both, gamma_threshold(both).value, (how, n, n_odd, kind))
