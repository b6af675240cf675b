"""The published numbers against the reports they are from."""

import re

import pytest

from asd_jax import metrics
from asd_jax.data.years import official_archives
from asd_jax.detectors.outlier_exposure_ae import OutlierExposureConfig
from asd_jax.errors import UserError
from asd_jax.published import RATES, Published, load_published, read_published

MACHINES = {"SlideRail": "slider", "Fan": "fan", "Pump": "pump", "Slider": "slider"}
MACHINES |= {"Valve": "valve", "Gearbox": "gearbox", "Bearing": "bearing"}
MACHINES |= {"Car": "ToyCar", "Toy Car": "ToyCar"}
MACHINES |= {"Conveyor": "ToyConveyor", "Toy Conveyor": "ToyConveyor"}


def _report(shared, phrase):
    (text,) = [t for p in shared.glob("papers/*.txt") if phrase in (t := p.read_text())]
    return text


def _cells(line):
    return [re.sub("<[^>]*>|%", "", cell).strip() for cell in line.split("\t")]


def _ours(source):
    """Every number of a source, whatever its system."""
    return {
        (r.system, r.table, r.row, r.machine, r.section, r.domain, r.metric): r.percent
        for r in load_published()
        if r.source.startswith(source)
    }


def _tables(text, title):
    """Lines of the tables whose caption matches `title`: (table, its group or "", cells)."""
    for match in re.finditer(r"(Table \d+): " + title, text):
        for line in text[match.end() :].split("\n\n")[1].splitlines():
            yield match[1], "".join(match.groups()[1:]), _cells(line)


def _above(text, caption):
    """Lines below the heading of the table that stands above a caption."""
    return [_cells(x) for x in text.split(caption)[0].rstrip().split("\n\n")[-1].splitlines()[1:]]


def _first(system, year):
    """The number that a results table shows, by machine, section, domain and metric."""
    first = {}
    for row in load_published(system, year):
        first.setdefault((row.machine, row.section, row.domain, row.metric), row)
    return first


def _pairs(source=""):
    """AUC and McClish pAUC of one line of a report, as printed."""
    paucs = {(r.source, *r[1:8]): r.percent for r in load_published() if "pauc" in r.metric}
    return [
        (r.percent, paucs[r.source, *r[1:8]])
        for r in load_published()
        if r.metric == "auc" and r.source.startswith(source) and (r.source, *r[1:8]) in paucs
    ]


def test_jalali_all_columns(shared):
    text = _report(shared, "Results of LSTM-autoencoder compared to Dense autoencoder")
    systems = {"Dense-autoencoder": "dense_ae", "LSTM-autoencoder": "lstm_ae"}
    printed = {}
    for table, machine, cells in _tables(text, r"Results of LSTM.* \(Baseline\) on (\w+)"):
        if cells[0] == "" and set(cells) & set(systems):
            columns = {i: systems[c] for i, c in enumerate(cells) if c in systems}
        if cells[0].isdigit() or cells[0] == "Average":
            section = "mean" if cells[0] == "Average" else cells[0]
            for i, system in columns.items():
                key = system, table, cells[0], MACHINES.get(machine, machine), section, "all"
                printed[*key, "auc"], printed[*key, "pauc_mcclish"] = cells[i : i + 2]
    assert len(printed) == 2 * 2 * (23 + 6)
    assert {k: v for k, v in _ours("Jalali").items() if k[1].startswith("Table")} == printed


TOYS, MIMII = ("ToyCar", "ToyConveyor"), ("fan", "pump", "slider", "valve")


