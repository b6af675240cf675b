"""Headers that announce what no recording can have: refused before memory is taken for it."""

import io
import json
import struct
import subprocess
import sys

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from recordings import make_clip

from asd_jax.data.announced import RATES
from asd_jax.data.audio_files import AudioInfo, inspect, read
from asd_jax.errors import UserError
from asd_jax.features.checks import checked_waveforms

RATE = 16000
SAMPLES = np.random.default_rng(0).normal(0, 0.1, 32000)


def encoded(format_, subtype, rate=RATE, samples=SAMPLES):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format_, subtype=subtype)
    return bytearray(file.getvalue())


def wave(rate=RATE, channels=1, bits=16, align=None, kind=1, data=None):
    align = channels * -(-bits // 8) if align is None else align
    fmt = struct.pack("<HHIIHH", kind, channels, rate, rate * align % 2**32, align, bits)
    data = (SAMPLES * 32767).astype("<i2").tobytes() if data is None else data
    head = struct.pack("<4sI4s4sI", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16)
    return head + fmt + struct.pack("<4sI", b"data", len(data)) + data


def flac(n_samples):
    """Its number of samples is the last 36 bits of 8 bytes of the first block."""
    content = encoded("FLAC", "PCM_16")
    field = int.from_bytes(content[18:26], "big")
    content[18:26] = (field >> 36 << 36 | n_samples).to_bytes(8, "big")
    return content


def mp3(n_frames):
    """The index's number of frames."""
    content = encoded("MP3", "MPEG_LAYER_III")
    place = max(content.find(b"Xing"), content.find(b"Info")) + 8
    content[place : place + 4] = n_frames.to_bytes(4, "big")
    return content


def opus(n_samples):
    """The last page's number of the sample that it ends with, and the page's checksum."""
    content = encoded("OGG", "OPUS")
    page = content.rfind(b"OggS")
    content[page + 6 : page + 14] = n_samples.to_bytes(8, "little")
    content[page + 22 : page + 26] = bytes(4)
    check = 0
    for byte in content[page:]:  # the CRC of Ogg: 0x04C11DB7, not reflected, from 0
        check ^= byte << 24
        for _ in range(8):
            check = (check << 1 ^ (0x04C11DB7 if check >> 31 else 0)) % 2**32
    content[page + 22 : page + 26] = check.to_bytes(4, "little")
    return content


IMPOSSIBLE = {
    **{f"wave {rate}": wave(rate) for rate in (1, 2, 7, 99, 10**7 + 1, 2**31 - 1)},
    **{
        f"{format_} 7": encoded(format_, "PCM_16", 7)
        for format_ in ("RF64", "W64", "AIFF", "CAF", "AU", "FLAC", "WAVEX")
    },
    "ogg 7": encoded("OGG", "VORBIS", 7),
    "flac hours": flac(2**36 - 1),
    "mp3 hours": mp3(2**31 - 1),
    "opus hours": opus(48000 * 3600 * 10**6),
    **{f"bits {bits}": wave(bits=bits, align=2) for bits in (1, 7, 17, 24, 33, 65535)},
    **{f"align {align}": wave(align=align) for align in (1, 3, 65535)},
    **{f"channels {count}": wave(channels=count, align=2) for count in (2, 1024, 65535)},
    "channels 1025": wave(channels=1025),
    "channels 0": wave(channels=0, align=2),
}

# Reads each file in a process that may take 256 MiB beyond what it has, and says how it went.
CHILD = """
import json, resource, sys
import numpy as np, soundfile, soxr
from asd_jax.data.audio_files import inspect, read, read_recording
from asd_jax.data.recordings import read_recordings
from asd_jax.errors import UserError
list(read_recordings([sys.argv[1]], 12000))  # threads, and what is loaded on demand
with open("/proc/self/status") as file:
    used = next(int(line.split()[1]) for line in file if line.startswith("VmSize:"))
resource.setrlimit(resource.RLIMIT_AS, (used * 1024 + 2**28,) * 2)
said = {}
for path in sys.argv[2:]:
    lines = [inspect(path).problem, read_recording(path).info.problem]
    for way in (lambda: read(path, 16000), lambda: list(read_recordings([path], 16000, threads=1))):
        try:
            way()
            lines.append("read")
        except UserError as error:
            lines.append(str(error))
    said[path] = lines
print(json.dumps(said))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_no_memory_is_taken_for_what_cannot_be(tmp_path):
    good = tmp_path / "good.wav"
    good.write_bytes(wave())
    paths = {}
    for i, (name, content) in enumerate(IMPOSSIBLE.items()):
        paths[name] = tmp_path / f"{i}.wav"
        paths[name].write_bytes(content)
    arguments = [sys.executable, "-c", CHILD, good, *paths.values()]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout.splitlines()[-1])
    kinds = {"bits": "contradictory header", "align": "contradictory header"}
    kinds |= {"channels": "contradictory header|not audio"}
    for name, path in paths.items():
        first, last = name.split()
        kind = kinds.get(first, "impossible length" if last == "hours" else "impossible rate")
        header, facts, *lines = said[str(path)]
        assert header.startswith(tuple(kind.split("|"))) and header == facts, (name, header)
        assert all(line.startswith(f"{path}: {header}") for line in lines), lines
        assert all("; " in line for line in lines)


@pytest.mark.parametrize("rate", [100, 1000, 4000, 8000, 96000, 192000, 384000, 10**7])
def test_slow_sensors_and_ultrasound_are_read(tmp_path, rate):
    path = tmp_path / "x.wav"
    path.write_bytes(wave(rate))
    assert inspect(path) == AudioInfo(rate, 1, 32000)
    assert len(read(path, RATE)) == -(-32000 * RATE // rate)
    np.testing.assert_allclose(read(path, rate), SAMPLES, atol=2**-14)  # steps of 16 bits


def test_flac_of_a_pipe_is_read_to_its_end(tmp_path):
    """It announces 0 samples, as an encoder does that cannot go back to its header."""
    path = tmp_path / "x.flac"
    path.write_bytes(flac(0))
    assert inspect(path) == AudioInfo(RATE, 1, 32000)
    np.testing.assert_allclose(read(path, RATE), SAMPLES, atol=2**-15)


def test_sizes_of_samples_that_agree_are_read(tmp_path):
    """12 bits in 2 bytes, and an alignment of 0, which says nothing."""
    path = tmp_path / "x.wav"
    for content in (wave(bits=12), wave(align=0), wave(kind=3, bits=32, data=bytes(128000))):
        path.write_bytes(content)
        assert inspect(path) == AudioInfo(RATE, 1, 32000)


def test_blocks_of_many_channels_are_short(tmp_path):
    """1,024 channels of 1,100 samples; a block as long as those of one channel takes 1 GiB."""
    path = tmp_path / "x.wav"
    samples = np.random.default_rng(0).integers(-9999, 9999, (3000, 1024)).astype("<i2")
    path.write_bytes(wave(channels=1024, data=samples.tobytes()))
    expected = (samples * np.float32(2**-15)).mean(axis=1)
    np.testing.assert_array_equal(read(path, RATE), expected)


def test_mpeg_is_decoded_in_blocks_as_at_once(tmp_path, monkeypatch):
    """A decoder that seeks to where each block ended begins without the frames before."""
    path = tmp_path / "x.mp3"
    path.write_bytes(encoded("MP3", "MPEG_LAYER_III"))
    whole = read(path, RATE)
    monkeypatch.setattr("asd_jax.data.audio_files._BLOCK", 7000)
    np.testing.assert_allclose(read(path, RATE), whole, atol=1e-6)  # rounding of the decoder


def test_arrays_of_an_impossible_rate():
    """Of the system's own rate, whatever it is, nothing is resampled."""
    with pytest.raises(UserError, match="sample_rate is 7 Hz; it must be 100 or more, at most 10"):
        checked_waveforms(SAMPLES, 7, RATE)
    assert checked_waveforms(SAMPLES, 7, 7).shape == (1, 32000)
    assert 100 in RATES and 99.9 not in RATES


def test_every_command_names_the_file(tmp_path, finished, capsys):
    clips = [make_clip(tmp_path / "data", i, 32000) for i in range(4)]
    clips += [make_clip(tmp_path / "data", 9, 32000, split="test")]
    bad = clips[2].path
    with open(bad, "wb") as file:
        file.write(wave(2))
    there = f"--data_dir={tmp_path / 'data'}", "--config=mel_mahalanobis"
    status, out, _ = run_cli(capsys, "index", there[0])
    assert status == 0 and "impossible rate: fan/train/normal_id_00_00000002.wav" in out
    for command in (
        ("run", *there, f"--out_dir={tmp_path / 'out'}"),
        ("score", f"--run_dir={finished}", bad),
    ):
        status, _, err = run_cli(capsys, *command)
        assert status == 2 and f"asd-jax: {bad}: impossible rate: 2 Hz, where" in err


def test_samples_of_an_unknown_length_are_counted_up_to_a_limit(tmp_path):
    """An hour of silence, of which the head of a FLAC says nothing: 57,600,000 samples."""
    path = tmp_path / "hour.flac"
    soundfile.write(path, np.zeros(3600 * 16000, np.int16), 16000)
    content = bytearray(path.read_bytes())
    content[8 + 13] &= 0xF0  # the length is the low 36 bits of STREAMINFO's bytes 13 to 17
    content[8 + 14 : 8 + 18] = bytes(4)
    path.write_bytes(content)
    found = inspect(path, longest=10**6)
    assert 10**6 < found.n_samples < 2 * 10**6 and found.problem is None
    assert inspect(path).n_samples == 3600 * 16000
