"""What every system must do; a new one is picked up by itself."""

import dataclasses

import pytest

from asd_jax.config import Config, load_config, shipped_configs
from asd_jax.detectors import list_detectors, registry
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.testing import DetectorContract, fit_contract

# Every system has a configuration of its own name, or one that is named here; others of its
# configurations differ in settings, of which the ones that train or score in another way are
# tested alike.
NAMED = {"id_classifier": "mobilenet_v2_id"}
SYSTEMS = tuple(NAMED.get(name, name) for name in list_detectors())
VARIANTS = {
    "dense_ae_2023": ("dense_ae_2023", {}),
    "dense_ae with Mahalanobis": ("mahalanobis_2023", {}),
    "mobilenet_v2_id with all else": (
        "mobilenet_v2_arcface",
        {"detector.mix": "both", "detector.warp": "0.2"},
    ),
    "iaeo3 with an embedding": ("iaeo3", {"embedding.kind": "log_mel"}),
    "iaeo3 by the largest error": ("iaeo3", {"detector.predictor": "max"}),
    "dense_ae by neighbours": ("dense_ae", {"backend": "knn"}),
    "mobilenet_v2_id by neighbours": ("mobilenet_v2_id", {"backend": "knn"}),
    "dense_ae in bfloat16": ("dense_ae", {"precision": "bfloat16"}),
    "mobilenet_v2_id in bfloat16": ("mobilenet_v2_id", {"precision": "bfloat16"}),
}
# Run apart: what compiles for long and is for the most part tested by the others. The systems among
# them are also fitted and score clips in tests of their own, or of their reports.
_SLOW = (
    "ganomaly",
    "group_made",
    "iaeo3",
    "lstm_ae",
    "multibranch",
    "outlier_exposure_ae",
    "picture_mobilenet",
    "tastgram_mfn",
    "dense_ae_2023",
    "mobilenet_v2_id with all else",
    "iaeo3 with an embedding",
    "iaeo3 by the largest error",
    "dense_ae with Mahalanobis",
    "dense_ae by neighbours",
    "mobilenet_v2_id by neighbours",
    "dense_ae in bfloat16",
    "mobilenet_v2_id in bfloat16",
    "mel_mahalanobis",
    "spectrum_knn",
    "twfr_gmm",
)
TESTED = [
    pytest.param(name, marks=[pytest.mark.slow] * (name in _SLOW)) for name in (*SYSTEMS, *VARIANTS)
]
_SMALL_NETWORK = {"detector.stages": "1", "detector.momentum": "0.5"}
_SMALL_CLASSIFIER = {"detector.frames": "16", **_SMALL_NETWORK}
# What makes a shipped configuration small enough to train in a second.
_SMALL_AUTOENCODER = {"detector.hidden": "32,32"}
SMALL = {
    "dense_ae": _SMALL_AUTOENCODER,
    "dense_ae_2023": _SMALL_AUTOENCODER,
    "mahalanobis_2023": _SMALL_AUTOENCODER,
    "outlier_exposure_ae": _SMALL_AUTOENCODER,
    "interpolation_ae": {"detector.encoder": "32,16"},
    "ganomaly": {"detector.width": "4", "detector.frames": "16"},
    "group_made": {"detector.hidden": "32,16,32", "detector.components": "3"},
    "mobilenet_v2_id": _SMALL_CLASSIFIER,
    "mobilenet_v2_arcface": _SMALL_CLASSIFIER,
    "iaeo3": {
        "embedding.kind": "none",
        "detector.encoder": "16,8",
        "detector.trainings": "2",
    },
    "lstm_ae": {"detector.encoder": "16,4"},
    "multibranch": {
        "detector.seconds": "1.25",
        "detector.spectrum": "false",
        "detector.n_ffts": "1024,",
        "detector.width": "8",
    },
    "picture_mobilenet": {
        "detector.from_scratch": "true",
        "detector.width": "0.35",
        "detector.copies": "0",
        "detector.frames": "16",
        "detector.size": "16",
        **_SMALL_NETWORK,
    },
    "tastgram_mfn": {
        "detector.seconds": "1.25",
        "detector.n_mels": "32",
        "detector.width": "16",
        "detector.stages": "1",
        "detector.warm_up": "2",
    },
}


def small(name, **train):
    """A shipped configuration, or a variant of one, that trains in a second.

    All at one learning rate and batch size, which are constants of the compiled programs.
    """
    name, settings = VARIANTS.get(name, (name, {}))
    bands = {} if load_config(name).detector.hears_waveforms else {"front_end.n_mels": "16"}
    config = load_config(name, {**bands, **SMALL.get(name, {}), **settings})
    if not config.detector.trains:
        return config
    train = {"epochs": 2, "batch_size": 32, "learning_rate": 1e-2, "checkpoint_every": 100, **train}
    return dataclasses.replace(
        config, seeds=(0, 1), train=dataclasses.replace(config.train, **train)
    )


def test_every_system_has_a_configuration_and_says_where_it_is_from():
    shipped = {name: load_config(name) for name in shipped_configs()}
    found = {
        name: config.detector.name for name, config in shipped.items() if isinstance(config, Config)
    }
    assert [found[name] for name in SYSTEMS] == [*list_detectors()]
    assert set(found.values()) == set(list_detectors())
    for cls in registry().values():
        assert cls.Config.name == cls.__module__.rpartition(".")[2]


# One system of each kind: in a compiled loop; in a loop of Python. The others are run apart, as are
# variants, which train as the system does, or nearly.
_EACH_KIND = ("dense_ae", "mobilenet_v2_id")
TRAINED = [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in _EACH_KIND))
    for name in (*SYSTEMS, *VARIANTS)
    if small(name).detector.trains
]


class TestContract(DetectorContract):
    """Every system, and what differs in training or scoring."""

    @pytest.fixture(scope="class", params=TESTED)
    @classmethod
    def fitted(cls, request):
        # Enough to tell a strange clip; of convolutional networks, whose epochs are long, fewer.
        convolutional = {
            *("ganomaly", "id_classifier", "multibranch", "picture_mobilenet", "tastgram_mfn")
        }
        few = small(request.param, epochs=8)
        is_slow = few.detector.name in convolutional
        return fit_contract(few if is_slow else small(request.param, epochs=40))

    def strange(self, fitted, clips):
        if fitted.config.detector.name == "picture_mobilenet":  # hears pictures, not levels
            return [clip[:, ::-1] for clip in clips]
        return super().strange(fitted, clips)

    @pytest.mark.parametrize("fitted", TRAINED, indirect=True)
    def test_interrupted_and_beside_another_seed_it_is_the_same_to_the_bit(self, fitted, tmp_path):
        super().test_interrupted_and_beside_another_seed_it_is_the_same_to_the_bit(fitted, tmp_path)


def test_a_damaged_or_missing_file_is_one_line(tmp_path):
    with pytest.raises(UserError, match="has not finished training"):
        FittedDetector.load(tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 and then nothing")
    with pytest.raises(UserError, match="damaged"):
        FittedDetector.load(tmp_path / "bad.npz")


def test_a_module_without_a_system_says_what_to_do(monkeypatch):
    systems = type(registry())()
    monkeypatch.setattr(systems, "own", [*systems.own, "cells"])
    with pytest.raises(AssertionError, match="detectors.cells has no system: name it in _SHARED"):
        systems["cells"]
