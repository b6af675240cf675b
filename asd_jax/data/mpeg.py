"""Lengths of MPEG audio (MP3), which has no header: each of its frames says its own length.

A decoder that finds no index in the first frame takes all frames for as long as the first one. Of
a variable rate, that is another length than the recording's, and the decoder says nothing of it.
"""

from io import BufferedReader, FileIO
from typing import NamedTuple

# In kbit/s by index, of layers 1, 2, 3 of version 1, and of layers 1 and 2 or 3 of the others.
_KBITS = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_KBITS[2, 3] = _KBITS[2, 2]
_RATES = (44100, 48000, 32000)  # Hz of version 1; halved in version 2, and again in 2.5
_SAMPLES = {(1, 1): 384, (1, 2): 1152, (1, 3): 1152, (2, 1): 384, (2, 2): 1152, (2, 3): 576}
_LONGEST = 1152  # samples of a frame
_ID3_HEADER = 10
_FEWEST_FRAMES = 3  # fewer that follow each other may be chance, in a file that is something else


class Frames(NamedTuple):
    """The frames of a file of MPEG audio.

    Attributes:
        n_samples: samples of each channel in the whole frames.
        indexed: the first frame holds no sound, but says how many frames follow.
        cut_off: the file ends within a frame.
    """

    n_samples: int
    indexed: bool
    cut_off: bool


def mpeg_length(file: FileIO, size: int, announced: int) -> tuple[int, str | None]:
    """Samples of each channel of MPEG audio, and what is wrong with them.

    Args:
        file: the open file.
        size: of the file, in bytes.
        announced: samples by libsndfile, which guesses without an index.

    Returns:
        Samples that are there, and the problem, with its kind before a colon; None where there is
        none.
    """
    frames = read_frames(file, size)
    if frames is None or frames.indexed:
        return announced, None
    if frames.cut_off:
        return announced, "truncated: the file ends within a frame"
    if announced < frames.n_samples - _LONGEST:
        return announced, (
            f"unknown length: MPEG audio of a variable bit rate without an index, of which "
            f"{announced} of {frames.n_samples} samples would be decoded; write it again as WAV or "
            "FLAC"
        )
    return min(announced, frames.n_samples), None


def read_frames(file: FileIO, size: int) -> Frames | None:
    """Reads the headers of all frames of MPEG audio.

    Args:
        file: the open file.
        size: of the file, in bytes.

    Returns:
        The frames; None where the file does not begin with some, or their length is not said.
    """
    buffered = BufferedReader(file)
    buffered.seek(0)
    first = at = _end_of_tag(buffered.read(_ID3_HEADER))
    n_frames = n_samples = 0
    while True:
        buffered.seek(at)
        length, samples = _frame(buffered.read(4))
        if not length or at + length > size:
            break
        n_frames, n_samples, at = n_frames + 1, n_samples + samples, at + length
    buffered.seek(first)
    head = buffered.read(_frame(buffered.read(4))[0])
    buffered.detach()  # or its end would close the file
    if n_frames < _FEWEST_FRAMES:
        return None
    return Frames(n_samples, b"Xing" in head or b"Info" in head, cut_off=length > 0)


def _end_of_tag(head: bytes) -> int:
    """Where the frames begin: behind a tag ID3v2, whose length has seven bits in a byte."""
    if head[:3] != b"ID3" or len(head) < _ID3_HEADER:
        return 0
    length = 0
    for byte in head[6:10]:
        length = length << 7 | byte & 0x7F
    return _ID3_HEADER + length


def _frame(head: bytes) -> tuple[int, int]:
    """Length in bytes, and samples of each channel, of the frame of a header; 0, 0 for none."""
    # 11 bits set, version, layer, protection; bit rate, sample rate, padding; of no use here.
    if len(head) < 4:
        return 0, 0
    first, second, third, _ = head
    if first != 0xFF or second & 0xE0 != 0xE0:
        return 0, 0
    halvings = {3: 0, 2: 1, 0: 2}.get(second >> 3 & 3)
    layer = 4 - (second >> 1 & 3)
    bit_rate, sample_rate, padding = third >> 4, third >> 2 & 3, third >> 1 & 1
    if halvings is None or layer == 4 or bit_rate in (0, 15) or sample_rate == 3:
        return 0, 0
    kind = (1 if halvings == 0 else 2, layer)
    samples = _SAMPLES[kind]
    slot = 4 if layer == 1 else 1  # bytes
    bits = 1000 * _KBITS[kind][bit_rate - 1] * samples
    slots = bits // (8 * slot * (_RATES[sample_rate] >> halvings)) + padding
    return slots * slot, samples
