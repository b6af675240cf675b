"""Damaged recordings by the thousands: each is read as libsndfile reads it, or refused by one line.

    .venv/bin/python scripts/fuzz_recordings.py [--seed=0] [--count=5000]

A trial makes a recording of noise, in one of many containers and codings, and damages it: bits
flipped, bytes cut off, put in or taken out, fields of the header made extreme, chunks swapped,
dropped, doubled or made longer, two files joined. It is read in a process of its own, within ten
seconds and 64 MiB. What is read must equal, sample by sample, what soundfile alone reads of the
same file; and its header must announce what is read.

Each trial has a random stream of its own, keyed by seed and number, so that one that fails can be
done again alone: --seed=SEED --first=NUMBER --count=1. The exit status is 1 if any ends otherwise.
"""

import io
import json
import os
import random
import re
import struct
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import soundfile
import soxr  # noqa: F401  # before processes are forked, whose memory is measured
from fuzz_trials import Ended, Outcome, do_trials, forget_peak, in_child, peak_mebibytes

from asd_jax.data.audio_files import decode, inspect, read, read_blocks, read_recording
from asd_jax.errors import UserError

_RATE = 16000
_SECONDS = 10.0
_MEBIBYTES = 64  # beyond what the process had; blocks of all channels take 8 or 16
_ADDRESSES = 2048  # MiB of address space: what is asked for and never used is no memory
_LONGEST_LINE = 400
_MOST = 2**22  # samples that soundfile is asked for
# What libmpg123 prints of damaged MP3, and cannot be told not to through libsndfile.
_OF_MPG123 = re.compile(r"\[src/libmpg123/|Note: |Warning: |\s*$")


class Kind(NamedTuple):
    """A kind of recording.

    Attributes:
        format: of soundfile.
        subtype: of soundfile.
        rate: in Hz.
    """

    format: str
    subtype: str
    rate: int = _RATE


KINDS = {
    "wav": [
        *(Kind("WAV", f"PCM_{bits}") for bits in ("U8", "16", "24", "32")),
        *(Kind("WAV", name) for name in ("FLOAT", "DOUBLE", "ALAW", "ULAW", "G721_32")),
        *(Kind("WAV", name) for name in ("IMA_ADPCM", "MS_ADPCM", "NMS_ADPCM_16")),
        *(Kind("WAV", "GSM610", 8000), Kind("WAVEX", "PCM_16"), Kind("WAVEX", "PCM_24")),
    ],
    "long": [Kind(name, sub) for name in ("RF64", "W64") for sub in ("PCM_16", "FLOAT")],
    "flac": [Kind("FLAC", "PCM_16"), Kind("FLAC", "PCM_24"), Kind("FLAC", "PCM_S8")],
    "ogg": [Kind("OGG", "VORBIS"), Kind("OGG", "OPUS")],
    "mp3": [Kind("MP3", "MPEG_LAYER_III"), Kind("MP3", "MPEG_LAYER_III", 44100)],
    "aiff": [Kind("AIFF", name) for name in ("PCM_16", "PCM_24", "FLOAT", "ULAW", "IMA_ADPCM")],
    "caf": [Kind("CAF", name) for name in ("PCM_16", "FLOAT", "ALAC_16", "ALAC_24", "ALAW")],
    "other": [
        *(
            Kind("AU", "PCM_16"),
            Kind("AU", "G723_24"),
            Kind("VOC", "PCM_16"),
            Kind("SVX", "PCM_16"),
        ),
        *(Kind("NIST", "PCM_16"), Kind("PAF", "PCM_24"), Kind("IRCAM", "FLOAT")),
        *(Kind("MAT4", "DOUBLE"), Kind("MAT5", "FLOAT"), Kind("PVF", "PCM_16")),
        *(
            Kind("HTK", "PCM_16"),
            Kind("AVR", "PCM_16"),
            Kind("XI", "DPCM_16"),
        ),
    ],
}


def recording(kind: Kind, rng: random.Random) -> bytes:
    """A recording of noise, of one or two channels, some with texts in their headers."""
    draw = np.random.default_rng(rng.getrandbits(32))
    channels = rng.choice((1, 1, 2)) if kind.format not in ("HTK", "SVX", "XI") else 1
    channels = 1 if kind.subtype in ("GSM610", "G721_32", "G723_24", "NMS_ADPCM_16") else channels
    samples = draw.normal(0, 0.1, (rng.choice((500, 3000, 20000)), channels)).clip(-1, 1)
    file = io.BytesIO()
    with soundfile.SoundFile(
        file, "w", kind.rate, channels, kind.subtype, format=kind.format
    ) as sound:
        if kind.format in ("WAV", "WAVEX", "AIFF", "FLAC", "OGG", "CAF", "RF64") and (
            rng.random() < 0.3
        ):
            sound.title, sound.comment = "machine", "x" * rng.randint(1, 60)
        sound.write(samples)
    return file.getvalue()


