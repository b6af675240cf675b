"""The states that a machine's normal clips were in, and where a new clip's state lies among them.

Columns of texts, and of numbers that take few values, make **categories**: each combination that
normal clips have is a state. A column of numbers that vary is an **operating point**: what is
normal is interpolated over it, see `asd_jax.scoring.operating`.

Numbers are sorted and cut where a neighbour is more than a twentieth larger (`data.states.SAME`).
If each part is within a twentieth itself, and most clips have company in theirs, the parts are
categories; else the column is an operating point.
"""

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.states import OFF, SAME, TRANSIENT, alike, number_of, pairs_of
from asd_jax.errors import UserError

FEWEST_GROUPS = 2  # of clips that a state needs: without one of them, another is left
MOST_NAMES = 8
# A stretch of an operating point without normal clips, as a share of all its range, within which
# nothing is interpolated.
_HOLE = 0.25


class Place(NamedTuple):
    """Where a state lies in a `StateSpace`.

    Attributes:
        category: its place among `StateSpace.categories`.
        points: value of each operating point.
    """

    category: int
    points: tuple[float, ...]


class StateSpace(NamedTuple):
    """States of one machine's, or section's, normal clips.

    Attributes:
        names: of the columns, ascending; none where nothing is known of the clips.
        points: those that are operating points.
        categories: values of the other columns, in their order, as texts; the most frequent first.
        covered: of each category and operating point, limits of the values that normal clips cover.
    """

    names: tuple[str, ...]
    points: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    covered: tuple[tuple[tuple[tuple[float, float], ...], ...], ...]

    @classmethod
    def of(
        cls, states: Sequence[str], groups: Sequence[Hashable] | None = None
    ) -> tuple["StateSpace", np.ndarray]:
        """Learns the states of normal clips.

        Args:
            states: of each clip, see `asd_jax.data.states`; not off or transient.
            groups: what each was recorded with; each by itself by default.

        Returns:
            The states, and int (clips,), the category of each clip; −1 of clips whose state has too
            few others, or is not known though those of others are.

        Examples:
            >>> texts = ["speed=6"] * 3 + ["speed=12"] * 2 + ["speed=99"]
            >>> space, category = StateSpace.of(texts)
            >>> space.categories, category.tolist()
            ((('6',), ('12',)), [0, 0, 0, 1, 1, -1])
            >>> space.place("speed=6.1"), space.place("speed=9")
            (Place(category=0, points=()), None)
            >>> space, _ = StateSpace.of([f"speed={speed}" for speed in range(1000, 3000, 50)])
            >>> space.points, space.place("speed=1234"), space.place("speed=4000")
            (('speed',), Place(category=0, points=(1234.0,)), None)
        """
        pairs = [pairs_of(state) for state in states]
        names = tuple(sorted({name for own in pairs for name in own}))
        if len(names) > MOST_NAMES:
            raise UserError(f"{len(names)} columns make a state; at most {MOST_NAMES} can")
        known = np.array([all(name in own for name in names) for own in pairs], bool)
        rows = np.flatnonzero(known)
        numbers = {name: _numbers([pairs[row][name] for row in rows]) for name in names}
        parts = {name: _parts(own) for name, own in numbers.items() if own is not None}
        points = tuple(name for name in names if name in parts and parts[name] is None)
        keys: list[tuple[str, ...] | None] = [None] * len(pairs)
        for i, row in enumerate(rows.tolist()):
            own = []
            for name in names:
                if name not in points:
                    part = parts.get(name)
                    own.append(pairs[row][name] if part is None else part[i])
            keys[row] = tuple(own)
        together = range(len(pairs)) if groups is None else groups
        of_key: dict[tuple[str, ...], set[Hashable]] = {}
        for key, group in zip(keys, together, strict=True):
            if key is not None:
                of_key.setdefault(key, set()).add(group)
        counts = Counter(key for key in keys if key is not None)
        kept = [key for key in counts if len(of_key[key]) >= FEWEST_GROUPS]
        categories = tuple(sorted(kept, key=lambda key: (-counts[key], key)))
        category = np.array([categories.index(k) if k in categories else -1 for k in keys], int)
        members = [np.flatnonzero(category == c).tolist() for c in range(len(categories))]
        covered = tuple(
            tuple(_covered(np.array([float(pairs[row][name]) for row in own])) for name in points)
            for own in members
        )
        return cls(names, points, categories, covered), category

    @classmethod
    def of_file(cls, stored: Sequence[Any]) -> "StateSpace":
        """A space that was stored as JSON."""
        names, points, categories, covered = stored
        limits = tuple(
            tuple(tuple((low, high) for low, high in each) for each in own) for own in covered
        )
        return cls(tuple(names), tuple(points), tuple(map(tuple, categories)), limits)

    def place(self, state: str) -> Place | None:
        """Where a state lies; None of one that no normal clip was in, or that is not known.

        Raises:
            UserError: the text is no state.
        """
        if state in (OFF, TRANSIENT):
            return None
        pairs = pairs_of(state)
        if not self.names:
            return Place(0, ()) if self.categories else None
        if not all(name in pairs for name in self.names):
            return None
        own = [pairs[name] for name in self.names if name not in self.points]
        numbers = [number_of(pairs[name]) for name in self.points]
        for c, key in enumerate(self.categories):
            if all(map(_same, own, key)):
                known = [number for number in numbers if number is not None]
                inside = len(known) == len(numbers) and all(
                    any(low <= number <= high for low, high in limits)
                    for number, limits in zip(known, self.covered[c], strict=True)
                )
                return Place(c, tuple(map(float, known))) if inside else None
        return None

    def lacks(self, state: str) -> tuple[str, ...]:
        """Names of the columns that a state does not give."""
        pairs = pairs_of(state)
        return tuple(name for name in self.names if name not in pairs)

    def check(self, state: str) -> None:
        """Raises UserError for columns that are not of these states."""
        for name in pairs_of(state):
            if name not in self.names:
                known = ", ".join(self.names) or "none"
                raise UserError(f"the state {state!r} has {name!r}; the normal clips have {known}")

    def describe(self) -> str:
        """The states in words.

        Examples:
            >>> StateSpace.of(["speed=6", "speed=6", "speed=12", "speed=12"])[0].describe()
            'speed=12, speed=6'
        """
        others = [name for name in self.names if name not in self.points]
        texts = []
        for key, covered in zip(self.categories, self.covered, strict=True):
            parts = [f"{name}={value}" for name, value in zip(others, key, strict=True)]
            for name, limits in zip(self.points, covered, strict=True):
                spans = " and ".join(f"{low:.4g} to {high:.4g}" for low, high in limits)
                parts.append(f"{name} {spans}")
            texts.append(" ".join(parts))
        return ", ".join(filter(None, texts))


