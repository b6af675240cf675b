"""Synthetic machine sounds, in every challenge year's layout.

| module | what it knows |
|---|---|
| `synthesis` | `synthesize`: makes a data set |
| `takes` | the recordings of a data set: names, domains, labels |
| `machine_kinds` | how each machine type sounds |
| `machine_sounds` | renders a recording |
| `machine_faults`, `machine_wear` | what fails, added or in the machine's own sound |
"""

from asd_jax.data.synthetic.synthesis import synthesize

__all__ = ["synthesize"]
