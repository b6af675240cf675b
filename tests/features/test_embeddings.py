"""Embeddings from waveforms on: real weights of EdgeL3, and files of random ones."""

import dataclasses
import gzip
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from openl3_files import random_layers, write_keras_file

from asd_jax.audio.openl3_frontend import OpenL3FrontEnd
from asd_jax.data.audio_files import resample
from asd_jax.data.clips import Clip
from asd_jax.errors import UserError
from asd_jax.features.compute import compute_features
from asd_jax.features.embeddings import (
    Embedder,
    clip_embeddings,
    load_embedder,
    save_weights,
)
from asd_jax.features.table import ArrayFeatures
from asd_jax.models.openl3 import OpenL3, openl3_from_keras

EDGE = OpenL3((32, 32, 64, 64, 128, 128, 64, 64), normalise_last=True, pool=(8, 6))
EDGE_FRONT_END = OpenL3FrontEnd(8000, 1024, 160, 64)
LAYERS = random_layers(EDGE)
MOST = 30  # windows that `embedded_alone` takes


@jax.jit
def of_windows(variables, windows):
    """The network on windows (MOST, samples), without any of the code that cuts them."""
    return EDGE.apply(variables, EDGE_FRONT_END(windows)[..., None])


@pytest.fixture
def file(tmp_path):
    """A file in EdgeL3's form."""
    return write_keras_file(tmp_path / "edge.h5", LAYERS, EDGE_FRONT_END.filters)


@pytest.fixture
def load(tmp_path, file):
    def load(kind="edgel3", weights=file, sha256="", **options):
        return load_embedder(kind, str(weights), sha256, cache_dir=tmp_path / "cache", **options)

    return load


@pytest.fixture(scope="module")
def openl3_file(tmp_path_factory):
    """A file in OpenL3's form, of which nothing tells the bands but its name."""
    path = tmp_path_factory.mktemp("openl3") / "openl3_audio_mel128_env.h5"
    return write_keras_file(path, random_layers(OpenL3()))


def noise(n_samples, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, n_samples).astype(np.float32)


def make_clip(folder, i, n_samples, rate=8000):
    path = folder / "fan" / "train" / f"normal_id_00_{i:08d}.wav"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(n_samples, i), rate, subtype="FLOAT")
    return Clip("fan", "00", "train", path.name, str(path))


def close(found, expected):
    """To 1e-5 of the largest value: products of matrices may round otherwise in other shapes."""
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def embedded_alone(waveforms, count, hop, center):
    """(rows, count, 64): window by window, cut by NumPy, of the network with `LAYERS`.

    Args:
        waveforms: (rows, samples).
        count: windows of each.
        hop: samples from one to the next.
        center: whether half a window of zeros comes first.
    """
    padded = np.pad(waveforms, ((0, 0), (4000 if center else 0, count * hop + 8000)))
    windows = np.stack([padded[:, i * hop : i * hop + 8000] for i in range(count)], axis=1)
    windows = windows.reshape(-1, 8000)
    rest = ((0, MOST - len(windows)), (0, 0))  # one shape, which compiles once
    variables = openl3_from_keras(EDGE, LAYERS, EDGE_FRONT_END.filters)
    found = np.asarray(of_windows(variables, np.pad(windows, rest)))
    return found[: len(windows)].reshape(len(waveforms), count, 64)


def test_edgel3_from_the_recording_on(shared, tmp_path):
    """The real weights, the wav and the reference of an independent program: to 1e-4.

    Of the largest value for the chirp, in whose picture the float32 transform of the reference
    shows its rounding (tests/audio/test_openl3_frontend.py); measured 1e-5. Of each value for the
    noise, and 1e-5 beside.
    """
    folder = shared / "weights/edgel3_sea"
    weights = folder / "edgel3_sea_ust_audio_emb_64.h5"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    embedder = load_embedder("edgel3", str(weights), digest, center=False, cache_dir=tmp_path)
    parity = np.load(folder / "edgel3_sea64_parity.npz")
    clip = Clip("chirp", "00", "train", "chirp_8k.wav", str(folder / "chirp_8k.wav"))
    found = compute_features([clip], embedder, cache_dir=tmp_path).read(0, 1)
    chirp, noise = parity["embedding"]
    assert found.shape == (1, 64)
    np.testing.assert_allclose(found[0], chirp, rtol=0, atol=1e-4 * chirp.max())
    found = np.asarray(embedder(parity["audio8k"][1:]))[0, 0]
    np.testing.assert_allclose(found, noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("center", "count"), [(True, 15), (False, 11)])
def test_embeddings_are_those_of_each_window(load, center, count):
    """1 + the whole of (18001 − 8000) / 1040 windows, half a window more where it is padded."""
    embedder = load(hop=0.13, center=center)
    waveforms = np.stack([noise(18001, 1), noise(18001, 2)])
    expected = embedded_alone(waveforms, count, 1040, center)
    assert embedder.frames(18001) == count
    assert np.std(expected) > 0.1
    close(np.asarray(embedder(waveforms)), expected)