def _same(given: str, value: str) -> bool:
    """Whether a given text is that of a category; numbers as of one state."""
    one, other = number_of(given), number_of(value)
    return given == value if one is None or other is None else alike(one, other)


def _numbers(texts: Sequence[str]) -> np.ndarray | None:
    """(n,) numbers; None where a text is none."""
    numbers = [number_of(text) for text in texts]
    known = [number for number in numbers if number is not None]
    return np.array(known) if len(known) == len(texts) else None


def _parts(numbers: np.ndarray) -> list[str] | None:
    """Category of each number (n,), as the median of its part; None of an operating point."""
    if not len(numbers):
        return []
    order = np.argsort(numbers, kind="stable")
    ascending = numbers[order]
    cuts = [
        i + 1
        for i, (low, high) in enumerate(zip(ascending, ascending[1:], strict=False))
        if not alike(low, high)
    ]
    parts = np.split(ascending, cuts)
    alone = sum(len(part) for part in parts if len(part) < 2)
    if not all(alike(part[0], part[-1]) for part in parts) or alone > len(numbers) / 2:
        return None
    names = np.repeat([f"{np.median(part):.6g}" for part in parts], [len(part) for part in parts])
    texts = np.empty(len(numbers), object)
    texts[order] = names
    return texts.tolist()


def _covered(values: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Limits of the values, cut at holes."""
    ascending = np.unique(values)
    hole = _HOLE * (ascending[-1] - ascending[0])
    parts = np.split(ascending, np.flatnonzero(np.diff(ascending) > hole) + 1)
    return tuple(
        (float(part[0] - SAME * abs(part[0])), float(part[-1] + SAME * abs(part[-1])))
        for part in parts
    )


def places_array(places: Sequence[Place]) -> np.ndarray:
    """float64 (clips, 1 + `MOST_NAMES`): category and operating points; NaN for padding."""
    rows = np.full((len(places), 1 + MOST_NAMES), math.nan)
    for row, place in zip(rows, places, strict=True):
        row[0] = place.category
        row[1 : 1 + len(place.points)] = place.points
    return rows


def states_by_group(stored: Mapping[str, Any] | None) -> dict[str, StateSpace]:
    """Spaces by group, as stored as JSON; none of a file of an earlier version."""
    return {group: StateSpace.of_file(own) for group, own in (stored or {}).items()}
