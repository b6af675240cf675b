"""The reports' tables: laid out as printed, cells derived by hand, three ways to show them."""

import csv
import io
import re
from collections import Counter

import numpy as np
import pytest

from asd_jax.config import load_config, shipped_configs
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ResultRow
from asd_jax.papers import tables
from asd_jax.papers.layouts import PAPERS
from asd_jax.papers.measures import RunNumbers
from asd_jax.papers.printing import as_csv, as_markdown, as_text
from asd_jax.papers.tables import needed, tables_of
from asd_jax.published import load_published

# A phrase of each report; headings that it prints and we do not, and the other way round.
PRINTED = {
    "jalali2020": ("compared to Dense autoencoder", {"ToyCar": 1}, {}),
    "hassankhani2021": ("Average AUC for source domain data", {"Sections": 1}, {}),
    "giri2020": ("Experimental Results over Dev Data", {}, {"AUC": 6, "pAUC": 6}),
    "grollmisch2020": ("AUC and pAUC values in %", {}, {"AUC": 3, "pAUC": 3}),
    "kazakova2022": ("Outlier exposure efficiency test", {}, {}),
}


def _result(machine, section, seed, auc, mcclish=0.6, domain="all", counts=(10, 10)):
    return ResultRow(machine, section, domain, seed, *counts, auc, 0.1, mcclish, 0.5, 0.5, 0.5)


def fill(empty, results):
    """With the numbers of results.csv alone."""
    return tables.fill(empty, {name: RunNumbers(rows) for name, rows in results.items()})


def _cell(tables, table, row, column):
    (found,) = [
        cell
        for each in tables
        if each.table == table
        for line in each.rows
        for headings, cell in zip(each.columns, line.cells, strict=True)
        if (cell.published.row, " ".join(headings)) == (row, column)
    ]
    return found


@pytest.mark.parametrize("paper", PRINTED)
def test_rows_columns_and_numbers_are_as_printed(shared, paper):
    phrase, only_printed, only_ours = PRINTED[paper]
    (text,) = [t for p in shared.glob("papers/*.txt") if phrase in (t := p.read_text())]
    for table in tables_of(paper):
        if not table.table.startswith("Table"):  # of sentences, see tests/published
            continue
        caption = f"\n{table.table}: "
        assert text.count(caption) == 1
        before, after = (part.strip("\n").split("\n\n") for part in text.split(caption))
        # Behind the number is the rest of the caption, in words of the report's own.
        block = before[-1] if paper == "kazakova2022" else after[1]
        lines = [
            [re.sub("<[^>]*>|%", "", cell).strip() for cell in line.split("\t")]
            for line in block.splitlines()
        ]
        n, name, rows, headings = len(table.row_headings), "", [], []
        for cells in lines:
            numbers = re.findall(r"\d+\.\d+", " ".join(cells[n:]))
            if not numbers:
                headings += filter(None, cells)
                continue
            name = cells[0] or name  # printed once for the two lines of Giri et al.'s systems
            rows.append(((name, *cells[1:n]), tuple(numbers)))
        ours = [(row.labels, tuple(c.published.percent for c in row.cells)) for row in table.rows]
        assert ours == rows
        of_ours = Counter(filter(None, table.row_headings))
        for level in range(len(table.columns[0])):
            prefixes = [column[: level + 1] for column in table.columns]
            of_ours.update(prefix[-1] for prefix in dict.fromkeys(prefixes))
        if paper == "jalali2020":
            only_printed = {block.split("\t")[1]: 1}
        assert Counter(headings) - of_ours == Counter(only_printed)
        assert of_ours - Counter(headings) == Counter(only_ours)


@pytest.mark.parametrize("paper", PRINTED)
def test_every_published_number_has_one_cell(paper):
    cells = [c for t in tables_of(paper) for row in t.rows for c in row.cells]
    shown = Counter(cell.published for cell in cells if cell.published.percent)
    published = Counter(p for p in load_published() if p.source == PAPERS[paper].source)
    # One column of Grollmisch et al. is of two systems: for valves the autoencoder alone.
    twice = Counter({p: n for p, n in published.items() if p.system == "interpolation_ae"})
    assert sum(twice.values()) == (10 if paper == "grollmisch2020" else 0)
    assert shown == published - twice
    assert set(PRINTED) == set(PAPERS)


