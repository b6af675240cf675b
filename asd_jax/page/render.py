"""The page as HTML: what it holds, and the template that arranges it.

One file without outside requests: style sheet, script, figures, pictures and sounds are inlined.
"""

import base64
import functools
import hashlib
import importlib.resources
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from asd_jax.page.charts import Legend

if TYPE_CHECKING:
    from jinja2 import Template


class Table(NamedTuple):
    """A table.

    Attributes:
        caption: says what it is.
        header: of the columns.
        rows: cells; the first of each row is its heading.
        notes: lines below it.
        verdict: place of the column of verdicts, which stand out; -1 for none.
    """

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    verdict: int = -1


class ClassCount(NamedTuple):
    """Clips of a class above the threshold.

    Attributes:
        name: class, a key of `charts.STYLES`.
        text: what being above means for it.
        above: how many are.
        total: how many there are.
    """

    name: str
    text: str
    above: int
    total: int


class ThresholdChart(NamedTuple):
    """Scores of a machine or a section, with a threshold to move.

    Attributes:
        title: what it is of.
        place: unique name within the page.
        svg: the histogram.
        description: of the histogram, for who does not see it.
        legend: of the histogram.
        threshold: where the slider begins, in words.
        counts: there.
        data: for the script: thresholds, their places on the axis, and counts at each.
        notes: lines below it.
    """

    title: str
    place: str
    svg: str
    description: str
    legend: Sequence[Legend]
    threshold: str
    counts: Sequence[ClassCount]
    data: Mapping[str, Any]
    notes: Sequence[str]


class RocChart(NamedTuple):
    """ROC curves of a machine: SVG, its description, and its legend."""

    svg: str
    description: str
    legend: Sequence[Legend]


class Card(NamedTuple):
    """A recording to look at and listen to.

    Attributes:
        title: its name.
        place: unique name within the page.
        facts: what is known of it, by heading.
        pictures: title and SVG of each.
        sound: data URI; "" for none.
        made_of: lines on what its score is made of.
        notes: lines below it.
        is_reference: whether it is a normal one, to compare with.
    """

    title: str
    place: str
    facts: Sequence[tuple[str, str]]
    pictures: Sequence[tuple[str, str]]
    sound: str
    made_of: Sequence[str]
    notes: Sequence[str]
    is_reference: bool = False


class MachinePart(NamedTuple):
    """A machine's part of the page.

    Attributes:
        name: of the machine.
        place: unique name within the page.
        summary: cells of its row in the overview, without its name.
        charts: of its scores.
        charts_note: line below them; "" for none.
        roc: its ROC curves; None without labels of both classes.
        cards: its most anomalous recordings.
        cards_note: what all of these have in common.
        clips: its recordings by score.
    """

    name: str
    place: str
    summary: Sequence[str]
    charts: Sequence[ThresholdChart]
    charts_note: str
    roc: RocChart | None
    cards: Sequence[Card]
    cards_note: str
    clips: Table


class Page(NamedTuple):
    """All that the page says.

    Attributes:
        title: of the page.
        lead: first lines: what came out.
        about: what the run is, by heading.
        overview: heading of the table of machines, without the machine's.
        machines: their parts.
        tables: of results.
        notes: on results.
        details: settings and versions.
    """

    title: str
    lead: Sequence[str]
    about: Sequence[tuple[str, str]]
    overview: Sequence[str]
    machines: Sequence[MachinePart]
    tables: Sequence[Table]
    notes: Sequence[str]
    details: Sequence[Table]


def render(page: Page) -> bytes:
    """The HTML file, UTF-8.

    Nothing that the page shows can become markup or script, whatever recordings are called: the
    template escapes all text, and browsers run no script but the page's own, by its digest.
    """
    script = _file("report.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    data = {chart.place: chart.data for machine in page.machines for chart in machine.charts}
    text = _template().render(
        page=page, style=_file("report.css"), script=script, script_digest=digest, data=data
    )
    return text.encode("utf-8", "backslashreplace")


def printable(text: str) -> str:
    """Text in which letters that cannot be shown, as in odd names of files, are escapes.

    Examples:
        >>> printable("Größe 1.wav"), printable("a\\n\\udcff")
        ('Größe 1.wav', 'a\\\\n\\\\xff')
    """
    return "".join(letter if letter.isprintable() else _escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte that is no text, as Python reads names of files
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


@functools.cache
def _template() -> "Template":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("asd_jax.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    environment.filters["printable"] = printable
    return environment.get_template("report.html.j2")


@functools.cache
def _file(name: str) -> str:
    return (importlib.resources.files("asd_jax.page") / "templates" / name).read_text("utf-8")
