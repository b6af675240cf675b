"""Ranges of numbers, which settings carry in their types, and the check of them.

A setting says what it may be where it is declared:

    epochs: Annotated[int, Between(1, 10**6)] = 100

The range holds for each number of a tuple; None is let through. A number without a range must be
finite and not absurdly large.
"""

import dataclasses
import functools
import math
import numbers
import reprlib
import types
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from asd_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Between:
    """A range of numbers; infinities and NaN are in none.

    Attributes:
        low: smallest number.
        high: largest number.
        above: whether `low` itself is outside.
        below: whether `high` itself is outside.
        at_low: what the smallest number stands for, as "off".

    Examples:
        >>> str(Between(1, 10**6)), str(Between(0, 1, below=True, at_low="off"))
        ('1 or more, at most 10^6', '0 (off) or more, below 1')
        >>> 0.5 in Between(0, 1), float("nan") in Between(0, 1)
        (True, False)
    """

    low: float
    high: float
    _: dataclasses.KW_ONLY
    above: bool = False
    below: bool = False
    at_low: str = ""

    def __contains__(self, value: Any) -> bool:
        if not (self.low <= value <= self.high):  # also of NaN
            return False
        return not (self.above and value == self.low) and not (self.below and value == self.high)

    def __str__(self) -> str:
        low, high = _text(self.low), _text(self.high)
        if self.at_low:
            low += f" ({self.at_low})"
        first = f"above {low}" if self.above else f"{low} or more"
        return f"{first}, below {high}" if self.below else f"{first}, at most {high}"


@dataclasses.dataclass(frozen=True, init=False)
class OneOf:
    """A few numbers.

    Attributes:
        values: the numbers.

    Examples:
        >>> str(OneOf(512, 6144)), 513 in OneOf(512, 6144)
        ('512 or 6144', False)
    """

    values: tuple[float, ...]

    def __init__(self, *values: float) -> None:
        object.__setattr__(self, "values", values)

    def __contains__(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return " or ".join(map(_text, self.values))


Bounds = Between | OneOf

# Of numbers whose type has no range, as in systems of other packages.
LARGEST = 10**15
ANY = Between(-LARGEST, LARGEST)

SEED = Between(0, 2**32, below=True)


def bounds_of(cls: type) -> dict[str, Bounds]:
    """The ranges of a dataclass's numbers, by name; those without one have `ANY`.

    Examples:
        >>> from asd_jax.config import TrainConfig
        >>> str(bounds_of(TrainConfig)["validation_split"])
        '0 or more, below 1'
    """
    return {name: number.bounds for name, number in _numbers_of(cls).items()}


class _Number(typing.NamedTuple):
    """What a field's numbers may be.

    Attributes:
        bounds: their range.
        whole: whether they are whole.
        declared: whether the field's type has a range.
        optional: whether None is allowed in place of one.
        many: whether the field is a tuple.
    """

    bounds: Bounds = ANY
    whole: bool = False
    declared: bool = False
    optional: bool = False
    many: bool = False


@functools.cache
def _numbers_of(cls: type) -> Mapping[str, _Number]:
    try:
        hints = typing.get_type_hints(cls, include_extras=True)
    except Exception:  # of another package, which names types that are not there at run time
        hints = {}
    names = {field.name for field in dataclasses.fields(cls)}
    found = ((name, _number(hint)) for name, hint in hints.items() if name in names)
    return {name: number for name, number in found if number is not None}


def _number(hint: Any, bounds: Bounds | None = None) -> _Number | None:
    """What an annotated type says of its numbers; None of a type without any."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        own = [extra for extra in arguments[1:] if isinstance(extra, Between | OneOf)]
        return _number(arguments[0], own[0] if own else bounds)
    if origin in (typing.Union, types.UnionType, tuple, list):
        inner = (_number(argument, bounds) for argument in arguments)
        number = next((number for number in inner if number is not None), None)
        if number is None:
            return None
        return number._replace(
            optional=number.optional or type(None) in arguments,
            many=number.many or origin in (tuple, list),
        )
    if hint not in (int, float):
        return None
    return _Number(bounds or ANY, hint is int, bounds is not None)


def check_numbers(group: str, settings: Any) -> None:
    """Raises UserError where a number of a dataclass is outside its range.

    Args:
        group: prefix of the settings' names in a dotted key; "" for none.
        settings: the dataclass; groups inside it are left to their own checks.

    Raises:
        UserError: with key, value and range.

    Examples:
        >>> from asd_jax.config import TrainConfig
        >>> TrainConfig(learning_rate=float("inf"))
        Traceback (most recent call last):
        asd_jax.errors.UserError: train.learning_rate is inf; it must be above 0, at most 10^20
    """
    cls: type = type(settings)
    known = _numbers_of(cls)
    for field in dataclasses.fields(settings):
        number = known.get(field.name, _Number())
        value = getattr(settings, field.name)
        key = f"{group}.{field.name}" if group else field.name
        if number.declared and isinstance(value, tuple | list) != number.many and value is not None:
            wanted = "a tuple of numbers" if number.many else f"one number, {number.bounds}"
            raise UserError(f"{key} is {shown(value)}; it must be {wanted}")
        for each in _leaves(value):
            if number.declared:
                _check_kind(key, value, each, number)
            if isinstance(each, numbers.Real) and each not in number.bounds:
                which = "it" if each is value else "each"
                raise UserError(f"{key} is {shown(value)}; {which} must be {number.bounds}")


def _check_kind(key: str, value: Any, each: Any, number: _Number) -> None:
    """Raises UserError for text in place of a number, and for a fraction of a whole one."""
    kind: type = numbers.Integral if number.whole else numbers.Real
    if isinstance(each, kind) and not isinstance(each, bool):
        return
    if each is None and number.optional:
        return
    which = "it" if each is value else "each"
    wanted = "a whole number" if number.whole else "a number"
    raise UserError(f"{key} is {shown(value)}; {which} must be {wanted}, {number.bounds}")


def _leaves(value: Any) -> Iterator[Any]:
    """The values of a tuple, or the value itself; neither truths nor groups of settings."""
    if isinstance(value, tuple | list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


def shown(value: Any) -> str:
    """A value for a message, of a moderate length.

    Examples:
        >>> shown(0.5), shown((1, 2)), shown(10**60), shown("five")
        ('0.5', '(1, 2)', 'about 10^60', "'five'")
    """
    if isinstance(value, tuple | list):
        inner = ", ".join(map(shown, value[:8])) + (", …" if len(value) > 8 else "")
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if not isinstance(value, numbers.Real):
        return reprlib.repr(value)
    if isinstance(value, int) and abs(value) > LARGEST**2:
        # Python refuses to write whole numbers of more than some thousand digits.
        return f"about {'-' if value < 0 else ''}10^{math.log10(abs(value)):.0f}"
    return str(value)


def _text(number: float) -> str:
    """A bound in few characters: large powers as such."""
    if number == math.pi:
        return "π"
    if not isinstance(number, int):
        return f"{number:g}"
    size = abs(number)
    if size >= 10**5:
        sign = "-" if number < 0 else ""
        exponent = len(str(size)) - 1
        if size == 10**exponent:
            return f"{sign}10^{exponent}"
        if size & (size - 1) == 0:
            return f"{sign}2^{size.bit_length() - 1}"
    return str(number)
