"""The operating state of each window: as its stream, or the side file of its recording, says."""

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from asd_jax.config import DataConfig
from asd_jax.data.clips import UNFITTED, Clip
from asd_jax.data.names import named_attributes
from asd_jax.data.states import BESIDE, StateSource
from asd_jax.deploy.watch.streams import Stream
from asd_jax.deploy.watch.windows import Window
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.fitted import Fitted


class WindowStates:
    """Says the states of windows.

    Side files are read again with each recording, or where they have changed; what is kept of them
    does not grow.

    Args:
        fitted: of the run.
        streams: the streams.
        report: called with a line about each stream of which no state is known.

    Raises:
        UserError: the members of an ensemble have states from different places.
    """

    def __init__(self, fitted: Fitted, streams: Sequence[Stream], report: Callable[[str], None]):
        self._streams, self._report = {stream.name: stream for stream in streams}, report
        self._said: set[str] = set()  # streams that a line was about
        of_machine = {machine: _data_of(fitted, machine) for machine in fitted.machines}
        self._data = {stream.name: of_machine[stream.group[0]] for stream in streams}
        self._read: dict[str, tuple[Any, StateSource]] = {}  # by stream, or path of one for all

    def of(self, window: Window) -> tuple[str, str]:
        """The state of a window, "" where it is not known; and why it cannot be scored, or ""."""
        stream, data = self._streams[window.stream], self._data[window.stream]
        if stream.state or data is None:
            return stream.state, ""
        if not window.file:
            self._tell(stream, "the column state of --streams says it")
            return "", ""
        path = os.path.abspath(os.path.join(stream.path, window.file))
        clip = Clip("", "", UNFITTED, window.file, path, attributes=named_attributes(path))
        clip = _from(clip, window.file_begin)
        try:
            source = self._source(window, data)
            (state,) = source.states([clip], np.array([window.seconds]), _silent)
        except UserError as error:
            return "", str(error)
        if not state:
            self._tell(stream, f"first of {window.file}")
        return state, ""

    def _tell(self, stream: Stream, more: str) -> None:
        if stream.name not in self._said:
            self._said.add(stream.name)
            self._report(
                f"{stream.name}: no state is known, and windows are scored whatever it is; {more}"
            )

    def _source(self, window: Window, data: DataConfig) -> StateSource:
        """What reads side files, anew for another recording, or another content of one for all."""
        place, key = window.stream, window.file
        if data.state_log not in ("", BESIDE):
            place, key = data.state_log, _content(data.state_log)
        known = self._read.get(place)
        if known is None or known[0] != key:
            known = self._read[place] = key, StateSource(data.state, data.state_log)
        return known[1]


def _from(clip: Clip, start: float) -> Clip:
    return Clip(**{**vars(clip), "start": start})


def _content(path: str) -> Any:
    try:
        status = os.stat(path)
    except OSError:  # which reading it says
        return None
    return status.st_mtime_ns, status.st_size


def _silent(line: str) -> None:
    """Side files say more than a window of their recording lasts."""


def _data_of(fitted: Fitted, machine: str) -> DataConfig | None:
    """Where the systems that score a machine have states from; None where they have none."""
    found = {(data.state, data.state_log): data for data in _all_data(fitted, machine)}
    if len(found) > 1:
        raise UserError(
            f"the members that score {machine} differ in data.state or data.state_log; watch needs "
            "one for all, or watch a member's run"
        )
    return next(iter(found.values()), None)


def _all_data(fitted: Fitted, machine: str) -> Iterator[DataConfig]:
    if isinstance(fitted, FittedMembers):
        for name in fitted.serving(machine):
            yield from _all_data(fitted.members[name], machine)
    elif isinstance(fitted, FittedDetector) and fitted.config.data.state:
        yield fitted.config.data
