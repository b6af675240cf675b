"""The clips of a synthetic data set, and their names in each year's layout."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from asd_jax.data.synthetic import machine_kinds, machine_wear
from asd_jax.data.years import official_archives
from asd_jax.errors import UserError

MIMII = 0  # the year that stands for raw MIMII
BOTH = "both"  # the subset that stands for both
FAR_DB = -6.0  # of the machine at the far one of two microphones, re the near one
_MOST_STATES = 6  # whose speeds are a tenth or more apart
_FEWEST_TARGETS = 3  # target clips of a challenge's training set
_FEWEST_TESTS, _MOST_TESTS = 8, 100  # normal test clips of a section, and as many anomalous

# Machine name → kind of machine, and its clips' length as a multiple of the set's duration.
KINDS = {
    "3DPrinter": ("slider", 1.2),
    "AirCompressor": ("pump", 1.0),
    "AutoTrash": ("slider", 1.0),
    "BandSealer": ("conveyor", 1.0),
    "BlowerDustCollector": ("fan", 1.0),
    "BrushlessMotor": ("gearbox", 0.6),
    "CoffeeGrinder": ("bearing", 1.0),
    "HairDryer": ("fan", 0.6),
    "HomeCamera": ("gearbox", 1.0),
    "HoveringDrone": ("fan", 0.6),
    "Polisher": ("bearing", 1.0),
    "RoboticArm": ("slider", 1.0),
    "Sander": ("bearing", 1.0),
    "Scanner": ("slider", 1.0),
    "ScrewFeeder": ("conveyor", 1.0),
    "SewingMachine": ("toy", 1.0),
    "ToothBrush": ("gearbox", 0.6),
    "ToyCar": ("toy", 1.1),
    "ToyCarEmu": ("toy", 1.1),
    "ToyCircuit": ("toy", 0.8),
    "ToyConveyor": ("conveyor", 1.0),
    "ToyDrone": ("fan", 1.0),
    "ToyNscale": ("toy", 1.0),
    "ToyPet": ("toy", 1.0),
    "ToyRCCar": ("toy", 1.0),
    "ToyTank": ("toy", 0.8),
    "ToyTrain": ("toy", 1.2),
    "Vacuum": ("fan", 0.8),
    "bandsaw": ("bearing", 1.0),
    "bearing": ("bearing", 1.0),
    "bearingEmu": ("bearing", 1.0),
    "fan": ("fan", 1.0),
    "gearbox": ("gearbox", 1.0),
    "gearboxEmu": ("gearbox", 1.0),
    "grinder": ("bearing", 1.0),
    "pump": ("pump", 1.0),
    "shaker": ("slider", 1.0),
    "slider": ("slider", 1.0),
    "sliderEmu": ("slider", 1.0),
    "valve": ("valve", 1.0),
    "valveEmu": ("valve", 1.0),
}

_SECTIONS = {"dev": ("00", "01", "02"), "eval": ("03", "04", "05")}  # 2021 and 2022
_IDS_2020 = {"dev": ("00", "02", "04", "06"), "eval": ("01", "03", "05")}
_TOY_IDS_2020 = {
    ("ToyCar", "dev"): ("01", "02", "03", "04"),
    ("ToyCar", "eval"): ("05", "06", "07"),
    ("ToyConveyor", "dev"): ("01", "02", "03"),
    ("ToyConveyor", "eval"): ("04", "05", "06"),
}
# Machines whose supplemental clips, of 2025, are without noise; those of others are of noise alone.
_WITHOUT_NOISE = frozenset(
    {"ToyTrain", "gearbox", "slider", "BandSealer", "CoffeeGrinder", "Polisher", "ToyPet"}
)
_SUPPLEMENTAL_SHARE = 0.1  # of the training clips, where no number is given
_WITHOUT_ATTRIBUTES = frozenset(  # from 2024 on
    {"slider", "sliderEmu", "AirCompressor", "HoveringDrone", "Polisher", "ToothBrush"}
)


def machines_of(year: int, subset: str) -> tuple[str, ...]:
    """The machine types of a year's set; empty if there is no such set.

    Examples:
        >>> machines_of(2020, "dev")
        ('ToyCar', 'ToyConveyor', 'fan', 'pump', 'slider', 'valve')
    """
    if year == MIMII:
        return ("fan", "pump", "slider", "valve") if subset == "dev" else ()
    archives = official_archives()
    return tuple(sorted({a.machine for a in archives if a.year == year and a.subset == subset}))


def subsets_of(subset: str) -> tuple[str, ...]:
    """The sets that a setting means.

    Examples:
        >>> subsets_of("both")
        ('dev', 'eval')
    """
    return ("dev", "eval") if subset == BOTH else (subset,)


def handful(machines: tuple[str, ...]) -> tuple[str, ...]:
    """Chooses three machine types of different kinds.

    Examples:
        >>> handful(machines_of(2020, "dev"))
        ('fan', 'pump', 'valve')
    """
    first: dict[str, str] = {}
    kinds = list(machine_kinds.FAMILIES)
    for machine in sorted(machines, key=lambda name: kinds.index(KINDS[name][0])):
        first.setdefault(KINDS[machine][0], machine)
    return tuple(first.values())[:3]


def sections_of(year: int, subset: str, machine: str) -> tuple[str, ...]:
    """The ids or sections of a machine in a year's set.

    Examples:
        >>> sections_of(2020, "dev", "fan"), sections_of(2023, "dev", "fan")
        (('00', '02', '04', '06'), ('00',))
    """
    if year in (MIMII, 2020):
        return _TOY_IDS_2020.get((machine, subset), _IDS_2020[subset])
    return ("00",) if year >= 2023 else _SECTIONS[subset]


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings that the bytes of a data set depend on; see `synthetic.synthesize`."""

    year: int
    subset: str
    machines: tuple[str, ...]
    sections: int
    clips: int
    seed: int
    duration: float
    sample_rate: int
    difficulty: str
    hall: str = "own"
    far_db: float = FAR_DB
    faults: str = "added"
    supplemental: int = 0
    states: int = 1
    generator: int = 1

    @property
    def microphones_db(self) -> tuple[float, ...]:
        """Level of the machine at each channel."""
        if self.year == MIMII:
            return (0.0,) * 8
        return (0.0, self.far_db) if self.year == 2026 else (0.0,)

    def samples(self, machine: str) -> int:
        """Length of a machine's clips."""
        return round(self.duration * KINDS[machine][1] * self.sample_rate)