def test_jalali_averages_over_machine_types(shared):
    """As its conclusion prints them: arithmetic means of the machines' averages, cut off."""
    text = _report(shared, "Results of LSTM-autoencoder compared to Dense autoencoder")
    text = " ".join(text.split("CONCLUSION")[1].split())
    numbers = re.findall(r"([\d.]+)%? AUC and ([\d.]+)%? pAUC", text)
    baseline_of_toys = re.search(
        r"ToyADMOS dataset achieved average ([\d.]+)% AUC and ([\d.]+)%", text
    )
    sets = {"MIMII": MIMII, "ToyADMOS": TOYS, "both": TOYS + MIMII}
    ours = _ours("Jalali")
    averages = {
        (system, row): tuple(
            ours[system, "Section 4", row, "+".join(machines), "mean", "all", metric]
            for metric in ("auc", "pauc_mcclish")
        )
        for row, machines in sets.items()
        for system in ("lstm_ae", "dense_ae")
    }
    order = [("lstm_ae", "MIMII"), ("dense_ae", "MIMII"), ("dense_ae", "ToyADMOS")]
    order += [("lstm_ae", "ToyADMOS"), ("dense_ae", "both"), ("lstm_ae", "both")]
    assert numbers == [averages[place] for place in order]
    assert baseline_of_toys.groups() == averages["dense_ae", "ToyADMOS"]
    for (system, row), printed in averages.items():
        for metric, percent in zip(("auc", "pauc_mcclish"), printed, strict=True):
            own = [
                float(p.percent)
                for p in load_published(system, 2020)
                if p.source.startswith("Jalali") and p.section == "mean"
                if p.machine in sets[row] and p.metric == metric
            ]
            mean, digits = sum(own) / len(own), len(percent.partition(".")[2])
            if percent == "61.91":
                assert f"{mean:.2f}" == "62.01"  # as the note says
            else:
                assert -1e-9 < mean - float(percent) < 10.0**-digits + 1e-9, (system, row, metric)


def test_jalali_rates_are_in_the_sentences(shared):
    """Each is printed; the rates of a confusion matrix agree with each other."""
    text = _report(shared, "Results of LSTM-autoencoder compared to Dense autoencoder")
    text = text.split("## 3. RESULTS")[1].split("CONCLUSION")[0]
    rates = {key: v for key, v in _ours("Jalali").items() if key[1] == "Section 3"}
    assert len(rates) == 19
    for key, percent in rates.items():
        assert re.search(rf"(?<![\d.]){re.escape(percent)}\s?%", text), key
        assert key[4] == "all" and key[2].partition(" ")[0] == key[3]
    fan = {
        key[-1]: float(v) for key, v in rates.items() if key[:1] + key[3:4] == ("lstm_ae", "fan")
    }
    assert fan["tpr"] + fan["fnr"] == pytest.approx(100, abs=0.011)


def test_the_reading_of_jalali_s_precision_and_recall():
    """ToyConveyor: 2400 normal test clips and 1109 anomalies; fpr 53.81, precision 70, recall 57.

    With the recall of both classes weighted by their clips, which is the accuracy, the true
    positive rate follows, and with it the precisions: only the weighted one is 70.
    """
    normal, anomalies = 2400, 1109
    fp = 0.5381 * normal
    tp = 0.57 * (normal + anomalies) - (normal - fp)
    counts = metrics.Confusion(tp, fp, anomalies - tp, normal - fp)
    rates = metrics.decision_rates(counts)
    assert round(100 * rates.precision_weighted) == 70
    of_normal = counts.tn / (counts.tn + counts.fn)
    assert round(100 * metrics.precision(counts)) == 41 and round(100 * of_normal) == 84
    # Pump: 400 and 456; true rates 47.77 and 82.45. Printed is 70, of none for sure.
    tp, tn = 0.8245 * 456, 0.4777 * 400
    counts = metrics.Confusion(tp, 400 - tn, 456 - tp, tn)
    assert int(100 * metrics.precision(counts)) == 64
    assert int(100 * counts.tn / (counts.tn + counts.fn)) == 70
    assert round(100 * metrics.decision_rates(counts).precision_weighted) == 67


def test_hassankhani_all_columns(shared):
    text = _report(shared, "Average AUC for source domain data")
    systems = {"AE": "dense_ae", "MobileNet": "mobilenet_v2_baseline", "Ours": "ganomaly"}
    printed = {}
    for table, domain, cells in _tables(text, r"Average AUC for (\w+) domain data"):
        machine = MACHINES.get(cells[0], cells[0])
        if len(cells) == 10 and cells[1] == "AE":
            columns = [systems[heading] for heading in cells[1:]]
        if len(cells) == 10 and cells[0] not in ("", "Devices"):
            for i, (system, percent) in enumerate(zip(columns, cells[1:], strict=True)):
                key = system, table, cells[0], machine, f"0{i // 3}", domain, "auc"
                printed[key] = percent
    assert len(printed) == 2 * 7 * 3 * 3
    assert _ours("Hassankhani") == printed


