"""Recordings whose header announces another length than the file holds."""

import io
import struct

import numpy as np
import pytest
import soundfile

from asd_jax.data.audio_files import inspect, read
from asd_jax.errors import UserError

RATE = 16000
SAMPLES = np.random.default_rng(0).normal(0, 0.1, 32000)
SOUND = (SAMPLES * 32767).astype("<i2").tobytes()
FMT = struct.pack("<HHIIHH", 1, 1, RATE, 2 * RATE, 2, 16)


def chunk(name, content, length=None, pad=True):
    length = len(content) if length is None else length
    return name + struct.pack("<I", length) + content + b"\0" * (pad and len(content) % 2)


def wave(*chunks, size=None):
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


def encoded(format_, subtype):
    file = io.BytesIO()
    soundfile.write(file, SAMPLES, RATE, format=format_, subtype=subtype)
    return file.getvalue()


@pytest.fixture
def place(tmp_path):
    def write(content):
        path = tmp_path / "x.wav"  # whatever the format: names lie
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("length", [0x7FFFF000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2_000_000_000])
def test_a_placeholder_lasts_to_the_end(place, length):
    path = place(
        wave(chunk(b"fmt ", FMT), chunk(b"data", SOUND, length), size=min(length + 36, 2**32 - 1))
    )
    assert inspect(path).problem is None and len(read(path, RATE)) == 32000


LIST = b"INFOISFT\x05\0\0\0abcd\0"  # 17 bytes


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        ([chunk(b"data", SOUND, 32000)], "unfinished header: it announces 32000 bytes .* 32000 mo"),
        (
            [chunk(b"data", SOUND, 57600)],
            "unfinished header: it announces 57600 bytes .* 6400 more",
        ),
        ([chunk(b"data", SOUND, 0)], "unfinished header: it announces no sound, but 64000 bytes"),
        ([chunk(b"data", SOUND[:40000], 64000)], "truncated: 40000 of the 64000 bytes"),
        (
            [chunk(b"LIST", LIST, pad=False), chunk(b"data", SOUND)],
            "malformed: chunk LIST has an odd",
        ),
        ([chunk(b"iXML", b"x" * 27, pad=False), chunk(b"data", SOUND)], "malformed: chunk iXML"),
        ([chunk(b"data", b"")], "no samples"),
        ([], "truncated: the file ends before the sound begins"),
        ([chunk(b"LIST", LIST), chunk(b"data", SOUND)], None),
        ([chunk(b"data", SOUND), chunk(b"LIST", LIST)], None),
        ([chunk(b"data", SOUND), b"TAG" + bytes(125)], None),
        ([chunk(b"LIST", bytes(4000)), chunk(b"data", SOUND)], None),
    ],
)
def test_a_wave_file_has_what_it_announces(place, chunks, problem):
    path = place(wave(chunk(b"fmt ", FMT), *chunks))
    if problem is None:
        assert inspect(path).problem is None and len(read(path, RATE)) == 32000
    else:
        with pytest.raises(UserError, match=f"x.wav: {problem}"):
            read(path, RATE)


FORMATS = [
    *(("WAV", "PCM_16"), ("WAV", "PCM_24"), ("WAV", "FLOAT"), ("WAV", "IMA_ADPCM")),
    *(("WAVEX", "PCM_16"), ("RF64", "PCM_16"), ("W64", "PCM_16"), ("AIFF", "PCM_16")),
    *(("AU", "PCM_16"), ("CAF", "PCM_16"), ("FLAC", "PCM_16"), ("OGG", "VORBIS")),
    *(("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
]


@pytest.mark.parametrize(("format_", "subtype"), FORMATS)
def test_a_file_cut_off_is_refused_in_every_format(place, format_, subtype):
    whole = encoded(format_, subtype)
    assert len(read(place(whole), RATE)) >= 32000
    for share in (0.5, 0.9):
        with pytest.raises(UserError, match="x.wav: (truncated|not audio|unreadable)"):
            read(place(whole[: int(share * len(whole))]), RATE)


def test_formats_without_seeking_are_read(place):
    """GSM 6.10 in WAV: blocks of 320 samples, of which the last is filled up."""
    file = io.BytesIO()
    soundfile.write(file, SAMPLES[:16000], 8000, format="WAV", subtype="GSM610")
    assert len(read(place(file.getvalue()), 8000)) == 16000


def test_what_is_no_chunk_is_left_to_the_decoder(place):
    """Thousands of zeros before the sound, where names of chunks should be."""
    path = place(wave(chunk(b"fmt ", FMT), bytes(8 * 1100), chunk(b"data", SOUND)))
    assert inspect(path).problem.startswith("not audio: ")


def test_an_odd_chunk_at_the_end_hides_the_sound(place):
    """Its length reaches over the sound, as its padding is missing."""
    path = place(wave(chunk(b"fmt ", FMT), chunk(b"LIST", bytes(5), pad=False)))
    with pytest.raises(UserError, match="malformed: no sound follows chunk LIST"):
        read(path, RATE)


def test_no_sound_behind_an_empty_chunk_is_no_unfinished_header(place):
    """What follows are chunks."""
    path = place(wave(chunk(b"fmt ", FMT), chunk(b"data", b""), chunk(b"LIST", LIST[:16])))
    with pytest.raises(UserError, match="no samples"):
        read(path, RATE)


@pytest.mark.parametrize(("format_", "name"), [("W64", b"data"), ("AIFF", b"SSND")])
def test_a_container_without_its_sound(place, format_, name):
    """Cut off before the chunk of sound, or behind its name."""
    content = encoded(format_, "PCM_16")
    start = content.index(name)
    for damaged in (content[:start], content[: start + 6]):
        with pytest.raises(UserError, match="truncated: the file ends before the sound begins"):
            read(place(damaged), RATE)


def test_a_chunk_of_8svx_that_reaches_beyond_the_file_is_no_endless_loop(place):
    """libsndfile takes its length for a negative one, and reads it again."""
    content = bytearray(encoded("SVX", "PCM_16"))
    assert inspect(place(content)).problem is None
    length = content.index(b"ANNO") + 4
    content[length : length + 4] = b"\xff\xff\xff\xf8"
    assert inspect(place(content)).problem.startswith("truncated: the file ends before the sound")


def test_a_header_of_au_that_is_cut_off_is_left_to_the_decoder(place):
    assert inspect(place(encoded("AU", "PCM_16")[:9])).problem.startswith("not audio: ")


def test_a_chunk_that_is_shorter_than_its_head_is_no_endless_loop(place):
    content = bytearray(encoded("W64", "PCM_16"))
    length = 40 + 16  # of the first chunk, behind its name
    content[length : length + 8] = bytes(8)
    with pytest.raises(UserError, match="truncated: the file ends before the sound begins"):
        read(place(bytes(content)), RATE)
