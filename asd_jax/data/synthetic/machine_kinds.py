"""Kinds of machines and their individuals, for the synthetic data sets.

A `Family` has the ranges of a kind of machine. A machine type's design is drawn from them. An
`Individual` (an id or a section) differs from its type by tolerances: two ids are two specimens
of one product.
"""

import dataclasses
import functools
import zlib

import numpy as np

_TABLE = 8192  # samples of one shaft revolution in the wavetable
_SOURCE_SPEEDS = (95, 100, 105)  # percent of nominal
_TARGET_SPEEDS = (84, 118)
_STATE_SPEEDS = (60, 140)  # the slowest and the fastest of several operating states
_PLACES, _NEIGHBOURS = 6, 2  # places in a factory, and machines audible at each


@dataclasses.dataclass(frozen=True)
class Family:
    """Parameter ranges of one kind of machine. Levels are source levels in dB re each other.

    Attributes:
        shaft_hz: range of the shaft's nominal rotation rate.
        mesh: range of the number of blades, vanes or teeth a revolution.
        tones_db: level of the shaft and mesh orders.
        flow_db: level of flow, rolling or friction noise.
        flow_hz: corner of that noise, from which it falls by 6 dB an octave.
        faults: cause → typical level in dB re the whole recording (see `machine_faults`); for
            "missing stroke" the stalled drive's level re the strokes.
        strokes_hz: range of the working cycle's rate; None if the machine has none.
        impacts: impacts in a working cycle.
        impacts_db: level of the impacts.
        decay_ms: decay time constant of an impact.
        reciprocating: true if the shaft stops and starts with every stroke.
        snr_db: range of the machine's level above the hall's.
    """

    shaft_hz: tuple[float, float]
    mesh: tuple[int, int]
    tones_db: float
    flow_db: float
    flow_hz: float
    faults: dict[str, float]
    strokes_hz: tuple[float, float] | None = None
    impacts: int = 0
    impacts_db: float = 0.0
    decay_ms: float = 8.0
    reciprocating: bool = False
    snr_db: tuple[float, float] = (4.0, 9.0)


