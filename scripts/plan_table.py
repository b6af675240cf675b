"""Prints docs/systems.md's table of what training all machines of DCASE 2020 takes.

    .venv/bin/python scripts/plan_table.py [CONFIGURATION …]

A step's bytes are those that XLA for CPUs counts, so they differ a little between its versions.
"""

import sys

from asd_jax.config import load_config
from asd_jax.detectors import make_detector
from asd_jax.runs.plan import plan_clips
from asd_jax.runtime.memory import size

# Configurations of the table, with what is changed in them.
ROWS: dict[str, dict[str, str]] = {
    "dense_ae": {},
    "lstm_ae": {},
    "interpolation_ae": {},
    "group_made": {},
    "ganomaly": {},
    "outlier_exposure_ae": {},
    "mobilenet_v2_id": {},
    "iaeo3": {"embedding": "none"},
}
HEADINGS = (
    "configuration",
    "models",
    "steps an epoch",
    "frames",
    "views",
    "weights and optimiser",
    "a step",
    "in all",
)


def cells(name: str) -> list[str]:
    """A row of the table."""
    changes = ROWS[name]
    config = load_config(name, changes | {"train.driver": "map"})
    cost = plan_clips(make_detector(config), None)
    flags = "".join(f" --config.{key}={text}" for key, text in changes.items())
    bytes_ = (cost.frames_bytes, cost.views_bytes, cost.state_bytes, cost.step_bytes)
    sizes = [size(each) for each in (*bytes_, cost.total_bytes)]
    return [f"`{name}{flags}`", f"{cost.models}", f"{cost.steps:,}", *sizes]


def line(texts: list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(texts)} |"


if __name__ == "__main__":
    print(line(HEADINGS))
    print("|" + len(HEADINGS) * "---|")
    for chosen in sys.argv[1:] or ROWS:
        print(line(cells(chosen)), flush=True)
