"""Which channel of a recording is heard."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from asd_jax.data.audio_files import AudioInfo


def channel_problem(info: "AudioInfo", channel: int | str | None) -> tuple[str, str] | None:
    """What a recording has in place of the channel asked for, and what to do; None if it has it.

    Args:
        info: the recording's header.
        channel: as of `audio_files.read`.
    """
    has = f"{info.channels} channel{'s' * (info.channels != 1)}"
    if isinstance(channel, int) and channel >= info.channels:
        return f"{has}, counted from 0, and no channel {channel}", "set --config.data.channel"
    if channel == "canceller" and info.channels != 2:
        return (
            f"{has} where the canceller needs two, near the machine and far from it",
            "set --config.front_end.canceller=False",
        )
    return None


def taken(samples: np.ndarray, channel: int | str | None) -> np.ndarray:
    """The channel that is asked for.

    Args:
        samples: (samples, channels).
        channel: as of `audio_files.read`.

    Returns:
        (samples,); all channels for the canceller.
    """
    if channel == "canceller":
        return samples
    if samples.shape[1] > 1 and not isinstance(channel, int):
        return samples.mean(axis=1)
    return np.ascontiguousarray(samples[:, channel if isinstance(channel, int) else 0])
