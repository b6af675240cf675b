"""Configurations: loading, overrides, storing."""

import dataclasses
import json
import subprocess
import sys

import pytest

from asd_jax import config as configs
from asd_jax.config import (
    Config,
    DataConfig,
    EnsembleConfig,
    MembersConfig,
    TrainConfig,
    load_config,
    override,
)
from asd_jax.detectors import registry
from asd_jax.errors import UserError

CLASSES = {name: cls.Config for name, cls in registry().items()}
ENSEMBLES = [n for n in configs.shipped_configs() if isinstance(load_config(n), MembersConfig)]


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("train.epochs", "5", 5),
        ("train.learning_rate", "3e-4", 3e-4),
        ("train.learning_rate", "1", 1.0),
        ("train.driver", "vmap", "vmap"),
        ("precision", "bfloat16", "bfloat16"),
        ("seeds", "0,1", (0, 1)),
        ("seeds", "7", (7,)),
        ("seeds", "(3, 4)", (3, 4)),
        ("data.machines", "fan,pump", ("fan", "pump")),
        ("data.machines", "('fan',)", ("fan",)),
        ("data.machines", "", ()),
        ("detector.hidden", "64,32", (64, 32)),
        ("detector.score", "mahalanobis", "mahalanobis"),
        ("front_end.n_mels", "64", 64),
        ("front_end.fmax", "4000", 4000.0),
        ("front_end.fmax", "none", None),
        ("front_end.center", "false", False),
    ],
)
def test_override_reads_text_by_the_type_of_the_field(key, text, expected):
    value = override(load_config("dense_ae"), {key: text})
    for name in key.split("."):
        value = getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("train.epoch", "5", "--config.train.epoch: no such key; did you mean train.epochs?"),
        ("epochs", "5", "did you mean train.epochs?"),
        ("trian.epochs", "5", "did you mean train.epochs?"),
        ("train.epochs.x", "5", "no such key"),
        ("train", "5", "--config.train is a group"),
        ("train.epochs", "five", "--config.train.epochs=five: must be a whole number"),
        ("train.epochs", "1.5", "must be a whole number"),
        ("train.learning_rate", "fast", "must be a number"),
        ("train.driver", "all", "must be one of auto, vmap, map, loop"),
        ("precision", "half", "--config.precision=half: must be one of float32, bfloat16"),
        ("front_end.center", "maybe", "must be true or false"),
        ("seeds", "0,x", "must be a whole number"),
        ("seeds", "", "seeds is empty"),
        ("seeds", "1,1", "they must differ"),
        ("train.epochs", "0", "train.epochs is 0; it must be 1 or more"),
        ("train.learning_rate", "-1", "it must be above 0"),
        ("train.learning_rate", "nan", "it must be above 0"),
        ("train.validation_split", "1", "below 1"),
        ("train.threshold_split", "-0.1", "train.threshold_split is -0.1; it must be 0 or more"),
        ("data.group", "day(", "no regular expression"),
        ("data.group", "(day)([0-9])", "with 2 parts in parentheses"),
        ("threshold_deviations", "2", "threshold is gamma, not mean"),
        ("threshold", "conformal", "train.threshold_split is 0; set it"),
        ("train.patience", "-1", "0 (off) or more"),
        ("threshold_quantile", "1", "above 0, below 1"),
        ("detector.latent", "0", "must be 1 or more"),
    ],
)
def test_a_wrong_override_is_one_line_that_names_it(key, text, message):
    with pytest.raises(UserError) as caught:
        override(load_config("dense_ae"), {key: text})
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_status == 2


def test_patience_needs_validation_clips():
    with pytest.raises(UserError, match="needs a validation set"):
        TrainConfig(patience=3, validation_split=0.0)


