"""What a file's container announces, beside what the file holds; libsndfile compares little.

A recording that is shorter than its header says was cut off, and one that is longer has a header
that was never finished: in both, the sound that can be read is not the recording. Nor is it where
the sizes of a sample contradict each other.
"""

import re
import struct
from collections.abc import Iterator
from io import FileIO

# Lengths that programs write before they know better: pipes, streams and speech synthesisers. The
# sound then lasts to the end of the file.
_PLACEHOLDERS = {0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2_000_000_000}
# Bytes behind the sound that are no chunk: a tag, up to here or to a hundredth of the sound.
_TAG_BYTES = 4096
_CHUNK_NAME = re.compile(rb"[ -~]{4}")
_MOST_NAMELESS = 1024  # zeros between chunks, which some recorders write
# Kinds of samples in a chunk fmt: integers, floating point; of the last, further fields say which.
_UNCOMPRESSED, _EXTENSIBLE = (1, 3), 0xFFFE
# Chunk of sound by kind of IFF.
_IFF_SOUND = {b"AIFF": b"SSND", b"AIFC": b"SSND", b"8SVX": b"BODY", b"16SV": b"BODY"}
_OGG_LAST_PAGE, _OGG_PAGE_BYTES = 4, 65307


def wrong_header(file: FileIO, size: int) -> str | None:
    """Describes how a file's sound differs from what its container announces.

    RIFF, RF64, W64, AIFF, 8SVX, AU and Ogg are compared; other formats fail to decode, or have no
    length.

    Args:
        file: the open file.
        size: of the file, in bytes.

    Returns:
        The problem, with its kind before a colon; None where there is none.
    """
    file.seek(0)
    head = file.read(40)
    if head[:4] in (b"RIFF", b"RIFX", b"RF64") and head[8:12] == b"WAVE":
        return _of_wave(file, size, ">" if head[:4] == b"RIFX" else "<")
    if head[:4] == b"riff" and head[24:28] == b"wave":
        return _of_wave64(file, size)
    if head[:4] == b"FORM" and head[8:12] in _IFF_SOUND:
        return _of_iff(file, size, _IFF_SOUND[head[8:12]])
    if head[:4] == b".snd" and len(head) > 12:
        start, length = struct.unpack(">II", head[4:12])
        return _compared(length, size - start) if length != 0xFFFFFFFF else None
    if head[:4] == b"OggS":
        return _of_ogg(file, size)
    return None


def _compared(announced: int, held: int) -> str | None:
    if held < announced:
        return f"truncated: {held} of the {announced} bytes of sound announced are there"
    return None


def _chunks(
    file: FileIO, at: int, end: int, layout: str, header: int, align: int
) -> Iterator[tuple[bytes, int, int]]:
    """Name, length and place of the content of each chunk from a place on."""
    while at + struct.calcsize(layout) <= end:
        file.seek(at)
        name, length = struct.unpack(layout, file.read(struct.calcsize(layout)))
        yield name, length - header, at + struct.calcsize(layout)
        at += struct.calcsize(layout) + length - header
        at += -at % align


def _of_wave(file: FileIO, size: int, order: str) -> str | None:
    whole = None  # bytes of sound by chunk ds64
    odd = ""  # name of the last chunk of odd length
    nameless = 0
    for name, length, at in _chunks(file, 12, size, f"{order}4sI", 0, 2):
        if not _CHUNK_NAME.fullmatch(name) and odd:
            return f"malformed: chunk {odd} has an odd length and no padding; write the file again"
        nameless += not _CHUNK_NAME.fullmatch(name)
        if nameless > _MOST_NAMELESS:
            return None  # whatever it is, it is for the decoder to say
        if name == b"ds64":
            file.seek(at)
            _, whole = struct.unpack("<QQ", file.read(16).ljust(16, b"\0"))
        if name == b"fmt " and (problem := _of_samples(file, at, order)):
            return problem
        if name == b"data":
            return _of_sound(file, size, order, at, length, whole)
        odd = name.decode("ascii", "replace").strip() if length % 2 else odd
    if odd:
        return f"malformed: no sound follows chunk {odd}, whose odd length lacks its padding"
    return "truncated: the file ends before the sound begins"


def _of_samples(file: FileIO, at: int, order: str) -> str | None:
    """The problem of a chunk fmt at a place: samples of another size than their bits."""
    file.seek(at)
    layout = f"{order}HHIIHH8xH"
    fields = struct.unpack(layout, file.read(struct.calcsize(layout)).ljust(26, b"\0"))
    kind, channels, _, _, align, bits, extensible = fields
    kind = extensible if kind == _EXTENSIBLE else kind
    wanted = channels * -(-bits // 8)
    # libsndfile reads by the bits alone, also where an alignment of 0 says nothing.
    if kind not in _UNCOMPRESSED or align in (0, wanted):
        return None
    return (
        f"contradictory header: {channels} channel{'s' * (channels != 1)} of {bits} bits "
        f"take{'s' * (channels == 1)} {wanted} bytes, not {align}; write the header again"
    )


def _of_sound(
    file: FileIO, size: int, order: str, at: int, length: int, whole: int | None
) -> str | None:
    """The problem of a chunk data at a place; `whole` is its length by chunk ds64."""
    held = size - at
    if length == 0xFFFFFFFF and whole is not None:
        return _compared(whole, held)
    if length in _PLACEHOLDERS:
        return None if length > held else _compared(length, held)
    if length == 0 and held:
        names = (name for name, *_ in _chunks(file, at, size, f"{order}4sI", 0, 2))
        if not all(map(_CHUNK_NAME.fullmatch, names)):
            return (
                f"unfinished header: it announces no sound, but {held} bytes follow; the program "
                "that recorded did not end; write the header again"
            )
        return None
    if problem := _compared(length, held):
        return problem
    behind = at + length + length % 2
    for name, more, start in _chunks(file, behind, size, f"{order}4sI", 0, 2):
        if not _CHUNK_NAME.fullmatch(name) or start + more > size:
            break
        behind = start + more + more % 2
    rest = size - behind
    if rest > max(_TAG_BYTES, length // 100):
        return (
            f"unfinished header: it announces {length} bytes of sound, and {rest} more follow; "
            "write the header again"
        )
    return None


def _of_wave64(file: FileIO, size: int) -> str | None:
    for name, length, at in _chunks(file, 40, size, "<16sQ", 24, 8):
        if name[:4] == b"fmt " and (problem := _of_samples(file, at, "<")):
            return problem
        if name[:4] == b"data":
            return _compared(length, size - at)
        if length < 0:
            break
    return "truncated: the file ends before the sound begins"


def _of_iff(file: FileIO, size: int, sound: bytes) -> str | None:
    # In chunks of 8SVX that reach beyond the file, libsndfile would go round for ever.
    for name, length, at in _chunks(file, 12, size, ">4sI", 0, 2):
        if name == sound:
            return _compared(length, size - at)
    return "truncated: the file ends before the sound begins"


def _of_ogg(file: FileIO, size: int) -> str | None:
    """A stream's last page says that it is the last."""
    file.seek(max(size - _OGG_PAGE_BYTES, 0))
    tail = file.read(_OGG_PAGE_BYTES)
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    whole = len(page) > 26 and len(page) >= 27 + page[26] + sum(segments)
    if not (whole and page[5] & _OGG_LAST_PAGE):
        return "truncated: the stream has no last page"
    return None
