"""Shares of maps inside injected faults, beside those of a uniform map and of the spectrogram.

    .venv/bin/python scripts/map_shares.py --config=spectral --machines=fan,pump,slider --clips=16

Fits a configuration to synthetic machines, or to a folder of normal recordings, and explains test
clips of which the fault alone is known: that of a recording with a fault, minus the same recording
without. Its place is the fewest frames, times the fewest bands, that have 90 % of its power. With
--faulty_dir and --normal_dir, faults are those of recordings of one's own: a faulty recording minus
the normal one that is the most like it.

Printed are means over the clips, in percent: the share of the area, which a uniform map has; of the
spectrogram's power, and of its level above its lowest; and of the map. `ratio` is the median of
map over uniform, `above` the share of clips in which the map has more than a uniform one.
--rule=_POWER=2 gives the same of another rule of the map, by a constant of asd_jax/scoring/maps.py;
given several times, of each by itself.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import app, flags

from asd_jax import config as configs
from asd_jax.audio import FrontEnd
from asd_jax.data.audio_files import read
from asd_jax.data.synthetic import machine_kinds, machine_sounds
from asd_jax.data.synthetic.takes import KINDS, Settings, plan
from asd_jax.errors import UserError
from asd_jax.fitting.arrays import fit
from asd_jax.fitting.detector import FittedDetector
from asd_jax.scoring import maps

_CONFIG = flags.DEFINE_string("config", "spectral", "configuration")
_SET = flags.DEFINE_multi_string("set", [], "KEY=VALUE of the configuration; may be repeated")
_MACHINES = flags.DEFINE_list("machines", ["fan", "pump", "slider"], "synthetic machines of 2020")
_SECTIONS = flags.DEFINE_integer("sections", 2, "ids of each")
_CLIPS = flags.DEFINE_integer("clips", 16, "normal training clips of each id")
_DURATION = flags.DEFINE_float("duration", 4.0, "seconds a clip")
_SEED = flags.DEFINE_integer("seed", 201, "of the synthetic machines")
_RULES = flags.DEFINE_multi_string("rule", [], "NAME=VALUE of the map's constants to try, too")
_TRAIN_DIR = flags.DEFINE_string("train_dir", None, "normal recordings in place of synthetic ones")
_NORMAL_DIR = flags.DEFINE_string("normal_dir", None, "recordings that faults were injected into")
_FAULTY_DIR = flags.DEFINE_string("faulty_dir", None, "recordings with faults, anomaly_*.wav")

_RATE = 16_000
_OF_FIT = "SMOOTHING"  # constants that what is usual depends on, which is made by the fit
_MOST_POWER = 0.9
# A faulty recording is one of the normal ones with a fault, if so little is left of the difference.
_MOST_LEFT = 0.5


class Case(NamedTuple):
    """A test clip and its fault.

    Attributes:
        machine: its machine.
        section: its section.
        sound: (samples,).
        fault: (samples,) of the sound, what the fault has added.
    """

    machine: str
    section: str
    sound: np.ndarray
    fault: np.ndarray


class Shares(NamedTuple):
    """Shares inside a fault's place, from 0 to 1: of the area, of levels, and of the map."""

    uniform: float
    power: float
    level: float
    map: float


def fewest(power: np.ndarray) -> np.ndarray:
    """True (n,) for the fewest values that add up to 90 % of all.

    Examples:
        >>> fewest(np.array([1.0, 60.0, 4.0, 35.0])).tolist()
        [False, True, False, True]
    """
    order = np.argsort(-power)
    count = int(np.searchsorted(np.cumsum(power[order]), _MOST_POWER * power.sum())) + 1
    chosen = np.zeros(len(power), bool)
    chosen[order[:count]] = True
    return chosen


def place_of(fault: np.ndarray) -> np.ndarray:
    """True (frames, bands) at the times and frequencies of a fault of levels (frames, bands)."""
    power = 10 ** (fault / 10)
    return np.outer(fewest(power.sum(axis=1)), fewest(power.sum(axis=0)))


def shares_of(place: np.ndarray, levels: np.ndarray, shares: np.ndarray) -> Shares:
    """Shares inside a place.

    Args:
        place: (frames, bands).
        levels: as `place`, of the clip in dB.
        shares: as `place`, the map.
    """
    power, above = 10 ** (levels / 10), levels - levels.min()
    whole = [values[place].sum() / values.sum() for values in (power, above, shares)]
    return Shares(float(place.mean()), *map(float, whole))


def synthetic() -> tuple[list[Case], list[Case]]:
    """Training clips, without faults, and test clips with added ones."""
    settings = Settings(
        year=2020,
        subset="dev",
        machines=tuple(_MACHINES.value),
        sections=_SECTIONS.value,
        clips=_CLIPS.value,
        seed=_SEED.value,
        duration=_DURATION.value,
        sample_rate=_RATE,
        difficulty="default",
        hall="own",
        faults="added",
    )
    training, test = [], []
    for take in plan(settings):
        key = settings.seed, take.machine, take.section, take.key

        def rendered(cause: str | None, take=take, key=key) -> np.ndarray:
            family = KINDS[take.machine][0]
            sound, _ = machine_sounds.render(
                machine_kinds.individual(settings.seed, take.machine, family, take.section),
                take.condition,
                machine_kinds.stream(*key, "sound"),
                samples=settings.samples(take.machine),
                sample_rate=_RATE,
                microphones_db=settings.microphones_db,
                cause=cause,
                fault_rng=machine_kinds.stream(*key, "fault"),
            )
            return sound[:, 0]

        if take.split == "train":
            sound = rendered(None)
            training.append(Case(take.machine, take.section, sound, 0 * sound))
        elif take.cause is not None:
            sound = rendered(take.cause)
            test.append(Case(take.machine, take.section, sound, sound - rendered(None)))
    return training, test


def recorded() -> tuple[list[Case], list[Case]]:
    """Training clips of a folder, and faulty clips with what they differ by from normal ones."""

    def sounds(folder: str, pattern: str) -> list[np.ndarray]:
        paths = sorted(Path(folder).glob(pattern))
        if not paths:
            raise UserError(f"{folder} has no {pattern}")
        return [np.asarray(read(path, _RATE)) for path in paths]

    training = sounds(_TRAIN_DIR.value, "normal_*.wav")
    normal = np.stack(sounds(_NORMAL_DIR.value, "normal_*.wav"))
    test = []
    for sound in sounds(_FAULTY_DIR.value, "anomaly_*.wav"):
        fault = sound - normal[((sound - normal) ** 2).sum(axis=1).argmin()]
        if (fault**2).sum() < _MOST_LEFT * (sound**2).sum():
            test.append(Case("machine", "00", sound, fault))
    return [Case("machine", "00", sound, 0 * sound) for sound in training], test


@contextlib.contextmanager
def ruled(rule: str) -> Iterator[None]:
    """Maps by another rule, NAME=VALUE; "" for the rule as it is."""
    name, _, value = rule.partition("=")
    before = getattr(maps, name, None)
    if rule and not isinstance(before, int | float):
        raise UserError(f"--rule={rule}: asd_jax/scoring/maps.py has no number {name}")
    if rule:
        setattr(maps, name, float(value))
    try:
        yield
    finally:
        if rule:
            setattr(maps, name, before)


def fitted_to(training: Sequence[Case]) -> FittedDetector:
    """The configuration, fitted to training clips."""
    overrides = dict(text.split("=", 1) for text in _SET.value)
    return fit(
        configs.load_config(_CONFIG.value, overrides),
        waveforms=[case.sound for case in training],
        sample_rate=_RATE,
        machine=training[0].machine,
        machines=[case.machine for case in training],
        sections=[case.section for case in training],
    )


def measured(fitted: FittedDetector, test: Sequence[Case]) -> Iterator[Shares]:
    """Shares of the maps of test clips."""
    front_end = FrontEnd(_RATE)
    for case in test:
        names = {"machine": case.machine, "section": case.section}
        (found,) = fitted.explain(case.sound, _RATE, **names)
        if found.map is None or found.times is None or not found.map.any():
            raise UserError("a clip has no map; the training may have diverged")
        place, levels = (
            np.asarray(values, np.float64)
            for values in (place_of(np.asarray(front_end(case.fault))), front_end(case.sound))
        )
        yield shares_of(place > 0, levels, _on_frames(found.map, found.times, len(levels)))


def _on_frames(shares: np.ndarray, times: np.ndarray, n_frames: int) -> np.ndarray:
    """A map (frames, 128) at the times of the front end's frames; its own may be others."""
    if shares.shape[1] != 128:
        raise UserError(f"the map has {shares.shape[1]} bands; faults are placed in 128")
    seconds = np.arange(n_frames) * 512 / _RATE
    nearest = np.abs(times.mean(axis=1)[:, None] - seconds).argmin(axis=0)
    return np.where((seconds <= times[-1, 1])[:, None], shares[nearest], 0)


def main(argv: list[str]) -> None:
    """Prints a line a rule."""
    del argv
    folders = _TRAIN_DIR.value, _NORMAL_DIR.value, _FAULTY_DIR.value
    try:
        if any(folders) and not all(folders):
            raise UserError("give --train_dir, --normal_dir and --faulty_dir, or none of them")
        training, test = recorded() if all(folders) else synthetic()
        fitted = fitted_to(training)
        for rule in ("", *_RULES.value):
            with ruled(rule):
                own = fitted_to(training) if rule.startswith(_OF_FIT) else fitted
                print(line_of(rule, np.array([*measured(own, test)])), flush=True)
    except UserError as error:
        sys.exit(f"map_shares: {error}")


def line_of(rule: str, rows: np.ndarray) -> str:
    """What is printed of the shares (clips, 4)."""
    uniform, power, level, own = 100 * rows.mean(axis=0)
    ratios = rows[:, 3] / rows[:, 0]
    return (
        f"{_CONFIG.value}{rule and ' ' + rule}: {len(rows)} clips, uniform {uniform:.1f}, power "
        f"{power:.1f}, level {level:.1f}, map {own:.1f}; ratio {np.median(ratios):.1f}, above "
        f"{(ratios > 1).mean():.2f}"
    )


if __name__ == "__main__":
    app.run(main)