def damage(content: bytes, rng: random.Random) -> bytes:
    """One damage, at random."""
    return rng.choice(_DAMAGES)(bytearray(content), rng)


def _flip(content: bytearray, rng: random.Random) -> bytes:
    end = len(content) if rng.random() < 0.4 else min(128, len(content))
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        if end:
            content[rng.randrange(end)] ^= 1 << rng.randrange(8)
    return bytes(content)


def _cut_off(content: bytearray, rng: random.Random) -> bytes:
    near = rng.random() < 0.3
    return bytes(content[: rng.randint(0, min(200, len(content)) if near else len(content))])


def _put_in(content: bytearray, rng: random.Random) -> bytes:
    place = rng.randint(0, len(content)) if rng.random() < 0.5 else rng.randint(0, 128)
    count = rng.choice((1, 2, 3, 7, 100, 5000))
    more = bytes(count) if rng.random() < 0.5 else rng.randbytes(count)
    return bytes(content[:place]) + more + bytes(content[place:])


def _take_out(content: bytearray, rng: random.Random) -> bytes:
    place = rng.randint(0, len(content)) if rng.random() < 0.5 else rng.randint(0, 128)
    del content[place : place + rng.choice((1, 2, 3, 7, 100, 5000))]
    return bytes(content)


_EXTREMES = (
    *(0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x100, 1024, 1025, 0x7FFF, 0x8000, 0xFFFF, 2**24),
    *(0x7FFFF000, 2**31 - 1, 2**31, 2**32 - 8, 2**32 - 1, 2_000_000_000, 2**36, 2**40),
    *(2**62, 2**63 - 1, 2**63, 2**64 - 1),
)


def _make_extreme(content: bytearray, rng: random.Random) -> bytes:
    layout = rng.choice("<>") + rng.choice("BHHIIIIQQ")
    size = struct.calcsize(layout)
    value = rng.choice(_EXTREMES) if rng.random() < 0.8 else rng.getrandbits(64)
    place = rng.randint(0, max(0, min(128, len(content)) - size)) // rng.choice((1, 2, 4))
    if len(content) >= size:
        struct.pack_into(layout, content, place, value % 256**size)
    return bytes(content)


def _join(content: bytearray, rng: random.Random) -> bytes:
    other = recording(rng.choice(KINDS[rng.choice([*KINDS])]), rng)
    head, tail = rng.choice(((content, other), (other, content), (content, content)))
    if rng.random() < 0.5:
        head, tail = head[: rng.randint(0, len(head))], tail[rng.randint(0, len(tail)) :]
    return bytes(head) + bytes(tail)


def _swap_names(content: bytearray, rng: random.Random) -> bytes:
    names = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b"caff", b"fLaC", b"OggS", b".snd")
    names += (b"WAVE", b"AIFF", b"AIFC", b"data", b"fmt ", b"ds64", b"LIST", b"fact", b"SSND")
    present = [name for name in names if name in content]
    if present:
        return bytes(content).replace(rng.choice(present), rng.choice(names), 1)
    return rng.choice(names) + bytes(content[4:])


def _shuffle_chunks(content: bytearray, rng: random.Random) -> bytes:
    """Chunks swapped, dropped, doubled, put in, or of another length."""
    start, head, layout = {b"FORM": (12, 8, ">I"), b"caff": (8, 12, ">Q")}.get(
        bytes(content[:4]), (12, 8, "<I")
    )
    if content[:4] == b"riff":  # of W64
        start, head, layout = 40, 24, "<Q"
    chunks, at = [], start
    while at + head <= len(content) and len(chunks) < 100:
        length = struct.unpack_from(layout, content, at + head - struct.calcsize(layout))[0]
        length = max(length if head == 24 else head + length + length % 2, head)
        chunks.append(bytes(content[at : at + length]))
        at += length
    if not chunks:
        return bytes(content)
    one, other = rng.randrange(len(chunks)), rng.randrange(len(chunks))
    done = rng.choice(("swap", "drop", "double", "put in", "length", "length"))
    if done == "swap":
        chunks[one], chunks[other] = chunks[other], chunks[one]
    elif done == "drop":
        del chunks[one]
    elif done == "double":
        chunks.insert(other, chunks[one])
    else:
        size = struct.calcsize(layout)
        name = chunks[one][: head - size] if done == "length" else b"junk".ljust(head - size, b"x")
        body = chunks[one][head:] if done == "length" else bytes(rng.randrange(40))
        length = len(body) + rng.choice((-1, 1, 2, -len(body), 1000))
        if done == "length" and rng.random() < 0.6:
            length = rng.choice(_EXTREMES)
        chunk = name + struct.pack(layout, length % 256**size) + body
        chunks[one : one + (done == "length")] = [chunk]
    return bytes(content[:start]) + b"".join(chunks)


