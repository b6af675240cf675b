"""Views: windows of consecutive frames, gathered inside a compiled step.

The frames of all clips of a run lie end to end in one table (total_frames, n_mels). A view is
then one number, the row of its first frame, and no view is ever copied on the host:

    starts = np.concatenate([o + view_starts(n, 5) for o, n in zip(offsets, n_frames)])
    vectors = gather_views(table, starts[batch], 5).reshape(len(batch), -1)  # frame-major
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError


class ViewSpec(NamedTuple):
    """How a clip is cut into views.

    Attributes:
        length: frames in a view.
        hop: frames from one view's start to the next one's.
        fewest_frames: frames that a clip must have, where a clip shorter than a view is repeated
            to fill one; 0 for as many as a view has.
    """

    length: int
    hop: int = 1
    fewest_frames: int = 0

    @property
    def fewest(self) -> int:
        """Frames that a clip must have."""
        return self.fewest_frames or self.length


def view_starts(n_frames: int, length: int, hop: int = 1) -> np.ndarray:
    """First frames of all views that lie inside one clip.

    Args:
        n_frames: frames of the clip.
        length: frames of a view.
        hop: frames from one view's start to the next one's.

    Returns:
        int32 (views,), from 0; empty if the clip is shorter than a view.

    Raises:
        UserError: `length` or `hop` is not positive.
    """
    if length < 1 or hop < 1:
        raise UserError(f"a view's length {length} and hop {hop}, in frames, must be positive")
    return np.arange(0, n_frames - length + 1, hop, dtype=np.int32)


def count_views(n_frames: np.ndarray, length: int, hop: int = 1) -> np.ndarray:
    """How many starts `view_starts` gives of clips.

    Args:
        n_frames: integers (clips,), frames of each clip.
        length: frames of a view.
        hop: frames from one view's start to the next one's.

    Returns:
        int64 (clips,).
    """
    return np.maximum((n_frames.astype(np.int64) - length) // hop + 1, 0)


def fill_view(frames: np.ndarray, length: int) -> np.ndarray:
    """A clip that has fewer frames than a view, repeated to fill one; others as they are.

    Args:
        frames: (frames, n_mels).
        length: frames of a view.
    """
    return np.resize(frames, (length, frames.shape[1])) if len(frames) < length else frames


def gather_views(features: jax.Array, starts: jax.Array, length: int) -> jax.Array:
    """Views of a table of frames.

    Args:
        features: (total_frames, n_mels).
        starts: integers (...,), each view's first row, at most total_frames - length: a row
            past the end reads as the last one, as everywhere in JAX.
        length: frames of a view.

    Returns:
        (..., length, n_mels).
    """
    return features[jnp.asarray(starts)[..., None] + jnp.arange(length)]
