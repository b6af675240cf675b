"""Several values a key: what is a list, and what one value."""

import pytest

from asd_jax.config import load_config
from asd_jax.config.variants import load_variants, variant_name
from asd_jax.errors import UserError


def names(config="dense_ae", **texts):
    return [
        v.name for v in load_variants(config, {k.replace("__", "."): t for k, t in texts.items()})
    ]


def test_one_value_each_is_the_configuration_itself():
    overrides = {"seeds": "0,1", "detector.hidden": "(64,32)", "train.learning_rate": "1e-2"}
    (only,) = load_variants("dense_ae", overrides)
    assert only == ("", {}, load_config("dense_ae", overrides))


@pytest.mark.parametrize(
    "key, text, values",
    [
        ("train.epochs", "5, 7", [5, 7]),
        ("train.learning_rate", "1e-3;0.01", [0.001, 0.01]),
        ("train.driver", "map,loop", ["map", "loop"]),
        ("train.members", "map,loop", ["map", "loop"]),  # a key's former name
        ("front_end.canceller", "true,false", [True, False]),
        ("backend", "knn,mahalanobis", ["knn", "mahalanobis"]),
        ("data.group", "day;session", ["day", "session"]),
        ("seeds", "0,1;2", [(0, 1), (2,)]),
        ("seeds", "(0,1),[2]", [(0, 1), (2,)]),
        ("detector.hidden", "64,32; 16", [(64, 32), (16,)]),
        ("data.machines", "fan;fan,pump;", [("fan",), ("fan", "pump"), ()]),
    ],
)
def test_every_kind_of_key_has_lists(key, text, values):
    assert [[*v.values.values()] for v in load_variants("dense_ae", {key: text})] == [
        [value] for value in values
    ]


@pytest.mark.parametrize(
    "key, text",
    [
        ("data.group", "_(a{1,2})_"),
        ("data.group", '"a;b"'),
        ("data.machines", "fan(1),pump"),
        ("seeds", "0,1"),
        ("seeds", "[3]"),
    ],
)
def test_what_was_one_value_is_one(key, text):
    (only,) = load_variants("dense_ae", {key: text})
    assert only.name == "" and only.config == load_config("dense_ae", {key: text.strip('"')})


@pytest.mark.parametrize(
    "key, text, line",
    [
        ("train.learning_rate", "1e-3,", "--config.train.learning_rate=1e-3, has an empty value"),
        ("train.learning_rate", "1,2;3", "has both , and ; between its values"),
        ("train.learning_rate", "1e-3,x", "--config.train.learning_rate=x: must be a number"),
        ("train.learning_rate", "1e-3,-1", "train.learning_rate is -1.0; it must be above 0"),
        ("train.learning_rate", "1e-3,0.001", "train.learning_rate=0.001 is given twice"),
        ("train.driver", "map,lop", "--config.train.driver=lop: must be one of auto, vmap"),
        ("seeds", "(0,1),2", "is ambiguous; separate tuples by semicolons, as in 1,2;3,4"),
        ("seeds", "0,1;", "seeds is empty"),
        ("train.lr", "1,2", "no such key"),
        ("train", "1,2", "--config.train is a group; set"),
        (
            "train.batch_size",
            ",".join(map(str, range(1, 1002))),
            "1,001 combinations; at most 1,000",
        ),
    ],
)
def test_what_cannot_be_is_one_line(key, text, line):
    with pytest.raises(UserError) as error:
        load_variants("dense_ae", {key: text})
    assert line in str(error.value) and "\n" not in str(error.value)


def test_combinations_are_in_the_order_of_the_keys():
    assert names(train__epochs="1,2", train__learning_rate="0.1,0.2") == [
        f"train.epochs={epochs},train.learning_rate={rate}"
        for epochs in (1, 2)
        for rate in (0.1, 0.2)
    ]


def test_members_of_ensembles_have_lists():
    (name, *_) = load_config("giri2020_system1").members
    key = f"members.{name}.train.learning_rate"
    (rates,) = [load_variants("giri2020_system1", {key: "0.1,0.2"})]
    assert [v.config.members[name].train.learning_rate for v in rates] == [0.1, 0.2]


def test_names_are_of_folders_and_differ():
    texts = ["a/b", "a_b", "a b", "ä", "x" * 300, "x" * 301, "..", ""]
    made = [variant_name({"data.group": text}) for text in texts]
    assert len({*made}) == len(texts)
    assert all("/" not in name and len(name) < 200 and name.isascii() for name in made)
