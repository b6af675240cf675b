"""Pseudo-anomalies: normal recordings changed so that a good system finds them unusual.

A system of any kind can score them, as they are made of waveforms. They tell systems apart where
there are no anomalies, or where their labels must not choose.

Source: Wilkinghoff and Tan, on choosing systems by pseudo-anomalies that are made of normal data:
by shuffled features, by clips of other classes, domains and attributes, and by all of these.

Decided here, as theirs are made of features and embeddings, which not all systems have:
    Each kind changes a recording by a *partner*, another normal recording, in one way:

    | kind | change |
    |---|---|
    | band | an octave is replaced by that of the partner, louder or fainter |
    | stretch | stretches of time are replaced by those of the partner, as loud as they were |
    | class | the partner, a recording of another machine or section, is added |
    | condition | the partner, of another domain, attribute or section, is mixed in, equally loud |
    | bursts | the loudest moment of the partner is added again and again |
    | speed | the recording is played faster or slower, but for its highest band |

    Each has `STRENGTHS`, from hardly to clearly heard, so that one of them tells systems apart
    that all find the others, or all miss them.
    The whole recording is never made louder or fainter: microphones do so, too.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy

from asd_jax.errors import UserError

STRENGTHS = 5
# By strength, the faintest first.
_GAINS_DB = (0.5, 1.0, 2.0, 4.0, 8.0)  # of a band
_SHARES = (0.02, 0.05, 0.1, 0.25, 0.5)  # of the recording's time
_LEVELS_DB = (-24.0, -18.0, -12.0, -6.0, 0.0)  # of what is added, re the recording
_MIX_DB = (-18.0, -12.0, -6.0, 0.0, 6.0)  # of the partner re the recording, in a mixture
_SPEEDS = (0.003, 0.01, 0.03, 0.08, 0.2)  # faster or slower by
# Of the Nyquist frequency. Above it, resampling leaves nothing of some speeds.
_HIGHEST_OF_SPEED = 0.7

_LOWEST_HZ = 200.0
_STRETCH_S = 0.25
_FADE_S = 0.01
_BURST_S = 0.08
_EVERY_S = 0.5


class PseudoAnomaly(NamedTuple):
    """How a recording is changed.

    Attributes:
        kind: one of `KINDS`.
        strength: 0 to `STRENGTHS` − 1, larger is more unusual.
        seed: whole number from 0, of places in time and frequency and of signs. The same seed
            changes the same places at each strength.
    """

    kind: str
    strength: int
    seed: int


def pseudo_anomaly(
    waveform: np.ndarray, partner: np.ndarray, sample_rate: int, change: PseudoAnomaly
) -> np.ndarray:
    """Makes a pseudo-anomaly.

    Args:
        waveform: float32 (samples,), a normal recording.
        partner: float32 (samples of the partner,), another one; a shorter one is repeated, as a
            machine goes on, a longer one cut off.
        sample_rate: of both, in Hz.
        change: the change.

    Returns:
        float32 (samples,).

    Raises:
        UserError: there is no such kind or strength, or a recording without samples.

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> normal, other = rng.normal(0, 0.1, (2, 16_000)).astype(np.float32)
        >>> made = pseudo_anomaly(normal, other, 16_000, PseudoAnomaly("class", 1, seed=3))
        >>> added = np.square(made - normal).mean() / np.square(normal).mean()
        >>> round(float(10 * np.log10(added)), 3)
        -18.0
    """
    if change.kind not in _CHANGES:
        raise UserError(f"no pseudo-anomaly {change.kind!r}; there are {', '.join(_CHANGES)}")
    if not 0 <= change.strength < STRENGTHS:
        raise UserError(f"strength {change.strength}: pseudo-anomalies have 0 to {STRENGTHS - 1}")
    if not (len(waveform) and len(partner)):
        raise UserError("a pseudo-anomaly is made of recordings that have samples")
    rng = np.random.default_rng(change.seed)
    other = np.resize(partner, len(waveform)).astype(np.float64)
    made = _CHANGES[change.kind](
        waveform.astype(np.float64), other, sample_rate, change.strength, rng
    )
    return made.astype(np.float32)


_Change = Callable[[np.ndarray, np.ndarray, int, int, np.random.Generator], np.ndarray]


def _band(
    own: np.ndarray, other: np.ndarray, sample_rate: int, strength: int, rng: np.random.Generator
) -> np.ndarray:
    """An octave of the partner, as loud as that of the recording but for a gain."""
    low = _LOWEST_HZ * (sample_rate / 4 / _LOWEST_HZ) ** rng.random()
    sign = rng.choice([-1.0, 1.0])
    spectrum, theirs = np.fft.rfft(own), np.fft.rfft(other)
    hz = np.fft.rfftfreq(len(own), 1 / sample_rate)
    inside = (low <= hz) & (hz < 2 * low)
    level = _loudness(spectrum[inside]), _loudness(theirs[inside])
    if min(level) > 0:
        gain = _factor(sign * _GAINS_DB[strength]) * level[0] / level[1]
        spectrum[inside] = gain * theirs[inside]
    return np.fft.irfft(spectrum, len(own))


def _stretch(
    own: np.ndarray, other: np.ndarray, sample_rate: int, strength: int, rng: np.random.Generator
) -> np.ndarray:
    """Stretches of the partner that take a share of the time, faded in and out."""
    size = min(len(own), max(1, round(_STRETCH_S * sample_rate)))
    places = rng.permutation(max(1, len(own) // size))
    # At the faintest strengths one stretch is too long already: it is shortened.
    samples = _SHARES[strength] * len(own)
    count = max(1, min(len(places), round(samples / size)))
    length = max(1, min(size, round(samples / count)))
    mask = np.zeros(len(own))
    fade = max(1, min(round(_FADE_S * sample_rate), length // 4))
    ramp = (np.arange(fade) + 0.5) / fade
    window = np.ones(length)
    window[:fade], window[-fade:] = np.minimum(window[:fade], ramp), ramp[::-1]
    for place in places[:count]:
        mask[place * size : place * size + length] = window
    level = _loudness(own), _loudness(other)
    gain = level[0] / level[1] if level[1] > 0 else 1.0
    return own + mask * (gain * other - own)


def _class(
    own: np.ndarray, other: np.ndarray, sample_rate: int, strength: int, rng: np.random.Generator
) -> np.ndarray:
    """The partner on top."""
    return own + _at_level(other, own, _LEVELS_DB[strength])


def _condition(
    own: np.ndarray, other: np.ndarray, sample_rate: int, strength: int, rng: np.random.Generator
) -> np.ndarray:
    """A mixture with the partner, of the recording's level."""
    mixed = own + _at_level(other, own, _MIX_DB[strength])
    return _at_level(mixed, own, 0.0)


