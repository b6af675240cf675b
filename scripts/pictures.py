"""What the scripts that draw docs/pictures/ share."""

import io
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image

from asd_jax.runtime.files import atomic_write

COLOURS = 64  # of a picture: a spectrogram is noise, which a PNG of all colours holds badly


def save(figure: Figure, path: Path) -> None:
    """Writes a figure as a small PNG, whole or not at all."""
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=90)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, "wb") as file:
        Image.open(drawn).convert("RGB").quantize(COLOURS).save(file, format="png", optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")