def test_zeros_behind_a_clip_change_none_of_its_windows(load):
    embedder = load(hop=0.25)
    waveform = noise(9000)
    batch = np.zeros((3, 24000), np.float32)
    batch[1, :9000] = waveform
    padded = np.asarray(embedder(batch))[1]
    assert embedder.frames(9000) == 4 and len(padded) == 11
    close(padded[:4], embedded_alone(waveform[None], 4, 2000, center=True)[0])


def test_features_of_a_data_set(load, tmp_path):
    """Clips of other lengths and rates, each as it is alone, read and resampled by the cache."""
    embedder = load(hop=0.5)
    sizes = [(8000, 8000), (9001, 8000), (16000, 16000), (3, 8000), (8000, 8000)]
    clips = [make_clip(tmp_path / "data", i, n, rate) for i, (n, rate) in enumerate(sizes)]
    lines = []
    options = {"cache_dir": tmp_path / "features", "report": lines.append}
    table = compute_features(clips, embedder, **options)
    counts = [2, 3, 2, 1, 2]
    assert table.n_frames.tolist() == counts and table.width == 64
    means = clip_embeddings(table)
    for i, ((n, rate), count) in enumerate(zip(sizes, counts, strict=True)):
        waveform = resample(noise(n, i), rate, 8000) if rate != 8000 else noise(n, i)
        expected = embedded_alone(waveform[None], count, 4000, center=True)[0]
        close(table.read_clips([i])[0], expected)
        close(means[i], expected.mean(0))
    assert any("16000 Hz are resampled to 8000 Hz" in line for line in lines)


@pytest.mark.slow
def test_a_recording_of_16_khz_for_openl3(openl3_file, tmp_path):
    """Resampled to 48 kHz, with OpenL3's own network; half a second in one window."""
    embedder = load_embedder("openl3_mel128", str(openl3_file), cache_dir=tmp_path)
    assert (embedder.sample_rate, embedder.width) == (48000, 512)
    clip = make_clip(tmp_path / "data", 0, 8000, rate=16000)
    report = [].append
    table = compute_features([clip], embedder, cache_dir=tmp_path, report=report)
    # A second, as clips are padded to before they are embedded.
    waveform = np.pad(resample(noise(8000), 16000, 48000), (0, 24000))
    close(table.read(0, 1), np.asarray(embedder(waveform[None]))[0, :1])
    assert table.total_frames == 1 and np.std(table.read(0, 1)) > 0.01


def zeros(self, waveforms):
    """In place of an embedder's call."""
    return np.zeros((len(waveforms), self.frames(waveforms.shape[1]), 64), np.float32)


def test_a_data_set_is_computed_once(load, tmp_path, monkeypatch):
    """What is computed is others' to test, as below."""
    clips = [make_clip(tmp_path / "data", i, 8000) for i in range(2)]

    def key(embedder):
        return compute_features(clips, embedder, cache_dir=tmp_path / "features").key

    monkeypatch.setattr(Embedder, "__call__", zeros)
    first = key(load())
    monkeypatch.setattr(Embedder, "__call__", None)  # the second time nothing is computed
    assert key(load()) == first


def test_every_setting_has_an_entry_of_its_own(load, tmp_path, monkeypatch):
    """The weights' too: a cache is never of other weights than those asked for.

    What is computed is others' to test: here zeros, without compiling each network.
    """
    monkeypatch.setattr(Embedder, "__call__", zeros)
    other = write_keras_file(tmp_path / "other.h5", random_layers(EDGE, seed=1))
    embedders = [load(), load(hop=0.2), load(center=False), load(weights=other)]
    clips = [make_clip(tmp_path / "data", 0, 4000)]
    tables = [compute_features(clips, e, cache_dir=tmp_path / "f").key for e in embedders]
    assert len(set(tables)) == len(embedders) == len(set(embedders))
    assert load() == embedders[0] and hash(load()) == hash(embedders[0])
    settings = json.loads(json.dumps(dataclasses.asdict(embedders[0])))
    digest = hashlib.sha256((tmp_path / "edge.h5").read_bytes()).hexdigest()
    assert settings == {
        "kind": "edgel3",
        "size": 64,
        "hop": 0.1,
        "center": True,
        "weights_sha256": digest,
    }


def test_clip_embeddings_are_means():
    """To the rounding of float32."""
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(n, 3)).astype(np.float32) for n in (2, 1, 4, 7, 1, 1, 12)]
    found = clip_embeddings(ArrayFeatures((), clips))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, [clip.mean(0) for clip in clips], atol=1e-6)


@pytest.mark.parametrize(
    ("kind", "size", "shape"),
    [
        ("openl3_mel128", 512, (2, 6, 512)),
        ("openl3_mel128", 6144, (2, 6, 6144)),
        ("openl3_mel256", 512, (2, 6, 512)),
        ("openl3_mel256", 6144, (2, 6, 6144)),
    ],
)
def test_sizes_of_openl3(openl3_file, tmp_path, kind, size, shape):
    path = tmp_path / "weights.h5"
    path.write_bytes(openl3_file.read_bytes())
    embedder = load_embedder(kind, str(path), size=size, cache_dir=tmp_path)
    waveforms = jax.ShapeDtypeStruct((2, 48000), jnp.float32)
    assert jax.eval_shape(embedder, waveforms).shape == shape
    assert embedder.width == size


