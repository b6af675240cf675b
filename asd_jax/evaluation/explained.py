"""Files of explanations: a picture and JSON of each recording."""

import base64
import hashlib
import json
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax.evaluation.pictures import COLOURS, hz_ticks, save, shortened
from asd_jax.features.cut import span_of
from asd_jax.runtime.files import DAMAGE, atomic_write, fitting_name
from asd_jax.scoring.explanation import Explanation

_FORMAT = 1
# Of the colour-blind safe colours of Okabe and Ito.
_OUTLINE = "#E69F00"
_OUTLINED_SHARE = 0.6
_RANGE_DB = 80.0


class Scored(NamedTuple):
    """A recording and its score.

    Attributes:
        file: as given.
        machine: its machine type.
        score: mean over the seeds.
        threshold: NaN where there is none.
        decision: 1 if it is called anomalous, else 0.
    """

    file: str
    machine: str
    score: float
    threshold: float
    decision: int


def write_explanation(folder: os.PathLike | str, scored: Scored, found: Explanation) -> Path:
    """Writes a picture and JSON of a recording, named after it.

    Files of another recording of the same name stay: this one's then have a digest of its path in
    their names.

    Args:
        folder: made where there is none.
        scored: the recording.
        found: its explanation.

    Returns:
        The JSON file; the picture is beside it, with .png.
    """
    path = _free_path(Path(folder), scored.file)
    with atomic_write(path) as file:  # first, as it says whose files these are
        json.dump(to_json(scored, found), file, allow_nan=False)
        file.write("\n")
    write_picture(_picture(path), scored, found)
    return path


def _picture(path: Path) -> Path:
    return path.with_name(f"{path.name[: -len('.json')]}.png")


def _free_path(folder: Path, file: str) -> Path:
    """The JSON file of a recording: that of its name, unless another recording has it."""
    path = os.path.abspath(file)
    whole, cut, span = path.rpartition("@") if span_of(path) else (path, "", "")
    name = f"{Path(whole).stem}{cut.replace('@', '_')}{span}"  # "monday_120-130s" of a clip
    stem = re.sub(r"[^\w.+-]", "_", name).lstrip(".-") or "recording"
    plain = folder / fitting_name(stem, ".json")
    try:
        with open(plain, encoding="utf-8") as known:
            own = json.load(known)["path"] == path
    except FileNotFoundError:
        own = not _picture(plain).exists()
    except (OSError, KeyError, TypeError, *DAMAGE):
        own = False
    if own:
        return plain
    digest = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    return folder / fitting_name(stem, f"-{digest}.json")


def to_json(scored: Scored, found: Explanation) -> dict[str, Any]:
    """A recording's explanation in JSON's types; what is no finite number is null.

    The map is an array of float16, relative to its largest value, in base64, row by row from the
    first frame and the lowest band on; times and the limits of bands are lists of pairs.
    """
    arrays: Mapping[str, np.ndarray | None] = {"map": found.map}
    packed = {name: None if array is None else _packed(array) for name, array in arrays.items()}
    return {
        "format": _FORMAT,
        "file": _text(scored.file),
        "path": os.path.abspath(scored.file),
        "machine": _text(scored.machine),
        "score": _number(scored.score),
        "threshold": _number(scored.threshold),
        "decision": None if math.isnan(scored.threshold) else scored.decision,
        "nearest": found.nearest,
        "when": [_span("s", *each) for each in found.when()],
        "which_hz": [_span("hz", *each) for each in found.which_hz()],
        "parts": [
            {
                "name": part.name,
                "score": _number(part.score),
                "deviation_db": [_number(value) for value in part.deviation],
                "share": [_number(value) for value in part.share],
            }
            for part in found.parts
        ],
        "hz": found.hz.round(3).tolist(),
        "times_s": [] if found.times is None else found.times.round(6).tolist(),
        **packed,
    }


def unpack_map(packed: Mapping[str, Any]) -> np.ndarray:
    """The map (frames, bands) of a JSON file, whose sum is 1 as far as float16 has it.

    Examples:
        >>> unpack_map(_packed(np.array([[0.25, 0.75]]))).round(3).tolist()
        [[0.25, 0.75]]
    """
    values = np.frombuffer(base64.b64decode(packed["base64"]), "<f2").astype(np.float64)
    return packed["largest"] * values.reshape(packed["shape"])


