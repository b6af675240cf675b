"""Signal models of machines, for the synthetic data sets.

A recording is a source filtered by a body, picked up by a microphone in a noisy hall:

    tones (shaft orders, blade pass or gear mesh) + flow or friction noise + impacts of strokes
        → resonances of this individual's body → path to the microphone
        + hall noise, hum and clatter at a signal-to-noise ratio

A fault is one more source inside the same body, added to an otherwise unchanged recording at a
level relative to it (`machine_faults`). Or it changes the machine's own sound (`machine_wear`).

By default each individual has its own hall, with the same hum in all clips, so that the hum
identifies the id. With a factory instead, noise carries no information about the id: every clip
of every machine is recorded at one of the same places, at any of the signal-to-noise ratios, with
machines that run, start or stop nearby. This corresponds to data sets such as MIMII, for which
factory noise was recorded separately and added.
"""

import functools
import math
from typing import Literal

import numpy as np
import scipy

from asd_jax.data.synthetic import machine_faults, machine_wear
from asd_jax.data.synthetic.machine_kinds import Condition, Individual, Place, draw_condition

# Peaks stay far below full scale: the impacts of valves have crest factors above 20.
_MACHINE_RMS = 10 ** (-38 / 20)
_FACTORY_SNR_DB = (-6.0, 6.0)  # MIMII has sets at both ends and in the middle
_NEIGHBOUR_DB = (-12.0, 3.0)  # re the noise of their place


def render(
    machine: Individual,
    condition: Condition,
    rng: np.random.Generator,
    *,
    samples: int,
    sample_rate: int,
    microphones_db: tuple[float, ...] = (0.0,),
    cause: str | None = None,
    fault_rng: np.random.Generator | None = None,
    level_offset_db: float = 0.0,
    factory: tuple[Place, ...] = (),
    one_source: bool = False,
    alone: Literal["", "machine", "noise"] = "",
) -> tuple[np.ndarray, machine_faults.Fault | None]:
    """Renders one recording.

    Args:
        machine: the individual.
        condition: its condition.
        rng: stream of the normal recording.
        samples: length.
        sample_rate: in Hz, at least 8000.
        microphones_db: level of the machine at each microphone; the hall is equally loud.
        cause: a fault of the family, or None for a normal recording. A recording with a fault is
            the normal one of the same `rng` plus the fault, unless the fault is one of
            `machine_wear`.
        fault_rng: stream of the fault.
        level_offset_db: added to the cause's typical level.
        factory: places, one of which is the background; empty for the individual's own hall.
        one_source: whether the own hall is the sound of one loudspeaker, so that microphones hear
            the same by different paths.
        alone: what is heard alone, the machine or the noise around it; "" for both.

    Returns:
        The recording, (samples, channels), float32 within ±1, and the fault or None.
    """
    is_worn = cause in machine_wear.CAUSES
    if is_worn:
        assert cause is not None and fault_rng is not None
        machine = machine_wear.worn(machine, cause, level_offset_db, fault_rng)
    motion = Motion(machine, condition, rng, samples, sample_rate)
    steady, cyclic = _sources(machine, condition, rng, motion)
    path = _path(machine, condition.microphone, motion.size, sample_rate, microphones_db)
    sound = _hear(steady + cyclic, path, samples)
    level_db = machine.level_db + rng.uniform(-1, 1) + 2.0 * (condition.load - 1)
    if condition.microphone == 2:
        level_db -= 4.0
    gain = _MACHINE_RMS * 10 ** (level_db / 20) / np.sqrt(np.mean(sound[0] ** 2))
    if factory:
        hall = _factory(factory, rng, motion, sound.shape)
    else:
        hall = _hall(machine, rng, motion, sound.shape, one_source)
    recording = {"": gain * sound + hall, "machine": gain * sound, "noise": hall}[alone]

    fault = None
    if is_worn and cause is not None:
        fault = machine_faults.Fault(cause, math.nan, math.nan, 0)
    elif cause is not None:
        assert fault_rng is not None
        typical_db = machine.family.faults[cause] + level_offset_db
        source = machine_faults.source(
            cause, motion, steady, cyclic, machine, level_offset_db, fault_rng
        )
        added = gain * _hear(source.signal, path, samples)
        level_db = 10 * np.log10(_energy(added) / _energy(recording))
        if not source.level_is_set:
            wanted_db = machine_faults.draw_level(typical_db, fault_rng)
            added *= 10 ** ((wanted_db - level_db) / 20)
            level_db = wanted_db
        recording = recording + added
        fault = machine_faults.Fault(
            cause, float(level_db), float(source.frequency_hz), source.strokes
        )
    # Scaled rather than clipped, so that ratios of energies stay.
    recording *= min(1.0, 0.99 / max(float(np.abs(recording).max()), 1e-9))
    return recording.T, fault