@pytest.mark.parametrize("name", sorted(configs.shipped_configs()))
def test_every_shipped_configuration_loads_and_survives_json(name):
    config = load_config(name)
    assert config.name == name
    assert config.seeds
    trained = config.member_configs().values() if name in ENSEMBLES else [config]
    assert all(member.train.epochs > 0 for member in trained)
    key, text, change = (
        "train.epochs",
        "3",
        f"train.epochs is {config.train.epochs} there and 3 here",
    )
    if name not in ENSEMBLES and not config.detector.trains:
        key, text, change = "data.year", "2021", "data.year is 0 there and 2021 here"
    stored = json.loads(configs.to_json(config))
    assert configs.from_dict(stored, CLASSES) == config
    changed = override(config, {key: text})
    assert configs.difference(configs.to_dict(changed), stored) == [change]


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("lstm_ae", {"threshold_quantile": "0.8"}, "threshold is mean, not gamma"),
        ("picture_mobilenet", {"threshold_quantile": "0.8"}, "threshold is zero, not gamma"),
        ("dense_ae", {"backend.neighbours": "2"}, "backend is own, not knn"),
        ("dense_ae", {"backend": "mahalanobis", "backend.metric": "euclidean"}, "not knn"),
        ("iaeo3", {"embedding": "none", "embedding.weights": "w"}, "embedding is none"),
        ("iaeo3", {"embedding": "log_mel", "embedding.hop": "1"}, "embedding is log_mel"),
        ("iaeo3", {"embedding": "edgel3", "embedding.size": "6144"}, "64 values"),
        ("iaeo3", {"embedding.sha256": "ab"}, "embedding.weights names no file"),
        ("mobilenet_v2_id", {"detector.margin": "0.2"}, "head is softmax, not arcface"),
        ("mobilenet_v2_id", {"detector.scale": "20"}, "head is softmax, not arcface"),
        ("resnet50_id", {"detector.width": "1"}, "network is resnet50, which has one width"),
        ("picture_mobilenet", {"detector.weights_sha256": "ab"}, "weights names no file"),
        (
            "picture_mobilenet",
            {"detector.weights": "w.npz", "detector.from_scratch": "true"},
            "training starts from detector.weights",
        ),
        (
            "iaeo3",
            {"embedding": "none", "detector.predictor": "max", "detector.components": "2"},
            "predictor=max has no mixture",
        ),
        ("dense_ae", {"train.driver": "loop", "train.data_devices": "2"}, "uses one device"),
    ],
)
def test_a_setting_without_an_effect_is_refused(name, overrides, message):
    with pytest.raises(UserError, match="has no effect") as caught:
        load_config(name, overrides)
    assert message in str(caught.value) and "leave it at" in str(caught.value)


def test_a_stored_setting_without_an_effect_is_read_as_its_default():
    """Runs of versions that let it pass can be loaded."""
    config = load_config("lstm_ae")
    stored = configs.to_dict(config)
    stored |= {"threshold_quantile": 0.8, "backend": {**stored["backend"], "neighbours": 3}}
    assert configs.from_dict(stored, CLASSES) == config


def test_a_stored_setting_that_the_system_has_no_use_for_is_read_as_its_default():
    """Of a group, which only the whole configuration knows not to matter."""
    config = load_config("spectral")
    stored = configs.to_dict(config)
    stored["train"] |= {"epochs": 7, "learning_rate": 0.5}
    assert configs.from_dict(stored, CLASSES) == config
    stored["seeds"] = [5]
    with pytest.raises(UserError, match="seeds is .*, which has no effect"):
        configs.from_dict(stored, CLASSES)


def test_reports_of_2020_to_2022_reflect_waveforms_at_their_ends():
    """As librosa did by default; a stored configuration without the setting pads with zeros."""
    names = {name for name in configs.shipped_configs() if name not in ENSEMBLES}
    found = {name for name in names if load_config(name).front_end.pad_mode == "reflect"}
    classifiers = {"mobilenet_v2_arcface", "mobilenet_v2_baseline", "mobilenet_v2_id"}
    classifiers |= {f"mobilenet_v2_id_{change}" for change in ("mix", "resample", "warp")}
    others = {"ganomaly", "group_made", "iaeo3", "interpolation_ae", "lstm_ae", "resnet50_id"}
    assert found == classifiers | others | {"outlier_exposure_ae", "picture_mobilenet"}
    for name in ENSEMBLES:
        members = load_config(name).member_configs().values()
        assert {member.front_end.pad_mode for member in members} == {"reflect"}, name
    stored = configs.to_dict(load_config("lstm_ae"))
    del stored["front_end"]["pad_mode"]
    read = configs.from_dict(stored, CLASSES)
    assert read == load_config("lstm_ae", {"front_end.pad_mode": "constant"})


def test_autoencoders_of_earlier_versions_are_keras_s():
    """Stored configurations without the settings of PyTorch's manner are read as they trained."""
    for name in ("dense_ae", "outlier_exposure_ae"):
        stored = configs.to_dict(load_config(name))
        for key in ("framework", "momentum", "epsilon"):
            del stored["detector"][key]
        former = configs.from_dict(stored, CLASSES).detector
        assert (former.framework, former.momentum, former.epsilon) == ("keras", 0.99, 1e-3)
    with pytest.raises(UserError, match="detector.framework"):
        load_config("dense_ae", {"detector.framework": "jax"})


