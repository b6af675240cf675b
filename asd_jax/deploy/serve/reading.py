"""Reads a recording that was received, within the limits, whatever its header announces."""

import contextlib
import os
from collections.abc import Sequence

from asd_jax.data.audio_files import inspect
from asd_jax.data.recordings import Waveform, read_recordings
from asd_jax.deploy.serve.limits import MOST_VALUES, Limits, Refused
from asd_jax.deploy.serve.scoring import Reading
from asd_jax.errors import UserError


def read_received(
    path: os.PathLike | str, name: str, wanted: Sequence[Reading], limits: Limits
) -> tuple[dict[Reading, Waveform], list[str]]:
    """Reads a recording.

    A long one is read while it is scored, see `data.recordings.read_recordings`; its file must stay
    until then.

    Args:
        path: where it is.
        name: what errors and remarks call it.
        wanted: sample rates and channels.
        limits: of its length; a compressed recording that is longer is not decoded.

    Returns:
        Its waveforms, and remarks on what was done to it, as resampling.

    Raises:
        Refused: it is too long.
        UserError: it cannot be used; the line that `asd-jax score` has for it.
    """
    remarks: list[str] = []
    waveforms: dict[Reading, Waveform] = {}
    _check_length(path, name, limits)
    for sample_rate, channel in wanted:
        recordings = read_recordings([path], sample_rate, channel, 1, report=remarks.append)
        with contextlib.closing(recordings):
            try:
                ((_, waveforms[sample_rate, channel]),) = recordings
            except UserError as error:
                line = str(error).replace(os.fspath(path), name)
                raise UserError(line, error.exit_status) from error
    return waveforms, [line.replace(os.fspath(path), name) for line in dict.fromkeys(remarks)]


def _check_length(path: os.PathLike | str, name: str, limits: Limits) -> None:
    info = inspect(path, longest=MOST_VALUES)
    if info.problem is not None:
        return  # which the read says, before it decodes anything
    if info.n_samples * max(1, info.channels) > MOST_VALUES:
        raise Refused(
            413,
            f"{name}: too large: it unpacks to more than {MOST_VALUES:,} samples of all channels; "
            "cut it",
        )
    seconds = info.n_samples / info.sample_rate
    if seconds > limits.max_seconds:
        raise Refused(
            413,
            f"{name}: too long: {seconds:,.0f} s where {limits.max_seconds:,g} s are taken; cut it",
        )