class Motion:
    """Angles of the shaft and of the working cycle at every sample of a clip.

    Attributes:
        sample_rate: in Hz.
        samples: length of the clip.
        size: length of the arrays, a margin longer than the clip.
        noise: (size,), white, of RMS 1.
        stroke: (size,), the working cycle's angle in cycles.
        effort: (size,) or (1,), speed of the shaft re its steady rate.
        rate_hz: the shaft's mean rate.
        shaft: (size,), the shaft's angle in revolutions; `turn` is its fraction.
        cycle: (size,), the working cycle's angle, or the shaft's if there is none.
        cycle_hz: its mean rate.
    """

    def __init__(self, machine, condition, rng, samples: int, sample_rate: int):
        self.sample_rate = sample_rate
        self.samples = samples
        # Filters are circular; with the margin, the end of a clip does not reach its beginning.
        self.size = 2 * scipy.fft.next_fast_len((samples + sample_rate // 8 + 1) // 2, real=True)
        self.noise = rng.standard_normal(self.size, dtype=np.float32)
        speed = condition.speed / 100 * (1 + rng.uniform(-0.015, 0.015))
        speed = speed * (1 + self.slow(rng, 0.002))
        self.stroke = rng.uniform() + np.cumsum(speed) * (machine.strokes_hz / sample_rate)
        self.effort = np.ones(1, np.float32)
        if machine.family.reciprocating:
            self.effort = np.abs(np.sin(np.pi * self.stroke)).astype(np.float32)
            speed = speed * self.effort
        self.rate_hz = float(np.mean(speed)) * machine.shaft_hz
        self.shaft = rng.uniform() + np.cumsum(speed) * (machine.shaft_hz / sample_rate)
        # float32 would lose the angle's precision after some thousand revolutions.
        self.turn = (self.shaft % 1.0).astype(np.float32)
        self.cycle = self.stroke if machine.strokes_hz else self.shaft
        self.cycle_hz = float(self.cycle[-1] - self.cycle[0]) * sample_rate / self.size

    def slow(self, rng, size: float) -> np.ndarray:
        """A smooth random function of time with RMS `size`, (size,)."""
        knots = np.arange(0, self.size + 256, 256)
        rates = rng.uniform(0.05, 0.6, (3, 1)) * (2 * np.pi / self.sample_rate)
        waves = np.sin(rates * knots + rng.uniform(0, 2 * np.pi, (3, 1)))
        return np.interp(np.arange(self.size), knots, size * np.sqrt(2 / 3) * waves.sum(axis=0))

    def impulses(self, cycles: np.ndarray, amplitudes=1.0, angle=None) -> np.ndarray:
        """An impulse at each of the ascending `cycles` of `angle` (the working cycle)."""
        angle = self.cycle if angle is None else angle
        inside = (cycles > angle[0]) & (cycles < angle[-1])
        positions = np.searchsorted(angle, cycles[inside])
        train = np.zeros(self.size, np.float32)
        np.add.at(train, positions, np.broadcast_to(amplitudes, cycles.shape)[inside])
        return train

    def bursts(self, impulses: np.ndarray, decay_ms: float) -> np.ndarray:
        """Noise that starts at every impulse and decays."""
        pole = np.exp(-1e3 / (decay_ms * self.sample_rate))
        return self.noise * scipy.signal.lfilter([1.0], [1.0, -pole], impulses).astype(np.float32)

    def ring(self, impulses: np.ndarray, frequency_hz: float, decay_ms: float) -> np.ndarray:
        """A decaying tone at every impulse."""
        radius = np.exp(-1e3 / (decay_ms * self.sample_rate))
        angle = 2 * np.pi * min(frequency_hz, 0.45 * self.sample_rate) / self.sample_rate
        poles = [1.0, -2 * radius * np.cos(angle), radius**2]
        return scipy.signal.lfilter([1.0], poles, impulses).astype(np.float32)


def _sources(machine, condition, rng, motion) -> tuple[np.ndarray, np.ndarray]:
    """Continuous sources, and sources that follow the strokes; each (size,) or (1,)."""
    family = machine.family
    load_db = 3.0 * (condition.load - 1)
    # Tones: the wavetable of one revolution, interpolated at the shaft's angle.
    table = machine.order_table
    place = motion.turn * np.float32(table.size - 1)
    index = np.minimum(place.astype(np.int32), table.size - 2)
    part = place - index.astype(np.float32)
    tones = table[index] * (1 - part) + table[index + 1] * part
    flow = _coloured(rng, motion, family.flow_hz)
    flow *= 1 + 0.25 * np.sin(motion.turn * np.float32(2 * np.pi))
    running = motion.effort * (
        _db(family.tones_db + rng.uniform(-2, 2) + load_db / 2) * tones
        + _db(family.flow_db + rng.uniform(-2.5, 2.5) + load_db) * flow
    )
    if not family.impacts:
        return running, np.zeros(1, np.float32)
    # Impacts at their phases of every working cycle, with jitter in time and strength.
    first, last = int(motion.stroke[0]), int(motion.stroke[-1]) + 1
    cycles = (np.arange(first, last)[:, None] + machine.impact_phases).ravel()
    cycles = cycles + rng.normal(0, machine.stroke_jitter, cycles.size)
    strengths = 10 ** (rng.normal(0, machine.stroke_spread_db, cycles.size) / 20)
    impulses = motion.impulses(cycles, strengths)
    impacts = _db(family.impacts_db) * _unit(motion.bursts(impulses, family.decay_ms))
    if family.reciprocating:
        return np.zeros(1, np.float32), running + impacts
    return running, impacts


@functools.lru_cache(maxsize=32)
def _path(machine, microphone: int, size: int, sample_rate: int, microphones_db) -> np.ndarray:
    """Transfer function from the source to each microphone, (channels, size // 2 + 1)."""
    gains = 10 ** (np.array(microphones_db, np.float32)[:, None] / 20)
    hz = scipy.fft.rfftfreq(size, 1 / sample_rate).astype(np.float32)
    body = np.ones(hz.size, np.complex64)
    for centre, width, gain in zip(
        machine.resonances_hz, machine.bandwidths_hz, machine.gains, strict=True
    ):
        body += np.float32(gain) / (1 + 1j * (hz - np.float32(centre)) / np.float32(width))
    delays = machine.reflection_s[microphone - 1] + 0.2e-3 * np.arange(gains.size)
    depth = 0.25 if microphone == 1 else 0.55
    echoes = gains + depth * gains * np.exp(-2j * np.pi * hz * delays[:, None].astype(np.float32))
    if microphone == 2:
        body = body / (1 + 1j * hz / 4000)
    # A surface radiates little at wavelengths above its size.
    body = body * (hz / (hz + 60))
    return (body * echoes).astype(np.complex64)


def _hear(source: np.ndarray, path: np.ndarray, samples: int) -> np.ndarray:
    """Sound of the source at each microphone, (channels, samples)."""
    size = 2 * (path.shape[-1] - 1)
    return scipy.fft.irfft(scipy.fft.rfft(source, size) * path, size)[:, :samples]


def _hall(machine, rng, motion, shape: tuple[int, int], one_source: bool) -> np.ndarray:
    """Background of the individual's own hall at each microphone, (channels, samples)."""
    channels, samples = shape
    phases = rng.uniform(0, 2 * np.pi, machine.hum_hz.size)
    lines = rng.uniform(0.1, 0.3, machine.hum_hz.size) * np.exp(1j * phases)
    corner_hz = rng.uniform(150, 400)
    colour = corner_hz, machine.hum_hz, lines
    noise = np.stack(
        [_coloured(rng, motion, *colour) for _ in range(1 if one_source else channels)]
    )
    noise *= 10 ** (motion.slow(rng, 0.8) / 20).astype(np.float32)
    noise += _clatter(rng, motion)
    if one_source:
        noise = _from_loudspeaker(noise[0], channels, motion)
    level_db = machine.level_db - machine.snr_db + rng.uniform(-3, 3)
    return _MACHINE_RMS * _db(level_db) * noise[:, :samples]


def _from_loudspeaker(sound: np.ndarray, channels: int, motion) -> np.ndarray:
    """A sound (size,) at each microphone, (channels, size): far ones are nearer to its place."""
    hz = scipy.fft.rfftfreq(motion.size, 1 / motion.sample_rate)
    number = np.arange(channels)[:, None]
    direct_s, echo_s = 4e-3 / (1 + number), 2.1e-3 + 1.3e-3 * number
    path = np.exp(-2j * np.pi * hz * direct_s) * (1 + 0.3 * np.exp(-2j * np.pi * hz * echo_s))
    return scipy.fft.irfft(scipy.fft.rfft(sound) * path, motion.size).astype(np.float32)


def _factory(places, rng, motion, shape: tuple[int, int]) -> np.ndarray:
    """Background of one of a factory's places at each microphone, (channels, samples)."""
    channels, samples = shape
    place = places[rng.integers(len(places))]
    lines = rng.uniform(0.1, 0.3, place.hum_hz.size)
    lines = lines * np.exp(1j * rng.uniform(0, 2 * np.pi, lines.size))
    colour = place.corner_hz * rng.uniform(0.7, 1.4), place.hum_hz, lines
    noise = np.stack([_coloured(rng, motion, *colour) for _ in range(channels)])
    noise *= 10 ** (motion.slow(rng, 2.0) / 20).astype(np.float32)
    for neighbour in place.neighbours:
        level_db = rng.uniform(*_NEIGHBOUR_DB)
        condition = draw_condition(rng, "neighbour", "00", "")
        running = Motion(neighbour, condition, rng, samples, motion.sample_rate)
        steady, cyclic = _sources(neighbour, condition, rng, running)
        path = _path(neighbour, 1, running.size, motion.sample_rate, (0.0,) * channels)
        sound = _hear(steady + cyclic, path, running.size)
        # Half of them start or stop within the clip, over a second; half of the others run.
        edge = rng.uniform(-0.5, 1.5) * running.size
        ramp = np.clip((np.arange(running.size) - edge) / motion.sample_rate, 0, 1)
        runs = ramp if rng.uniform() < 0.5 else 1 - ramp
        noise += _db(level_db) * runs.astype(np.float32) * _unit(sound)
    noise += _clatter(rng, motion)
    return _MACHINE_RMS * _db(-rng.uniform(*_FACTORY_SNR_DB)) * noise[:, :samples]


def _clatter(rng, motion) -> np.ndarray:
    """Carts, doors and dropped tools, which make some normal clips unusual, (size,)."""
    seconds = motion.size / motion.sample_rate
    times = np.sort(rng.uniform(0, seconds, rng.poisson(0.12 * seconds)))
    strengths = 10 ** (rng.uniform(0, 18, times.size) / 20)
    train = np.zeros(motion.size, np.float32)
    np.add.at(train, (times * motion.sample_rate).astype(int), strengths)
    return motion.bursts(train, rng.uniform(20, 100))


def _coloured(rng, motion, corner_hz: float, lines_hz=(), lines=()) -> np.ndarray:
    """Noise of RMS 1 that falls by 6 dB an octave above a corner, plus sinusoids, (size,)."""
    hz = scipy.fft.rfftfreq(motion.size, 1 / motion.sample_rate).astype(np.float32)
    spectrum = rng.standard_normal(2 * hz.size, dtype=np.float32).view(np.complex64)
    spectrum /= 1 + hz / np.float32(corner_hz)
    scale = motion.size / np.sqrt(2 * _energy(np.abs(spectrum)))
    spectrum *= np.float32(scale)
    for line_hz, line in zip(lines_hz, lines, strict=True):
        spectrum[round(line_hz * motion.size / motion.sample_rate)] += line * motion.size / 2
    return scipy.fft.irfft(spectrum, motion.size)


def _unit(signal: np.ndarray) -> np.ndarray:
    """Scales a signal to RMS 1."""
    return signal / max(float(np.sqrt(np.mean(signal**2))), 1e-12)


def _db(level: float) -> np.float32:
    return np.float32(10 ** (level / 20))


def _energy(signal: np.ndarray) -> float:
    return float(np.sum(np.square(signal), dtype=np.float64))
