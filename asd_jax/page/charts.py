"""Figures of the page: SVG by matplotlib, in the page's own colours and fonts.

Colours are drawn as stand-ins and become CSS variables, so that one figure serves light, dark and
paper. Letters stay text. Nothing of a figure needs a script; where one moves a threshold, it finds
a line of class "cursor".
"""

import functools
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from asd_jax.evaluation.curves import RocCurve, ScoreAxis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Stand-ins, and the variables of the style sheet that replace them.
_COLOURS = {
    "#010101": "var(--text)",
    "#020202": "var(--muted)",
    "#030303": "var(--grid)",
    "#040404": "var(--training)",
    "#050505": "var(--normal)",
    "#060606": "var(--anomalous)",
    "#070707": "var(--band)",
    "#080808": "var(--unknown)",
}
_TEXT, _MUTED, _GRID, _TRAINING, _NORMAL, _ANOMALOUS, _BAND, _UNKNOWN = _COLOURS
# Of each class of clips: its colour, and the style of its outline for who sees no colours.
STYLES = {
    "training": (_TRAINING, ":"),
    "normal": (_NORMAL, "-"),
    "anomalous": (_ANOMALOUS, "--"),
    "unknown": (_UNKNOWN, "-"),
}
_LINES = ("-", "--", "-.", ":")
_BINS = 30
# Clips of a class up to which each one has a tick below the histogram.
_TICKS = 60
_HZ_TICKS = (125, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000)


class Legend(NamedTuple):
    """A line of a legend.

    Attributes:
        style: class of its sample in the style sheet.
        text: what it is.
    """

    style: str
    text: str


def histogram(
    scores: Mapping[str, np.ndarray], axis: ScoreAxis, threshold: float, place: str
) -> str:
    """Histogram of the scores of some classes of clips, each as shares of its class.

    Args:
        scores: (clips,) by class, of `STYLES`; those that are not finite are left out.
        axis: of the scores.
        threshold: the decision threshold, a dashed line; not finite for none.
        place: makes ids unique within the page.
    """
    from matplotlib import ticker

    figure, axes = _figure(3.5, 2.2, (0.135, 0.23, 0.98, 0.97))
    edges = axis.edges(_BINS)
    highest = 0.0
    drawn = [(n, values[np.isfinite(values)]) for n, values in scores.items()]
    for name, values in drawn:
        colour, line = STYLES[name]
        shares = 100 * np.histogram(values, edges)[0] / max(len(values), 1)
        highest = max(highest, float(shares.max()))
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.22, linewidth=0)
        axes.stairs(shares, edges, color=colour, linestyle=line, linewidth=1.0)
    below = axes.get_xaxis_transform()
    below_it = 0
    for name, values in drawn:
        if name != "training" and len(values) <= _TICKS:
            # One chain of lines with gaps, as many lines would be larger.
            x = np.repeat(values, 3)
            y = np.tile([-0.055, -0.015, np.nan], len(values)) - 0.05 * below_it
            colour = STYLES[name][0]
            axes.plot(x, y, color=colour, linewidth=0.8, transform=below, clip_on=False)
            below_it += 1
    if np.isfinite(threshold):
        axes.axvline(threshold, color=_TEXT, linestyle=(0, (4, 2)), linewidth=0.9)
    axes.set_xscale(axis.scale, **({"linear_width": axis.width} if axis.scale == "asinh" else {}))
    axes.minorticks_off()
    _few_ticks(axes, axis)
    axes.yaxis.set_major_locator(ticker.MaxNLocator(3, steps=(1, 2, 5, 10)))
    axes.set(xlim=(axis.low, axis.high), ylim=(0, 1.08 * max(highest, 1)))
    axes.set_xlabel("anomaly score", labelpad=0)
    axes.set_ylabel("% of clips", labelpad=2)
    axes.tick_params(axis="x", pad=3 + 7 * below_it, length=0)
    return _svg(figure, place, _cursor)


def _few_ticks(axes: "Axes", axis: ScoreAxis) -> None:
    """Ticks whose numbers do not run into each other."""
    from matplotlib import ticker

    formatter = ticker.FuncFormatter(lambda value, _: f"{value:.4g}")
    if axis.scale == "linear":
        axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=(1, 2, 5, 10)))
    elif axis.scale == "log":
        # Within a decade, 1, 2 and 5 as well.
        few = np.log10(axis.high / axis.low) < 2.5
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5) if few else (1,), numticks=6))
    else:
        axes.xaxis.set_major_locator(ticker.AsinhLocator(axis.width, numticks=5))
    axes.xaxis.set_major_formatter(formatter)


def roc(curves: Mapping[str, RocCurve], place: str, *, max_fpr: float = 0.1) -> str:
    """ROC curves, with the region of the partial AUC.

    Args:
        curves: by name.
        place: makes ids unique within the page.
        max_fpr: limit of the region.
    """
    figure, axes = _figure(2.9, 2.7, (0.17, 0.165, 0.965, 0.965))
    axes.axvspan(0, max_fpr, color=_BAND, linewidth=0)
    axes.plot([0, 1], [0, 1], color=_MUTED, linewidth=0.6, linestyle=(0, (1, 2)))
    for i, curve in enumerate(curves.values()):
        colour = _curve_colour(i)
        line = _LINES[i % len(_LINES)]
        axes.plot(curve.fpr, curve.tpr, color=colour, linewidth=1.3, linestyle=line)
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    for which in (axes.xaxis, axes.yaxis):
        which.set_major_formatter(lambda value, _: f"{100 * value:.0f}")
    axes.set_xlabel("false alarms, % of normal clips", labelpad=1)
    axes.set_ylabel("found, % of anomalies", labelpad=1)
    return _svg(figure, place)


