"""Weights of OpenL3 and EdgeL3 from files of Keras, compressed or not, or of `save_openl3`."""

import contextlib
import gzip
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.errors import UserError
from asd_jax.models.openl3 import OpenL3, openl3_from_keras
from asd_jax.models.pretrained.keras_file import read_keras_layers
from asd_jax.runtime.files import DAMAGE, atomic_write, read_arrays

_ZIP, _GZIP = b"PK", b"\x1f\x8b"  # the first bytes of such files


def save_openl3(path: os.PathLike | str, kind: str, variables: Mapping[str, Any]) -> None:
    """Writes the variables of an OpenL3 network to an .npz file.

    Args:
        path: the file.
        kind: of the embedding, written to the file.
        variables: as `OpenL3.apply` takes them.
    """
    arrays: dict[str, Any] = {k: np.asarray(v) for k, v in flatten_dict(variables, sep="/").items()}
    with atomic_write(path, "wb") as file:
        np.savez(file, kind=kind, **arrays)


def load_openl3(
    path: Path, kind: str, network: OpenL3, filters: np.ndarray, *, wanted: str
) -> dict[str, Any]:
    """Reads the variables of an OpenL3 network, from a Keras file or one of `save_openl3`.

    Args:
        path: the file; a Keras file may be compressed by gzip, as OpenL3's are published.
        kind: of the embedding that the weights must be for, as in `save_openl3`.
        network: the network.
        filters: (bins, mels) mel filters of the network's pictures.
        wanted: description of the right file, for messages.

    Returns:
        {"params": …, "batch_stats": …} for `network.apply`.

    Raises:
        UserError: the file is damaged, or for another network.
    """
    with open(path, "rb") as file:
        is_saved = file.read(len(_ZIP)) == _ZIP
    if is_saved:
        return _read_saved(path, kind, network)
    with _unpacked(path) as plain:
        layers = read_keras_layers(plain)
    # A file with a spectrogram layer is checked by its filters, any other by its name.
    named = re.search("mel128|mel256|linear", path.name)
    stripped = not any("spectrogram" in name for name in layers)
    if stripped and named and not kind.endswith(named[0]):
        raise UserError(
            f"{path} is for {named[0]} by its name, and {kind} is asked for; give {wanted}"
        )
    return openl3_from_keras(network, layers, filters, source=str(path))


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file, or a decompressed copy of it, as OpenL3's are published with gzip."""
    with open(path, "rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
    if not is_packed:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        try:
            with gzip.open(path) as source, open(plain, "wb") as target:
                shutil.copyfileobj(source, target)
        except DAMAGE as error:
            raise UserError(
                f"{path} cannot be unpacked ({error}); download or copy it again"
            ) from error
        yield plain


def _read_saved(path: Path, kind: str, network: OpenL3) -> dict:
    """Reads variables from a file of `save_openl3`."""
    try:
        arrays = read_arrays(path)
        saved = str(arrays.pop("kind"))
    except DAMAGE as error:
        raise UserError(
            f"{path} cannot be read as weights of an embedding ({error}); download or copy it again"
        ) from error
    if saved != kind:
        raise UserError(f"{path} is for {saved}, and {kind} is asked for; choose one of them")
    picture = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    expected = flatten_dict(jax.eval_shape(network.init, jax.random.key(0), picture), sep="/")
    form = {name: (leaf.shape, leaf.dtype) for name, leaf in expected.items()}
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != form:
        raise UserError(f"{path} has other arrays than {kind}; convert the file of Keras again")
    return unflatten_dict({name: jnp.asarray(array) for name, array in arrays.items()}, sep="/")
