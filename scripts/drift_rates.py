"""Measures `report --drift`: false warnings where nothing has changed, and what changes are named.

    python scripts/drift_rates.py --folder=RECORDINGS [--splits=400] [--repeats=20]

Of random splits of a folder's recordings, a third of them the recent ones, the share that the test
calls changed; then the same recent ones after changes of a set-up, and the names that these get.
"""

import argparse
import platform
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import scipy.signal

from asd_jax.audio import FrontEnd
from asd_jax.data import read
from asd_jax.detectors.cells import band_hz
from asd_jax.fitting.history import BandMeter
from asd_jax.scoring.drift import compare_levels
from asd_jax.scoring.resampled import Difference
from asd_jax.scoring.set_up import name_changes

RATE = 16_000
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


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", required=True, help="recordings of one set-up")
    parser.add_argument("--splits", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    front_end = FrontEnd()
    hz = band_hz(front_end)
    rng = np.random.default_rng(0)
    sounds = [read(path, RATE) for path in sorted(Path(options.folder).rglob("normal*.wav"))]
    of = {
        name: np.stack([levels(front_end, change(sound, rng)) for sound in sounds])
        for name, change in CHANGES.items()
    }
    count = len(sounds)
    print(f"{count} recordings, {platform.platform()}, NumPy {np.__version__}")
    p_values, names = [], {name: Counter[str]() for name in CHANGES}
    for split in range(options.splits):
        order = np.random.default_rng(split).permutation(count)
        older, recent = order[count // 3 :], order[: count // 3]
        test = compare_levels(of["nothing"][older], of["nothing"][recent], seed=split, draws=999)
        p_values.append(test.p_value)
        for name in CHANGES if split < options.repeats else ():
            before, after = of["nothing"][older], of[name][recent]
            test = compare_levels(before, after, seed=split, draws=999)
            if test.p_value <= 0.05:
                sure = [each for each, p in test.by_statistic.items() if p <= 0.05]
                found = name_changes(Difference(before, after), hz, sure=sure)
                names[name].update({change.kind for change in found} or {"unnamed"})
    for rate in (0.01, 0.05, 0.2):
        share = np.mean(np.array(p_values) <= rate)
        print(f"stated rate {rate:g}: {share:.3f} of {options.splits} splits")
    for name, found in names.items():
        said = ", ".join(f"{kind} {times}" for kind, times in found.most_common())
        print(f"{name}: {said or 'nothing'} (of {options.repeats})")


if __name__ == "__main__":
    main()
