"""Configurations with members: settings for all, overrides of one, choices, stored ones."""

import dataclasses
import json

import pytest

from asd_jax import config as configs
from asd_jax.config import (
    EnsembleConfig,
    MembersConfig,
    load_config,
    override,
)
from asd_jax.detectors import registry
from asd_jax.errors import UserError

CLASSES = {name: cls.Config for name, cls in registry().items()}
ENSEMBLES = [n for n in configs.shipped_configs() if isinstance(load_config(n), MembersConfig)]


def members_of(name="giri2020_system2", **overrides):
    """The members' configurations after overrides; a dot in a key is written __."""
    texts = {key.replace("__", "."): text for key, text in overrides.items()}
    return load_config(name, texts).member_configs()


def test_an_ensembles_settings_are_its_members():
    """What is for all goes before a member's own; the rest of a member's stays."""
    before = members_of()
    found = members_of(
        train__epochs="3",
        seeds="7,4",
        data__machines="fan",
        members__group_made__train__epochs="9",
        members__group_made__train__batch_size="33",
        members__group_made__detector__components="2",
        members__mobilenet_v2_id_mix__front_end__n_mels="64",
        members__group_made__precision="bfloat16",
    )
    assert [found[name].precision for name in before] == [
        "bfloat16" if name == "group_made" else "float32" for name in before
    ]
    for_all = members_of(precision="bfloat16", members__group_made__precision="float32")
    assert {member.precision for member in for_all.values()} == {"bfloat16"}
    for name, member in found.items():
        assert member.train.epochs == 3
        assert member.seeds == (7, 4)
        assert member.data.machines == ("fan",)
        assert member.name == name
        assert member.train.learning_rate == before[name].train.learning_rate
    assert found["group_made"].train.batch_size == 33
    assert found["group_made"].detector.components == 2
    mobilenet, other = found["mobilenet_v2_id_mix"], before["mobilenet_v2_id_mix"]
    assert mobilenet.train.batch_size == other.train.batch_size
    assert mobilenet.detector == other.detector
    assert mobilenet.front_end == dataclasses.replace(other.front_end, n_mels=64)
    assert members_of(train__epochs="none") == before


def test_an_ensembles_embedding_is_that_of_members_that_have_one():
    config = EnsembleConfig({"with": load_config("iaeo3"), "without": load_config("dense_ae")})
    for key, text in (("size", "7"), ("size", "0"), ("hop", "0")):
        with pytest.raises(UserError, match=f"embedding.{key} is {text}"):
            override(config, {f"embedding.{key}": text})
    changed = override(config, {"embedding": "edgel3", "embedding.weights": "w.npz"})
    found = changed.member_configs()
    own = config.members["with"].embedding
    assert found["with"].embedding == dataclasses.replace(own, kind="edgel3", weights="w.npz")
    assert found["without"].embedding == config.members["without"].embedding
    alone = override(config, {"members.without.embedding": "log_mel"}).member_configs()
    assert [member.embedding.kind for member in alone.values()] == [own.kind, "log_mel"]
    with pytest.raises(UserError, match="embedding.kind: no member has an embedding"):
        override(load_config("giri2020_system2"), {"embedding": "edgel3"})


