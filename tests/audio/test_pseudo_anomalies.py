"""Pseudo-anomalies change what they say, by as much as they say, and nothing else."""

import numpy as np
import pytest

from asd_jax.audio.pseudo_anomalies import KINDS, STRENGTHS, PseudoAnomaly, pseudo_anomaly
from asd_jax.errors import UserError

RATE = 16_000
NORMAL, PARTNER = np.random.default_rng(0).normal(0, 0.1, (2, 2 * RATE)).astype(np.float32)
# Of float32 samples, whose rounding is 6e-8 of their size.
CLOSE = 1e-5


def made(kind, strength, seed=1, normal=NORMAL, partner=PARTNER):
    return pseudo_anomaly(normal, partner, RATE, PseudoAnomaly(kind, strength, seed))


def level_db(sound, reference):
    return 10 * np.log10(np.mean(np.square(sound, dtype=float)) / np.mean(np.square(reference)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_alone(kind):
    for strength in range(STRENGTHS):
        one = made(kind, strength)
        assert one.dtype == np.float32 and one.shape == NORMAL.shape
        assert np.isfinite(one).all() and not np.array_equal(one, NORMAL)
        np.testing.assert_array_equal(one, made(kind, strength))
    if kind not in ("class", "condition"):  # which have no places to draw
        assert any(not np.array_equal(made(kind, 2), made(kind, 2, seed)) for seed in range(2, 6))


@pytest.mark.parametrize("kind", KINDS)
def test_a_larger_strength_changes_more(kind):
    changes = [np.square(made(kind, s) - NORMAL).mean() for s in range(STRENGTHS)]
    if kind == "speed":  # of noise: as unlike at any speed, so by the distance of a tone
        tone = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)
        spectra = [np.abs(np.fft.rfft(made(kind, s, normal=tone))) for s in range(STRENGTHS)]
        changes = [abs(np.argmax(spectrum) / 2 - 440) for spectrum in spectra]
        # Peaks in bins of 0.5 Hz; the recording is repeated to its length, which smears them.
        np.testing.assert_allclose(changes, [1.32, 4.4, 13.2, 35.2, 88.0], atol=1.0)
    elif kind == "band":  # fainter or louder, by the band's level
        changes = [abs(level_db(made(kind, s), NORMAL)) for s in range(STRENGTHS)]
    assert np.all(np.diff(changes) > 0)


@pytest.mark.parametrize(("strength", "gain"), [*enumerate((0.5, 1.0, 2.0, 4.0, 8.0))])
def test_a_band_is_one_octave_of_the_partner_at_a_gain(strength, gain):
    before, after = np.fft.rfft(NORMAL), np.fft.rfft(made("band", strength))
    changed = np.abs(after - before) > 1e-3  # of bins of about 18
    hz = np.flatnonzero(changed) / 2
    assert hz[0] >= 200 and hz[-1] <= RATE / 2
    assert hz[-1] / hz[0] == pytest.approx(2, rel=0.01)
    assert changed[np.flatnonzero(changed)[0] : np.flatnonzero(changed)[-1] + 1].all()
    assert abs(level_db(np.abs(after[changed]), np.abs(before[changed]))) == pytest.approx(
        gain, abs=1e-3
    )
    theirs = np.fft.rfft(PARTNER)[changed]
    ratio = after[changed] / theirs  # one real factor
    np.testing.assert_allclose(ratio, np.full(len(ratio), np.median(ratio.real)), rtol=1e-3)


@pytest.mark.parametrize(("strength", "share"), [*enumerate((0.02, 0.05, 0.1, 0.25, 0.5))])
def test_stretches_change_their_share_of_the_time_alone(strength, share):
    changed = made("stretch", strength) != NORMAL
    # Of 0.25 s stretches a whole number, or a shorter one; samples may be equal by chance.
    assert changed.mean() == pytest.approx(share, abs=0.065 if share > 0.1 else 0.001)
    runs = np.flatnonzero(np.diff(np.concatenate([[0], changed, [0]])))
    assert len(runs) // 2 <= max(1, round(share * 8)) + 3
    louder = made("stretch", strength, partner=100 * PARTNER)
    np.testing.assert_allclose(louder, made("stretch", strength), atol=CLOSE)


@pytest.mark.parametrize(("strength", "level"), [*enumerate((-24.0, -18.0, -12.0, -6.0, 0.0))])
def test_what_is_added_has_its_level(strength, level):
    of_class = made("class", strength) - NORMAL
    assert level_db(of_class, NORMAL) == pytest.approx(level, abs=1e-3)
    np.testing.assert_allclose(np.corrcoef(of_class, PARTNER)[0, 1], 1, atol=CLOSE)
    bursts = made("bursts", strength) - NORMAL
    assert level_db(bursts, NORMAL) == pytest.approx(level, abs=1e-3)
    # 80 ms each half second, of which the last may be cut off.
    assert np.mean(np.abs(bursts) > 1e-7) <= 0.08 / 0.5 + 0.001


def test_bursts_are_the_loudest_moment_of_the_partner():
    quiet = np.full(2 * RATE, 1e-3, np.float32)
    click = quiet.copy()
    click[20_000:20_010] = 1.0
    added = made("bursts", 3, normal=NORMAL, partner=click) - NORMAL
    assert 3 <= (np.abs(added) > 0.5 * np.abs(added).max()).sum() / 10 <= 4


@pytest.mark.parametrize(("strength", "level"), [*enumerate((-18.0, -12.0, -6.0, 0.0, 6.0))])
def test_a_mixture_has_the_level_of_the_recording(strength, level):
    mixed = made("condition", strength)
    assert level_db(mixed, NORMAL) == pytest.approx(0, abs=1e-3)
    parts = np.linalg.lstsq(np.stack([NORMAL, PARTNER], 1), mixed, rcond=None)[0]
    ratio = parts[1] * np.std(PARTNER) / (parts[0] * np.std(NORMAL))
    assert 20 * np.log10(ratio) == pytest.approx(level, abs=0.01)  # rms and std differ a little


def test_partners_of_other_lengths_are_repeated_or_cut():
    short = PARTNER[:5000]
    repeated = np.resize(short, len(NORMAL))
    for kind in KINDS:
        np.testing.assert_array_equal(made(kind, 1, partner=short), made(kind, 1, partner=repeated))
        longer = np.concatenate([PARTNER, np.ones(100, np.float32)])
        np.testing.assert_array_equal(made(kind, 1, partner=longer), made(kind, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_silence_and_single_samples_are_no_error(kind):
    silence = np.zeros(RATE, np.float32)
    for normal, partner in ((silence, PARTNER), (NORMAL, silence), (NORMAL[:1], PARTNER[:1])):
        assert np.isfinite(made(kind, 3, normal=normal, partner=partner)).all()


def test_what_there_is_none_of_is_refused():
    with pytest.raises(UserError, match="no pseudo-anomaly 'reverse'; there are band, "):
        made("reverse", 0)
    for strength in (-1, STRENGTHS):
        with pytest.raises(UserError, match=f"strength {strength}: .* have 0 to 4"):
            made("band", strength)
    with pytest.raises(UserError, match="have samples"):
        made("band", 0, partner=PARTNER[:0])
