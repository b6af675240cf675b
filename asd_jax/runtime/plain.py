"""Values of JSON's types, which strict parsers read."""

import math
import os
from collections.abc import Mapping
from typing import Any


def plain(value: Any) -> Any:
    """A value of JSON's types; arrays become lists, and numbers that are not finite texts.

    Examples:
        >>> plain({"score": float("nan"), 1: (2.5, None)})
        {'score': 'NaN', '1': [2.5, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "tolist"):  # an array, or a number of NumPy's
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value
