"""The states of recordings in files: as given, as their names say, or from side files."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from asd_jax.data.clips import UNFITTED, Clip
from asd_jax.data.names import named_attributes
from asd_jax.data.states import StateSource
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import check_states, given_states
from asd_jax.fitting.layout import Group


class FileStates:
    """Says the states of clips of recordings.

    Args:
        given: the state of all recordings; None for what their names or side files say.
        report: called with a line about recordings whose state is not known.

    Raises:
        UserError: a state that no text is.
    """

    def __init__(self, given: Any, report: Callable[[str], None]):
        self._given = None if given is None else given_states(given, 1)[0]
        self._report = report
        self._sources: dict[tuple[tuple[str, ...], str], StateSource] = {}
        self._unknown: dict[str, None] = {}  # of several members each says it

    def check(self, fitted: Fitted, group: Group) -> None:
        """Raises UserError where the given state is not one of the group's columns."""
        if self._given is not None:
            check_states(fitted, group, [self._given])

    def of_clips(
        self,
        names: Sequence[str],
        log: str,
        file: os.PathLike | str,
        spans: Sequence[tuple[float, float]],
    ) -> list[str]:
        """The state of each clip that a recording is cut into.

        Args:
            names: `DataConfig.state`.
            log: `DataConfig.state_log`.
            file: the recording.
            spans: begin and end of each clip in seconds.
        """
        if self._given is not None:
            return [self._given] * len(spans)
        if not names:
            return [""] * len(spans)
        if (names := tuple(names), log) not in self._sources:
            self._sources[names, log] = StateSource(names, log)
        path = os.path.abspath(file)
        clip = Clip("", "", UNFITTED, os.fspath(file), path)
        attributes = named_attributes(path)
        clips = [_at(clip, attributes, begin) for begin, _ in spans]
        lengths = np.array([end - begin for begin, end in spans])
        found = self._sources[names, log].states(clips, lengths, self._report)
        if "" in found:
            self._unknown[os.fspath(file)] = None
        return found

    def tell(self) -> None:
        """Says how many recordings have no state."""
        if self._unknown:
            first = next(iter(self._unknown))
            self._report(
                f"no state is known of {len(self._unknown)} recordings, first {first}; "
                "they are scored whatever it is (--state= says it)"
            )


def _at(clip: Clip, attributes: tuple[tuple[str, str], ...], start: float) -> Clip:
    return dataclasses.replace(clip, attributes=attributes, start=start)
