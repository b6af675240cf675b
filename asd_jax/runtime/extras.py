"""Packages that one feature needs and a plain installation lacks."""

import importlib
import importlib.util
from typing import Any

from asd_jax.errors import UserError

# Package → the extra of setup.cfg that installs it.
EXTRAS = {
    "ai_edge_litert": "tflite",
    "ai_edge_litert.interpreter": "tflite",
    "audiomentations": "augment",
    "h5py": "hdf5",
    "jax2onnx": "onnx",
    "onnxruntime": "onnx",
    "pooch": "download",
    "prometheus_client": "serve",
    "python_multipart": "serve",
    "requests": "download",
    "tensorflow": "tflite",
    "starlette": "serve",
    "uvicorn": "serve",
    "tensorboardX": "tensorboard",
}
# Extras that cannot be beside this installation; a script makes an environment for each.
APART = ("onnx", "tflite")


def needed(package: str, what: str) -> Any:
    """Imports a package of an extra.

    Args:
        package: its name, a key of `EXTRAS`.
        what: what needs it, for the message.

    Raises:
        UserError: it is not installed, or cannot be imported.

    Examples:
        >>> needed("h5py", "reading .h5 files").__name__
        'h5py'
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"{_line(package, what)} ({error})", exit_status=1) from error


def check_installed(package: str, what: str) -> None:
    """Raises UserError where a package of an extra is not installed, without importing it."""
    if importlib.util.find_spec(package) is None:
        raise UserError(_line(package, what))


def _line(package: str, what: str) -> str:
    extra = EXTRAS[package]
    if extra in APART:
        return (
            f"{what} needs {package}, in an environment of its own: scripts/export.sh {extra} "
            f"makes it, and build/export/{extra}/bin/asd-jax is the command there"
        )
    return f"{what} needs {package}: pip install 'asd-jax[{extra}]'"