FAMILIES = {
    "fan": Family(
        shaft_hz=(18, 30), mesh=(5, 9), tones_db=-6, flow_db=0, flow_hz=600,
        faults={"imbalance": -8, "rub": -11, "bearing": -14, "whine": -17},
    ),
    "pump": Family(
        shaft_hz=(24, 48), mesh=(5, 7), tones_db=0, flow_db=-2, flow_hz=900,
        faults={"leak": -12.5, "cavitation": -14, "bearing": -16, "whine": -16},
    ),
    "valve": Family(
        shaft_hz=(50, 50.5), mesh=(2, 2), tones_db=-16, flow_db=-12, flow_hz=1200,
        strokes_hz=(0.9, 1.6), impacts=2, decay_ms=15,
        faults={"missing stroke": -1, "leak": -15, "knock": -19},
    ),
    "slider": Family(
        shaft_hz=(30, 45), mesh=(6, 10), tones_db=-3, flow_db=0, flow_hz=1500,
        strokes_hz=(0.6, 1.1), impacts=2, impacts_db=-4, reciprocating=True,
        faults={"missing stroke": -5, "knock": -12, "rub": -12, "whine": -18},
    ),
    "gearbox": Family(
        shaft_hz=(15, 25), mesh=(19, 31), tones_db=0, flow_db=-5, flow_hz=1000,
        faults={"bearing": -19, "knock": -11, "whine": -16},
    ),
    "bearing": Family(
        shaft_hz=(15, 30), mesh=(8, 11), tones_db=-8, flow_db=0, flow_hz=1800,
        faults={"bearing": -15, "rub": -10.5, "imbalance": -12},
    ),
    "toy": Family(
        shaft_hz=(55, 90), mesh=(8, 12), tones_db=0, flow_db=-3, flow_hz=1500,
        strokes_hz=(2.5, 5.0), impacts=2, impacts_db=-6, decay_ms=6,
        faults={"imbalance": -7, "knock": -14, "rub": -12, "whine": -14},
    ),
    "conveyor": Family(
        shaft_hz=(22, 28), mesh=(9, 13), tones_db=-2, flow_db=0, flow_hz=900,
        strokes_hz=(0.4, 0.7), impacts=6, impacts_db=-5, decay_ms=6,
        faults={"knock": -11, "rub": -15, "whine": -17},
    ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Condition:
    """Operating and recording condition of a clip, as in the attributes of file names.

    Attributes:
        speed: percent of the nominal speed.
        load: 1, or 2 for the heavier load.
        microphone: 1, or 2 for the farther one.
    """

    speed: int = 100
    load: int = 1
    microphone: int = 1

    @property
    def attributes(self) -> tuple[tuple[str, str], ...]:
        """The (name, value) pairs of file names."""
        return (("spd", f"{self.speed}"), ("load", f"{self.load}"), ("mic", f"{self.microphone}"))


@dataclasses.dataclass(frozen=True, eq=False)  # hashed by identity, for the cache of paths
class Individual:
    """One specimen of a machine type; see `individual`."""

    family: Family
    shaft_hz: float
    mesh: int
    strokes_hz: float
    impact_phases: np.ndarray  # (impacts,), in cycles
    order_table: np.ndarray  # (_TABLE + 1,), one revolution's tones, RMS 1
    resonances_hz: np.ndarray  # (resonances,)
    bandwidths_hz: np.ndarray
    gains: np.ndarray  # linear, re the direct path
    housing_hz: float  # resonance that bearing impacts excite
    hum_hz: np.ndarray  # lines of other machines in the hall
    reflection_s: np.ndarray  # (microphones,) delay of the strongest reflection
    level_db: float
    snr_db: float
    stroke_jitter: float = 0.004  # RMS, in cycles
    stroke_spread_db: float = 1.0  # RMS, of the strokes' strengths


@dataclasses.dataclass(frozen=True, eq=False)  # == of arrays has no single truth value
class Place:
    """The background at a place in a factory; see `factory`.

    Attributes:
        corner_hz: corner of its noise, from which it falls by 6 dB an octave.
        hum_hz: (lines,), of its hum.
        neighbours: machines that run nearby.
    """

    corner_hz: float
    hum_hz: np.ndarray
    neighbours: tuple[Individual, ...]


def stream(seed: int, *key: str) -> np.random.Generator:
    """The random stream of a key, independent of all other draws.

    Examples:
        >>> first, again = (stream(0, "fan", "00").integers(1000) for _ in range(2))
        >>> bool(first == again), bool(first == stream(0, "fan", "02").integers(1000))
        (True, False)
    """
    return np.random.default_rng([seed, *"/".join(key).encode()])


@functools.lru_cache(maxsize=256)
def individual(seed: int, machine: str, family: str, section: str) -> Individual:
    """Draws the specimen `section` of a machine type.

    Args:
        seed: of the data set.
        machine: machine type; the key of its design (nominal speed, blades, resonances).
        family: key of `FAMILIES`.
        section: id or section; the key of its tolerances.

    Returns:
        The individual.
    """
    # `design` has the draws shared by all sections of a machine type, `own` those of one section.
    kind = FAMILIES[family]
    design = stream(seed, machine, "design")
    own = stream(seed, machine, section, "individual")
    mesh = int(design.integers(kind.mesh[0], kind.mesh[1] + 1))
    shaft_hz = design.uniform(*kind.shaft_hz) * own.uniform(0.92, 1.08)
    strokes_hz = 0.0
    if kind.strokes_hz:
        strokes_hz = design.uniform(*kind.strokes_hz) * own.uniform(0.9, 1.1)
    phases = (np.arange(kind.impacts) + design.uniform(0.1, 0.5, kind.impacts)) / max(
        kind.impacts, 1
    )
    resonances_hz = np.geomspace(180, 5500, 7) * design.uniform(0.8, 1.25, 7)
    resonances_hz = resonances_hz * own.uniform(0.93, 1.07, 7)
    return Individual(
        family=kind,
        shaft_hz=shaft_hz,
        mesh=mesh,
        strokes_hz=strokes_hz,
        impact_phases=phases,
        order_table=_order_table(design, own, mesh, int(3200 / shaft_hz)),
        resonances_hz=resonances_hz,
        bandwidths_hz=resonances_hz * design.uniform(0.03, 0.10, 7),
        gains=design.uniform(0.5, 3.0, 7) * 10 ** (own.uniform(-2, 2, 7) / 20),
        housing_hz=design.uniform(2200, 4200) * own.uniform(0.95, 1.05),
        hum_hz=np.concatenate([[50, 100, 150], own.uniform(120, 900, 3)]),
        reflection_s=own.uniform([0.4e-3, 1.5e-3], [1.0e-3, 3.0e-3]),
        level_db=own.uniform(-2, 2),
        snr_db=own.uniform(*kind.snr_db),
    )


@functools.lru_cache(maxsize=8)
def factory(seed: int) -> tuple[Place, ...]:
    """Draws the places of a data set's factory, the same for all of its machines.

    Args:
        seed: of the data set.

    Returns:
        Places with different colours of noise, hums and machines nearby.
    """
    rng = stream(seed, "factory")
    kinds = [family for family in FAMILIES if not FAMILIES[family].reciprocating]
    places = []
    for place in range(_PLACES):
        chosen = rng.choice(kinds, _NEIGHBOURS, replace=False)
        places.append(
            Place(
                corner_hz=float(np.exp(rng.uniform(*np.log([100, 1200])))),
                hum_hz=np.concatenate([[50, 100, 150], rng.uniform(120, 900, 3)]),
                neighbours=tuple(
                    individual(seed, f"neighbour {place}", str(family), "00") for family in chosen
                ),
            )
        )
    return tuple(places)


def _order_table(
    design: np.random.Generator, own: np.random.Generator, mesh: int, highest: int
) -> np.ndarray:
    """One revolution of the tones: shaft orders, and mesh orders with sidebands."""
    angle = np.arange(_TABLE + 1) * (2 * np.pi / _TABLE)
    table = np.zeros(_TABLE + 1)
    orders = [(order, 0.5 / order) for order in range(1, 5)]  # (order, amplitude)
    for harmonic in range(1, 7):
        centre = harmonic * mesh
        orders += [(centre, harmonic**-0.8)]
        orders += [(centre + side, 0.25 / harmonic) for side in (-2, -1, 1, 2)]
    for order, amplitude in orders:
        jitter_db = design.uniform(-4, 4) + own.uniform(-2, 2)
        phase = own.uniform(0, 2 * np.pi)
        if 0 < order <= highest:
            table += amplitude * 10 ** (jitter_db / 20) * np.sin(order * angle + phase)
    return (table / table[:-1].std()).astype(np.float32)


def state_speeds(states: int) -> tuple[int, ...]:
    """Speeds of a machine's operating states, in percent of the nominal one.

    Examples:
        >>> state_speeds(1), state_speeds(2), state_speeds(3)
        ((95, 100, 105), (60, 140), (60, 100, 140))
    """
    if states == 1:
        return _SOURCE_SPEEDS
    return tuple(np.linspace(*_STATE_SPEEDS, states).round().astype(int).tolist())


def draw_condition(
    rng: np.random.Generator, machine: str, section: str, domain: str, states: int = 1
) -> Condition:
    """Draws the condition of one clip.

    The name of the machine and section decides whether its target domain differs by speed, load
    or microphone. With several states no speed is of one domain alone, and load stands for speed.

    Args:
        rng: the clip's stream.
        machine: machine type.
        section: id or section.
        domain: "source", "target", or "" for years without domains.
        states: as of `state_speeds`.

    Returns:
        The condition.
    """
    speed = int(rng.choice(state_speeds(states)))
    if domain != "target":
        return Condition(speed)
    shift = (zlib.crc32(machine.encode()) + int(section)) % 3
    if shift == 0 and states == 1:
        return Condition(int(rng.choice(_TARGET_SPEEDS)))
    return Condition(speed, microphone=2) if shift == 2 else Condition(speed, load=2)
