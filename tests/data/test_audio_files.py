"""Reading a recording: rates, channels, lengths, formats, damage."""

import math
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
import scipy.io.wavfile
import soundfile
from recordings import RATE, noise

from asd_jax.data.audio_files import AudioInfo, inspect, read
from asd_jax.data.identity import UNREADABLE, read_digest
from asd_jax.errors import UserError


def test_import_needs_no_audio_library():
    code = (
        "import sys, asd_jax.data.audio_files;"
        "sys.exit(bool({'soundfile', 'librosa', 'jax'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("n_samples", [1, 7, 1600, 16001])
def test_reads_int16_exactly(wav, n_samples):
    samples = noise(n_samples)
    waveform = read(wav("a.wav", samples[:, 0]), RATE)
    assert waveform.dtype == np.float32
    # A 16-bit integer over a power of two is exact in float32.
    np.testing.assert_array_equal(waveform, samples[:, 0] / np.float32(32768))


def test_channels(wav):
    samples = noise(100, channels=3)
    path = wav("a.wav", samples)
    assert inspect(path) == AudioInfo(RATE, 3, 100)
    for channel in range(3):
        np.testing.assert_array_equal(
            read(path, RATE, channel), samples[:, channel] / np.float32(32768)
        )
    # The mean of three float32 values below 1: a few roundings of 6e-8.
    mean = samples.mean(axis=1) / 32768
    np.testing.assert_allclose(read(path, RATE, "mean"), mean, atol=3e-7)
    np.testing.assert_array_equal(read(path, RATE), read(path, RATE, "mean"))
    with pytest.raises(UserError, match="a.wav: 3 channels.*no channel 3"):
        read(path, RATE, 3)


@pytest.mark.slow  # the first use of librosa takes seconds
@pytest.mark.parametrize("n_samples", [1, 101, 80001])
@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_resampling_equals_librosa(wav, rate, n_samples):
    import librosa

    samples = noise(n_samples)[:, 0]
    expected = librosa.resample(samples / np.float32(32768), orig_sr=rate, target_sr=RATE)
    # The same filter on the same numbers.
    np.testing.assert_array_equal(read(wav("a.wav", samples, rate), RATE), expected)


@pytest.mark.parametrize(("rate", "n_samples"), [(8000, 2), (48000, 1), (44100, 7)])
def test_resampled_length_is_rounded_up(wav, rate, n_samples):
    waveform = read(wav("a.wav", noise(n_samples)[:, 0], rate), RATE)
    assert waveform.dtype == np.float32
    assert len(waveform) == math.ceil(n_samples * RATE / rate)


def test_resampling_keeps_a_tone(wav):
    seconds = np.arange(48000) / 48000
    tone = (0.5 * np.sin(2 * np.pi * 440 * seconds)).astype(np.float32)
    waveform = read(wav("a.wav", tone, 48000), RATE)
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    # Away from the ends the filter's ripple is below -100 dB: 5e-6 of this tone.
    np.testing.assert_allclose(waveform[800:-800], expected[800:-800], atol=5e-6)


@pytest.mark.parametrize(
    ("format", "subtype", "atol"),
    [
        ("WAV", "PCM_24", 2**-23),
        ("WAV", "FLOAT", 0),
        ("WAVEX", "PCM_16", 2**-15),
        ("RF64", "PCM_16", 2**-15),
        ("W64", "PCM_16", 2**-15),
        ("FLAC", "PCM_16", 2**-15),
    ],
)
def test_other_formats(tmp_path, format, subtype, atol):
    samples = (noise(501)[:, 0] / 32768).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, RATE, format=format, subtype=subtype)
    assert inspect(path) == AudioInfo(RATE, 1, 501)
    # Within one step of the format's quantisation.
    np.testing.assert_allclose(read(path, RATE), samples, atol=atol)


def test_big_endian(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(50), RATE, format="WAV", endian="BIG")
    assert path.read_bytes()[:4] == b"RIFX"
    assert inspect(path).problem is None
    path.write_bytes(path.read_bytes()[:-10])
    assert inspect(path).problem.startswith("truncated: 90 of the 100 bytes")


def damaged(kind, whole):
    if kind == "unfinished stream":  # a length that was never filled in
        return whole[:40] + struct.pack("<I", 0xFFFFFFFF) + whole[44:]
    if kind == "chunk before the sound":
        return whole[:36] + b"LIST" + struct.pack("<I", 3) + b"abc\0" + whole[36:]
    return {
        "empty": b"",
        "cut": whole[:1000],
        "cut in the header": whole[:20],
        "no sound": whole[:40] + bytes(4),
        "text": b"this is not sound\n" * 100,
    }[kind]


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        ("empty", "empty file"),
        ("cut", "truncated: 956 of the 3200 bytes"),
        ("cut in the header", "truncated: the file ends before"),
        ("no sound", "no samples"),
        ("text", "not audio: "),
        ("unfinished stream", None),
        ("chunk before the sound", None),
    ],
)
def test_damage(wav, kind, problem):
    path = wav("a.wav", noise(1600))
    path.write_bytes(damaged(kind, path.read_bytes()))
    info = inspect(path)
    if problem is None:
        assert info == AudioInfo(RATE, 1, 1600)
        assert read(path, RATE).shape == (1600,)
    else:
        assert info.problem.startswith(problem)
        with pytest.raises(UserError, match=f"a.wav: {problem}"):
            read(path, RATE)


def test_truncated_rf64(tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, noise(1000), RATE, format="RF64")
    path.write_bytes(path.read_bytes()[:-500])
    assert inspect(path).problem.startswith("truncated: 1500 of the 2000 bytes")


def test_missing_file_and_folder(tmp_path):
    assert inspect(tmp_path / "no.wav").problem == "missing: no such file"
    assert inspect(tmp_path).problem.startswith("unreadable: ")
    with pytest.raises(UserError, match="no.wav: missing"):
        read(tmp_path / "no.wav", RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_samples_that_are_not_finite(wav, value):
    samples = np.zeros(10, np.float32)
    samples[3] = value
    with pytest.raises(UserError, match="a.wav: not finite: a sample is NaN or infinite"):
        read(wav("a.wav", samples), RATE)


def test_integers_as_floating_point_are_refused(wav):
    """Ten times full scale is 20 dB above what a converter gives."""
    with pytest.raises(UserError, match="a.wav: not full scale: samples reach 32767 where"):
        read(wav("a.wav", np.full(10, 32767, np.float32)), RATE)
    assert read(wav("b.wav", np.full(10, 9.5, np.float32)), RATE).max() == 9.5


def test_a_fifo_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    assert inspect(tmp_path / "x.wav").problem.startswith("unreadable: it is a FIFO")
    with pytest.raises(UserError, match="x.wav: unreadable: it is a FIFO, a socket or a device"):
        read(tmp_path / "x.wav", RATE)
    assert read_digest(tmp_path / "x.wav") == UNREADABLE


@pytest.mark.parametrize("channel", [-1, "left", 1.0])
def test_wrong_channel(wav, channel):
    with pytest.raises(UserError, match="channel .* is neither"):
        read(wav("a.wav", noise(10)), RATE, channel)


def test_real_eight_channels(shared):
    path = shared / "data/mimii_8ch/valve/id_06/normal/00000048.wav"
    rate, samples = scipy.io.wavfile.read(path)
    assert inspect(path) == AudioInfo(rate, 8, len(samples))
    np.testing.assert_array_equal(read(path, rate, 5), samples[:, 5] / np.float32(32768))