def _bursts(
    own: np.ndarray, other: np.ndarray, sample_rate: int, strength: int, rng: np.random.Generator
) -> np.ndarray:
    """The loudest moment of the partner, faded, about twice a second."""
    length = min(len(own), max(2, round(_BURST_S * sample_rate)))
    window = np.hanning(length + 2)[1:-1]
    energy = scipy.signal.fftconvolve(np.square(other), np.square(window), "valid")
    start = int(np.argmax(energy))
    burst = other[start : start + length] * window
    period = max(length, round(_EVERY_S * sample_rate))
    train = np.zeros(len(own))
    for place in range(0, len(own), period):
        at = place + int(rng.integers(period - length + 1))
        part = burst[: max(0, len(own) - at)]
        train[at : at + len(part)] += part
    return own + _at_level(train, own, _LEVELS_DB[strength])


def _speed(
    own: np.ndarray, other: np.ndarray, sample_rate: int, strength: int, rng: np.random.Generator
) -> np.ndarray:
    """The recording faster or slower, repeated or cut to its length, but for its highest band."""
    factor = 1 + rng.choice([-1.0, 1.0]) * _SPEEDS[strength]
    changed = scipy.signal.resample_poly(own, 1000, round(1000 * factor))
    spectrum, faster = np.fft.rfft(own), np.fft.rfft(np.resize(changed, len(own)))
    low = np.fft.rfftfreq(len(own)) < _HIGHEST_OF_SPEED / 2
    return np.fft.irfft(np.where(low, faster, spectrum), len(own))


_CHANGES: dict[str, _Change] = {
    "band": _band,
    "stretch": _stretch,
    "class": _class,
    "condition": _condition,
    "bursts": _bursts,
    "speed": _speed,
}
KINDS = tuple(_CHANGES)
# By which systems are chosen. How well systems find the others says little of how well they find
# faults, on the machines of `scripts/select_calibration.py`: bursts favour systems that look at
# peaks, and a mixture of two normal conditions is nearly normal.
CHOOSING = ("band", "stretch", "class", "speed")


def _loudness(values: np.ndarray) -> float:
    """Root mean square; 0 of nothing."""
    return float(np.sqrt(np.mean(np.abs(values) ** 2))) if len(values) else 0.0


def _factor(decibels: float) -> float:
    return 10 ** (decibels / 20)


def _at_level(sound: np.ndarray, reference: np.ndarray, level_db: float) -> np.ndarray:
    """A sound at a level re that of another; silence stays silent."""
    own = _loudness(sound)
    return sound * (_factor(level_db) * _loudness(reference) / own) if own > 0 else sound