def test_sections_means_and_differences_by_hand():
    results = [
        _result("fan", section, seed, auc + seed / 10, mcclish)
        for section, auc, mcclish in (("00", 0.5, 0.6), ("02", 0.6, 0.7), ("04", 0.7, 0.5))
        for seed in (0, 1)
    ]
    results += [_result("fan", "06", seed, 0.4, 0.4) for seed in (1, 0)]  # in any order
    results += [_result("fan", "01", seed, 0.0, 0.0) for seed in (0, 1)]  # the report has no 01
    tables = fill(tables_of("jalali2020"), {"dense_ae": results})
    cell = _cell(tables, "Table 3", "00", "Dense-autoencoder AUC")
    assert cell.values == pytest.approx((0.5, 0.6), abs=1e-12)
    assert cell.difference == pytest.approx(55 - 54.41, abs=1e-9)
    cell = _cell(tables, "Table 3", "Average", "Dense-autoencoder AUC")
    # (0.5 + 0.6 + 0.7 + 0.4) / 4, and a tenth more in three of four.
    assert cell.values == pytest.approx((0.55, 0.625), abs=1e-12) and cell.note == ""
    cell = _cell(tables, "Table 3", "Average", "Dense-autoencoder pAUC")
    assert cell.values == pytest.approx((0.55, 0.55), abs=1e-12)
    assert cell.difference == pytest.approx(55 - 52.45, abs=1e-9)
    for table, row, column in (
        ("Table 3", "00", "LSTM-autoencoder AUC"),
        ("Table 4", "Average", "Dense-autoencoder AUC"),
    ):
        cell = _cell(tables, table, row, column)
        assert (cell.values, cell.difference) == ((), None)


def test_what_the_data_lacks():
    results = [
        _result("fan", "00", 0, 0.5),
        _result("fan", "02", 0, 0.7),
        _result("fan", "04", 0, np.nan, counts=(0, 0)),  # no labels: as if it were not there
        _result("pump", "00", 0, np.nan, counts=(9, 0)),
        _result("pump", "02", 0, 0.7),
    ]
    tables = fill(tables_of("jalali2020"), {"dense_ae": results})
    column = "Dense-autoencoder AUC"
    cell = _cell(tables, "Table 3", "Average", column)
    assert cell.values == pytest.approx((0.6,), abs=1e-12)
    assert cell.note == "ours is a mean over 2 of the 4 sections of fan"
    assert cell.difference is None
    assert _cell(tables, "Table 3", "04", column).values == ()
    # Undefined although there are labels: it spoils the mean, as in the other tables.
    assert _cell(tables, "Table 4", "00", column).difference is None
    assert _cell(tables, "Table 4", "Average", column).difference is None
    text = as_text(tables)
    assert "nan" not in text
    assert "Average: ours is a mean over 2 of the 4 sections of fan" in text


def test_the_total_average_is_over_ids():
    results = [_result("ToyCar", "01", 0, 0.9), _result("ToyCar", "02", 0, 0.7)]
    results += [_result("fan", "00", 0, 0.5)]
    tables = fill(tables_of("grollmisch2020"), {"iaeo3": results})
    cell = _cell(tables, "Table 2", "Total avg.", "IAEO3 AUC")
    assert cell.values == pytest.approx((0.7,), abs=1e-12)  # not (0.8 + 0.5) / 2
    assert cell.note == "ours is a mean over 3 of the 23 sections of all machines"
    assert _cell(tables, "Table 2", "Car Avg.", "IAEO3 AUC").values == pytest.approx((0.8,))


def test_domains_and_sections_of_hassankhani():
    results = [
        _result("slider", section, 0, auc, domain=domain)
        for section, domain, auc in (("01", "source", 0.8), ("01", "target", 0.3))
    ]
    tables = fill(tables_of("hassankhani2021"), {"ganomaly": results})
    column = "Section 1 Ours"
    assert _cell(tables, "Table 1", "SlideRail", column).values == (0.8,)
    assert _cell(tables, "Table 2", "SlideRail", column).values == (0.3,)
    assert _cell(tables, "Table 2", "SlideRail", column).difference == pytest.approx(30 - 62.4)
    filled = [c for t in tables for row in t.rows for c in row.cells if c.values]
    assert len(filled) == 2


def test_kazakova_averages_arithmetically_and_each_row_has_its_run():
    aucs = (("00", 0.5), ("01", 0.7), ("02", 0.9))
    results = [_result("fan", section, 0, auc) for section, auc in aucs]
    results += [r._replace(domain="source", auc=0.0) for r in results]
    name = "outlier_exposure_ae-fan-gearbox"
    tables = fill(tables_of("kazakova2022"), {name: results})
    cell = _cell(tables, "Table 1", "OE (Gearbox)", "AUC")
    assert cell.values == pytest.approx((0.7,), abs=1e-12)  # the harmonic mean is 0.662
    filled = [c for t in tables for row in t.rows for c in row.cells if c.values]
    assert len(filled) == 5
    runs = {c.run for c in tables[0].rows[3].cells} | {c.run for c in tables[1].rows[3].cells}
    assert tables[0].rows[3].labels == ("OE (Slider)",)
    assert tables[1].rows[3].labels == ("fan", "slider")
    assert runs == {"outlier_exposure_ae"}


