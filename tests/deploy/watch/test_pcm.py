import os

import numpy as np
import pytest
import soundfile

from asd_jax.deploy.watch.pcm import FORMATS, PcmFormat, PcmSource, decode, format_name
from asd_jax.errors import UserError

SUBTYPES = {
    "u8": "PCM_U8",
    "s8": "PCM_S8",
    "s16": "PCM_16",
    "s24": "PCM_24",
    "s32": "PCM_32",
    "f32": "FLOAT",
}


@pytest.mark.parametrize("name", FORMATS)
def test_samples_are_those_of_soundfile(name, tmp_path):
    """libsndfile reads raw files; equal to the last bit, as both scale by powers of two."""
    signal = np.random.default_rng(0).uniform(-1, 1, (500, 2)).astype(np.float32)
    path, order = tmp_path / "x.raw", "BIG" if name.endswith("be") else "LITTLE"
    subtype = SUBTYPES[name.removesuffix("le").removesuffix("be")]
    kind = {"format": "RAW", "subtype": subtype, "endian": order}
    soundfile.write(path, signal, 16000, **kind)
    wanted, _ = soundfile.read(path, samplerate=16000, channels=2, dtype="float32", **kind)
    found = decode(path.read_bytes(), PcmFormat(name, 16000, 2))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, wanted)


def test_names_of_other_programs():
    assert [format_name(text) for text in ("S16_LE", "FLOAT_LE", "S24_3LE")] == [
        "s16le",
        "f32le",
        "s24le",
    ]
    with pytest.raises(UserError, match="did you mean s16le"):
        format_name("s16")


@pytest.fixture
def pipe(tmp_path):
    path = os.fspath(tmp_path / "pipe")
    os.mkfifo(path)
    return path


def written(path, samples):
    writer = os.open(path, os.O_WRONLY)  # the reader has it open
    os.write(writer, samples)
    return writer


def polled(source):
    return [*source.poll(100)]


def test_a_pipe_whose_writers_change(pipe):
    said = []
    source = PcmSource("a", pipe, PcmFormat("s16le", 10, 1), 1.0, 0.5, report=said.append)
    assert polled(source) == [] and polled(source) == []  # nobody writes yet
    first = np.arange(17, dtype="<i2")
    writer = written(pipe, first.tobytes() + b"\1")  # and half a sample
    windows = polled(source)
    assert [window.begin for window in windows] == [0.0, 0.5]
    np.testing.assert_array_equal(windows[1].samples[:, 0], first[5:15] / np.float32(2**15))
    os.close(writer)
    (last,) = polled(source)  # up to the end of what this writer wrote
    assert (last.begin, last.usual, last.position) == (0.7, True, {"samples": 17})
    assert said == [f"a: the writer of {pipe} has ended; waiting for another"]
    assert polled(source) == []
    second = np.arange(100, 110, dtype="<i2")
    writer = written(pipe, second.tobytes())
    (window,) = polled(source)  # no window has sound of both, and samples are whole again
    np.testing.assert_array_equal(window.samples[:, 0], second / np.float32(2**15))
    assert window.begin == 1.7 and said[1] == f"a: {pipe} is written to again"
    os.close(writer)
    assert polled(source) == [] and not source.ended
    source.close()


def test_a_pipe_that_is_made_again(pipe):
    said = []
    source = PcmSource("a", pipe, PcmFormat("u8", 10, 1), 1.0, 1.0, report=said.append)
    assert polled(source) == []
    os.unlink(pipe)
    assert polled(source) == [] and polled(source) == []
    assert said == [f"a: {pipe}: No such file or directory; waiting for it"]
    os.mkfifo(pipe)
    assert polled(source) == []
    writer = written(pipe, bytes(10))
    (window,) = polled(source)
    assert (window.samples == -1).all()
    os.close(writer)
    source.close()


def test_it_goes_on_where_it_was(pipe):
    settings = PcmFormat("s16le", 10, 1)
    source = PcmSource("a", pipe, settings, 1.0, 0.5, {"samples": 25}, report=print)
    assert polled(source) == []
    writer = written(pipe, bytes(20))
    assert [window.begin for window in polled(source)] == [2.5]
    os.close(writer)
    source.close()
