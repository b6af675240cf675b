"""Numbers that cannot be are refused by name, of every setting of every configuration."""

import dataclasses
import typing
from typing import Annotated, ClassVar

import numpy as np
import pytest

from asd_jax.audio.frontend import FrontEnd
from asd_jax.config import Config, DataConfig, TrainConfig, load_config, override, shipped_configs
from asd_jax.config.reference import reference
from asd_jax.detectors.ganomaly import GANomalyConfig
from asd_jax.detectors.mel_mahalanobis import MelMahalanobisConfig
from asd_jax.errors import UserError
from asd_jax.runtime.bounds import ANY, SEED, Between, OneOf, bounds_of, check_numbers, shown

ABSURD = ("nan", "inf", "-inf", "1e30", "-1e30", "1e400", str(10**60), str(-(10**60)))
INFINITE = float("inf")


def refusal(call):
    """The line by which a call is refused; any other exception is the test's."""
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert caught.value.exit_status == 2
    return str(caught.value)


@pytest.mark.parametrize("name", shipped_configs())
def test_no_number_of_a_configuration_takes_what_cannot_be(name):
    config = load_config(name)
    numbers = [key for key in reference(config) if "number" in key.kind]
    assert len(numbers) > 5
    for key in numbers:
        assert key.range and "10^15" not in key.range, f"{key.key} has no range of its own"
        for text in ABSURD:
            line = refusal(lambda key=key, text=text: override(config, {key.key: text}))
            assert key.key.rpartition(".")[2] in line
        if key.kind.startswith("list"):
            text = f"{key.value[0]},{10**60}" if key.value else f"{10**60},"
            assert "each must be" in refusal(
                lambda key=key, text=text: override(config, {key.key: text})
            )


@pytest.mark.parametrize("name", shipped_configs())
def test_a_configuration_built_in_python_takes_nothing_else(name):
    """By value in place of text: NaN of a whole number too, and one too long to be written."""
    config = load_config(name)
    for group, settings in groups_of(config):
        for key in bounds_of(type(settings)):
            value = getattr(settings, key)
            for absurd in (float("nan"), INFINITE, -INFINITE, 1e30, 10**60, -(10**5000), "5", True):
                changed = {key: (absurd,) if isinstance(value, tuple) else absurd}
                line = refusal(lambda s=settings, c=changed: dataclasses.replace(s, **c))
                assert key in line, group
            assert dataclasses.replace(settings, **{key: value}) == settings


def groups_of(config):
    """The groups of a configuration, and of its members, that have numbers."""
    yield "", config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield field.name, value
        elif isinstance(value, typing.Mapping):
            for member in value.values():
                yield from groups_of(member)


def test_a_line_says_key_value_and_range():
    for call, line in [
        (
            lambda: TrainConfig(learning_rate=INFINITE),
            "train.learning_rate is inf; it must be above 0, at most 10^20",
        ),
        (
            lambda: TrainConfig(patience=2**63),
            "train.patience is 9223372036854775808; it must be 0 (off) or more, at most 10^6",
        ),
        (
            lambda: FrontEnd(sample_rate=10**60),
            "front_end.sample_rate is about 10^60; it must be 1 or more, at most 10^6",
        ),
        (
            lambda: TrainConfig(epochs=2.5),
            "train.epochs is 2.5; it must be a whole number, 1 or more, at most 10^6",
        ),
        (
            lambda: GANomalyConfig(latent_weight=float("nan")),
            "detector.latent_weight is nan; it must be 0 or more, at most 10^6",
        ),
        (
            lambda: TrainConfig(epochs=(1, 2)),
            "train.epochs is (1, 2); it must be one number, 1 or more, at most 10^6",
        ),
        (
            lambda: load_config("twfr_gmm").detector.__class__(r=0.5),
            "detector.r is 0.5; name one or more, as in detector.r=0.9,",
        ),
        (
            lambda: load_config("dense_ae").detector.__class__(hidden=64),
            "detector.hidden is 64; it must be a tuple of numbers",
        ),
        (
            lambda: DataConfig(machines=(1,)),
            "data.machines is (1,); give a tuple of names",
        ),
    ]:
        assert refusal(call) == line


@dataclasses.dataclass(frozen=True)
class Theirs(MelMahalanobisConfig):
    """Settings of another package, which knows no ranges and has a check of its own."""

    name: ClassVar[str] = "theirs"
    weight: float = 1.0
    sizes: tuple[int, ...] = (1, 2)
    anything: object = None

    def __post_init__(self):
        if self.weight == 7:
            raise UserError("seven")


def test_numbers_of_other_packages_are_finite_at_least():
    plain = load_config("mel_mahalanobis")
    for theirs in (
        Theirs(weight=float("nan")),
        Theirs(weight=1e30),
        Theirs(sizes=(1, 10**60)),
        Theirs(anything=INFINITE),
    ):
        assert "10^15" in refusal(lambda theirs=theirs: dataclasses.replace(plain, detector=theirs))
    config = dataclasses.replace(plain, detector=Theirs(weight=-5.0, anything="text"))
    assert isinstance(config, Config)
    found = {key.key: key for key in reference(config)}
    assert found["detector.weight"].range == str(ANY) and found["detector.anything"].range == ""


@dataclasses.dataclass
class Unresolved:
    number: "NoSuchType" = 1.0  # noqa: F821 -- what is only imported for type checkers


def test_types_that_are_not_there_at_run_time_leave_the_finite_check():
    check_numbers("", Unresolved())
    assert bounds_of(Unresolved) == {}
    assert "number is inf" in refusal(lambda: check_numbers("", Unresolved(INFINITE)))


@dataclasses.dataclass
class Odd:
    pairs: Annotated[tuple[tuple[int, int], ...], Between(0, 9)] = ()
    maybe: Annotated[float, Between(0, 1)] | None = None
    few: Annotated[int, OneOf(2, 4)] = 2


def test_nested_and_optional_numbers():
    check_numbers("", Odd(((1, 2), (3, 4)), 0.5, np.int64(4)))
    check_numbers("", Odd(maybe=np.float32(1)))
    for wrong in (
        Odd(((1, 10),)),
        Odd(maybe=1.5),
        Odd(few=3),
        Odd(few=None),
        Odd(pairs=((1, None),)),
    ):
        refusal(lambda wrong=wrong: check_numbers("", wrong))


def test_ends_of_ranges():
    assert 0 in SEED and 2**32 - 1 in SEED and 2**32 not in SEED
    assert 0 not in Between(0, 1, above=True) and 1 in Between(0, 1, above=True)
    assert str(Between(0, np.pi, below=True)) == "0 or more, below π"
    assert shown((1, 2.5)) == "(1, 2.5)" and shown((7,)) == "(7,)"
