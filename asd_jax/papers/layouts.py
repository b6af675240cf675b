"""Layouts of the results tables in the five reports.

The numbers themselves are in `published`. AUC and pAUC that a report prints in one cell are two
columns here.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from asd_jax.evaluation.results import MEAN
from asd_jax.published import Published


class TableLayout(NamedTuple):
    """Layout of a table.

    Attributes:
        title: its caption.
        row_headings: headings of the rows' labels.
        columns: for each column, its headings from the outermost in (as many for all columns),
            and the fields of `Published` that all its numbers share.
        labels: function from one of a row's numbers to the row's labels.
        rows: `Published.row` of each row in the printed order; empty for the order of the CSVs.
        has_gaps: whether a row may lack the number of a column, where ours stands alone.
        note: a remark on all of the table.
    """

    title: str
    row_headings: tuple[str, ...]
    columns: tuple[tuple[tuple[str, ...], Mapping[str, str]], ...]
    labels: Callable[[Published], tuple[str, ...]] = lambda published: (published.row,)
    rows: tuple[str, ...] = ()
    has_gaps: bool = False
    note: str = ""


class ScorePaper(NamedTuple):
    """A table of official scores, a column for each year and set, and perhaps means over them.

    Attributes:
        source: as in the CSVs of `published.scores`.
        table: likewise.
        title: its caption.
    """

    source: str
    table: str
    title: str


class Paper(NamedTuple):
    """A report.

    Attributes:
        source: its name in the CSVs.
        year: of its recordings.
        layouts: its tables.
        settings: what it changes in the configuration of a system that is not its own.
        max_fpr: p of the pAUC by its formula as printed, with K = floor(p N) of N normal clips;
            0 where it prints none.
    """

    source: str
    year: int
    layouts: Mapping[str, TableLayout]
    settings: Mapping[str, Mapping[str, str]] = {}
    max_fpr: float = 0.0


def _areas(heading: str, **fields: str) -> tuple[tuple[tuple[str, ...], Mapping[str, str]], ...]:
    """A group of two columns, AUC and pAUC."""
    metrics = (("AUC", "auc"), ("pAUC", "pauc_mcclish"))
    return tuple(((heading, title), {**fields, "metric": metric}) for title, metric in metrics)


def _jalali(machine: str) -> TableLayout:
    columns = _areas("Dense-autoencoder", system="dense_ae")
    title = f"dense and LSTM autoencoder, {machine}"
    return TableLayout(
        title, ("Machine ID",), columns + _areas("LSTM-autoencoder", system="lstm_ae")
    )


def _machine_and_rate(published: Published) -> tuple[str, ...]:
    """Jalali et al.: the sentences of section 3 are of a machine and a rate."""
    machine, _, rate = published.row.partition(" ")
    return machine, rate


_JALALI_AVERAGES = TableLayout(
    "averages over machine types of the tables' averages",
    ("Data set",),
    _areas("Dense-autoencoder", system="dense_ae") + _areas("LSTM-autoencoder", system="lstm_ae"),
)
_JALALI_RATES = TableLayout(
    "decisions, of all ids of a machine together",
    ("Machine", "Rate"),
    (
        (("Dense-autoencoder",), {"system": "dense_ae"}),
        (("LSTM-autoencoder",), {"system": "lstm_ae"}),
    ),
    _machine_and_rate,
    has_gaps=True,
    note="Thresholds are the mean scores of the training clips. Of valve the report has no number, "
    "but that tpr and fpr are higher than the baseline's, and precision, accuracy and F1 almost "
    "3 % better.",
)


def _hassankhani(domain: str) -> TableLayout:
    systems = (("AE", "dense_ae"), ("MobileNet", "mobilenet_v2_baseline"), ("Ours", "ganomaly"))
    columns = tuple(
        ((f"Section {section}", title), {"section": f"0{section}", "system": system})
        for section in range(3)
        for title, system in systems
    )
    return TableLayout(f"AUC by section, {domain} domain", ("Devices",), columns)


def _algorithm(published: Published) -> tuple[str, ...]:
    """Giri et al.: "System 1 mean" has the labels System 1 (algorithm) and mean (criterion)."""
    name, _, criterion = published.row.rpartition(" ")
    return (name, criterion) if criterion in ("mean", "max") else (published.row, "-")


def _machine_and_id(published: Published) -> tuple[str, ...]:
    """Grollmisch et al.: an average has no id, and a machine's average no name of the machine."""
    if published.machine == MEAN:
        return published.row, ""
    name, _, section = published.row.rpartition(" ")
    return ("Avg.", "") if published.section == MEAN else (name, section)


