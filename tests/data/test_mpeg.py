"""MPEG audio, with and without the index that says its length."""

import io

import numpy as np
import pytest
import soundfile

from asd_jax.data.audio_files import inspect, read
from asd_jax.data.mpeg import read_frames
from asd_jax.errors import UserError


def encode(rate=44100, mode="CONSTANT", channels=1, louder=True):
    """6 s, of which a half is nearly silent: its frames are short, if they may be."""
    sound = np.random.default_rng(0).normal(0, 0.1, (6 * rate, channels))
    sound[: 3 * rate] *= 1e-4
    file = io.BytesIO()
    # The first frame holds the index.
    soundfile.write(file, sound if louder else sound[::-1], rate, format="MP3", bitrate_mode=mode)
    return file.getvalue()


def without_index(content):
    """The same sound; frames begin with eleven bits set and are all of one version and layer."""
    return content[content.index(content[:2], 4) :]


@pytest.fixture
def place(tmp_path):
    def write(content):
        path = tmp_path / "x.mp3"
        path.write_bytes(content)
        return path

    return write


def frames_of(path):
    with open(path, "rb", buffering=0) as file:
        frames = read_frames(file, path.stat().st_size)
        assert not file.closed
    return frames


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 24000, 32000, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2])
def test_frames_are_counted_as_they_are_decoded(place, rate, channels):
    path = place(without_index(encode(rate, channels=channels)))
    n_decoded = len(soundfile.read(path)[0])  # of a constant rate: libsndfile's guess is right
    frames = frames_of(path)
    assert frames == (n_decoded, False, False)
    assert inspect(path).n_samples == len(read(path, rate)) == n_decoded


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_an_index_says_how_long_the_sound_is(place, mode):
    path = place(encode(mode=mode))
    assert frames_of(path).indexed
    assert inspect(path).n_samples == len(read(path, 44100)) == 6 * 44100


def test_a_variable_rate_without_an_index_is_refused_where_it_is_cut_short(place):
    """The guess is too long where the first frames are short, and too short where they are long."""
    quiet_first, loud_first = (
        without_index(encode(mode="VARIABLE", louder=louder)) for louder in (True, False)
    )
    path = place(quiet_first)
    assert len(read(path, 44100)) == frames_of(path).n_samples >= 6 * 44100
    path = place(loud_first)
    assert len(soundfile.read(path)[0]) < 4 * 44100
    with pytest.raises(UserError, match="unknown length: .* without an index, .* WAV or FLAC$"):
        read(path, 44100)
    assert "unknown length" in inspect(path).problem


def test_tags_are_no_sound(place):
    content = without_index(encode())
    tag = b"ID3\x03\0\0" + bytes([0, 0, 3, 5]) + b"\xff\xfb\x90\0" * 97 + b"\0"  # 3 * 128 + 5
    path = place(tag + content + b"TAG" + bytes(125))
    assert frames_of(path) == frames_of(place(content))


def test_a_file_that_ends_within_a_frame_is_truncated(place):
    content = without_index(encode())
    with pytest.raises(
        UserError, match="truncated: the file ends within a frame; restore the file or remove it$"
    ):
        read(place(content[:-10]), 44100)


def test_frames_behind_something_else_are_named(place):
    """A decoder goes on with them, so that the sound has a gap."""
    content = without_index(encode())
    path = place(content + bytes(500) + content)
    with pytest.raises(UserError, match=r"x.mp3: damaged: \d+ samples where \d+ are announced; re"):
        read(path, 44100)


@pytest.mark.parametrize("content", [b"", b"\xff\xfb", b"\xff\xfb\x90\0" * 2, b"ID3", bytes(5000)])
def test_other_files_have_no_frames(place, content):
    assert frames_of(place(content)) is None
