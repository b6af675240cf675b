"""The published numbers against the reports they are from."""

import re

import pytest

from asd_jax.published import load_published

MACHINES = {"SlideRail": "slider", "Fan": "fan", "Pump": "pump", "Slider": "slider"}
MACHINES |= {"Valve": "valve", "Gearbox": "gearbox"}


def _report(shared, phrase):
    (text,) = [t for p in shared.glob("papers/*.txt") if phrase in (t := p.read_text())]
    return text


def _cells(line):
    return [re.sub("<[^>]*>|%", "", cell) for cell in line.split("\t")]


def _ours(source):
    return {
        (r.table, r.row, r.machine, r.section, r.domain, r.metric): r.percent
        for r in load_published("dense_ae")
        if r.source.startswith(source)
    }


def _tables(text, title):
    """Lines of the tables whose caption matches `title`: (table, match, cells)."""
    for match in re.finditer(r"(Table \d+): " + title, text):
        for line in text[match.end() :].split("\n\n")[1].splitlines():
            yield match[1], match[2], _cells(line)


def test_jalali_baseline_columns(shared):
    text = _report(shared, "Results of LSTM-autoencoder compared to Dense autoencoder")
    printed = {}
    for table, machine, cells in _tables(text, r"Results of LSTM.* \(Baseline\) on (\w+)"):
        if cells[0].isdigit() or cells[0] == "Average":
            section = "mean" if cells[0] == "Average" else cells[0]
            key = table, cells[0], MACHINES.get(machine, machine), section, "all"
            printed[*key, "auc"], printed[*key, "pauc_mcclish"] = cells[1:3]
    assert len(printed) == 2 * (23 + 6)
    assert _ours("Jalali") == printed


def test_hassankhani_baseline_columns(shared):
    text = _report(shared, "Average AUC for source domain data")
    printed = {}
    for table, domain, cells in _tables(text, r"Average AUC for (\w+) domain data"):
        machine = MACHINES.get(cells[0], cells[0])
        if len(cells) == 10 and cells[0] not in ("", "Devices"):
            for section in range(3):
                key = table, cells[0], machine, f"0{section}", domain, "auc"
                printed[key] = cells[1 + 3 * section]
    assert len(printed) == 2 * 7 * 3
    assert _ours("Hassankhani") == printed


def test_kazakova_without_outlier_exposure(shared):
    text = _report(shared, "Outlier exposure efficiency test for FAN class")
    (line,) = [_cells(x) for x in text.splitlines() if x.startswith("clear AE")]
    assert list(_ours("Kazakova").values()) == line[1:]


def test_official_averages(shared):
    text = (shared / "facts/conventions.md").read_text()
    (line,) = [x for x in text.splitlines() if x.startswith("Official 2020 dev results")]
    printed = {}
    for machine, area, partial in re.findall(r"(\w+) \.(\d{3})/\.(\d{3})", line):
        key = "development set", "average", machine, "mean", "all"
        printed[*key, "auc"] = f"{int(area) / 10:.1f}"
        printed[*key, "pauc_mcclish"] = f"{int(partial) / 10:.1f}"
    assert len(printed) == 12
    assert _ours("DCASE 2020") == printed


def test_numbers_are_percentages_and_unique_in_a_source():
    rows = load_published()
    assert all(0 < float(r.percent) <= 100 for r in rows)
    assert {r.metric for r in rows} <= {"auc", "pauc", "pauc_mcclish"}
    assert {r.domain for r in rows} <= {"all", "source", "target"}
    keys = [(r.source, r.table, r.row, r.system, *r[4:9]) for r in rows]
    assert len(set(keys)) == len(keys)


def test_the_reports_print_the_mcclish_pauc():
    """Its least value with p = 0.1 is 0.4737; the papers' formula would go down to 0."""
    paucs = [float(r.percent) for r in load_published() if r.metric == "pauc_mcclish"]
    assert min(paucs) >= 47.37


@pytest.mark.parametrize("year,n", [(2020, 70), (2021, 42), (2022, 5), (2019, 0)])
def test_selection_by_system_and_year(year, n):
    assert len(load_published("dense_ae", year)) == n
    assert load_published("no_such_system", year) == ()
