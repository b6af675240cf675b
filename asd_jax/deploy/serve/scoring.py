"""Scores recordings of several requests together, each as `asd-jax score` would alone."""

import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import NamedTuple

from asd_jax.data.recordings import Waveform
from asd_jax.deploy.serve.asked import Asked
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedMembers
from asd_jax.fitting.file_states import FileStates
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.recordings import FileScore, score_request
from asd_jax.fitting.together import Request, silent

# Sample rate, and channel as of `data.audio_files.read`, at which a system hears a recording.
Reading = tuple[int, int | str | None]
Result = list[FileScore] | Exception  # of the clips of a recording, or why there are none


class Posted(NamedTuple):
    """A recording of a request.

    Attributes:
        name: as the answer has it.
        asked: what to do with it.
        waveforms: at each of the `readings` of its machine.
    """

    name: str
    asked: Asked
    waveforms: Mapping[Reading, Waveform]


def readings(fitted: Fitted, machine: str) -> list[Reading]:
    """How the systems that score a machine's recordings read them.

    Raises:
        UserError: the weights of a pretrained network are missing.
    """
    if isinstance(fitted, FittedMembers):
        members = [readings(fitted.members[name], machine) for name in fitted.serving(machine)]
        return [*dict.fromkeys(itertools.chain(*members))]
    assert isinstance(fitted, FittedDetector)  # the other kind
    rates = [fitted.detector.front_end.sample_rate]
    if fitted.config.embedding.pretrained:
        rates.append(fitted.embedder.sample_rate)
    return [*dict.fromkeys((rate, fitted.config.channel) for rate in rates)]


def score_posted(fitted: Fitted, posted: Sequence[Posted]) -> list[Result]:
    """Scores recordings of any machines together.

    Args:
        fitted: the fitted system of a run.
        posted: the recordings.

    Returns:
        The scores of each recording, one a clip that it is cut into; the error of one that cannot
        be scored, which changes nothing for the others.
    """
    try:
        return _together(fitted, posted)
    except Exception as error:
        if len(posted) == 1:
            return [error]
    return [result for each in posted for result in score_posted(fitted, [each])]


def _together(fitted: Fitted, posted: Sequence[Posted]) -> list[Result]:
    found: dict[int, Result] = {}

    def read(
        indices: Sequence[int],
        sample_rate: int,
        channel: int | str | None,
        report: Callable[[str], None],
    ) -> Generator[tuple[int, Waveform], None, None]:
        for index in indices:
            yield index, posted[index].waveforms[sample_rate, channel]

    def is_bad(index: int, error: UserError, report: Callable[[str], None]) -> None:
        found[index] = UserError(f"{posted[index].name}: {error}")

    def states(
        detector: FittedDetector, index: int, spans: Sequence[tuple[float, float]]
    ) -> list[str]:
        # What a name says counts where states are in names; no name leads to a file of states here.
        known = FileStates(posted[index].asked.state or None, silent)
        data = detector.config.data
        named = () if data.state_log else data.state
        return known.of_clips(named, "", posted[index].name, spans)

    names = [each.name for each in posted]
    whose = [(each.asked.group[0], each.asked.group[1] or None) for each in posted]
    rates = [each.asked.false_alarms for each in posted]
    for explain in (False, True):
        wanted = [i for i, each in enumerate(posted) if each.asked.explain == explain]
        if wanted:
            explained: dict | None = {} if explain else None
            request = Request(names, whose, read, is_bad, states, silent, explained, {}, {}, set())
            found.update(score_request(fitted, request, wanted, rates))
    return [found[index] for index in range(len(posted))]