def test_a_changed_padding_needs_centring():
    changes = {"front_end.center": "false"}
    with pytest.raises(UserError, match="pad_mode is 'reflect', which has no effect: center is"):
        load_config("lstm_ae", changes)
    config = load_config("lstm_ae", changes | {"front_end.pad_mode": "constant"})
    assert not config.front_end.center
    with pytest.raises(UserError, match="pad_mode is reflect, which has no effect: .*waveforms"):
        load_config("multibranch", {"front_end.pad_mode": "reflect"})


def test_settings_that_have_an_effect_are_taken():
    quantile = {"threshold_quantile": "0.8", "threshold": "zero", "backend": "knn"}
    assert load_config("dense_ae", quantile).threshold_quantile == 0.8
    assert load_config("mobilenet_v2_arcface", {"detector.margin": "0.2"}).detector.margin == 0.2
    assert load_config("dense_ae", {"backend": "knn", "backend.neighbours": "2"})


def test_former_names_are_read():
    """Keys and stored configurations of versions that had other names for the same."""
    former = {"members.group_made.train.members": "map", "combine": "max"}
    config = load_config("giri2020_system2", former)
    assert config.members["group_made"].train.driver == "map"
    assert load_config("dense_ae", {"train.members": "loop"}).train.driver == "loop"
    stored = configs.to_dict(config)
    train = stored["members"]["group_made"]["train"]
    train["members"] = train.pop("driver")
    stored["detector"] |= {"choices": [], "default": ""}
    assert configs.from_dict(stored, CLASSES) == config
    assert configs.difference(configs.to_dict(config), configs.upgraded(stored)) == []

    choice = load_config("kazakova2022_system3")
    stored = configs.to_dict(choice)
    assert stored["detector"].pop("name") == "choice"
    former = {**stored["detector"], "name": "ensemble", "combine": "choose"}
    stored = {**stored, "detector": former, "threshold_quantile": 0.9}
    assert configs.from_dict(stored, CLASSES) == choice
    assert configs.difference(configs.to_dict(choice), configs.upgraded(stored)) == []
    settings = {"choices": choice.choices, "default": choice.default}
    same = EnsembleConfig(choice.members, combine="choose", **settings)
    assert dataclasses.replace(same, name=choice.name) == choice


def test_a_configuration_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from asd_jax.config import *\nfrom asd_jax.detectors.dense_ae import *\n"
        "def get_config():\n    return Config(DenseAutoencoderConfig(latent=4))\n"
    )
    config = load_config(str(path), {"detector.frames": "3"})
    assert (config.name, config.detector.latent, config.detector.frames) == ("mine", 4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", "AttributeError"),
        ("def get_config(:\n", "SyntaxError"),
        ("def get_config():\n    return {}\n", "gave a dict"),
        ("import no_such_module\n", "No module named"),
    ],
)
def test_a_broken_configuration_file_is_one_line(tmp_path, text, message):
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        load_config(str(path))
    assert str(path) in str(caught.value)


def test_an_unknown_configuration_names_the_nearest():
    with pytest.raises(UserError, match="did you mean dense_ae"):
        load_config("dense_a")
    with pytest.raises(UserError, match="did you mean configs/dense_ae.py"):
        load_config("configs/dens_ae.py")


def test_a_stored_configuration_of_another_version_is_refused():
    stored = configs.to_dict(load_config("dense_ae"))
    with pytest.raises(UserError, match="front_end has keys this version does not know: colour"):
        configs.from_dict({**stored, "front_end": {**stored["front_end"], "colour": 1}}, CLASSES)
    with pytest.raises(UserError, match="no detector 'dense_a'; did you mean dense_ae"):
        configs.from_dict({**stored, "detector": {"name": "dense_a"}}, CLASSES)


def test_configurations_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_config("dense_ae").seeds = (1,)
    assert hash(DataConfig()) == hash(DataConfig())
    assert isinstance(load_config("dense_ae"), Config)


def test_importing_the_package_imports_no_framework_and_no_audio_library():
    code = (
        "import sys, asd_jax, asd_jax.config; import asd_jax.detectors as d; d.registry();"
        "print([m for m in ('librosa', 'soundfile', 'ml_collections', 'matplotlib', 'sklearn') "
        "if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr
