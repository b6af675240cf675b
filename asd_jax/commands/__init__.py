"""The commands of `asd-jax`: their flags, and what each does.

Each imports its modules when it runs, so that a wrong flag is reported at once.
"""

from asd_jax.commands import data, finished, training
from asd_jax.commands.base import CONFIG, Command

COMMANDS = {
    "list": data.LIST,
    "synth": data.SYNTH,
    "index": data.INDEX,
    "run": training.RUN,
    "reproduce": training.REPRODUCE,
    "score": finished.SCORE,
    "import": finished.IMPORT,
    "ensemble": finished.ENSEMBLE,
    "report": finished.REPORT,
}

__all__ = ["COMMANDS", "CONFIG", "Command"]
