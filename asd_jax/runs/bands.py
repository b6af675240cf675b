"""Mel bands into which no bin of the transform falls: they are constant, whatever is recorded."""

import dataclasses

from asd_jax.audio import FrontEnd
from asd_jax.audio.mel import empty_bands
from asd_jax.features.request import ClipFrontEnd

_LARGEST_N_FFT = 2**20


def empty_band_lines(front_end: ClipFrontEnd) -> list[str]:
    """A line about the empty bands of a front end, with settings that have none; [] for none."""
    if not isinstance(front_end, FrontEnd):  # it has no bands
        return []
    count = _empty(front_end)
    if not count:
        return []
    longer = fewer = ""
    n_fft = front_end.n_fft
    while not longer and (n_fft := 2 * n_fft) <= _LARGEST_N_FFT:
        if not _empty(dataclasses.replace(front_end, n_fft=n_fft)):
            longer = f"raise --config.front_end.n_fft to {n_fft}"
    for n_mels in range(front_end.n_mels - 1, 0, -1):
        if not _empty(dataclasses.replace(front_end, n_mels=n_mels)):
            fewer = f"lower --config.front_end.n_mels to {n_mels}"
            break
    return [
        f"{count} of the {front_end.n_mels} mel bands are empty, as no frequency of a transform of "
        f"{front_end.n_fft} samples falls into them: they have one value whatever is recorded; "
        + " or ".join(filter(None, (longer, fewer)))
    ]


def _empty(front_end: FrontEnd) -> int:
    return empty_bands(front_end.n_fft, front_end.mel)
