"""Excerpts of recordings: the right seconds, the right frequencies, the sound itself."""

import base64
import io

import numpy as np
import pytest
import soundfile
from PIL import Image

from asd_jax.page.excerpts import (
    Excerpt,
    map_image,
    player_source,
    read_excerpts,
    spectrogram,
    spectrogram_image,
    within,
)

RATE = 8000


def tone(hz, seconds, level=0.1, rate=RATE):
    return level * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


def written(path, samples, rate=RATE):
    soundfile.write(path, samples, rate)
    return str(path)


def read(path, seconds, own_map=None, rate=RATE):
    said = []
    (excerpt,) = read_excerpts([path], rate, None, seconds, [own_map], [None], said.append)
    return excerpt, said


def decoded(uri, kind):
    head, _, text = uri.partition(",")
    assert head == f"data:{kind};base64"
    return io.BytesIO(base64.b64decode(text))


def test_a_short_recording_is_heard_whole(tmp_path):
    samples = tone(1000, 1.0)
    excerpt, said = read(written(tmp_path / "a.wav", samples), 10.0)
    assert (excerpt.start, excerpt.stop, excerpt.duration) == (0, 1, 1) and not said
    assert not excerpt.is_part
    # 16 bits of the file, and 16 bits of the player.
    heard, rate = soundfile.read(decoded(player_source(excerpt), "audio/flac"))
    assert rate == RATE
    np.testing.assert_allclose(heard, samples, atol=2**-14)
    louder, _ = soundfile.read(decoded(player_source(excerpt, 20.0), "audio/flac"))
    assert louder.max() > 0.99 and louder.min() == -1


@pytest.mark.parametrize("loud_at", [0, 5, 18])
def test_of_a_long_recording_the_loudest_seconds(tmp_path, loud_at):
    samples = tone(300, 20, 0.01)
    samples[loud_at * RATE : (loud_at + 2) * RATE] *= 30
    excerpt, _ = read(written(tmp_path / "a.wav", samples), 2.0)
    assert excerpt.start == pytest.approx(loud_at, abs=0.11) and excerpt.duration == 20
    assert len(excerpt.waveform) == 2 * RATE and excerpt.is_part
    # 0.1 s of the steps' width may be quiet.
    assert np.sqrt(np.mean(excerpt.waveform**2)) > 0.19


def test_a_recording_that_is_read_in_blocks_has_the_same_excerpt(tmp_path):
    """More than 2^21 samples, of which memory holds no whole array."""
    rate = 48_000
    samples = tone(300, 50, 0.01, rate)
    samples[40 * rate : 41 * rate] *= 30
    excerpt, _ = read(written(tmp_path / "a.wav", samples, rate), 1.0, rate=rate)
    assert excerpt.start == pytest.approx(40, abs=0.11)
    start = round(excerpt.start * rate)
    np.testing.assert_allclose(excerpt.waveform, samples[start : start + rate], atol=2**-14)


def test_a_map_says_which_seconds(tmp_path):
    samples = tone(300, 20, 0.01)
    samples[: 2 * RATE] *= 30
    own_map = np.zeros((200, 4))
    own_map[120:140, 2] = 1  # 12 to 14 s
    excerpt, _ = read(written(tmp_path / "a.wav", samples), 2.0, own_map)
    assert excerpt.start == pytest.approx(12, abs=0.11)
    assert within(own_map, excerpt).sum() >= 18


def test_what_cannot_be_read_is_a_line(tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    good = written(tmp_path / "good.wav", tone(500, 1))
    said = []
    paths = [str(tmp_path / "gone.wav"), str(tmp_path / "bad.wav"), "", good]
    found = read_excerpts(paths, RATE, None, 10.0, [None] * 4, [None] * 4, said.append)
    assert [excerpt is None for excerpt in found] == [True, True, True, False]
    assert len(said) == 2 and "gone.wav" in said[0] and "bad.wav" in said[1]
    excerpt, said = read(good, 1.0, rate=RATE)
    assert excerpt is not None and not said


def test_a_spectrogram_shows_a_tone_at_its_frequency():
    excerpt = Excerpt(tone(1000, 4).astype(np.float32), RATE, 0.0, 4.0)
    decibels, hz = spectrogram(excerpt)
    assert decibels.shape[0] <= 320 and decibels.shape[1] == len(hz)
    low, high = hz[decibels.mean(axis=0).argmax()]
    assert low < 1000 < high
    # In one half only: the columns follow time.
    half = excerpt._replace(waveform=np.concatenate([excerpt.waveform, 0 * excerpt.waveform]))
    levels = spectrogram(half)[0].max(axis=1)
    middle = len(levels) // 2
    assert levels[: middle - 2].min() > levels[middle + 2 :].max() + 60


@pytest.mark.parametrize("seconds", [0.001, 0.5, 300])
@pytest.mark.parametrize("rate", [8000, 44_100])
def test_spectrograms_of_any_length_and_rate(seconds, rate):
    decibels, hz = spectrogram(
        Excerpt(np.zeros(max(1, int(seconds * rate)), np.float32), rate, 0, 1)
    )
    assert 1 <= len(decibels) <= 320 and decibels.shape[1] == len(hz)
    assert np.isfinite(decibels).all()


def test_pictures_have_low_frequencies_at_the_bottom():
    values = np.full((40, 16), -100.0)
    values[:, :4] = 0.0
    picture = Image.open(decoded(spectrogram_image(values, 0.0), "image/webp"))
    assert picture.size == (40, 16)
    grey = np.asarray(picture.convert("L"), float)
    assert grey[-3:].mean() > grey[:8].mean() + 100
    own_map = np.zeros((700, 8))
    own_map[600:] = 2.0
    picture = Image.open(decoded(map_image(own_map, 2.0), "image/webp"))
    assert picture.size == (320, 8)
    grey = np.asarray(picture.convert("L"), float)
    assert grey[:, -30:].mean() > grey[:, :200].mean() + 80


def test_a_player_plays_no_higher_rate_than_it_needs():
    excerpt = Excerpt(tone(400, 1, rate=44_100).astype(np.float32), 44_100, 0, 1)
    heard, rate = soundfile.read(decoded(player_source(excerpt), "audio/flac"))
    assert rate == 16_000 and len(heard) == 16_000
    expected = tone(400, 1, rate=16_000)
    # The resampling filter rings at the ends.
    np.testing.assert_allclose(heard[500:-500], expected[500:-500], atol=1e-3)


def test_of_a_clip_that_was_cut_its_own_part_is_heard(tmp_path):
    sound = np.random.default_rng(0).normal(0, 0.1, 4 * RATE).astype(np.float32)
    path = tmp_path / "long.wav"
    soundfile.write(path, sound, RATE, "FLOAT")
    (found,) = read_excerpts([str(path)], RATE, None, 10.0, [None], [(1.0, 2.5)], [].append)
    np.testing.assert_array_equal(found.waveform, sound[RATE : RATE * 5 // 2])
    assert found.duration == 1.5 and not found.is_part