@dataclasses.dataclass(frozen=True)
class Take:
    """One recording to make.

    Attributes:
        path: below the root of the data set, with slashes.
        machine: machine type.
        section: id or section.
        split: "train", "test" or "supplemental".
        domain: "source", "target", or "" for years without domains.
        key: key of its random streams, beside seed, machine and section.
        condition: of the machine.
        cause: of the fault; None for a normal clip.
        alone: what a supplemental clip has, "machine" or "noise"; "" for both.
        original: name of an unlabelled clip that says its label; "" of other clips.
    """

    path: str
    machine: str
    section: str
    split: str
    domain: str
    key: str
    condition: machine_kinds.Condition
    cause: str | None
    alone: Literal["", "machine", "noise"] = ""
    original: str = ""


def supplemental_clips(year: int, clips: int) -> int:
    """Number of supplemental clips of a machine with so many training clips, by default.

    Examples:
        >>> supplemental_clips(2025, 1000), supplemental_clips(2024, 1000)
        (100, 0)
    """
    return max(1, round(_SUPPLEMENTAL_SHARE * clips)) if year == 2025 else 0


def plan(settings: Settings) -> list[Take]:
    """All recordings of a data set, in the order of its listing."""
    takes = []
    for subset in subsets_of(settings.subset):
        own = dataclasses.replace(settings, subset=subset)
        known = machines_of(settings.year, subset)
        for machine in filter(known.__contains__, settings.machines):
            for section in sections_of(settings.year, subset, machine)[: settings.sections]:
                takes += _plan_section(own, machine, section)
    return takes


