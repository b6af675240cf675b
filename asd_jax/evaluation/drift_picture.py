"""Picture of the spectra of training and of recent recordings."""

import os

import numpy as np

from asd_jax.evaluation.pictures import band_centres, save, shortened

_TICKS = (50, 100, 200, 500, *range(1000, 10_000, 1000), *range(10_000, 200_000, 5000))
_LEAST_GAP = 0.06  # between ticks, of the width


def draw_spectra(
    path: os.PathLike | str, title: str, older: np.ndarray, recent: np.ndarray, hz: np.ndarray
) -> None:
    """Draws both spectra with the range of their clips, and the difference below.

    Args:
        path: of the PNG file.
        title: of the picture.
        older: (clips, bands) mean levels in dB of training clips.
        recent: (clips, bands) of recent ones.
        hz: (bands, 2) limits of the bands.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    spectra, difference = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    place = np.arange(len(hz))
    for levels, colour, name in ((older, "C0", "training"), (recent, "C1", "recent")):
        low, middle, high = np.percentile(levels, [5, 50, 95], axis=0)
        spectra.fill_between(place, low, high, color=colour, alpha=0.25, linewidth=0)
        spectra.plot(place, middle, color=colour, label=f"{name}, {len(levels)} recordings")
    spectra.set_ylabel("level (dB)")
    spectra.set_title(shortened(title, 80))
    spectra.legend()
    difference.axhline(0, color="0.6", linewidth=1)
    difference.plot(place, np.median(recent, axis=0) - np.median(older, axis=0), color="C1")
    difference.set_ylabel("recent − training (dB)")
    difference.set_xlabel("frequency (Hz)")
    centres = band_centres(hz)
    ticks: list[int] = []
    places: list[float] = []
    for tick in reversed([tick for tick in _TICKS if centres[0] <= tick <= centres[-1]]):
        at = float(np.interp(tick, centres, place))
        if not places or places[-1] - at >= _LEAST_GAP * len(centres):
            ticks, places = [*ticks, tick], [*places, at]
    difference.set_xticks(places, [f"{tick}" for tick in ticks])
    save(figure, path)
