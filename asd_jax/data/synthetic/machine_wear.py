"""Wear and wrong operation of machines, for the synthetic data: the machine's own sound changes.

| cause | change |
|---|---|
| voltage | the drive, and with it all cycles, turns too fast or too slowly |
| clogging | flow noise is duller, and the drive slows down |
| loose | the resonances of the body move and are more heavily damped |
| dry | friction noise is brighter and louder against the rest |
| sticking | strokes come late or early, and with uneven strength |

The recordings of MIMII and ToyADMOS have such faults beside added sounds (`machine_faults`):
wrong voltage, clogging, loose belts and screws, missing grease, contaminated valves; here each has
a name that suits several kinds of machine. A change is drawn independently of the differences
between ids.
"""

import dataclasses

import numpy as np

from asd_jax.data.synthetic.machine_kinds import Individual

CHANGES = {
    "fan": ("voltage", "clogging", "loose"),
    "pump": ("clogging", "voltage", "loose"),
    "valve": ("sticking", "loose", "dry"),
    "slider": ("dry", "loose", "voltage"),
    "gearbox": ("voltage", "dry", "loose"),
    "bearing": ("dry", "loose", "voltage"),
    "toy": ("voltage", "loose", "dry"),
    "conveyor": ("loose", "voltage", "dry"),
}

CAUSES = {cause for causes in CHANGES.values() for cause in causes}


def worn(
    machine: Individual, cause: str, level_offset_db: float, rng: np.random.Generator
) -> Individual:
    """Applies a fault that changes a machine's own sound.

    Args:
        machine: the intact specimen.
        cause: one of the module's table.
        level_offset_db: twice the change for every 6 dB.
        rng: the fault's stream.

    Returns:
        The worn specimen.

    Raises:
        ValueError: there is no such cause.
    """
    size = 2 ** (level_offset_db / 6) * rng.uniform(0.6, 1.4)
    family = machine.family
    if cause == "voltage":
        factor = 1 + rng.choice([-1, 1]) * min(0.15 * size, 0.5)
        return dataclasses.replace(
            machine, shaft_hz=machine.shaft_hz * factor, strokes_hz=machine.strokes_hz * factor
        )
    if cause == "clogging":
        duller = dataclasses.replace(family, flow_hz=family.flow_hz * 0.6**size)
        return dataclasses.replace(
            machine, family=duller, shaft_hz=machine.shaft_hz * (1 - min(0.05 * size, 0.3))
        )
    if cause == "loose":
        shift = 1 + 0.12 * size * rng.uniform(-1, 1, machine.resonances_hz.size)
        return dataclasses.replace(
            machine,
            resonances_hz=machine.resonances_hz * shift,
            bandwidths_hz=machine.bandwidths_hz * 1.5**size,
        )
    if cause == "dry":
        rough = dataclasses.replace(
            family, flow_hz=family.flow_hz * 1.5**size, flow_db=family.flow_db + 5 * size
        )
        return dataclasses.replace(machine, family=rough)
    if cause == "sticking":
        return dataclasses.replace(
            machine,
            stroke_jitter=machine.stroke_jitter * 10 * size,
            stroke_spread_db=machine.stroke_spread_db * 4 * size,
        )
    raise ValueError(f"no change {cause!r}")
