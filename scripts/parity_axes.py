"""Weights and gradients in PyTorch's axes and in ours, for the scripts that compare networks."""

import pathlib
import sys

import torch

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "tests"))
import parity_draws as draws


def from_ours(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Weights drawn in our axes, in theirs (`shape`): images frequency before time."""
    if len(shape) == 3:
        out, inputs, taps = shape
        ours = draws.array(name, (taps * inputs, out))
        return torch.tensor(ours.reshape(taps, inputs, out).transpose(2, 1, 0).copy()).double()
    return torch.tensor(draws.array(name, shape[::-1]).T.copy()).double()


def to_ours(gradient: torch.Tensor) -> torch.Tensor:
    """A gradient in our axes."""
    if gradient.ndim == 3:
        return gradient.permute(2, 1, 0).reshape(-1, len(gradient))
    return gradient.permute(*reversed(range(gradient.ndim)))
