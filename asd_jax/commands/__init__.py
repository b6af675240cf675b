"""The commands of `asd-jax`: their flags, and what each does.

Each imports its modules when it runs, so that a wrong flag is reported at once.
"""

from asd_jax.commands import (
    acknowledging,
    adapting,
    completion,
    data,
    exporting,
    finished,
    listing,
    selecting,
    serving,
    submission,
    training,
    watching,
)
from asd_jax.commands.base import CONFIG, PATHS, Command

COMMANDS = {
    "list": listing.LIST,
    "download": data.DOWNLOAD,
    "synth": data.SYNTH,
    "index": data.INDEX,
    "run": training.RUN,
    "reproduce": training.REPRODUCE,
    "score": finished.SCORE,
    "watch": watching.WATCH,
    "import": finished.IMPORT,
    "ensemble": finished.ENSEMBLE,
    "report": finished.REPORT,
    "adapt": adapting.ADAPT,
    "select": selecting.SELECT,
    "serve": serving.SERVE,
    "submission": submission.SUBMISSION,
    "export": exporting.EXPORT,
    "acknowledge": acknowledging.ACKNOWLEDGE,
    "completion": completion.COMPLETION,
}

__all__ = ["COMMANDS", "CONFIG", "PATHS", "Command"]
