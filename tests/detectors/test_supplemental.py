"""Supplemental clips in `spectral`: their part in the covariance, by NumPy and by refits."""

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.audio_files import read
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic import synthesize
from asd_jax.detectors import make_detector
from asd_jax.detectors.untrained import Vectors
from asd_jax.errors import UserError
from asd_jax.fitting.folds import leave_out as leave_out_clips
from asd_jax.pipeline import dry_run
from asd_jax.scoring.state_sums import Other
from asd_jax.scoring.states import StateSettings, leave_out

MELS = 16
SMALL = {"front_end.n_mels": str(MELS)}


def vectors_with(supplemental, is_noise):
    """Vectors of one model of 12 clips, and supplemental ones, mostly fainter."""
    rng = np.random.default_rng(4)
    rows = np.concatenate([-60 - np.linspace(0, 20, MELS), np.full(MELS, 10.0), np.full(MELS, -50)])
    rows = rows + rng.normal(size=(12, 3 * MELS)) @ rng.normal(size=(3 * MELS, 3 * MELS)) / 7
    also = rng.normal(size=(supplemental, 3 * MELS)) @ rng.normal(size=(3 * MELS, 3 * MELS)) / 7
    also[:, :MELS] -= 75
    plain = np.zeros((1, 12), np.int32)
    noise = np.full((1, supplemental), float(is_noise))
    return Vectors(rows[None], plain == 0, plain, np.arange(12)[None], also[None], noise)


@pytest.mark.parametrize("is_noise", [True, False])
@pytest.mark.parametrize("use", ["shrink", "subtract"])
def test_supplemental_clips_have_their_part_in_the_covariance(use, is_noise):
    """By NumPy, to the precision of what they are computed in."""
    config = load_config("spectral", SMALL | {"detector.supplemental": use})
    vectors = vectors_with(9, is_noise)
    # Padding, of a machine that has fewer than others.
    padded = vectors._replace(
        supplemental=np.pad(vectors.supplemental, [(0, 0), (0, 3), (0, 0)], constant_values=np.nan),
        is_noise=np.pad(vectors.is_noise, [(0, 0), (0, 3)], constant_values=np.nan),
    )
    fitted = make_detector(config).fit(padded)
    rows, also = vectors.values[0], vectors.supplemental[0]
    share = 10 ** ((also[:, :MELS].mean(axis=0) - rows[:, :MELS].mean(axis=0)) / 10)
    assert share.min() < 0.1 and share.max() > 1  # in some bands they are louder
    share = np.minimum(share, 1)
    scores = []
    for i in range(3):  # level, change, peak
        own = slice(i * MELS, (i + 1) * MELS)
        part = (also[:, own] - also[:, own].mean(axis=0)) * share
        shown = 1 - LedoitWolf(assume_centered=True).fit(part).shrinkage_
        factors = (0.5 * shown, 1, 0) if use == "shrink" else (0, is_noise, -1 if is_noise else 1)
        other = Other(part.T @ part / 9, *factors)
        settings = StateSettings(standardise=True, resolution=0.01, towards_first=True)
        left = leave_out(rows[:, own], settings=settings, other=other)
        scores.append(left.squared / left.expected)
    np.testing.assert_allclose(fitted["training_scores"][0], np.mean(scores, axis=0), rtol=1e-7)


@pytest.mark.parametrize("use", ["shrink", "subtract"])
@pytest.mark.parametrize("count", [0, 1])
def test_too_few_supplemental_clips_change_nothing(use, count):
    """One has no covariance; and a machine without any is fitted beside others that have some."""
    found = []
    for setting in ("none", use):
        config = load_config("spectral", SMALL | {"detector.supplemental": setting})
        vectors = vectors_with(count, True)
        if setting == "none":
            vectors = vectors._replace(supplemental=None, is_noise=None)
        found.append(make_detector(config).fit(vectors)["training_scores"])
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_one_clip_of_noise_beside_others_is_left_out_of_what_is_subtracted():
    """What is left is the machine as it is alone, by the clips of it."""
    config = load_config("spectral", SMALL | {"detector.supplemental": "subtract"})
    alone = vectors_with(9, False)
    one = alone._replace(is_noise=np.eye(1, 9))  # the first
    rest = alone._replace(supplemental=alone.supplemental[:, 1:], is_noise=alone.is_noise[:, 1:])
    found, expected = (make_detector(config).fit(own)["training_scores"] for own in (one, rest))
    np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.fixture(scope="module")
def of_2025(tmp_path_factory):
    folder = tmp_path_factory.mktemp("of_2025") / "data"
    machines = ["fan", "slider"]
    synthesize(folder, year=2025, machines=machines, clips=6, duration=2.0, supplemental=5)
    return folder


def test_runs_make_use_of_supplemental_clips(of_2025, tmp_path, capsys):
    config = load_config("spectral", {"detector.supplemental": "shrink", "front_end.n_mels": "16"})
    run = asd_jax.run(config, of_2025, tmp_path / "run", cache_dir=tmp_path / "cache")
    assert "5 supplemental clips of noise, 5 of machines without it" in capsys.readouterr().err
    assert len(run.training_scores["clip"]) == 2 * 6  # theirs are none of them
    # Scores of the same clips without supplemental ones.
    clips = find_clips(of_2025)
    clips = clips[clips.where(machine="fan", split="train")]
    waves = [read(clip.path, 16_000, 0) for clip in clips]
    domains = [clip.domain for clip in clips]
    plain = load_config("spectral", {"front_end.n_mels": "16"})
    without = asd_jax.fit(plain, waveforms=waves, sample_rate=16_000, domains=domains)
    fitted = asd_jax.load(run.path)
    found = fitted.score(waves[0], 16_000, machine="fan")
    assert not np.allclose(found, without.score(waves[0], 16_000), rtol=1e-2)
    # A fit without a clip has the supplemental ones, too, and the clip its score of training. To
    # 1 %: of six clips, one moves the mean level, which says how loud the supplemental ones are.
    (left_out,) = leave_out_clips(fitted, ("fan", "00"), [np.arange(6) == 2])
    own = run.training_scores
    of_clip = own["score"][(own["machine"] == "fan") & (own["clip"] == clips[2].name)]
    assert left_out.score(waves[2], 16_000) == pytest.approx(of_clip, rel=1e-2)


def test_supplemental_clips_that_are_not_there_are_missed(single, tmp_path):
    config = load_config("spectral", SMALL | {"detector.supplemental": "shrink"})
    for attempt in (
        lambda: asd_jax.run(config, single, tmp_path / "run", cache_dir=tmp_path / "cache"),
        lambda: dry_run(config, single),
        lambda: asd_jax.fit(config, np.zeros((4, 20, MELS), np.float32)),
    ):
        with pytest.raises(UserError, match="is shrink, and the machines have no supplemental"):
            attempt()
    assert not (tmp_path / "run" / "scores.csv").exists()