def test_the_runs_of_each_paper():
    names = {paper: [run.name for run in needed(paper)] for paper in PAPERS}
    assert names["jalali2020"] == ["dense_ae", "lstm_ae"]
    assert names["hassankhani2021"] == ["dense_ae", "mobilenet_v2_baseline", "ganomaly"]
    assert sorted(names["grollmisch2020"]) == ["dense_ae", "iaeo3", "iaeo3_opt"]
    systems = {f"giri2020_system{i}_{by}" for i in (1, 2, 3) for by in ("mean", "max")}
    assert set(names["giri2020"]) == systems | {"dense_ae", "group_made"}
    assert {run.configuration for run in needed("giri2020") if "combine" in run.overrides} == {
        f"giri2020_system{i}" for i in (1, 2, 3)
    }
    exposed = {"gearbox", "bearing", "ToyCar", "ToyTrain", "valve"}
    assert set(names["kazakova2022"]) == {
        "outlier_exposure_ae_clear",
        "outlier_exposure_ae",
        "picture_mobilenet",
    } | {f"outlier_exposure_ae-fan-{other}" for other in exposed}
    for paper in PAPERS:
        runs = {run.name: run for run in needed(paper)}
        assert len(runs) == len(needed(paper))
        of_cells = {c.run for t in tables_of(paper) for row in t.rows for c in row.cells}
        assert of_cells == runs.keys()
    runs = {run.name: run for run in needed("kazakova2022")}
    assert runs["outlier_exposure_ae-fan-valve"].machines == {"fan": "valve"}
    clear = runs["outlier_exposure_ae_clear"]
    assert clear.configuration == "outlier_exposure_ae" and clear.machines == {"fan": ""}
    assert clear.overrides == {"detector.outlier_weight": "0", "detector.outliers": ""}
    assert len(runs["picture_mobilenet"].machines) == 7


@pytest.mark.parametrize("name", ["outlier_exposure_ae", "picture_mobilenet"])
def test_the_outliers_of_a_run_are_the_report_s(name):
    for run in needed("kazakova2022"):
        if run.configuration == name:
            detector = make_detector(load_config(run.configuration, run.overrides))
            for machine, other in run.machines.items():
                everything = ["ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"]
                # The autoencoder without exposure makes no use of them.
                assert not other or detector.other_machine(machine, everything) == other
            if run.name == name:
                assert set(load_config(name).detector.outliers) == set(detector.settings.outliers)


@pytest.mark.parametrize("paper", PRINTED)
def test_the_runs_are_of_shipped_configurations(paper):
    missing = {run.configuration for run in needed(paper)} - shipped_configs().keys()
    assert not {name for name in missing if not name.startswith("iaeo3")}


RESULTS = {
    "dense_ae": [
        _result("ToyConveyor", section, seed, 0.75 + seed / 100, 0.6)
        for section in ("01", "02", "03")
        for seed in (0, 1)
    ]
}


def test_as_text():
    text = as_text(fill(tables_of("jalali2020"), RESULTS))
    lines = text.split("\n\n")[3].splitlines()
    rows = [re.split(r"\s{2,}", line.strip()) for line in lines]
    assert rows[0] == ["Dense-autoencoder", "LSTM-autoencoder"]
    assert rows[1] == ["Machine ID", "AUC", "pAUC", "AUC", "pAUC"]
    # The seeds' 75 and 76: 75.5, and 1 / sqrt 2.
    assert rows[3] == ["01", "ours", "75.50 ± 0.71", "60.00 ± 0.00", "–", "–"]
    assert rows[4] == ["ours, formula", "10.00 ± 0.00"]
    assert rows[5] == ["published", "78.07", "64.25", "76.63", "61.26"]
    assert rows[6] == ["difference", "-2.57", "-4.25", "–", "–"]
    assert rows[15][0] == "Average" and len(rows) == 3 + 4 * 4
    assert lines[4].index("10.00") == lines[3].index("60.00")
    # A column's headings and cells begin at one place.
    starts = {line.index(word) for line, word in zip(lines, ("Dense", "AUC"), strict=False)}
    assert starts == {lines[3].index("75.50")}
    assert "Jalali et al. 2020, Table 2: dense and LSTM autoencoder" in text


def test_notes_are_said_once_and_where_they_apply():
    text = as_text(tables_of("kazakova2022"))
    first, second = text.split("Table 2: ")
    assert first.count("within a section over what the report does not say") == 1
    assert second.count("an average that the report does not define") == 2  # and in Table 3
    assert "\nclear AE: as printed, while the three sections average 46.19" in first
    assert "\nfan: outliers: slider, for which Table 1 has 59.07 and 52.71" in second
    assert "outliers: gearbox" not in text


