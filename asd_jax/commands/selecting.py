"""The command select: chooses among finished runs without labels."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from absl import flags

from asd_jax.commands.base import Command, define_cores, define_real, define_whole, prepare_jax
from asd_jax.commands.output import define_format, print_csv, print_json
from asd_jax.runtime.bounds import SEED, Between

if TYPE_CHECKING:
    from asd_jax.evaluation.selection import Selection

_ALL = "all machines"
_MOST_COLUMNS = 6  # machines that have a column of the table
_FIELDS = (
    *("candidate", "machine", "pseudo_auc", "separation", "best", "regret", "lead", "lead_low"),
    *("lead_high", "takes"),
)
_LEGEND = (
    "In percent. pseudo-AUC: how well a run tells changed normal clips from normal ones. lead: of "
    "the first run, with its 95 % interval over clips and machines. best: probability that a run "
    "has the best true AUC of these. regret: by how much its true AUC is expected to be below the "
    "best. The last two are calibrated on synthetic machines."
)


def _define_select(values: flags.FlagValues) -> None:
    flags.DEFINE_multi_string("run_dir", [], "finished run; two or more", flag_values=values)
    define_whole(
        values, "clips", 90, "pseudo-anomalies of each machine, at each strength", Between(1, 10**6)
    )
    define_whole(values, "seed", 0, "of all that is drawn", SEED)
    define_real(
        values,
        "least",
        0.5,
        "probability of being the best of all below which the choice is undecided",
        Between(0, 1),
    )
    define_cores(values)
    define_format(values)


def _select(values: flags.FlagValues, words: list[str], overrides: dict[str, str]) -> None:
    from asd_jax.runs.select import select

    prepare_jax(cores=values.cores)
    found = select(values.run_dir, clips=values.clips, seed=values.seed, least=values.least)
    if values.format == "csv":
        print_csv(_FIELDS, _records(found))
    elif values.format == "json":
        print_json(_document(found))
    else:
        _print_table(found)


def _records(found: "Selection") -> Iterator[dict[str, Any]]:
    """A record a candidate over all machines, then one for each machine."""
    for i, name in enumerate(found.names):
        yield {
            "candidate": name,
            "machine": _ALL,
            "pseudo_auc": found.auc[i],
            "separation": found.separation_of_all[i],
            "best": found.sureness[i],
            "regret": found.regret[i],
            "lead": found.auc[0] - found.auc[i],
            "lead_low": found.low[i],
            "lead_high": found.high[i],
            "takes": name == found.chosen,
        }
    for m, machine in enumerate(found.machines):
        for i, name in enumerate(found.names):
            yield {
                "candidate": name,
                "machine": machine,
                "pseudo_auc": found.of_machine[i, m],
                "separation": found.separation[i, m],
                "best": found.sureness_of_machine[i, m],
                "takes": name == found.by_machine[machine],
            }


def _document(found: "Selection") -> dict[str, Any]:
    from asd_jax.audio.pseudo_anomalies import CHOOSING, KINDS

    records = [*_records(found)]
    every = [record for record in records if record["machine"] == _ALL]
    return {
        "chosen": found.chosen,
        "undecided": found.reason or None,
        "candidates": [
            {key: value for key, value in record.items() if key not in ("machine", "takes")}
            for record in every
        ],
        "machines": [
            {
                "machine": machine,
                "takes": found.by_machine[machine],
                "candidates": [
                    {key: record[key] for key in ("candidate", "pseudo_auc", "separation", "best")}
                    for record in records
                    if record["machine"] == machine
                ],
                "strengths": {
                    kind: None if strength < 0 else strength
                    for kind, strength in zip(KINDS, found.strengths[machine].tolist(), strict=True)
                    if kind in CHOOSING
                },
            }
            for machine in found.machines
        ],
        "notes": found.notes,
    }


def _print_table(found: "Selection") -> None:
    from asd_jax.runtime.text_tables import aligned, filled, terminal_width

    width = terminal_width()
    shown = [*enumerate(found.machines)] if 1 < len(found.machines) <= _MOST_COLUMNS else []
    heading = ["run", "pseudo-AUC", "lead", "best", "regret", *(name for _, name in shown)]
    rows = []
    for i, name in enumerate(found.names):
        lead = f"{_percent(found.auc[0] - found.auc[i])} " + (
            f"[{_percent(found.low[i], 1)}, {_percent(found.high[i], 1)}]"
        )
        rows.append(
            [
                name,
                _percent(found.auc[i]),
                lead if i and not math.isnan(found.auc[i]) else "–",
                _percent(found.sureness[i], 0),
                _percent(found.regret[i], 1),
                *(_percent(found.of_machine[i, m], 1) for m, _ in shown),
            ]
        )
    print(*aligned([heading, *rows], width=width), sep="\n")
    if len(found.machines) > 1:
        print()
        own = [["machine", "run", "best"]]
        for m, (machine, takes) in enumerate(found.by_machine.items()):
            sure = math.nan
            if takes is not None:
                sure = found.sureness_of_machine[found.names.index(takes), m]
            own.append([machine, takes or "–", _percent(sure, 0)])
        print(*aligned(own, width=width), sep="\n")
    print()
    if found.chosen is None:
        line = f"undecided: {found.reason}"
    else:
        line = (
            f"chosen: {found.chosen}, the best of these by a probability of "
            f"{100 * found.sureness[0]:.0f} %"
        )
    for each in (_LEGEND, line):
        print(*filled(each, width), sep="\n")


def _percent(value: float, digits: int = 2) -> str:
    return "–" if math.isnan(value) else f"{100 * value:.{digits}f}"


SELECT = Command(
    "choose among finished runs without labels, by pseudo-anomalies made of their normal clips",
    _define_select,
    _select,
    ("run_dir",),
    "[RUN …]",
)
