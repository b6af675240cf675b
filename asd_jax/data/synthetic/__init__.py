"""Synthetic machine sounds, in every challenge year's layout.

| module | content |
|---|---|
| `synthesis` | `synthesize`, which writes a data set |
| `takes` | the recordings of a data set: names, domains, labels |
| `machine_kinds` | parameters of the sound of each machine type |
| `machine_sounds` | rendering of a recording |
| `machine_faults`, `machine_wear` | faults: added sources, changes of the machine's own sound |
"""

from asd_jax.data.synthetic.synthesis import synthesize

__all__ = ["synthesize"]
