"""What synthetic machines and their faults sound like."""

import dataclasses

import numpy as np
import pytest
import scipy.signal

from asd_jax.data.canceller import cancelled
from asd_jax.data.synthetic import machine_faults, machine_kinds, machine_sounds

RATE = 16_000
CAUSES = [
    (family, cause) for family, kind in machine_kinds.FAMILIES.items() for cause in kind.faults
]


def render(family, cause=None, section="00", seconds=6, key="x", condition=None, **options):
    return machine_sounds.render(
        machine_kinds.individual(0, family, family, section),
        condition or machine_kinds.Condition(),
        machine_kinds.stream(0, key),
        samples=seconds * RATE,
        sample_rate=RATE,
        cause=cause,
        fault_rng=machine_kinds.stream(0, key, "fault"),
        **options,
    )


def decibel(ratio):
    return 10 * np.log10(ratio)


@pytest.mark.parametrize(("family", "cause"), CAUSES)
def test_the_stated_level_is_the_level(family, cause):
    carrier, none = render(family)
    recording, fault = render(family, cause)
    assert none is None and fault.cause == cause
    level = decibel(
        np.sum((recording - carrier).astype(float) ** 2) / np.sum(carrier.astype(float) ** 2)
    )
    # float32 samples of size 0.01: rounding is 140 dB below, the sums are float64.
    assert abs(level - fault.level_db) < 0.01
    if cause != "missing stroke":
        typical = machine_kinds.FAMILIES[family].faults[cause]
        assert abs(fault.level_db - typical) <= 4.0
        _, easy = render(family, cause, level_offset_db=6.0)
        assert easy.level_db == pytest.approx(fault.level_db + 6, abs=1e-6)


def difference(family, cause, **options):
    carrier, _ = render(family, **options)
    recording, fault = render(family, cause, **options)
    return (recording - carrier)[:, 0].astype(float), carrier[:, 0].astype(float), fault


def strongest_hz(signal, above=5.0):
    spectrum = np.abs(np.fft.rfft(signal * np.hanning(signal.size))) ** 2
    hz = np.fft.rfftfreq(signal.size, 1 / RATE)
    return hz[np.argmax(np.where(hz > above, spectrum, 0))]


@pytest.mark.parametrize("family", ["fan", "slider", "toy"])
def test_a_whine_is_a_line_at_its_frequency(family):
    added, _, fault = difference(family, "whine")
    assert 900 <= fault.frequency_hz <= 3520
    lines = [fault.frequency_hz, 2 * fault.frequency_hz]  # a resonance may favour the octave
    # The line wanders by up to 0.15 %.
    assert min(abs(strongest_hz(added) / line - 1) for line in lines) < 0.002


@pytest.mark.parametrize(
    ("family", "cause"), [("fan", "bearing"), ("gearbox", "knock"), ("fan", "rub")]
)
def test_impacts_recur_at_the_stated_rate(family, cause):
    added, _, fault = difference(family, cause)
    envelope = np.abs(scipy.signal.hilbert(added))
    envelope -= envelope.mean()
    spectrum = np.abs(np.fft.rfft(envelope * np.hanning(envelope.size))) ** 2
    hz = np.fft.rfftfreq(envelope.size, 1 / RATE)
    # The speed wanders by 0.5 %; the rate's line is 20 dB above the floor around it.
    near = np.abs(hz / fault.frequency_hz - 1) < 0.02
    around = (np.abs(hz / fault.frequency_hz - 1) < 0.2) & ~near
    assert decibel(spectrum[near].max() / np.median(spectrum[around])) > 20


def test_an_imbalance_is_at_the_shafts_orders():
    added, _, fault = difference("fan", "imbalance")
    order = strongest_hz(added) / fault.frequency_hz
    assert abs(order - round(order)) < 0.02 and round(order) in (1, 2, 3)


def test_a_leak_is_high_and_steady():
    added, carrier, _ = difference("valve", "leak")

    def share_above(signal, low):
        hz, power = scipy.signal.welch(signal, RATE, nperseg=1024)
        return power[hz > low].sum() / power.sum()

    assert share_above(added, 1000) > 0.9 > share_above(carrier, 1000)
    frames = decibel(np.mean(added.reshape(-1, 1600) ** 2, axis=1))  # 0.1 s each
    assert frames.std() < 1.0


