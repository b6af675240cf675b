"""The file of a fitted detector: plain arrays, and what is no array as JSON; nothing is pickled."""

import json
import os
from collections.abc import Callable, Mapping
from typing import IO, Any, TypeVar

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.errors import UserError
from asd_jax.runtime.files import DAMAGE, atomic_write, read_arrays

T = TypeVar("T")


def write_fitted(
    path: os.PathLike | str,
    meta: Mapping[str, Any],
    trees: Mapping[str, Any],
    thresholds: np.ndarray,
) -> None:
    """Writes a fitted detector, whole or not at all.

    Args:
        path: the file.
        meta: of JSON's types.
        trees: by name, nested mappings of arrays.
        thresholds: as of `FittedDetector`.
    """
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in flatten_dict(trees, sep="/").items()}
    with atomic_write(path, "wb") as file:
        np.savez(file, meta=json.dumps(meta), thresholds=thresholds, **arrays)


def read_fitted(
    path: os.PathLike | str | IO[bytes],
    make: Callable[[Mapping[str, Any], Any, np.ndarray], T],
) -> T:
    """Makes a detector of what `write_fitted` wrote.

    Args:
        path: the file, or its content.
        make: (meta, trees, thresholds) → the detector.

    Raises:
        UserError: the file is missing, damaged, or of a system this version lacks.
    """
    try:
        arrays = read_arrays(path)
        meta = json.loads(str(arrays.pop("meta")))
        thresholds = arrays.pop("thresholds")
        return make(meta, unflatten_dict(arrays, sep="/"), thresholds)
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; the run has not finished training. Start it again with "
            "the command that began it"
        ) from None
    except DAMAGE as error:
        raise UserError(
            f"{path} is damaged ({error}); remove it, and the command that made the run makes "
            "it again from the last checkpoint"
        ) from error
