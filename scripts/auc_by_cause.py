"""AUCs of a finished run on synthetic data, cause by cause of the anomalies.

    .venv/bin/python scripts/auc_by_cause.py --data_dir=DATA --run_dir=RUN

A section's anomalous clips of one cause, or of one kind of cause, stand against all of its normal
clips. Printed are means over sections, mean ± standard deviation over seeds, in percent.
"""

import csv
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from absl import app, flags

from asd_jax import metrics
from asd_jax.data.clip_paths import parse_clip
from asd_jax.data.synthetic.machine_wear import CAUSES
from asd_jax.data.synthetic.synthesis import ANOMALIES_FILE
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ScoreRow, read_scores_csv

_DATA_DIR = flags.DEFINE_string("data_dir", None, "what `asd-jax synth` made", required=True)
_RUN_DIR = flags.DEFINE_string("run_dir", None, "a finished run on it", required=True)

ADDED, CHANGED = "sounds on top", "changes of the machine's own sound"


Place = tuple[str, str, str]  # machine, section and name of a test clip, as scores.csv has them


def read_causes(data_dir: Path) -> dict[Place, str]:
    """Cause of every anomalous clip of a synthetic data set.

    Raises:
        UserError: the folder holds no such data set.
    """
    path = data_dir / ANOMALIES_FILE
    if not path.is_file():
        raise UserError(f"{path} is not there; --data_dir is the folder that `asd-jax synth` made")
    causes: dict[Place, str] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            clip = parse_clip(row["path"], data_dir)
            if clip is None:
                raise UserError(f"{path}: {row['path']} is no clip of a known layout")
            place = clip.machine, clip.section, clip.name
            if place in causes:
                raise UserError(f"{path} has {' '.join(place)} twice; give one data set's folder")
            causes[place] = row["cause"]
    return causes


def auc_by_cause(rows: Iterable[ScoreRow], causes: Mapping[Place, str]) -> dict[str, np.ndarray]:
    """AUCs of one run.

    Args:
        rows: scores of its test clips.
        causes: as `read_causes` gives them.

    Returns:
        (seeds,) AUCs from 0 to 1 by "machine cause", and of both kinds of cause; means over the
        sections that have one.

    Raises:
        UserError: the run is of other data.
    """
    scores: dict = defaultdict(lambda: defaultdict(list))
    for row in rows:
        names = [""]
        if row.label:
            cause = causes.get((row.machine, row.section, row.clip))
            if cause is None:
                raise UserError(f"{row.machine} {row.section} {row.clip} is not of this data set")
            names = [f"{row.machine} {cause}", CHANGED if cause in CAUSES else ADDED]
        for name in names:
            scores[row.seed][row.machine, row.section, name].append(row.score)
    found: dict = defaultdict(lambda: defaultdict(list))
    for seed, parts in scores.items():
        for (machine, section, name), anomalous in parts.items():
            if not name:
                continue
            normal = parts[machine, section, ""]
            labels = np.repeat([0, 1], [len(normal), len(anomalous)])
            auc = metrics.auc(labels, np.array(normal + anomalous))
            found[name][seed].append(float(auc))
    return {
        name: np.array([np.mean(aucs) for aucs in of_seeds.values()])
        for name, of_seeds in sorted(found.items())
    }


def main(argv: list[str]) -> None:
    """Prints a table."""
    del argv
    try:
        rows = read_scores_csv(Path(_RUN_DIR.value) / "scores.csv")
        found = auc_by_cause(rows, read_causes(Path(_DATA_DIR.value)))
    except UserError as error:
        sys.exit(f"auc_by_cause: {error}")
    for name, aucs in found.items():
        spread = f" ± {100 * aucs.std(ddof=1):.1f}" if len(aucs) > 1 else ""
        print(f"{name:36} {100 * aucs.mean():5.1f}{spread}")


if __name__ == "__main__":
    app.run(main)
