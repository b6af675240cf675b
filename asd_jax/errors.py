"""`UserError`: a mistake that the user can correct, printed as one line."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """A mistake in the input: a flag, a configuration, a path, a recording, the disk.

    The message is one line that names the fault, its place, and the remedy. The command line
    prints it without a traceback and exits with `exit_status`.

    Args:
        message: the line, without a full stop at its end; line breaks in it become spaces.
        exit_status: 2 for a wrong request, detected before any work; 1 for work that could not
            be finished.
    """

    def __init__(self, message: str, exit_status: int = 2):
        super().__init__(" ".join(str(message).split()))
        self.exit_status = exit_status


def nearest(wrong: str, right: Sequence[str]) -> str:
    """A "did you mean" for a message; empty where no name is near.

    Examples:
        >>> nearest("dens_ae", ["dense_ae", "lstm_ae"])
        '; did you mean dense_ae?'
    """
    matches = difflib.get_close_matches(wrong, right, n=1, cutoff=0.5)
    if not matches:  # a key given without its group, such as `epochs` for `train.epochs`
        matches = [name for name in right if name.rsplit(".", 1)[-1] == wrong.rsplit(".", 1)[-1]]
    return f"; did you mean {matches[0]}?" if matches else ""
