"""Signal models of faults: sources that are added to a machine's own, for the synthetic data.

| cause | sound |
|---|---|
| imbalance | shaft orders 1 to 3, and the machine's noise swelling once a revolution |
| bearing | impacts at the outer-race rate, ringing at a resonance of the housing |
| whine | a line and its octave, swelling slowly |
| rub | a scrape once a revolution or working cycle |
| knock | an impact at one point of every revolution or working cycle |
| leak | a steady hiss |
| cavitation | crackle: collapses at random times, each a short ring |
| missing stroke | strokes left out, while the stalled drive buzzes |
"""

import dataclasses

import numpy as np
import scipy

from asd_jax.data.synthetic.machine_kinds import Individual

_LEVEL_SPREAD_DB = 4.0
_OUTER_RACE_ORDER = 3.57  # impacts a revolution, of a common ball bearing
_TURN = np.float32(2 * np.pi)


@dataclasses.dataclass(frozen=True)
class Fault:
    """The fault in a recording.

    Attributes:
        cause: one of the table above, or of `machine_wear`'s.
        level_db: energy of (recording with the fault − the same without) over that without; NaN
            for the causes of `machine_wear`.
        frequency_hz: the line of a whine, else the mean rate at which the fault recurs; NaN for
            a leak and for the causes of `machine_wear`.
        strokes: number of strokes left out, of a "missing stroke"; 0 for other causes.
    """

    cause: str
    level_db: float
    frequency_hz: float
    strokes: int


@dataclasses.dataclass(frozen=True)
class Source:
    """A fault as a source inside the machine.

    Attributes:
        signal: (size,), before the filter of the machine's body.
        frequency_hz: see `Fault`.
        strokes: see `Fault`.
        level_is_set: true if `signal` has its final level relative to the machine's own sources.
    """

    signal: np.ndarray
    frequency_hz: float
    strokes: int = 0
    level_is_set: bool = False


def draw_level(typical_db: float, rng: np.random.Generator) -> float:
    """Draws a clip's fault level in dB, uniform within 4 dB of the typical one."""
    return typical_db + rng.uniform(-_LEVEL_SPREAD_DB, _LEVEL_SPREAD_DB)


def source(
    cause: str,
    motion,
    steady: np.ndarray,
    cyclic: np.ndarray,
    machine: Individual,
    level_offset_db: float,
    rng: np.random.Generator,
) -> Source:
    """Renders the signal of a fault.

    Args:
        cause: one of the module's table.
        motion: the machine's `machine_sounds.Motion`.
        steady: (size,) or (1,), the machine's continuous sources.
        cyclic: (size,) or (1,), its sources that follow its strokes.
        machine: the individual.
        level_offset_db: for "missing stroke": twice as many missing strokes for every 6 dB.
        rng: the fault's stream.

    Returns:
        The source.

    Raises:
        ValueError: there is no such cause.
    """
    if cause == "missing stroke":
        return _missing_stroke(motion, cyclic, machine, level_offset_db, rng)
    if cause == "bearing":
        return _bearing(motion, machine.housing_hz, rng)
    if cause == "imbalance":
        angle = motion.turn * _TURN + np.float32(rng.uniform(0, 2 * np.pi))
        push = np.sin(angle) + 0.5 * np.sin(2 * angle) + 0.25 * np.sin(3 * angle)
        return Source(push * (1 + steady / 2), motion.rate_hz)
    if cause == "knock":
        cycles = _whole_cycles(motion.cycle) + rng.uniform(0.05, 0.95)
        strengths = 10 ** (rng.normal(0, 1.5, cycles.size) / 20)
        return Source(motion.bursts(motion.impulses(cycles, strengths), 10.0), motion.cycle_hz)
    if cause == "rub":
        angle = (motion.cycle % 1.0).astype(np.float32) * _TURN
        contact = np.maximum(np.cos(angle + np.float32(rng.uniform(0, 2 * np.pi))), 0) ** 6
        noise = _band_noise(motion, rng.uniform(800, 1600), rng.uniform(2600, 3200), rng)
        return Source(contact * noise, motion.cycle_hz)
    if cause == "whine":
        line_hz = min(rng.uniform(900, 4500), 0.22 * motion.sample_rate)
        cycles = np.cumsum(1 + motion.slow(rng, 0.0005)) * (line_hz / motion.sample_rate)
        angle = (cycles % 1.0).astype(np.float32) * _TURN
        swell = (1 + motion.slow(rng, 0.3)).astype(np.float32)
        return Source(swell * (np.sin(angle) + 0.3 * np.sin(2 * angle)), line_hz)
    if cause == "leak":
        high_hz = min(rng.uniform(4500, 7000), 0.45 * motion.sample_rate)
        return Source(_band_noise(motion, rng.uniform(1500, 2500), high_hz, rng), float("nan"))
    if cause == "cavitation":
        rate_hz = rng.uniform(100, 300)
        hits = rng.random(motion.size, dtype=np.float32) < rate_hz / motion.sample_rate
        strengths = rng.exponential(1.0, motion.size).astype(np.float32)
        ring_hz = rng.uniform(2500, 4500)
        return Source(motion.ring(hits * strengths, ring_hz, 0.6), rate_hz)
    raise ValueError(f"no fault {cause!r}")