def test_kazakova_all_tables(shared):
    text = _report(shared, "Outlier exposure efficiency test for FAN class")
    printed, outliers = {}, {}
    sections, metrics = ("00", "01", "02", "mean", "mean"), [*["auc"] * 4, "pauc_mcclish"]
    for row, *percents in _above(text, "Table 1: "):
        system = "outlier_exposure_ae" + ("_clear" if row == "clear AE" else "")
        for section, metric, percent in zip(sections, metrics, percents, strict=True):
            printed[system, "Table 1", row, "fan", section, "all", metric] = percent
        for name in re.findall(r"OE \((\w+)\)", row):
            outliers["Table 1", row] = MACHINES.get(name, name)
    for table, system in (("Table 2", "outlier_exposure_ae"), ("Table 3", "picture_mobilenet")):
        for machine, other, *percents in _above(text, table + ": "):
            for metric, percent in zip(("auc", "pauc_mcclish"), percents, strict=True):
                printed[system, table, machine, machine, "mean", "all", metric] = percent
            outliers[table, machine] = other
    assert len(printed) == 7 * 5 + 2 * 7 * 2 and len(outliers) == 6 + 2 * 7
    assert _ours("Kazakova") == printed
    rows = [r for r in load_published() if r.source.startswith("Kazakova")]
    noted = {(r.table, r.row): re.search(r"outliers: (\w+)", r.note) for r in rows}
    assert {key: match[1] for key, match in noted.items() if match} == outliers


def test_giri_all_rows(shared):
    text = _report(shared, "DCASE 2020 Task 2 Experimental Results over Dev Data")
    printed, name = {}, ""
    (_, _, heading), *lines = _tables(text, "DCASE 2020 Task 2 Experimental Results")
    for table, _, cells in lines:
        name = cells[0] or name
        row = name if cells[1] == "-" else f"{name} {cells[1]}"
        system = {"Baseline": "dense_ae", "System 4": "group_made"}.get(
            row, "giri2020_" + row.lower().replace("system ", "system").replace(" ", "_")
        )
        for machine, cell in zip(heading[2:], cells[2:], strict=True):
            key = system, table, row, MACHINES[machine], "mean", "all"
            printed[*key, "auc"], printed[*key, "pauc_mcclish"] = re.findall(r"\d+\.\d+", cell)
    criteria = {f"giri2020_system{i}_{crit}" for i in (1, 2, 3) for crit in ("mean", "max")}
    assert {key[0] for key in printed} == {"dense_ae", "group_made"} | criteria
    assert len(printed) == 8 * 6 * 2
    assert _ours("Giri") == printed


def test_grollmisch_all_columns(shared):
    text = _report(shared, "AUC and pAUC values in % for both submitted systems")
    without_openl3 = {c[0] for *_, c in _tables(text, "Parameter settings") if c[-1] == "no"}
    assert without_openl3 == {"Valve"}
    systems = {"IAEO3_opt": "iaeo3_opt", "IAEO3": "iaeo3", "Baseline": "dense_ae"}
    (_, _, heading), *lines = _tables(text, "AUC and pAUC values in %")
    printed, name = {}, ""
    for table, _, cells in lines:
        name = name if cells[0] == "Avg." else cells[0]
        if name == "Total avg.":
            row, machine, section = name, "mean", "mean"
        else:
            row, machine = f"{name} {cells[1] or cells[0]}", MACHINES[name]
            section = f"0{cells[1]}" if cells[1] else "mean"
        for column, cell in zip(heading[2:], cells[2:], strict=True):
            of_column = [systems[column]]
            if column == "IAEO3_opt" and name in without_openl3:
                of_column.append("interpolation_ae")
            for system in of_column:
                key = system, table, row, machine, section, "all"
                printed[*key, "auc"], printed[*key, "pauc_mcclish"] = cell.split(", ")
    assert len(printed) == 2 * (3 * (23 + 6 + 1) + 5)
    assert _ours("Grollmisch") == printed


