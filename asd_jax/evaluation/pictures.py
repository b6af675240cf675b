"""What pictures of spectrograms share: axes in Hz, colours, titles that fit, saving.

Colours run evenly from dark to light, and say the same to the colour-blind and in grey.
"""

import os
import warnings
from typing import TYPE_CHECKING

import numpy as np

from asd_jax.runtime.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "cividis"
_TICKS = (100, 200, 500, *range(1000, 10_000, 1000), *range(10_000, 200_000, 5000))
_LEAST_GAP = 0.07  # between ticks, of the height


def band_centres(hz: np.ndarray) -> np.ndarray:
    """(bands,) centres of overlapping bands, in Hz, each a limit of its neighbours.

    Args:
        hz: (bands, 2) lower and upper limits.

    Examples:
        >>> band_centres(np.array([[0.0, 200.0], [100.0, 300.0], [200.0, 400.0]])).tolist()
        [100.0, 200.0, 300.0]
    """
    if len(hz) < 2:
        return hz.mean(axis=1)
    return np.concatenate([hz[1:, 0], hz[-2:-1, 1]])


def hz_ticks(axis: "Axes", hz: np.ndarray) -> None:
    """Labels an axis, on which bands are 1 apart from 0 on, with their frequencies.

    Args:
        axis: of a picture of a spectrogram.
        hz: (bands, 2) lower and upper limits, in Hz.
    """
    centres = band_centres(hz)
    places: list[float] = []
    labels: list[str] = []
    for tick in reversed(_TICKS):
        if not centres[0] <= tick <= centres[-1] + (centres[-1] - centres[0]) / len(centres):
            continue
        place = float(np.interp(tick, centres, np.arange(len(centres))))
        if not places or places[-1] - place >= _LEAST_GAP * len(centres):
            places.append(place)
            labels.append(f"{tick}")
    axis.set_yticks(places, labels)
    axis.set_ylabel("frequency (Hz)")


def shortened(text: str, most: int) -> str:
    """A text of at most so many characters, its middle left out, as letters that can be drawn.

    Examples:
        >>> shortened("anomaly_id_00_00000000.wav", 12)
        'anomal…0.wav'
    """
    text = text.encode("utf-8", "replace").decode()
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    if len(text) <= most:
        return text
    end = (most - 1) // 2
    return f"{text[: most - 1 - end]}…{text[len(text) - end :]}"


def save(figure: "Figure", path: os.PathLike | str) -> None:
    """Writes a picture as PNG, whole or not at all."""
    with atomic_write(path, "wb") as file, warnings.catch_warnings():
        # Of scripts that the font lacks: boxes take the place of their letters.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # Compressed less, which is a tenth larger and takes half the time.
        figure.savefig(file, format="png", dpi=100, pil_kwargs={"compress_level": 2})