def events(signal):
    sections = scipy.signal.butter(4, 1000, "highpass", fs=RATE, output="sos")
    envelope = np.abs(scipy.signal.sosfilt(sections, signal))
    envelope = scipy.signal.sosfiltfilt(scipy.signal.butter(2, 25, fs=RATE, output="sos"), envelope)
    threshold = 0.35 * np.percentile(envelope, 99.5)
    return len(scipy.signal.find_peaks(envelope, threshold, distance=RATE // 20)[0])


def test_a_missing_stroke_lowers_the_event_count(monkeypatch):
    # Without the stalled drive's buzz, only the strokes differ.
    quiet = machine_kinds.individual(0, "valve", "valve", "00").family.faults
    monkeypatch.setitem(quiet, "missing stroke", -60)
    carrier, _ = render("valve", seconds=10)
    recording, fault = render("valve", "missing stroke", seconds=10)
    assert fault.strokes >= 1
    # Each stroke of a valve is two impacts, opening and closing.
    lost = events(carrier[:, 0]) - events(recording[:, 0])
    assert abs(lost - 2 * fault.strokes) <= 1


def test_a_missing_stroke_buzzes_at_twice_the_mains():
    added, _, fault = difference("valve", "missing stroke", seconds=10)
    spectrum = np.abs(np.fft.rfft(added)) ** 2
    hz = np.fft.rfftfreq(added.size, 1 / RATE)
    lines = np.abs((hz + 50) % 100 - 50) < 3
    below = (hz > 150) & (hz < 1550)
    assert spectrum[lines & below].sum() > 0.3 * spectrum[below].sum() and fault.strokes


def test_ids_are_specimens_of_one_design():
    for family in machine_kinds.FAMILIES:
        first, second = (machine_kinds.individual(0, family, family, s) for s in ("00", "02"))
        assert first.mesh == second.mesh
        assert first.shaft_hz != second.shaft_hz
        # Tolerances of 8 and 7 percent either way.
        assert 0.92 / 1.08 <= first.shaft_hz / second.shaft_hz <= 1.08 / 0.92
        ratio = first.resonances_hz / second.resonances_hz
        assert np.all((ratio >= 0.93 / 1.07) & (ratio <= 1.07 / 0.93)) and np.all(ratio != 1)


def test_the_speed_attribute_is_the_speed():
    def blade_pass(condition):
        machine = machine_kinds.individual(0, "pump", "pump", "00")
        sound = render("pump", condition=condition)[0][:, 0].astype(float)
        expected = machine.shaft_hz * machine.mesh * condition.speed / 100
        spectrum = np.abs(np.fft.rfft(sound * np.hanning(sound.size))) ** 2
        hz = np.fft.rfftfreq(sound.size, 1 / RATE)
        near = np.abs(hz / expected - 1) < 0.05
        return hz[near][np.argmax(spectrum[near])] / expected

    # A clip's speed is within 1.5 % of the stated one and wanders by 0.5 %.
    for speed in (84, 100, 118):
        assert abs(blade_pass(machine_kinds.Condition(speed)) - 1) < 0.025


def test_load_and_microphone_change_the_sound():
    def level(condition):
        return decibel(np.mean(render("fan", condition=condition)[0].astype(float) ** 2))

    plain = level(machine_kinds.Condition())
    assert level(machine_kinds.Condition(load=2)) > plain + 1
    assert level(machine_kinds.Condition(microphone=2)) < plain - 1


@pytest.mark.parametrize("family", machine_kinds.FAMILIES)
def test_nothing_clips(family):
    for i in range(2):
        for cause in [None, *machine_kinds.FAMILIES[family].faults]:
            audio, _ = render(family, cause, key=f"{i}", level_offset_db=6.0)
            assert 0.01 < np.abs(audio).max() < 0.98  # 0.99 is where a clip is scaled down
            assert abs(audio.mean()) < 1e-3


def test_channels_hear_one_machine():
    stereo, _ = render("pump", microphones_db=(0.0, -6.0))
    assert stereo.shape == (6 * RATE, 2)
    level = decibel(np.mean(stereo**2, axis=0))
    assert level[0] > level[1]
    coherence = scipy.signal.coherence(stereo[:, 0], stereo[:, 1], RATE, nperseg=1024)[1]
    assert coherence.max() > 0.9 and coherence.min() < 0.5


def hall(places, key, seconds=6):
    """What is heard of a factory, re the machines' nominal RMS."""
    rng = machine_kinds.stream(0, key)
    machine = machine_kinds.individual(0, "fan", "fan", "00")
    motion = machine_sounds.Motion(machine, machine_kinds.Condition(), rng, seconds * RATE, RATE)
    noise = machine_sounds._factory(places, rng, motion, (2, seconds * RATE))
    return noise / machine_sounds._MACHINE_RMS


@pytest.mark.parametrize("factory", [(), machine_kinds.factory(0)])
def test_machine_and_noise_alone_add_up_to_both(factory):
    both, machine, noise = (
        render("fan", alone=alone, factory=factory)[0] for alone in ("", "machine", "noise")
    )
    np.testing.assert_allclose(machine + noise, both, atol=1e-6)  # single precision
    assert min(np.std(machine), np.std(noise)) > 1e-3


def test_a_factory_has_places_that_differ():
    places = machine_kinds.factory(0)
    assert places == machine_kinds.factory(0) != machine_kinds.factory(1)
    assert len({place.corner_hz for place in places}) == len(places) >= 4
    neighbours = [one for place in places for one in place.neighbours]
    assert len({one.shaft_hz for one in neighbours}) == len(neighbours)


def test_the_noise_of_a_factory_is_as_loud_as_stated():
    place, *_ = machine_kinds.factory(0)
    alone = dataclasses.replace(place, neighbours=())
    levels = [decibel(np.median(hall([alone], f"{i}") ** 2) / 0.455) for i in range(40)]
    # The median of squares, 0.455 for Gaussian noise, leaves out clatter; the noise swells by
    # 2 dB and has lines 10 dB below it and less.
    assert -7.5 < min(levels) < -3 and 3 < max(levels) < 7.5


def test_neighbours_start_and_stop(monkeypatch):
    monkeypatch.setattr(machine_sounds, "_FACTORY_SNR_DB", (0.0, 0.0))
    monkeypatch.setattr(machine_sounds, "_NEIGHBOUR_DB", (3.0, 3.0))
    place, *_ = machine_kinds.factory(0)
    one = dataclasses.replace(place, neighbours=place.neighbours[:1])
    running = 0
    starts, stops = 0, 0
    for i in range(40):
        # Half a second's median leaves out clatter; the noise, 2 dB loud at most, swells slowly.
        parts = decibel(np.median(hall([one], f"{i}")[0].reshape(12, -1) ** 2, axis=1) / 0.455)
        running += np.sum(parts > 2.5)  # 1 + 2 times the noise's power is 4.8 dB
        starts += parts[-1] > parts[0] + 3
        stops += parts[0] > parts[-1] + 3
    assert 0.25 < running / (40 * 12) < 0.75
    # Each in a quarter of the clips.
    assert 3 <= starts <= 20 and 3 <= stops <= 20


def test_an_unknown_fault_is_an_error():
    with pytest.raises(ValueError, match="no fault 'rust'"):
        machine_faults.source("rust", None, None, None, None, 0.0, None)


@pytest.mark.parametrize("far_db", [-6.0, -20.0])
def test_the_machine_is_so_much_fainter_at_the_far_microphone(far_db):
    alone, _ = render("fan", microphones_db=(0.0, far_db), alone="machine")
    near, far = (alone.astype(float) ** 2).sum(axis=0)
    assert abs(decibel(far / near) - far_db) < 0.5  # echoes arrive by paths of their own


@pytest.mark.parametrize(("one_source", "least_db", "most_db"), [(True, 15, 90), (False, -1, 2)])
def test_microphones_hear_one_loudspeaker_alike(one_source, least_db, most_db):
    """So that its sound can be taken off; that of a hall is each microphone's own, but clatter."""
    options = {"microphones_db": (0.0, -20.0), "alone": "noise", "one_source": one_source}
    noise, _ = render("gearbox", **options)
    near = noise[:, 0].astype(float)
    left = cancelled(noise).astype(float)
    assert least_db < decibel((near**2).sum() / (left**2).sum()) < most_db
    # As loud as the hall that it stands for.
    hall, _ = render("gearbox", **{**options, "one_source": False})
    assert abs(decibel((near**2).mean() / (hall[:, 0].astype(float) ** 2).mean())) < 3
