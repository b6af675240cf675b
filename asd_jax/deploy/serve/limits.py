"""Limits of the service, and the refusals of what goes beyond them."""

import dataclasses

# Values, of all channels together, that a recording may unpack to: 1 GiB of float32.
MOST_VALUES = 2**28


@dataclasses.dataclass(frozen=True)
class Limits:
    """What the service takes.

    Attributes:
        max_bytes: of a request's body.
        max_seconds: length of a recording, whatever it is compressed to.
        timeout_s: seconds that a request may take to arrive, and again to be scored.
        max_queue: recordings that are received, wait or are scored at a time.
        max_batch: recordings that are scored together.
    """

    max_bytes: int = 32 << 20
    max_seconds: float = 600.0
    timeout_s: float = 60.0
    max_queue: int = 64
    max_batch: int = 32

    @property
    def max_files(self) -> int:
        """Files of a form."""
        return min(self.max_batch, self.max_queue)


class Refused(Exception):
    """A request that is answered by an error.

    Args:
        status: of HTTP.
        text: one line for the client.
        headers: of the answer.
    """

    def __init__(self, status: int, text: str, **headers: str):
        super().__init__(" ".join(text.split()))
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}
