"""Finished runs from scores alone, and what a page says of them."""

import json
from html.parser import HTMLParser
from pathlib import Path

import numpy as np

from asd_jax.config import load_config, to_json
from asd_jax.data.clips import OWN
from asd_jax.evaluation.results import ScoreRow, TrainingRow, write_training_csv
from asd_jax.evaluation.tables import Intervals
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.page import write_page
from asd_jax.runs.report import write_results

_VOID = {"meta", "link", "input", "br", "img", "path", "use", "image", "line"}


def score_rows(scores, labels=None, machine="pump", section="00", threshold=2.0, name="{}.wav"):
    """Rows of one seed."""
    labels = [-1] * len(scores) if labels is None else labels
    return [
        ScoreRow(
            machine, section, "", 0, name.format(i), label, float(score), threshold,
            int(score > threshold),
        )
        for i, (score, label) in enumerate(zip(scores, labels, strict=True))
    ]  # fmt: skip


def training_rows(machine="pump", section="00", n=20):
    scores = np.random.default_rng(0).gamma(3, 0.4, n)
    return [
        TrainingRow(machine, section, "", 0, f"train{i}.wav", float(score))
        for i, score in enumerate(scores)
    ]


def write_run(path: Path, rows, training=None, year=OWN) -> RunDirectory:
    """A run directory with result files, whose model says nothing."""
    return _written(path, rows, training, year)[0]


def _written(path: Path, rows, training, year) -> tuple[RunDirectory, Intervals]:
    run_dir = RunDirectory(path)
    path.mkdir(parents=True)
    data = {"year": year, "synthetic": year != OWN, "n_clips": len(rows), "fingerprint": ""}
    run_dir.config.write_text(to_json(load_config("spectral")))
    run_dir.data.write_text(json.dumps(data))
    run_dir.model.touch()
    if training is None:
        training = [row for group in sorted({r[:2] for r in rows}) for row in training_rows(*group)]
    write_training_csv(run_dir.training_csv, training)
    return run_dir, write_results(run_dir, rows, data)


def page_of(path: Path, rows, training=None, year=OWN) -> str:
    """The page of such a run."""
    run_dir, intervals = _written(path, rows, training, year)
    write_page(path, [].append, explain=lambda clips: {}, intervals=intervals)
    return run_dir.report_html.read_text(encoding="utf-8")


class Parsed(HTMLParser):
    """A page's elements.

    Attributes:
        tags: names and attributes of all elements, in order.
        text: all text that is shown.
        data: what the page holds for its script.
    """

    def __init__(self, page: str):
        super().__init__()
        self.tags: list[tuple[str, dict]] = []
        self._open: list[str] = []
        self._shown: list[str] = []
        self._data = ""
        self.feed(page)
        assert not self._open, f"not closed: {self._open}"
        self.text = " ".join(" ".join(self._shown).split())
        self.data = json.loads(self._data)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert tag in _VOID or self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] == "script":
            kind = next(a for t, a in reversed(self.tags) if t == "script")
            self._data += data if kind.get("type") == "application/json" else ""
        elif "style" not in self._open[-1:]:
            self._shown.append(data)

    def all(self, tag: str) -> list[dict]:
        """Attributes of all elements of a name."""
        return [attributes for name, attributes in self.tags if name == tag]