def test_official_averages(shared):
    text = (shared / "facts/conventions.md").read_text()
    (line,) = [x for x in text.splitlines() if x.startswith("Official 2020 dev results")]
    printed = {}
    for machine, area, partial in re.findall(r"(\w+) \.(\d{3})/\.(\d{3})", line):
        key = "dense_ae", "development set", "average", machine, "mean", "all"
        printed[*key, "auc"] = f"{int(area) / 10:.1f}"
        printed[*key, "pauc_mcclish"] = f"{int(partial) / 10:.1f}"
    assert len(printed) == 12
    assert _ours("DCASE 2020") == printed


def test_numbers_are_percentages_and_unique_in_a_source():
    rows = load_published()
    names = {"DCASE", "Giri", "Grollmisch", "Hassankhani", "Jalali", "Kazakova"}
    assert {r.source.split()[0] for r in rows} == names
    assert all(str(r.year) in r.source for r in rows)
    assert all(0 < float(r.percent) <= 100 for r in rows)
    assert {r.metric for r in rows} <= {"auc", "pauc", "pauc_mcclish", *RATES}
    assert {r.domain for r in rows} <= {"all", "source", "target"}
    keys = [(r.source, r.table, r.row, r.system, *r[4:9]) for r in rows]
    assert len(set(keys)) == len(keys)


def test_machines_are_those_of_the_year():
    of_years = {(archive.year, archive.machine) for archive in official_archives()}
    assert {(r.year, machine) for r in load_published() for machine in r.machines} <= of_years


def test_the_reports_print_the_mcclish_pauc():
    """Its least value with p = 0.1 is 0.4737; the papers' formula would go down to 0."""
    paucs = [float(r.percent) for r in load_published() if r.metric == "pauc_mcclish"]
    assert min(paucs) >= 47.37
    # The formula's is a mean of the ROC's lowest part, and never above the mean of all of it.
    assert sum(float(pauc) > float(auc) for auc, pauc in _pairs("Kazakova")) == 6


@pytest.mark.parametrize("source", ["Giri", "Grollmisch", "Jalali"])
def test_the_baseline_is_the_official_program_s(source):
    """To a unit of its last digit, as some reports round what others cut off."""
    rows = [r for r in load_published("dense_ae", 2020) if r.section == "mean"]
    rows = [r for r in rows if "+" not in r.machine]
    official = {(r.machine, r.metric): r.percent for r in rows if r.source.startswith("DCASE")}
    theirs = {(r.machine, r.metric): r.percent for r in rows if r.source.startswith(source)}
    assert official.keys() == theirs.keys() - {("mean", "auc"), ("mean", "pauc_mcclish")}
    assert all(abs(float(official[k]) - float(theirs[k])) < 0.101 for k in official)


def test_every_pauc_is_possible_beside_its_auc():
    """With r the mean true positive rate below p = 0.1 and a the AUC: (a - 0.9) / 0.1 <= r <= a.

    The ROC rises, so r <= a, and its other nine tenths are at most 1. The standardised value is
    (1 + (0.1 r - 0.005) / 0.095) / 2. Both hold for means over machine ids as well. Tolerance: a
    unit of the last digit of either number, as some reports cut digits off.
    """
    pairs = _pairs()
    assert len(pairs) == (29 + 3) * 2 + 7 * 3 + 8 * 6 + 3 * 30 + 5 + 6 + 2 * 2
    for auc, pauc in pairs:
        unit, own = (10.0 ** -len(text.partition(".")[2]) for text in (auc, pauc))
        low, high = ((float(auc) + sign * unit) / 100 for sign in (-1, 1))
        least, most = (
            50 * (1 + (0.1 * r - 0.005) / 0.095) for r in (max((low - 0.9) / 0.1, 0), min(high, 1))
        )
        assert least - own <= float(pauc) <= most + own, (auc, pauc)


