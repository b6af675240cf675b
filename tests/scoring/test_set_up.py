"""What has changed is named: sounds of a synthetic machine, changed as set-ups change."""

import numpy as np
import pytest
import scipy.signal

from asd_jax.audio import FrontEnd
from asd_jax.detectors.cells import band_hz
from asd_jax.fitting.history import BandMeter
from asd_jax.scoring.drift import compare_levels
from asd_jax.scoring.resampled import Difference, lost_from
from asd_jax.scoring.set_up import SetUp, name_changes

RATE, FRONT_END = 16_000, FrontEnd()
HZ = band_hz(FRONT_END)


def machine(rng):
    """2 s of a hum with noise that falls with frequency, its level by 1.5 dB, and knocks."""
    time = np.arange(2 * RATE) / RATE
    noise = scipy.signal.lfilter([1], [1, -0.9], rng.normal(0, 0.01, len(time)))
    hum = sum(0.02 / k * np.sin(2 * np.pi * 120 * k * time + rng.uniform(0, 6)) for k in (1, 2, 3))
    knocks = 1 + 2 * (np.sin(2 * np.pi * 3 * time + rng.uniform(0, 6)) > 0.6)
    return (hum + noise * knocks) * 10 ** (rng.normal(0, 1.5) / 20)


def levels(sounds):
    """(clips, 3, bands) levels."""
    found = []
    for frames in np.asarray(FRONT_END(np.stack(sounds).astype(np.float32))):
        meter = BandMeter()
        meter.add(frames)
        found.append(meter.levels())
    return np.stack(found)


@pytest.fixture(scope="module")
def sounds():
    rng = np.random.default_rng(0)
    return [machine(rng) for _ in range(45)]


@pytest.fixture(scope="module")
def older(sounds):
    return levels(sounds[:30])


def named(older, changed):
    """What is named, and its words, where the test says that something has changed."""
    recent = levels(changed)
    test = compare_levels(older, recent, draws=999)
    assert test.p_value <= 0.01
    sure = [name for name, p in test.by_statistic.items() if p <= 0.05]
    return {
        change.kind: change for change in name_changes(Difference(older, recent), HZ, sure=sure)
    }


def filtered(gains):
    """A filter of some gains in dB, from 0 Hz to half the rate."""
    at = np.linspace(0, 1, len(gains))
    taps = scipy.signal.firwin2(257, at, 10 ** (np.array(gains) / 20))
    return lambda sound, rng: scipy.signal.fftconvolve(sound, taps, "same")


def halved(sound, rng):
    """Of 8 kHz, brought back to 16 kHz."""
    return scipy.signal.resample_poly(scipy.signal.resample_poly(sound, 1, 2), 2, 1)


def stuffed(sound, rng):
    """Of 8 kHz, brought back without a filter: zeros between the samples."""
    return np.kron(scipy.signal.resample_poly(sound, 1, 2), [2.0, 0.0])


