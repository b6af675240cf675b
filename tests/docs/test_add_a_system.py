"""docs/add_a_system.md: what it quotes is in the file, and the system that it adds works."""

import importlib
import sys

import doc_pages
import numpy as np
import pytest

import asd_jax
from asd_jax import detectors
from asd_jax.data import synthetic
from asd_jax.errors import UserError

PAGE = "docs/add_a_system.md"
FILES = {
    block.text.splitlines()[0].removeprefix("# "): block.text
    for block in doc_pages.blocks(PAGE)
    if block.text.startswith("# ")
}
DETECTOR, CONFIG = "asd_jax/detectors/next_frame.py", "configs/next_frame.py"


def test_the_page_has_both_files():
    assert set(FILES) == {DETECTOR, CONFIG}


def test_what_is_quoted_of_the_systems_is_there():
    """Nine parts of dense_ae, then three of mel_mahalanobis."""
    quoted = [block for block in doc_pages.blocks(PAGE) if block.text not in FILES.values()]
    assert len(quoted) == 9 + 3
    for number, block in enumerate(quoted):
        name = "dense_ae" if number < 9 else "mel_mahalanobis"
        path = doc_pages.ROOT / f"asd_jax/detectors/{name}.py"
        there = {line.strip() for line in path.read_text(encoding="utf-8").splitlines()}
        for i, line in enumerate(block.text.splitlines()):
            assert not line.strip() or line.strip() in there, f"{PAGE}:{block.line + i}: {line}"


@pytest.fixture
def config_path(tmp_path, monkeypatch):
    """The page's files, the detector's in a second folder of the package of systems."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    folder = str((tmp_path / DETECTOR).parent)
    monkeypatch.setattr(detectors, "__path__", [*detectors.__path__, folder])
    importlib.invalidate_caches()
    detectors.registry.cache_clear()
    yield tmp_path / CONFIG
    sys.modules.pop("asd_jax.detectors.next_frame", None)
    vars(detectors).pop("next_frame", None)
    detectors.registry.cache_clear()


def test_the_system_runs_is_loaded_and_scores(config_path, tmp_path, no_pictures):
    """From recordings to results, and its file scores as the run did."""
    data, out = tmp_path / "data", tmp_path / "run"
    synthetic.synthesize(data, machines=("fan",), sections=1, clips=12, duration=2.0)
    settings = {"train.epochs": "3", "train.batch_size": "64", "seeds": "0,1"}
    config = asd_jax.load_config(str(config_path), {**settings, "front_end.n_mels": "16"})
    assert "next_frame" in detectors.list_detectors()
    asd_jax.run(config, data, out, cache_dir=tmp_path / "cache")

    detector = asd_jax.load(out)
    lines = (out / "scores.csv").read_text(encoding="utf-8").splitlines()[1:]
    clip = lines[0].split(",")[4]
    written = [float(line.split(",")[6]) for line in lines if line.split(",")[4] == clip]
    (path,) = data.rglob(f"test/{clip}")
    waveform = asd_jax.data.read(path, 16000)
    assert len(written) == 2
    # Half a float32's digits: the batch's padding and a file's text are between the two.
    np.testing.assert_allclose(detector.score(waveform, 16000), np.mean(written), rtol=1e-3)


def test_the_score_is_that_of_numpy(config_path):
    """The network's formula written out, on the frames of a clip that are not padding."""
    config = asd_jax.load_config(str(config_path), {"front_end.n_mels": "4", "seeds": "0"})
    config = asd_jax.config.override(config, {"train.epochs": "1", "train.batch_size": "16"})
    rng = np.random.default_rng(0)
    features = [rng.normal(-40, 5, (20, 4)).astype(np.float32) for _ in range(4)]
    detector = asd_jax.fit(config, features)
    weights = {
        name: np.asarray(value[0], np.float64)
        for group in ("Dense_0", "Dense_1")
        for name, value in (
            (f"{group} {part}", detector.weights["params"][group][part])
            for part in ("kernel", "bias")
        )
    }
    mean, scale = (np.asarray(detector.weights["input"][k][0]) for k in ("mean", "scale"))
    clip = rng.normal(-40, 5, (9, 4)).astype(np.float32)
    x = (clip.astype(np.float64) - mean) / scale
    errors = []
    for start in range(5):
        past = x[start : start + 4].ravel()
        hidden = np.maximum(past @ weights["Dense_0 kernel"] + weights["Dense_0 bias"], 0)
        predicted = hidden @ weights["Dense_1 kernel"] + weights["Dense_1 bias"]
        errors.append(np.mean((predicted - x[start + 4]) ** 2))
    # float32 sums of at most 64 products.
    np.testing.assert_allclose(detector.score_features([clip]), np.mean(errors), rtol=1e-4)


def test_its_settings_are_checked(config_path):
    with pytest.raises(UserError, match=r"detector\.frames is 1; it must be 2 or more"):
        asd_jax.load_config(str(config_path), {"detector.frames": "1"})