def _plan_section(settings: Settings, machine: str, section: str) -> list[Take]:
    """The recordings of one section, in the order of the listing."""
    # Normal clips by domain, in training and in test; as many anomalies as normal test clips.
    tests = min(max(settings.clips // 2, _FEWEST_TESTS), _MOST_TESTS)
    if settings.year in (MIMII, 2020):
        counts = {"": settings.clips}, {"": tests}
    else:
        share = 3 / 1003 if settings.year == 2021 else 10 / 1000
        target = max(round(share * settings.clips), _FEWEST_TARGETS)
        target = min(target, settings.clips // 2)
        counts = (
            {"source": settings.clips - target, "target": target},
            {"source": tests - tests // 2, "target": tests // 2},
        )
    groups = [("train", domain, "normal", count) for domain, count in counts[0].items()]
    for domain, count in counts[1].items():
        groups += [("test", domain, "normal", count), ("test", domain, "anomaly", count)]

    hidden = settings.subset == "eval"
    orders = _hidden_orders(settings, machine, section, groups) if hidden else {}
    causes = _causes(settings, machine)
    takes = []
    for split, domain, label, count in groups:
        for index in range(count):
            key = f"{split}/{domain}/{label}/{index}"
            rng = machine_kinds.stream(settings.seed, machine, section, key, "condition")
            condition = machine_kinds.draw_condition(rng, machine, section, domain, settings.states)
            # MIMII has all normal clips in one folder: test clips are numbered after the others.
            number = index
            if settings.year == MIMII and split == "test" and label == "normal":
                number += settings.clips
            take = Take("", machine, section, split, domain, key, condition, None)
            name = _name(settings, take, label, orders.get(key, number), key in orders)
            cause = causes[index % len(causes)] if label == "anomaly" else None
            original = ""
            if key in orders:
                original = _name(settings, take, label, number, False).rpartition("/")[2]
            takes.append(dataclasses.replace(take, path=name, cause=cause, original=original))
    return takes + _plan_supplemental(settings, machine, section)


def _plan_supplemental(settings: Settings, machine: str, section: str) -> list[Take]:
    """The clips of 2025 that are of a machine without noise, or of the noise around it."""
    alone: Literal["machine", "noise"] = "machine" if machine in _WITHOUT_NOISE else "noise"
    takes = []
    for index in range(settings.supplemental):
        key = f"supplemental/{alone}/{index}"
        rng = machine_kinds.stream(settings.seed, machine, section, key, "condition")
        condition = machine_kinds.draw_condition(rng, machine, section, "source", settings.states)
        folder = f"{settings.subset}_data/{machine}/supplemental"
        path = f"{folder}/section_{section}_{alone}_{index:04d}.wav"
        take = Take(path, machine, section, "supplemental", "", key, condition, None, alone)
        takes.append(take)
    return takes


def _causes(settings: Settings, machine: str) -> tuple[str, ...]:
    """Causes of a machine's anomalies, which its anomalous clips have in turn."""
    family = KINDS[machine][0]
    added = tuple(machine_kinds.FAMILIES[family].faults)
    if settings.faults == "added":
        return added
    return (*added, *machine_wear.CHANGES[family])


def _hidden_orders(settings, machine, section, groups) -> dict[str, int]:
    """Numbers of unlabelled test clips by their keys, shuffled so that they reveal no label."""
    keys: dict[str, list[str]] = {}
    for split, domain, label, count in groups:
        if split == "test":
            folder = domain if settings.year == 2021 else ""
            keys.setdefault(folder, []).extend(
                f"{split}/{domain}/{label}/{index}" for index in range(count)
            )
    orders: dict[str, int] = {}
    for folder, inside in keys.items():
        rng = machine_kinds.stream(settings.seed, machine, section, folder, "order")
        orders.update(zip(inside, map(int, rng.permutation(len(inside))), strict=True))
    return orders


def _name(settings: Settings, take: Take, label: str, number: int, hidden: bool) -> str:
    """Path of a clip below the root, in the year's layout."""
    machine, section, split, domain = take.machine, take.section, take.split, take.domain
    if settings.year == MIMII:
        folder = "normal" if label == "normal" else "abnormal"
        return f"{machine}/id_{section}/{folder}/{number:08d}.wav"
    root = f"{settings.subset}_data/{machine}"
    if settings.year == 2020:
        prefix = "" if hidden else f"{label}_"
        return f"{root}/{split}/{prefix}id_{section}_{number:08d}.wav"
    if settings.year == 2021 and split == "test":
        prefix = "" if hidden else f"{label}_"
        name = f"section_{section}_{domain}_test_{prefix}{number:04d}.wav"
        return f"{root}/{domain}_test/{name}"
    if hidden:
        return f"{root}/test/section_{section}_{number:04d}.wav"
    attributes = "_".join(f"{name}_{value}" for name, value in attributes_of(settings, take))
    suffix = attributes or "noAttribute"
    return f"{root}/{split}/section_{section}_{domain}_{split}_{label}_{number:04d}_{suffix}.wav"


def check_states(settings: Settings, machines: Sequence[str]) -> None:
    """Raises UserError for more operating states than the names of a year's clips can say."""
    year, states = settings.year, settings.states
    if states > _MOST_STATES:
        raise UserError(f"states={states}: give {_MOST_STATES} at most")
    if states > 1 and year < 2022:
        raise UserError(
            f"states={states}: names of year {year} say no speeds; give year=2022 or later"
        )
    lacking = _WITHOUT_ATTRIBUTES.intersection(machines) if year >= 2024 else ()
    if states > 1 and lacking:
        raise UserError(
            f"states={states}: names of {', '.join(sorted(lacking))} say no speeds in year {year}; "
            "choose other machines, or year=2022 or 2023"
        )


def attributes_of(settings: Settings, take: Take) -> tuple[tuple[str, str], ...]:
    """The (name, value) pairs in a clip's name; empty if the year's names have none."""
    if settings.year >= 2024 and take.machine in _WITHOUT_ATTRIBUTES:
        return ()
    return take.condition.attributes