CHANGES = {
    "level": lambda sound, rng: 2 * sound,
    "response": filtered([5, 3, 0, -3, -6, -9]),
    "bandwidth": halved,
    "mirror image": stuffed,
    "background": lambda sound, rng: sound + rng.normal(0, 0.02, len(sound)),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_change_is_named(kind, sounds, older):
    rng = np.random.default_rng(1)
    found = named(older, [CHANGES[kind](sound, rng) for sound in sounds[30:]])
    assert kind in found, found
    others = {"bandwidth", "mirror image", "response", "background"} - {kind}
    assert not others & found.keys(), found


def test_sizes_are_said(sounds, older):
    rng = np.random.default_rng(1)
    louder = named(older, [2 * sound for sound in sounds[30:]])["level"]
    # 6 dB, and the levels of 15 clips that differ by 1.5 dB.
    assert louder.size == pytest.approx(6, abs=1.5)
    assert louder.words.startswith(f"{louder.size:.1f} dB louder")
    lost = named(older, [halved(sound, rng) for sound in sounds[30:]])["bandwidth"]
    assert lost.size == 4000 and lost.words.startswith("nothing above 4 kHz")
    time = np.arange(2 * RATE) / RATE
    tone = [sound + 0.02 * np.sin(2 * np.pi * 2500 * time) for sound in sounds[30:]]
    assert "2.5 kHz" in named(older, tone)["background"].words


def test_words_leave_room_for_the_machine_itself(sounds, older):
    rng = np.random.default_rng(1)
    for kind in ("level", "response", "background"):
        found = named(older, [CHANGES[kind](sound, rng) for sound in sounds[30:]])
        assert "compatible with" in found[kind].words and "machine" in found[kind].words


def test_a_noise_floor_that_rises_is_told_from_a_gain(sounds, older):
    """Only quiet moments rise: the levels themselves, by 5 dB."""
    recent = levels(sounds[30:])
    recent[:, 1] += 5
    (change,) = name_changes(Difference(older, recent), HZ, sure=["quiet moments"])
    assert change.kind == "noise floor" and change.size == pytest.approx(5, abs=1.5)


def test_folded_bands_are_recognised():
    """A rise above 4 kHz that is found below it, mirrored, in the power of the bands."""
    hz = np.stack([np.arange(79) * 100.0, np.arange(79) * 100.0 + 200], axis=1)
    centre = hz.mean(axis=1)
    usual = -60 + 20 * np.exp(-(((centre - 6000) / 500) ** 2)) - centre / 1000
    mirrored = np.interp(8000 - centre, centre, usual)
    folded = 10 * np.log10(10 ** (usual / 10) + 10 ** (mirrored / 10))
    recent = np.where(centre < 4000, folded, -120.0)
    rng = np.random.default_rng(0)
    older, newer = (row + rng.normal(0, 0.5, (20, 3, 79)) for row in (usual, recent))
    kinds = [change.kind for change in name_changes(Difference(older, newer), hz)]
    assert kinds == ["bandwidth", "folding"]


def test_a_recording_of_another_set_up_is_known_at_once(sounds, older):
    set_up = SetUp.of(older, HZ)
    assert not any(set_up.problem(own) for own in older[:, 0])
    assert not any(set_up.problem(own) for own in levels(sounds[30:])[:, 0])
    rng = np.random.default_rng(1)
    half, loud = levels([halved(sounds[30], rng), 30 * sounds[30]])[:, 0]
    assert set_up.problem(half) == "nothing above 4 kHz"
    assert "dB louder than usual" in set_up.problem(loud)


def test_lost_bands_are_found_as_by_looking_at_each_edge():
    """Of the definition, band by band, on steps of all heights around the ones that count."""

    def slowly(apart, hz):
        bands, centre = len(apart), hz.mean(axis=1)
        for edge in range(bands // 8 + 1, bands - max(2, bands // 25)):
            above = apart[edge:] - np.median(apart[:edge])
            f = centre[edge]
            below = (centre >= 0.7 * f) & (centre <= 0.88 * f)
            beyond = (centre >= 1.08 * f) & (centre <= 1.35 * f)
            beyond[-1] |= not beyond.any()
            falls = below.any() and np.median(apart[below]) - np.median(apart[beyond]) >= 12
            if np.mean(above <= -10) >= 0.95 and np.median(above) <= -15 and falls:
                return edge
        return None

    rng, found = np.random.default_rng(0), []
    for _ in range(300):
        bands = int(rng.choice([8, 16, 32, 64]))
        limits = np.sort(rng.uniform(0, 8000, bands + 1))
        hz = np.stack([limits[:-1], limits[1:]], axis=1)
        apart = rng.normal(0, rng.choice([1, 4, 8]), bands)
        apart[rng.integers(bands) :] -= rng.choice([0, 10, 14, 15, 16, 20, 40])
        found.append(lost_from(apart, hz))
        assert found[-1] == slowly(apart, hz)
    assert 50 < sum(edge is not None for edge in found) < 200
