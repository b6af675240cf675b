"""Says when the sound of a stream cannot be of the set-up that the run was fitted to."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

_AGAIN = 100  # windows as in training, after which the next other one is said anew


class SetUps:
    """Tells of streams whose windows cannot be of the set-up, once until they are again.

    Args:
        report: called with lines for people.

    Examples:
        >>> set_ups = SetUps(print)
        >>> for problem in ("", "nothing above 4 kHz", "nothing above 4 kHz"):
        ...     set_ups.hear([{"stream": "fan", "set_up": problem or None, "begin": "noon"}])
        fan: from noon on, the sound cannot be of the set-up of training: nothing above 4 kHz
    """

    def __init__(self, report: Callable[[str], None]):
        self._report = report
        self._usual: dict[str, int] = {}  # windows as in training since another one, by stream

    def hear(self, records: Sequence[Mapping[str, Any]]) -> None:
        """Takes the records of windows, those of a stream in the order of their time."""
        for record in records:
            stream = record["stream"]
            if record["set_up"] is None:
                if stream in self._usual:
                    self._usual[stream] += 1
                continue
            if self._usual.get(stream, _AGAIN) >= _AGAIN:
                self._report(
                    f"{stream}: from {record['begin']} on, the sound cannot be of the set-up of "
                    f"training: {record['set_up']}"
                )
            self._usual[stream] = 0
