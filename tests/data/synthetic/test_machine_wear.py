"""Faults that change a machine's own sound: what is changed, by how much, and what is not."""

import dataclasses

import numpy as np
import pytest

from asd_jax.data.synthetic import machine_kinds, machine_sounds
from asd_jax.data.synthetic.machine_wear import CAUSES, CHANGES, worn

RATE = 16_000
CHANGED = {
    "voltage": {"shaft_hz", "strokes_hz"},
    "clogging": {"shaft_hz", "family"},
    "loose": {"resonances_hz", "bandwidths_hz"},
    "dry": {"family"},
    "sticking": {"stroke_jitter", "stroke_spread_db"},
}


def specimen(family):
    return machine_kinds.individual(0, family, family, "00")


def draws(family, cause, offset_db=0.0, count=200):
    machine = specimen(family)
    return machine, [
        worn(machine, cause, offset_db, machine_kinds.stream(0, f"{i}")) for i in range(count)
    ]


def power(family, cause, key="x"):
    """Power spectrum of 6 s, and its frequencies in Hz."""
    sound, fault = machine_sounds.render(
        specimen(family),
        machine_kinds.Condition(),
        machine_kinds.stream(0, key),
        samples=6 * RATE,
        sample_rate=RATE,
        cause=cause,
        fault_rng=machine_kinds.stream(0, key, "fault"),
    )
    if cause is not None:
        assert fault.cause == cause and np.isnan(fault.level_db) and fault.strokes == 0
    spectrum = np.abs(np.fft.rfft(sound[:, 0].astype(float))) ** 2
    return spectrum, np.fft.rfftfreq(len(sound), 1 / RATE)


def test_every_kind_has_changes_of_its_own():
    assert CHANGES.keys() == machine_kinds.FAMILIES.keys()
    assert CHANGED.keys() == CAUSES
    for family, causes in CHANGES.items():
        assert len(set(causes)) == len(causes) >= 2
        # A name means one thing: a sound on top, or a change.
        assert not set(causes) & machine_kinds.FAMILIES[family].faults.keys()


@pytest.mark.parametrize("cause", sorted(CAUSES))
def test_nothing_else_is_changed(cause):
    machine, (changed, *_) = draws("slider", cause, count=1)
    for field in dataclasses.fields(machine):
        same = np.array_equal(getattr(machine, field.name), getattr(changed, field.name))
        assert same == (field.name not in CHANGED[cause]), field.name


@pytest.mark.parametrize("offset_db", [-6.0, 0.0, 6.0])
def test_sizes_double_with_6_db(offset_db):
    factor = 2 ** (offset_db / 6)
    low, high = 0.6 * factor, 1.4 * factor

    def within(values, lowest, highest):
        assert lowest - 1e-9 <= min(values) and max(values) <= highest + 1e-9
        # 200 even draws come near both ends.
        assert max(values) - min(values) > 0.9 * (highest - lowest)

    machine, changed = draws("slider", "voltage", offset_db)
    shaft = np.array([one.shaft_hz / machine.shaft_hz for one in changed])
    strokes = np.array([one.strokes_hz / machine.strokes_hz for one in changed])
    np.testing.assert_allclose(shaft, strokes)
    assert 60 < np.sum(shaft > 1) < 140
    within(np.abs(shaft - 1), 0.15 * low, 0.15 * high)

    machine, changed = draws("fan", "clogging", offset_db)
    within([one.shaft_hz / machine.shaft_hz for one in changed], 1 - 0.05 * high, 1 - 0.05 * low)
    corners = [one.family.flow_hz / machine.family.flow_hz for one in changed]
    within(np.log(corners) / np.log(0.6), low, high)

    machine, changed = draws("fan", "loose", offset_db)
    widths = np.array([one.bandwidths_hz / machine.bandwidths_hz for one in changed])
    within(np.log(widths).ravel() / np.log(1.5), low, high)
    moved = np.array([one.resonances_hz / machine.resonances_hz - 1 for one in changed])
    assert 0.1 * high < np.abs(moved).max() <= 0.12 * high
    assert abs(moved.mean()) < 0.01 * factor  # up as often as down

    machine, changed = draws("bearing", "dry", offset_db)
    within([one.family.flow_db - machine.family.flow_db for one in changed], 5 * low, 5 * high)

    machine, changed = draws("valve", "sticking", offset_db)
    within([one.stroke_jitter / machine.stroke_jitter for one in changed], 10 * low, 10 * high)
    within([one.stroke_spread_db / machine.stroke_spread_db for one in changed], 4 * low, 4 * high)


def test_the_drive_never_stands_still():
    for cause in ("voltage", "clogging"):
        machine, changed = draws("fan", cause, offset_db=60.0, count=20)
        assert all(one.shaft_hz >= machine.shaft_hz / 2 for one in changed)


def test_a_wrong_voltage_moves_the_blade_pass():
    machine = specimen("pump")
    changed = worn(machine, "voltage", 0.0, machine_kinds.stream(0, "x", "fault"))
    for cause, one in ((None, machine), ("voltage", changed)):
        spectrum, hz = power("pump", cause)
        expected = one.shaft_hz * one.mesh
        near = np.abs(hz / expected - 1) < 0.05
        # A clip's speed is within 1.5 % of its individual's and wanders by 0.5 %.
        assert abs(hz[near][np.argmax(spectrum[near])] / expected - 1) < 0.025


def test_a_dry_machine_is_louder_in_the_treble():
    def treble(cause):
        shares = []
        for key in "abcd":
            spectrum, hz = power("bearing", cause, key)
            shares.append(spectrum[hz > 3000].sum() / spectrum.sum())
        return np.mean(shares)

    assert treble("dry") > 1.1 * treble(None)


def test_an_unknown_change_is_an_error():
    with pytest.raises(ValueError, match="no change 'rust'"):
        worn(specimen("fan"), "rust", 0.0, machine_kinds.stream(0, "x"))