def test_memory_does_not_grow_with_the_windows(load):
    """Beside the waveforms and the embeddings themselves."""
    embedder = load()
    used = []
    for seconds in (10, 40):
        waveforms = jax.ShapeDtypeStruct((4, seconds * 8000), jnp.float32)
        memory = jax.jit(embedder).lower(waveforms).compile().memory_analysis()
        used.append(memory.temp_size_in_bytes)
    # 30 s more of four padded waveforms and their embeddings are 4.1 MB; the intermediate values
    # of 300 windows more would be hundreds.
    assert used[1] - used[0] < 12e6


def test_every_product_is_of_full_precision(load):
    """As GPUs must be told, on which a float32 product is otherwise one of 10 bits."""
    text = jax.jit(load()).lower(jax.ShapeDtypeStruct((1, 8000), jnp.float32)).as_text()
    kinds = ("stablehlo.convolution", "stablehlo.dot_general")
    products = [line for line in text.splitlines() if any(kind in line for kind in kinds)]
    assert len(products) > 8
    assert all("HIGHEST" in line for line in products)


SHORT = noise(9)[None]


def test_saved_weights_are_the_same(load, tmp_path):
    embedder = load()
    save_weights(embedder, tmp_path / "edge.npz")
    again = load(weights=tmp_path / "edge.npz")
    np.testing.assert_array_equal(again(SHORT), embedder(SHORT))
    assert again.weights_sha256 != embedder.weights_sha256


def test_a_packed_file(load, file, tmp_path):
    """As OpenL3's are published."""
    packed = tmp_path / "edge.h5.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    np.testing.assert_array_equal(load(weights=packed)(SHORT), load()(SHORT))
    packed.write_bytes(packed.read_bytes()[:-100])
    with pytest.raises(UserError, match="edge.h5.gz cannot be unpacked"):
        load(weights=packed)


def one_line(load, match, *arguments, **options):
    with pytest.raises(UserError, match=match) as error:
        load(*arguments, **options)
    assert "\n" not in str(error.value)


def test_weights_that_are_not_there_are_asked_for(load, tmp_path):
    for weights in ("", tmp_path / "none.h5"):
        for kind, name in (("openl3_mel256", "openl3_audio_mel256_env"), ("edgel3", "edgel3_sea")):
            one_line(load, rf"{name}.*--config\.embedding\.weights", kind, weights)
    one_line(load, "SHA-256 is not 00", sha256="00")
    one_line(load, "give the file's SHA-256", weights="https://localhost/openl3.h5")


def test_a_file_of_another_kind_is_named(load, file, openl3_file, tmp_path):
    one_line(load, "edge.h5 is for another front end", "openl3_mel128")
    one_line(load, "is for mel128 by its name, and openl3_mel256", "openl3_mel256", openl3_file)
    nameless = tmp_path / "weights.h5"
    nameless.write_bytes(openl3_file.read_bytes())
    one_line(load, "weights.h5 has 16 layers", "edgel3", nameless)
    whole = write_keras_file(
        tmp_path / "whole.h5", random_layers(OpenL3()), OpenL3FrontEnd(n_mels=256).filters
    )
    one_line(load, "whole.h5 is for another front end", "openl3_mel128", whole)
    assert load("openl3_mel256", whole).kind == "openl3_mel256"
    save_weights(load(), tmp_path / "edge.npz")
    one_line(load, "is for edgel3, and openl3_mel128", "openl3_mel128", tmp_path / "edge.npz")


def test_damaged_files(load, file, tmp_path):
    damaged = tmp_path / "damaged"
    save_weights(load(), tmp_path / "edge.npz")
    for whole in (file, tmp_path / "edge.npz"):
        for content in (whole.read_bytes()[:2000], whole.read_bytes()[:-50], b"", b"PK text"):
            damaged.write_bytes(content)
            one_line(load, "damaged cannot be read", weights=damaged)
    arrays = dict(np.load(tmp_path / "edge.npz"))
    del arrays["params/conv2d_3/bias"]
    np.savez(tmp_path / "less.npz", **arrays)
    one_line(load, "other arrays than edgel3", weights=tmp_path / "less.npz")


def test_settings_that_make_no_sense(load):
    one_line(load, "no embedding of kind 'openl4'; there are openl3_mel128", "openl4")
    one_line(load, "have 512 or 6144 values, not 64", "openl3_mel128", size=64)
    for hop in (0, -1.0, 1e-6, float("nan"), float("inf")):
        one_line(load, "hop .* must be a positive number", hop=hop)
    with pytest.raises(UserError, match=r"not \(rows, samples\)"):
        load()(noise(8000))
    with pytest.raises(UserError, match="0 samples"):
        load().frames(0)