def roc_legend(names: Sequence[str]) -> list[Legend]:
    """The legend of `roc`."""
    return [Legend(f"curve-{i % 3} line-{i % len(_LINES)}", name) for i, name in enumerate(names)]


def _curve_colour(i: int) -> str:
    return (_NORMAL, _ANOMALOUS, _UNKNOWN)[i % 3]


@functools.lru_cache(maxsize=64)
def picture_frame(start: float, stop: float, hz: tuple[tuple[float, float], ...]) -> str:
    """Axes of seconds and Hz around an image, as SVG with fields `{place}` and `{image}`.

    Args:
        start: of the image, in seconds.
        stop: its end.
        hz: limits of each row of pixels, from the lowest.
    """
    from matplotlib import ticker

    figure, axes = _figure(3.2, 1.7, (0.145, 0.2, 0.985, 0.965))
    axes.grid(False)
    centres = np.mean(hz, axis=1)
    ticks = [tick for tick in _HZ_TICKS if centres[0] <= tick <= centres[-1]]
    # A band's centre lies in the middle of its row.
    places = np.interp(ticks, centres, np.arange(len(hz)) + 0.5)
    axes.xaxis.set_major_locator(ticker.MaxNLocator(6, steps=(1, 2, 5, 10)))
    axes.set(xlim=(start, stop), ylim=(0, len(hz)))
    apart = [i for i in range(len(ticks)) if i == len(ticks) - 1 or _apart(places, i, len(hz))]
    axes.set_yticks(places[apart], [f"{ticks[i]:,}".replace(",", "\u2009") for i in apart])
    axes.set_xlabel("seconds", labelpad=1)
    axes.set_ylabel("Hz", labelpad=1)

    def image(box: "_Box") -> str:
        return (
            f'<image x="{box.left:.2f}" y="{box.top:.2f}" width="{box.width:.2f}" '
            f'height="{box.height:.2f}" preserveAspectRatio="none" href="IMAGE"/>'
        )

    return _svg(figure, "PLACE", image)


def _apart(places: np.ndarray, i: int, rows: int) -> bool:
    """Whether a tick leaves room for the number of the next one."""
    return bool(places[i + 1] - places[i] > rows / 9)


def picture(image: str, start: float, stop: float, hz: np.ndarray, place: str) -> str:
    """An image of bands over time, with axes.

    Args:
        image: data URI; its lowest row of pixels is the first band.
        start: in seconds.
        stop: in seconds.
        hz: (bands, 2) limits of the bands.
        place: makes ids unique within the page.
    """
    limits = tuple((float(low), float(high)) for low, high in hz)
    return picture_frame(start, stop, limits).replace("PLACE", place).replace("IMAGE", image)


class _Box(NamedTuple):
    """The inner rectangle of a figure, in points from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


def _cursor(box: _Box) -> str:
    """A line that a script moves, at the left end of the axis."""
    return (
        f'<line class="cursor" x1="{box.left:.2f}" x2="{box.left:.2f}" y1="{box.top:.2f}" '
        f'y2="{box.top + box.height:.2f}" data-width="{box.width:.2f}"/>'
    )


def _figure(
    width: float, height: float, inner: tuple[float, float, float, float]
) -> "tuple[Figure, Axes]":
    """A figure (inches) and its axes, whose left, lower, right and upper ends are given."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    left, low, right, high = inner
    axes = figure.add_axes((left, low, right - left, high - low))
    figure.patch.set_visible(False)
    axes.patch.set_visible(False)
    axes.grid(True, color=_GRID, linewidth=0.5)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set(color=_MUTED, linewidth=0.6)
    axes.tick_params(
        which="both", color=_MUTED, labelcolor=_TEXT, labelsize=7.5, length=2, width=0.6
    )
    for which in (axes.xaxis, axes.yaxis):
        which.label.set(color=_TEXT, fontsize=7.5)
    return figure, axes


def _svg(figure: "Figure", place: str, overlay: Callable[[_Box], str] | None = None) -> str:
    """The figure as an SVG element whose ids begin with `place`."""
    from matplotlib import rc_context

    file = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "asd_jax"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' id="(?:figure|axes|patch|line2d|text|matplotlib|xtick|ytick)[^"]*"', "", text)
    text = re.sub(r"\bid=\"", f'id="{place}-', text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{place}-", text)
    for colour, variable in _COLOURS.items():
        text = text.replace(colour, variable)
    # Letters are of the page's font, and styles of the page's sheet.
    text = re.sub(r" font-family: [^;]*;", "", text)
    text = re.sub(r"<style.*?</style>|<defs>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"(<svg[^>]*?) height=\"[^\"]*\"", r"\1", text, count=1)
    text = re.sub(r"(<svg[^>]*?) width=\"[^\"]*\"", r"\1", text, count=1)
    text = text.replace("<svg ", '<svg aria-hidden="true" focusable="false" ', 1)
    text = re.sub(r"\s*\n\s*", " ", text)
    if overlay is not None:
        height = 72 * figure.get_figheight()
        x0, y0, x1, y1 = figure.axes[0].get_position().extents * np.array(
            2 * [72 * figure.get_figwidth(), height]
        )
        box = _Box(x0, height - y1, x1 - x0, y1 - y0)
        text = text.replace("</svg>", overlay(box) + "</svg>")
    return text.strip()