def _classes(published: Published) -> tuple[str, ...]:
    return published.row, published.outliers


_EXPOSURE = (("avg AUC",), {"metric": "auc"}), (("avg pAUC",), {"metric": "pauc_mcclish"})
_CLASSES = ("target class", "outlier class")
_JALALI = ("ToyCar", "ToyConveyor", "Fan", "Pump", "Slider", "Valve")
_GIRI = {"Toy Car": "ToyCar", "Toy Conveyor": "ToyConveyor"}
_GIRI |= {"Fan": "fan", "Pump": "pump", "Slider": "slider", "Valve": "valve"}
_SYSTEMS = tuple(f"System {system} {by}" for system in (1, 2, 3) for by in ("mean", "max"))
_EXPOSED = ("Gearbox", "Bearing", "Slider", "ToyCar", "ToyTrain", "Valve")

PAPERS = {
    "jalali2020": Paper(
        "Jalali et al. 2020",
        2020,
        {f"Table {i}": _jalali(machine) for i, machine in enumerate(_JALALI, 1)}
        | {"Section 4": _JALALI_AVERAGES, "Section 3": _JALALI_RATES},
        # Whose decisions the report counts at the threshold of its own system.
        {"dense_ae": {"threshold": "mean"}},
        # Equation 2 has floor(p N / 2), and p is 0.1 in the challenge.
        max_fpr=0.05,
    ),
    "hassankhani2021": Paper(
        "Hassankhani et al. 2021",
        2021,
        {"Table 1": _hassankhani("source"), "Table 2": _hassankhani("target")},
    ),
    "giri2020": Paper(
        "Giri et al. 2020",
        2020,
        {
            "Table 1": TableLayout(
                "AUC (pAUC) of the baseline and the four systems, means over ids",
                ("Algorithm", "Crit."),
                sum((_areas(title, machine=name) for title, name in _GIRI.items()), ()),
                _algorithm,
                ("Baseline", *_SYSTEMS, "System 4"),
            )
        },
    ),
    "grollmisch2020": Paper(
        "Grollmisch et al. 2020",
        2020,
        {
            "Table 2": TableLayout(
                "IAEO3 with settings by machine, with one for all, and the baseline",
                ("Machine", "ID"),
                _areas("IAEO3_opt", system="iaeo3_opt")
                + _areas("IAEO3", system="iaeo3")
                + _areas("Baseline", system="dense_ae"),
                _machine_and_id,
            )
        },
    ),
    "kazakova2022": Paper(
        "Kazakova et al. 2022",
        2022,
        {
            "Table 1": TableLayout(
                "fan, by the machine that serves as outliers",
                ("",),
                tuple(
                    ((f"AUC {section}",), {"metric": "auc", "section": f"0{section}"})
                    for section in range(3)
                )
                + ((("AUC",), {"metric": "auc", "section": MEAN}),)
                + ((("pAUC",), {"metric": "pauc_mcclish", "section": MEAN}),),
                rows=("clear AE", *(f"OE ({name})" for name in _EXPOSED)),
            ),
            "Table 2": TableLayout(
                "the autoencoder with outlier exposure", _CLASSES, _EXPOSURE, _classes
            ),
            "Table 3": TableLayout(
                "the picture network with outlier exposure",
                _CLASSES,
                _EXPOSURE,
                _classes,
            ),
        },
    ),
}

SCORE_PAPERS = {
    "asdkit2025": ScorePaper(
        "ASDKit (github.com/TakuyaFujimura/dcase-asd-toolkit)",
        "docs/results.png at ed27d82",
        "official scores, means of four trials",
    ),
    "rdp2026": ScorePaper(
        "RDP paper (arXiv 2603.04605)", "Table V", "official scores of systems of many papers"
    ),
}
