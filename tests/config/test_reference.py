"""The reference of keys: complete, with a meaning each, and values that read back."""

import dataclasses

import pytest

from asd_jax.config import keys, load_config, override, shipped_configs
from asd_jax.config.reference import as_text, meanings, reference


@pytest.fixture(scope="module")
def shipped():
    return {name: load_config(name) for name in shipped_configs()}


def test_every_key_of_every_configuration_has_a_meaning(shipped):
    """One that stands by itself: not one that points to another class."""
    for name, config in shipped.items():
        found = [*reference(config)]
        for key in found:
            assert len(key.meaning) > 5, f"{name}: {key.key} has no meaning"
            assert not key.meaning.startswith(("as in", "as of", "as those")), (name, key)
            assert "`" not in key.meaning and "\n" not in key.meaning
        # All of `keys`, but for those that a member cannot have.
        shared = (".data.", ".seeds", ".name")
        all_keys = [
            key
            for key in keys(config)
            if not (key.startswith("members.") and any(part in key for part in shared))
        ]
        assert sorted(key.key for key in found) == sorted(all_keys)


def test_the_text_of_a_value_is_what_sets_it(shipped):
    for name, config in shipped.items():
        for key in reference(config):
            changed = override(config, {key.key: as_text(key.value)})
            assert changed == config, f"{name}: {key.key}={as_text(key.value)}"


def test_types_defaults_and_values():
    config = load_config("dense_ae", {"train.epochs": "5", "seeds": "7", "front_end.fmax": "none"})
    found = {key.key: key for key in reference(config)}
    epochs = found["train.epochs"]
    assert (epochs.kind, epochs.default, epochs.value) == ("whole number", 100, 5)
    assert epochs.meaning == "largest number of epochs of a model"
    assert found["seeds"].kind == "list of whole numbers" and as_text(found["seeds"].value) == "7,"
    assert found["front_end.fmax"].kind == "number, or none"
    assert found["train.driver"].choices == ("auto", "vmap", "map", "loop")
    assert found["front_end.center"].choices == ("true", "false")
    found = {key.key: key for key in reference(load_config("giri2020_system2"))}
    assert found["members.group_made.detector.components"].default is not dataclasses.MISSING
    assert found["train.epochs"].value is None


class Base:
    """A class.

    Attributes:
        first: of the base.
        second: of the base, which
            goes on: here.
    """


class Derived(Base):
    """A class whose docstring has odd places.

    Attributes:
        second: with a colon: and `code`.

        third (int): after an empty line. It has two sentences.

    Raises:
        first: no attribute.
    """


class Silent(Base):
    pass


def test_meanings_are_parsed_from_odd_docstrings():
    assert meanings(Base) == {"first": "of the base", "second": "of the base, which goes on: here"}
    assert meanings(Derived) == {
        "first": "of the base",
        "second": "with a colon: and code",
        "third": "after an empty line. It has two sentences.",
    }
    assert meanings(Silent) == meanings(Base)