def test_the_first_of_several_numbers():
    first = _first("dense_ae", 2020)
    first = {key: row for key, row in first.items() if row.table != "Section 3"}
    assert len(first) == 2 * (23 + 6 + 3 + 1)
    of_machines = {row.source for key, row in first.items() if key[0] != "mean"}
    assert of_machines == {"Jalali et al. 2020"}
    # The fan stands in two tables; its sections are of the outliers that a run takes.
    first = _first("outlier_exposure_ae", 2022)
    assert {row.table for key, row in first.items() if key[1] == "mean"} == {"Table 2"}
    assert first["fan", "mean", "all", "auc"].percent == "58.9"
    for section, percent in (("00", "65.45"), ("01", "51.49"), ("02", "60.29")):
        assert first["fan", section, "all", "auc"].percent == percent
    for machine, _, outliers in (p.partition(":") for p in OutlierExposureConfig().outliers):
        of_machine = [row for key, row in first.items() if key[0] == machine]
        assert of_machine and all(f"outliers: {outliers}" in row.note for row in of_machine)


@pytest.mark.parametrize(
    "system,year,n",
    [
        # Giri's six machines and Grollmisch's 23 ids, 6 means and one of all, two metrics each.
        ("dense_ae", 2020, 58 + 6 + 7 + 12 + 12 + 60),
        ("dense_ae", 2021, 42),
        ("dense_ae", 2022, 0),
        # Two AUCs and a pAUC of seven machines and their mean, two AUCs of both domains; nine.
        ("dense_ae_2023", 2023, 3 * 8 + 2),
        ("dense_ae_2023", 2024, 3 * 10 + 2),
        ("mahalanobis_2023", 2023, 3 * 8),
        ("mahalanobis_2023", 2024, 3 * 10),
        ("outlier_exposure_ae_clear", 2022, 5),
        ("dense_ae", 2019, 0),
        ("lstm_ae", 2020, 58 + 6 + 12),
        ("group_made", 2020, 12),
        ("giri2020_system3_max", 2020, 12),
        ("iaeo3", 2020, 60),
        ("iaeo3_opt", 2020, 60),
        # One machine, four ids and the mean.
        ("interpolation_ae", 2020, 10),
        ("ganomaly", 2021, 42),
        ("mobilenet_v2_baseline", 2021, 42),
        # Table 2, and six other machines on three sections with both means.
        ("outlier_exposure_ae", 2022, 14 + 30),
        ("picture_mobilenet", 2022, 14),
    ],
)
def test_selection_by_system_and_year(system, year, n):
    assert len(load_published(system, year)) == n
    assert load_published("no_such_system", year) == ()


LINE = "Own 2025,Table 1,Fan,dense_ae,2020,fan,00,all,auc,61.5,"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (LINE.replace("2020", "20x0"), r"year '20x0' is no whole number"),
        (LINE.replace("2020", ""), r"year '' is no whole number"),
        (LINE.replace("61.5", "61,5"), "a line has 11 values"),
        (LINE.replace(",61.5,", ""), "a line has 11 values"),
        (LINE.replace("61.5", "high"), "percent 'high' is no number from 0 to 100"),
        (LINE.replace("61.5", "nan"), "percent 'nan' is no number from 0 to 100"),
        (LINE.replace("auc", "AUC"), "metric 'AUC' is none of auc, pauc, pauc_mcclish"),
        (LINE.replace("all", "both"), "domain 'both' is none of all, source, target"),
        (LINE.replace("dense_ae", " "), "system is empty"),
    ],
)
def test_a_wrong_line_is_named_where_it_is_read(tmp_path, wrong, message):
    path = tmp_path / "own2025.csv"
    path.write_text("\n".join([",".join(Published._fields[:-1]), LINE, wrong]) + "\n")
    with pytest.raises(UserError, match=rf"^published/own2025\.csv:3: {message}"):
        list(read_published(path))


def test_a_wrong_heading_is_named(tmp_path):
    path = tmp_path / "own2025.csv"
    path.write_text("source,table\nOwn,Table 1\n")
    with pytest.raises(UserError, match=r"^published/own2025\.csv:1: the first line must be sou"):
        list(read_published(path))


def test_every_number_knows_its_line():
    first = load_published("giri2020_system1_mean")[0]
    assert (first.where, first.percent) == ("published/giri2020.csv:2", "94.97")
