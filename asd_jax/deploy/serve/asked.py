"""What a request asks for, by its query."""

from collections.abc import Iterable
from typing import NamedTuple

from asd_jax.errors import UserError, nearest
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.fitted import Fitted
from asd_jax.fitting.judging import check_states, given_states
from asd_jax.fitting.layout import Group
from asd_jax.runtime.bounds import Between

PARAMETERS = ("machine", "section", "name", "explain", "false_alarms", "state")
UNNAMED = "recording"
_RATE = Between(0, 1, above=True, below=True)
_YES = {"1": True, "true": True, "0": False, "false": False}
_LONGEST_NAME = 255


class Asked(NamedTuple):
    """What to do with the recordings of a request.

    Attributes:
        group: their machine and section, as of `Fitted.resolve`.
        name: of a recording that comes without one.
        explain: whether to say what the score is made of.
        false_alarms: as of `Fitted.threshold`.
        state: of the machine, as in `Clip`; "" where it is not given.
    """

    group: Group
    name: str = UNNAMED
    explain: bool = False
    false_alarms: float | None = None
    state: str = ""

    @classmethod
    def of(cls, fitted: Fitted, query: Iterable[tuple[str, str]]) -> "Asked":
        """Reads a query.

        Args:
            fitted: what is to score.
            query: names and values, in any order.

        Raises:
            UserError: a parameter that there is none of or that comes twice, a value that is none
                of it, or a machine, section, rate or state that the run does not have.
        """
        given: dict[str, str] = {}
        for name, value in query:
            if name not in PARAMETERS:
                raise UserError(
                    f"no parameter {name[:_LONGEST_NAME]!r}{nearest(name, PARAMETERS)}; there are "
                    + ", ".join(PARAMETERS)
                )
            if name in given:
                raise UserError(f"parameter {name} is given twice; give it once")
            given[name] = value
        explain = given.get("explain", "false").lower()
        if explain not in _YES:
            raise UserError("explain must be true or false")
        if _YES[explain] and not isinstance(fitted, FittedDetector):
            raise UserError("an ensemble's scores are not explained; explain those of a member")
        group = fitted.resolve(given.get("machine"), given.get("section"))
        rate = _rate(given.get("false_alarms"))
        # Raises UserError where the run cannot promise the rate.
        fitted.threshold(machine=group[0], section=group[1] or None, false_alarms=rate)
        called = given.get("name", UNNAMED)
        if not 0 < len(called) <= _LONGEST_NAME:
            raise UserError(f"name must have 1 to {_LONGEST_NAME} characters")
        (state,) = given_states(given.get("state"), 1)
        check_states(fitted, group, [state])
        return cls(group, called, _YES[explain], rate, state)


def _rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if rate not in _RATE:
        raise UserError(f"false_alarms must be a number, {_RATE}")
    return rate
