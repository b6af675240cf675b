"""Figures as SVG: what is drawn, and that a page can hold many of them."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from asd_jax.evaluation.curves import mean_roc, score_axis
from asd_jax.page import charts

SVG = "{http://www.w3.org/2000/svg}"


def drawn(scores, threshold=2.0, place="x"):
    axis = score_axis(np.concatenate([*scores.values()]), threshold)
    return charts.histogram(scores, axis, threshold, place)


def numbers(svg):
    return [element.text for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_letters_are_text_and_colours_are_the_page_s():
    svg = drawn({"training": np.arange(9.0), "normal": np.array([1.0, 4.0])})
    assert "anomaly score" in numbers(svg) and "% of clips" in numbers(svg)
    assert "var(--normal)" in svg and "var(--training)" in svg and "var(--anomalous)" not in svg
    assert not re.search(r"#0[1-8]0[1-8]0[1-8]", svg) and "font-family" not in svg
    assert not re.search(r"https?://(?!www\.w3\.org)", svg)


def test_figures_of_one_page_share_no_id():
    scores = {"normal": np.arange(5.0)}
    first, second = (
        set(re.findall(r'\bid="([^"]+)"', drawn(scores, place=place))) for place in "ab"
    )
    assert first and not first & second
    for svg in (drawn(scores), charts.roc({"": mean_roc([0, 1], [0, 1])}, "r")):
        used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', svg))
        ids = set(re.findall(r'\bid="([^"]+)"', svg))
        assert {a or b for a, b in used} <= ids


def test_the_cursor_spans_the_axis():
    """Its way is the axis: a mark at the axis's ends lies at the cursor's."""
    root = ElementTree.fromstring(drawn({"normal": np.array([0.0, 10.0])}))
    (cursor,) = [e for e in root.iter(f"{SVG}line") if e.get("class") == "cursor"]
    left, width = float(cursor.get("x1")), float(cursor.get("data-width"))
    view = [float(part) for part in root.get("viewBox").split()]
    assert 0 < left < left + width <= view[2]
    # Numbers below the axis, which begins at -0.2 and ends at 10.2.
    at = {e.text: float(e.get("x")) for e in root.iter(f"{SVG}text") if e.get("x")}
    for number in (2, 8):
        assert at[str(number)] == pytest.approx(left + width * (number + 0.2) / 10.4, abs=0.5)


@pytest.mark.parametrize(
    "values", [[1.0], [5.0, 5.0], [np.nan, -np.inf], [1, 2, 4000], [-3, 2, 4000], []]
)
@pytest.mark.parametrize("threshold", [2.0, np.nan])
def test_any_scores_make_a_figure(values, threshold):
    svg = drawn({"unknown": np.array(values, float)}, threshold)
    assert ElementTree.fromstring(svg).tag == f"{SVG}svg"


def test_a_figure_of_many_clips_is_small():
    rng = np.random.default_rng(0)
    svg = drawn({name: rng.lognormal(size=10_000) for name in ("training", "normal", "anomalous")})
    assert len(svg) < 20_000
    labels = np.repeat([0, 1], 5000)
    curve = mean_roc(labels, labels + rng.normal(size=10_000))
    assert len(charts.roc({"": curve}, "r")) < 20_000


def test_a_picture_has_seconds_and_hz():
    hz = np.array([[100.0 * i, 100.0 * i + 200] for i in range(60)])
    svg = charts.picture("data:image/webp;base64,AAAA", 2.0, 8.0, hz, "p")
    shown = numbers(svg)
    assert {"2", "8", "seconds", "Hz"} <= set(shown) and "1\u2009000" in shown
    assert 'href="data:image/webp;base64,AAAA"' in svg
    assert svg != charts.picture("data:,", 2.0, 8.0, hz, "q")