def test_as_markdown():
    text = as_markdown(fill(tables_of("jalali2020"), RESULTS))
    lines = text.splitlines()
    assert lines[0].startswith("## Jalali et al. 2020, Table 1: ")
    at = next(i for i, line in enumerate(lines) if "Table 2" in line) + 2
    heading = "| Machine ID |  | Dense-autoencoder AUC | Dense-autoencoder pAUC |"
    assert lines[at].startswith(heading)
    assert lines[at + 2] == "| 01 | ours | 75.50 ± 0.71 | 60.00 ± 0.00 | – | – |"
    assert lines[at + 3] == "|  | ours, formula |  | 10.00 ± 0.00 |  |  |"
    assert lines[at + 5] == "|  | difference | -2.57 | -4.25 | – | – |"


def test_as_csv_has_a_line_a_printed_number():
    lines = list(csv.DictReader(io.StringIO(as_csv(fill(tables_of("jalali2020"), RESULTS)))))
    assert len(lines) == 2 * 2 * 29 + 2 * 2 * 3 + 2 * 12
    found = {(line["table"], line["row"], line["column"]): line for line in lines}
    line = found["Table 2", "01", "Dense-autoencoder AUC"]
    texts = [line[name] for name in ("paper", "system", "machine", "section", "domain", "metric")]
    assert texts == ["jalali2020", "dense_ae", "ToyConveyor", "01", "all", "auc"]
    assert float(line["ours_mean"]) == pytest.approx(75.5, abs=1e-9)
    assert float(line["ours_std"]) == pytest.approx(0.5**0.5, abs=1e-9)
    assert (line["n_seeds"], line["published"]) == ("2", "78.07")
    assert float(line["difference"]) == pytest.approx(75.5 - 78.07, abs=1e-9)
    line = found["Table 2", "01", "LSTM-autoencoder AUC"]
    assert [line[n] for n in ("ours_mean", "ours_std", "n_seeds", "difference")] == [
        "",
        "",
        "0",
        "",
    ]
    one_seed = {"dense_ae": RESULTS["dense_ae"][::2]}
    (line, *_) = [
        line
        for line in csv.DictReader(io.StringIO(as_csv(fill(tables_of("jalali2020"), one_seed))))
        if line["ours_mean"]
    ]
    assert (line["ours_mean"], line["ours_std"], line["n_seeds"]) == ("75.0", "", "1")


@pytest.fixture
def with_numbers(monkeypatch):
    """Adds published numbers to those of the files; what is remembered of these is forgotten."""

    def add(*more):
        monkeypatch.setattr(tables, "load_published", lambda: (*load_published(), *more))
        tables.tables_of.cache_clear()
        tables._runs.cache_clear()

    yield add
    tables.tables_of.cache_clear()
    tables._runs.cache_clear()


def _of_giri(system, row, where="published/giri2020.csv:98"):
    """A whole row of Table 1 by another system."""
    return [
        p._replace(system=system, row=row, where=where)
        for p in load_published("group_made", 2020)
        if p.source == PAPERS["giri2020"].source
    ]


def test_a_new_configuration_of_a_report_is_run_after_the_others(with_numbers, monkeypatch):
    layout = PAPERS["giri2020"].layouts["Table 1"]
    longer = layout._replace(rows=(*layout.rows, "Mine"))
    paper = PAPERS["giri2020"]._replace(layouts={"Table 1": longer})
    monkeypatch.setitem(PAPERS, "giri2020", paper)
    with_numbers(*_of_giri("resnet50_id", "Mine"))
    assert needed("giri2020")[-1].configuration == "resnet50_id"
    with_numbers(*_of_giri("resnet5_id", "Mine"))
    message = (
        r"giri2020\.csv:98: there is no configuration of system 'resnet5_id'; did you mean res"
    )
    with pytest.raises(UserError, match=message):
        needed("giri2020")


def test_a_number_without_a_place_in_its_table_is_named(with_numbers):
    with_numbers(*_of_giri("resnet50_id", "Mine"))
    with pytest.raises(UserError, match=r"giri2020\.csv:98: Table 1, row 'Mine', .* no place"):
        tables_of("giri2020")


def test_a_number_printed_twice_is_named(with_numbers):
    with_numbers(*_of_giri("dense_ae", "System 4"))
    with pytest.raises(
        UserError, match=r"giri2020.csv:\d+: Table 1, row 'System 4', has 2 numbers"
    ):
        tables_of("giri2020")