def _missing_stroke(motion, cyclic, machine, level_offset_db, rng) -> Source:
    """Takes some strokes out of the cyclic sources, and adds the buzz of the stalled drive."""
    # Only strokes with at least one half inside the clip.
    first, last = motion.stroke[0], motion.stroke[motion.samples - 1]
    strokes = np.arange(np.ceil(first - 0.5), np.floor(last - 0.5) + 1)
    if not strokes.size:
        strokes = np.floor([(first + last) / 2])
    share = 0.25 * 2 ** (level_offset_db / 6) * rng.uniform(0.6, 1.4)
    count = int(np.clip(round(share * strokes.size), 1, strokes.size))
    missed = rng.choice(strokes, count, replace=False)
    gone = np.isin(np.floor(motion.stroke), missed).astype(np.float32)
    # A stalled drive under voltage buzzes at harmonics of twice the mains frequency.
    angle = np.arange(motion.size) * (2 * np.pi * 100 / motion.sample_rate)
    buzz = sum(np.sin(order * angle + order**2) / order for order in range(1, 16))
    buzz *= 10 ** (machine.family.faults["missing stroke"] / 20) * np.sqrt(np.mean(cyclic**2))
    rate_hz = count / motion.samples * motion.sample_rate
    return Source(gone * (buzz.astype(np.float32) - cyclic), rate_hz, count, level_is_set=True)


def _bearing(motion, housing_hz, rng) -> Source:
    """Impacts of the balls on a damaged outer race, at a load that varies over a revolution."""
    impacts = _whole_cycles(motion.shaft * _OUTER_RACE_ORDER).astype(float)
    impacts = np.sort(impacts + rng.normal(0, 0.02, impacts.size))  # the balls slip
    turns = impacts / _OUTER_RACE_ORDER
    train = motion.impulses(turns, 1 + 0.6 * np.sin(2 * np.pi * turns), motion.shaft)
    return Source(motion.ring(train, housing_hz, 1.5), _OUTER_RACE_ORDER * motion.rate_hz)


def _whole_cycles(angle: np.ndarray) -> np.ndarray:
    """Whole numbers of cycles in an angle (size,), from the one before its first value on."""
    return np.arange(np.floor(angle[0]), np.ceil(angle[-1]))


def _band_noise(motion, low_hz: float, high_hz: float, rng) -> np.ndarray:
    """Noise (size,) between two frequencies."""
    noise = rng.standard_normal(motion.size, dtype=np.float32)
    edges = [low_hz, high_hz]
    sections = scipy.signal.butter(2, edges, "bandpass", fs=motion.sample_rate, output="sos")
    return scipy.signal.sosfilt(sections.astype(np.float32), noise)