def test_members_of_members_are_reached():
    inner = load_config("giri2020_system2")
    outer = EnsembleConfig({"pair": inner, "dense": load_config("dense_ae")}, seeds=(4,))
    changed = override(
        outer, {"members.pair.members.group_made.train.epochs": "9", "train.batch_size": "8"}
    )
    pair = changed.member_configs()["pair"].member_configs()
    assert [member.train.epochs for member in pair.values()] == [
        inner.members["mobilenet_v2_id_mix"].train.epochs,
        9,
    ]
    assert {member.train.batch_size for member in pair.values()} == {8}
    assert {member.seeds for member in pair.values()} == {(4,)}
    assert configs.from_dict(json.loads(configs.to_json(changed)), CLASSES) == changed


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        (
            "giri2020_system2",
            {"members.group_made.train.epoch": "5"},
            "members.group_made.train.epoch: no such key; did you mean "
            "members.group_made.train.epochs?",
        ),
        (
            "giri2020_system2",
            {"members.group_mad.train.epochs": "5"},
            "no such key; did you mean members.group_made.train.epochs?",
        ),
        ("giri2020_system2", {"members.group_made": "5"}, "--config.members.group_made: no such"),
        ("giri2020_system2", {"members": "5"}, "--config.members is a group"),
        (
            "giri2020_system2",
            {"members.group_made.train": "5"},
            "--config.members.group_made.train is a group; set members.group_made.train.epochs or",
        ),
        (
            "giri2020_system2",
            {"members.group_made.seeds": "5"},
            "--config.members.group_made.seeds: members have the ensemble's; set seeds",
        ),
        ("giri2020_system2", {"members.group_made.data.machines": "fan"}, "set data.machines"),
        ("giri2020_system2", {"threshold_quantile": "2"}, "threshold_quantile is 2.0; it must be"),
        (
            "kazakova2022_system3",
            {"threshold_quantile": "0.8"},
            "no such key; did you mean members.",
        ),
        ("giri2020_system2", {"embedding.hop": "0.2"}, "embedding.hop: no member has an embedding"),
        (
            "kazakova2022_system3",
            {"choices": "fan:outlier_exposure_ae,fan:picture_mobilenet"},
            "choices names a machine type twice",
        ),
        ("giri2020_system2", {"epochs": "5"}, "did you mean train.epochs?"),
        ("giri2020_system2", {"train.patience": "5"}, "--config.train.patience: no such key"),
        (
            "giri2020_system2",
            {"detector.mix": "both"},
            "did you mean members.mobilenet_v2_id_mix.detector.mix?",
        ),
        ("giri2020_system2", {"train.epochs": "x"}, "must be a whole number"),
        ("giri2020_system2", {"train.epochs": "0"}, "train.epochs is 0; it must be 1 or more"),
        ("giri2020_system2", {"seeds": ""}, "seeds is empty"),
        ("giri2020_system2", {"combine": "sum"}, "must be one of mean, max"),
        ("giri2020_system2", {"choices": "fan:group_made"}, "--config.choices: no such key"),
        ("kazakova2022_system3", {"choices": "fan"}, "'' is none of outlier_exposure_ae"),
        ("kazakova2022_system3", {"combine": "mean"}, "--config.combine: no such key"),
        (
            "kazakova2022_system3",
            {"choices": "fan:nothing"},
            "'nothing' is none of outlier_exposure_ae, picture_mobilenet",
        ),
        ("kazakova2022_system3", {"default": ""}, "'' is none of outlier_exposure_ae"),
    ],
)
def test_a_wrong_override_of_an_ensemble_is_one_line(name, overrides, message):
    with pytest.raises(UserError) as caught:
        load_config(name, overrides)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_member_of_a_machine_type():
    config = load_config(
        "kazakova2022_system3", {"choices": "fan:picture_mobilenet,ToyCar:outlier_exposure_ae"}
    )
    assert config.member_for("fan") == "picture_mobilenet"
    assert config.member_for("ToyCar") == config.member_for("pump") == "outlier_exposure_ae"
    assert override(config, {"choices": ""}).member_for("fan") == "outlier_exposure_ae"
    with pytest.raises(UserError, match="members is empty"):
        EnsembleConfig({})


def test_a_stored_ensemble_of_another_version_is_refused():
    stored = configs.to_dict(load_config("giri2020_system1"))
    assert stored["detector"] == {"name": "ensemble", "combine": "mean"}
    assert json.loads(json.dumps(stored)) == stored
    for group in ("train", "data", "embedding"):
        with pytest.raises(UserError, match=f"{group} has keys this version does not know: colour"):
            configs.from_dict({**stored, group: {**stored[group], "colour": 1}}, CLASSES)
    members = stored["members"]
    wrong = {**members, "group_made": {**members["group_made"], "detector": {"name": "group_mad"}}}
    with pytest.raises(UserError, match="no detector 'group_mad'; did you mean group_made"):
        configs.from_dict({**stored, "members": wrong}, CLASSES)
    changed = override(
        load_config("giri2020_system1"), {"members.group_made.detector.components": "3"}
    )
    assert configs.difference(configs.to_dict(changed), stored) == [
        "members.group_made.detector.components is 10 there and 3 here"
    ]
