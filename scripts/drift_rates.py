"""Measures `report --drift`: false warnings where nothing has changed, and what changes are named.

    python scripts/drift_rates.py --folder=RECORDINGS [--splits=400] [--repeats=20]
    python scripts/drift_rates.py --synthetic=fan,pump,valve --sections=2 [--splits=400]

Of random splits of a machine's recordings, a third of them the recent ones, the share that the test
calls changed; and of splits into stretches, the recent third being recordings that follow each
other by their names, which says whether these differ from the rest. Then the same recent ones after
changes of a set-up, and the names that these get.
"""

import argparse
import itertools
import platform
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import scipy.signal

from asd_jax.audio import FrontEnd
from asd_jax.data import read
from asd_jax.data.synthetic import synthesize
from asd_jax.detectors.cells import band_hz
from asd_jax.fitting.history import BandMeter
from asd_jax.scoring.drift import compare_levels
from asd_jax.scoring.resampled import Difference
from asd_jax.scoring.set_up import name_changes

RATE = 16_000
RATES = (0.01, 0.05, 0.2)
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def filtered(*gains: float) -> Change:
    """A filter with gains in dB, evenly from 0 Hz to half of the rate."""
    at = np.linspace(0, 1, len(gains))
    taps = scipy.signal.firwin2(257, at, 10 ** (np.array(gains) / 20))
    return lambda sound, rng: scipy.signal.fftconvolve(sound, taps, "same")


def added(share: float, *band: float) -> Change:
    """Noise of a share of the sound's amplitude, in a band or in all."""

    def change(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        noise = rng.normal(size=len(sound))
        if band:
            noise = scipy.signal.lfilter(*scipy.signal.butter(3, band, "band", fs=RATE), noise)
        return sound + share * np.std(sound) / np.std(noise) * noise

    return change


def halved(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Of half of the rate, and back."""
    return scipy.signal.resample_poly(scipy.signal.resample_poly(sound, 1, 2), 2, 1)


CHANGES: dict[str, Change] = {
    "nothing": lambda sound, rng: sound,
    "gain of 6 dB": lambda sound, rng: 2 * sound,
    "microphone: duller": filtered(4, 2, 0, -2, -5, -8),
    "microphone: brighter": filtered(-6, -3, 0, 3, 5, 6),
    "8 kHz, upsampled": halved,
    "8 kHz, zeros between": lambda sound, rng: np.kron(
        scipy.signal.resample_poly(sound, 1, 2), [2.0, 0.0]
    ),
    "white noise, -10 dB": added(0.3),
    "noise of 1 to 2.5 kHz, -3 dB": added(0.7, 1000, 2500),
}


def levels(front_end: FrontEnd, sound: np.ndarray) -> np.ndarray:
    """(3, bands) of a recording."""
    meter = BandMeter()
    meter.add(np.asarray(front_end(sound.astype(np.float32))))
    return meter.levels()


def stretches(count: int) -> list[np.ndarray]:
    """Orders (count,) of recordings whose last third is each stretch of a third, or two joined."""
    return [np.roll(np.arange(count), shift) for shift in range(count)]


def rates(older_and_recent: np.ndarray, orders: list[np.ndarray]) -> np.ndarray:
    """P-values of splits of levels (clips, 3, bands): the last third of each order is recent."""
    count = len(older_and_recent)
    p_values = []
    for number, order in enumerate(orders):
        older, recent = np.split(older_and_recent[order], [count - count // 3])
        # Not the seed of the order, by which the choices would depend on the split.
        seed = 10_000 + number
        p_values.append(compare_levels(older, recent, seed=seed, draws=999).p_value)
    return np.array(p_values)


def synthetic(kinds: list[str], sections: int, clips: int) -> Iterator[tuple[str, list[Path]]]:
    """Machines of some types, and their normal recordings."""
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            synthesize(folder, machines=[kind], sections=sections, clips=clips, duration=4.0)
            of_ids: dict[str, list[Path]] = {}
            for path in sorted(Path(folder).rglob("train/*.wav")):
                of_ids.setdefault(path.name.split("_")[2], []).append(path)
            for name, paths in of_ids.items():
                yield f"synthetic {kind} {name}", paths


def of_folder(folder: str) -> Iterator[tuple[str, list[Path]]]:
    """The normal recordings of a folder."""
    yield Path(folder).name, sorted(Path(folder).rglob("normal*.wav"))


def named(of: dict[str, np.ndarray], hz: np.ndarray, repeats: int) -> None:
    """Prints the names that changes get, of levels by change."""
    names = {name: Counter[str]() for name in of}
    count = len(of["nothing"])
    for split in range(repeats):
        order = np.random.default_rng(split).permutation(count)
        older, recent = order[count // 3 :], order[: count // 3]
        for name in of:
            before, after = of["nothing"][older], of[name][recent]
            test = compare_levels(before, after, seed=split, draws=999)
            if test.p_value <= 0.05:
                sure = [each for each, p in test.by_statistic.items() if p <= 0.05]
                found = name_changes(Difference(before, after), hz, sure=sure)
                names[name].update({change.kind for change in found} or {"unnamed"})
    for name, found in names.items():
        said = ", ".join(f"{kind} {times}" for kind, times in found.most_common())
        print(f"{name}: {said or 'nothing'} (of {repeats})")


def main() -> None:
    """Prints a line a machine, and what changes of the first one are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", action="append", default=[], help="recordings of one set-up")
    parser.add_argument("--synthetic", default="", help="types of synthetic machines")
    parser.add_argument("--sections", type=int, default=2, help="ids of each type")
    parser.add_argument("--clips", type=int, default=75, help="recordings of a synthetic machine")
    parser.add_argument("--splits", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=0, help="splits that are changed")
    options = parser.parse_args()
    front_end = FrontEnd()
    hz = band_hz(front_end)
    rng = np.random.default_rng(0)
    kinds = [*filter(None, options.synthetic.split(","))]
    machines = itertools.chain(
        *map(of_folder, options.folder), synthetic(kinds, options.sections, options.clips)
    )
    print(f"{platform.platform()}, NumPy {np.__version__}; {options.splits} splits at random")
    for machine, paths in machines:
        sounds = [read(path, RATE) for path in paths]
        changes = CHANGES if options.repeats else {"nothing": CHANGES["nothing"]}
        of = {
            name: np.stack([levels(front_end, change(sound, rng)) for sound in sounds])
            for name, change in changes.items()
        }
        count = len(sounds)
        generators = map(np.random.default_rng, range(options.splits))
        at_random = rates(of["nothing"], [each.permutation(count) for each in generators])
        in_turn = rates(of["nothing"], stretches(count))
        shares = [f"{np.mean(at_random <= rate):.1%}" for rate in RATES]
        turns = [f"{np.mean(in_turn <= rate):.1%}" for rate in RATES]
        print(
            f"{machine}, {count} recordings: stated {RATES}, at random {', '.join(shares)}; "
            f"{count} stretches {', '.join(turns)}",
            flush=True,
        )
        if options.repeats:
            named(of, hz, options.repeats)


if __name__ == "__main__":
    main()