_DAMAGES: Sequence[Callable[[bytearray, random.Random], bytes]] = (
    *(_flip, _flip, _cut_off, _put_in, _take_out, _make_extreme, _make_extreme, _make_extreme),
    *(_join, _swap_names, _shuffle_chunks, _shuffle_chunks, _shuffle_chunks),
)


def examine(path: str) -> str:
    """Reads a recording in every way, and compares; how it went: "read" or "refused".

    Raises:
        AssertionError: something that must not be.
    """
    header, facts = inspect(path), read_recording(path)
    rate = header.sample_rate if header.problem is None else _RATE
    try:
        waveform = read(path, rate)
    except UserError as error:
        line = str(error)
        assert line.startswith(f"{path}: ") and "\n" not in line, f"does not name it: {line}"
        assert len(line) < _LONGEST_LINE + len(path), f"a long line: {line}"
        assert facts.info.problem, f"read_recording has no problem; read says {line}"
        _blocks_of(path)
        return "refused"
    assert header.problem is None and facts.info == header, f"{header} beside {facts.info}"
    assert len(waveform) == header.n_samples, f"{len(waveform)} samples beside {header}"
    _blocks_of(path, read(path, 12000))
    _compare(path, waveform, header)
    return "read"


def _blocks_of(path: str, whole: np.ndarray | None = None) -> None:
    """Reads a recording as a long one; `whole` is what is expected, None a refusal."""
    try:
        nothing, facts = decode(path, 12000, longest=0)
    except UserError:
        assert whole is None, "refused in blocks alone"
        return
    assert whole is not None and nothing is None, "refused as a whole alone"
    blocks = np.concatenate([*read_blocks(path, 12000, None, facts)])
    assert blocks.shape == whole.shape, f"{blocks.shape} of blocks, {whole.shape} of the whole"
    # The resampler sums in another order: float32's rounding, of samples up to ten full scales.
    worst = np.abs(blocks - whole).max()
    assert worst < 1e-4, f"blocks and the whole differ by {worst}"


def _compare(path: str, waveform: np.ndarray, header: object) -> None:
    """Compares with what soundfile alone reads."""
    with soundfile.SoundFile(path) as sound:
        told = sound.samplerate, sound.channels
        is_mpeg = sound.format == "MP3"
        try:
            many = sound.frames > _MOST
            expected = None if many else sound.read(_MOST, "float32", always_2d=True)
        except soundfile.LibsndfileError:  # soundfile seeks, which not all codings can
            expected = None
    assert told == (header.sample_rate, header.channels), f"{told} beside {header}"
    if expected is None:
        return
    expected = expected.mean(axis=1) if expected.shape[1] > 1 else expected[:, 0]
    if is_mpeg:  # whose length is that of the frames, and whose rounding depends on the memory
        expected = expected[: len(waveform)]
    assert waveform.shape == expected.shape, f"{waveform.shape} where {expected.shape} are there"
    worst = np.abs(waveform - expected).max(initial=0)
    assert worst <= (1e-6 if is_mpeg else 0), f"differs from soundfile's by {worst}"


def _work(path: str) -> None:
    """What a trial's process does: its standard output is how it went, as JSON."""
    forget_peak()
    before = peak_mebibytes()
    try:
        word, error = examine(path), ""
    except AssertionError as failed:
        word, error = "wrong", str(failed)
    taken = peak_mebibytes() - before
    if taken > _MEBIBYTES:
        word, error = "wrong", f"{taken:.0f} MiB; {error}"
    print(json.dumps([word, error]))


def try_recording(place: str, group: str, rng: random.Random) -> Outcome:
    """A damaged recording of a group of kinds."""
    kind = rng.choice(KINDS[group])
    content = recording(kind, rng)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = damage(content, rng)
    path = os.path.join(place, f"x.{rng.choice(('wav', kind.format.lower()))}")
    with open(path, "wb") as file:
        file.write(content)
    try:
        return _outcome(
            f"{kind.format} {kind.subtype}", in_child(lambda: _work(path), _SECONDS, _ADDRESSES)
        )
    finally:
        os.unlink(path)


def _outcome(what: str, ended: Ended) -> Outcome:
    if ended.status is None:
        return Outcome("wrong", what, f"not done after {_SECONDS:.0f} s")
    if ended.status or not ended.out:
        return Outcome("wrong", what, f"status {ended.status}: {ended.err}")
    *printed, result = ended.out.splitlines()
    word, error = json.loads(result)
    lines = [*printed, *(line for line in ended.err.splitlines() if not _OF_MPG123.match(line))]
    if word != "wrong" and lines:
        word, error = "wrong", f"printed: {lines}"
    return Outcome(word, what, error)


def main(argv: list[str] | None = None) -> int:
    """Does the trials and prints a table of how they ended; returns the exit status."""
    with tempfile.TemporaryDirectory() as place:
        return do_trials(
            *(argv, __doc__, 5000, [*KINDS]),
            lambda group, rng: try_recording(place, group, rng),
            ("read", "refused", "wrong"),
        )


if __name__ == "__main__":
    sys.exit(main())
