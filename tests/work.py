"""Counts the numbers that NumPy computes, for tests of how work grows."""

import numpy as np


class Counted(np.ndarray):
    """An array that adds the size of each computation on it, or on what comes of it, to `elements`.

    Attributes:
        elements: numbers that were computed, of all such arrays.
    """

    elements = 0

    @classmethod
    def of(cls, values):
        """The values as such an array, with the count at 0."""
        cls.elements = 0
        return np.asarray(values).view(cls)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **settings):
        plain = [x.view(np.ndarray) if isinstance(x, Counted) else x for x in inputs]
        if out is not None:
            settings["out"] = tuple(
                x.view(np.ndarray) if isinstance(x, Counted) else x for x in out
            )
        made = getattr(ufunc, method)(*plain, **settings)
        Counted.elements += max(map(np.size, plain))
        return made.view(Counted) if isinstance(made, np.ndarray) else made