def _packed(array: np.ndarray) -> dict[str, Any]:
    largest = float(array.max())
    relative = (array / largest if largest > 0 else array).astype("<f2")
    text = base64.b64encode(relative.tobytes()).decode("ascii")
    return {"shape": [*array.shape], "dtype": "<f2", "largest": largest, "base64": text}


def _number(value: float) -> float | None:
    return float(f"{value:.6g}") if math.isfinite(value) else None


def _text(text: str) -> str:
    return os.fsencode(text).decode("utf-8", "replace")


def _span(unit: str, begin: float, end: float, share: float) -> dict[str, Any]:
    return {unit: [round(begin, 4), round(end, 4)], "share": round(share, 4)}


def write_picture(path: os.PathLike | str, scored: Scored, found: Explanation) -> None:
    """Draws the spectrogram of a recording above its map, in Hz and seconds.

    Orange lines enclose the places that have most of the map.

    Args:
        path: the picture.
        scored: the recording.
        found: its explanation.
    """
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, sharey=True)
    verdict = "no threshold"
    if not math.isnan(scored.threshold):
        decided = "anomalous" if scored.decision else "normal"
        verdict = f"threshold {scored.threshold:.4g}: {decided}"
    title = f"{shortened(scored.file, 80)}\n{shortened(scored.machine, 30)}, score "
    above.set_title(f"{title}{scored.score:.4g}, {verdict}", fontsize=10, parse_math=False)
    if found.levels is None or found.times is None:
        above.text(0.5, 0.5, "nothing to show", transform=above.transAxes, ha="center")
        save(figure, path)
        return
    n_frames, n_bands = found.levels.shape
    extent = (found.times[0, 0], found.times[-1, 1], -0.5, n_bands - 0.5)
    high = float(found.levels.max())
    low = max(float(found.levels.min()), high - _RANGE_DB)
    options: dict[str, Any] = {"origin": "lower", "aspect": "auto", "extent": extent}
    image = above.imshow(found.levels.T, vmin=low, vmax=high, cmap=COLOURS, **options)
    figure.colorbar(image, ax=above, label="level (dB)")
    shares = found.map
    if shares is None or not shares.any():
        shares = np.zeros(found.levels.shape)
        what = "nothing is unusual" if found.map is not None else "nothing normal to compare with"
        below.set_title(f"map: {what}", fontsize=10)
    else:
        when = [f"{begin:.2f} to {end:.2f} s" for begin, end, _ in found.when(2)]
        hz = [f"{begin:.0f} to {end:.0f} Hz" for begin, end, _ in found.which_hz(2)]
        near = f"; nearest normal clip {shortened(found.nearest, 32)}" if found.nearest else ""
        where = f"{', '.join(when)}; {', '.join(hz)}"
        below.set_title(f"map: {where}{near}", fontsize=9, parse_math=False)
        _outline(above, shares, extent)
    relative = 100 * shares / max(float(shares.max()), 1e-300)
    norm = PowerNorm(0.5, vmin=0, vmax=100)  # as faint places would be hidden by the loudest
    image = below.imshow(relative.T, norm=norm, cmap=COLOURS, **options)
    figure.colorbar(image, ax=below, label="evidence (% of the largest)")
    below.set_xlabel("time (s)")
    for axis in (above, below):
        hz_ticks(axis, found.hz)
    save(figure, path)


def _outline(axis: Any, shares: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Encloses the fewest places that have most of a map."""
    ordered = np.sort(shares, axis=None)[::-1]
    enough = int(np.searchsorted(np.cumsum(ordered), _OUTLINED_SHARE * ordered.sum()))
    inside = np.pad((shares >= ordered[min(enough, len(ordered) - 1)]).astype(float).T, 1)
    n_bands, n_frames = shares.shape[1], shares.shape[0]
    width = (extent[1] - extent[0]) / n_frames
    times = extent[0] + (np.arange(-1, n_frames + 1) + 0.5) * width
    bands = np.arange(-1, n_bands + 1)
    axis.contour(times, bands, inside, levels=[0.5], colors=_OUTLINE, linewidths=1)
    axis.set_xlim(extent[0], extent[1])
    axis.set_ylim(extent[2], extent[3])
