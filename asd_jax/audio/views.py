"""Views: windows of consecutive frames, gathered inside a compiled step.

The frames of all clips of a run lie end to end in one table (total_frames, n_mels). So one
number, the row of its first frame, defines a view, and no view is ever copied on the host:

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
        crop: whether an epoch of training has one view of a clip, which begins anywhere, in place
            of all of them. A clip shorter than a view is then repeated when it is read, so that
            its view may begin anywhere, too.
    """

    length: int
    hop: int = 1
    fewest_frames: int = 0
    crop: bool = False

    @property
    def fewest(self) -> int:
        """Frames that a clip must have."""
        return self.fewest_frames or self.length

    @property
    def filled(self) -> int:
        """Frames up to which a shorter clip is repeated in a table of features."""
        return self.fewest if self.crop else self.length

    def n_views(self, n_frames: np.ndarray) -> np.ndarray:
        """Views of clips in an epoch of training.

        Args:
            n_frames: integers (clips,), frames of each.

        Returns:
            int64 (clips,).
        """
        if self.crop:
            return np.ones(len(n_frames), np.int64)
        return count_views(n_frames, self.length, self.hop)


def view_starts(n_frames: int, length: int, hop: int = 1) -> np.ndarray:
    """First frames of all views that lie inside one clip.

    The package itself computes starts inside its compiled steps; this function is for training
    loops of one's own.

    Args:
        n_frames: frames of the clip.
        length: frames of a view.
        hop: frames from one view's start to the next one's.

    Returns:
        int32 (views,), from 0; empty if the clip is shorter than a view.

    Raises:
        UserError: `length` or `hop` is not positive.

    Examples:
        >>> view_starts(10, length=5, hop=2).tolist()
        [0, 2, 4]
        >>> view_starts(4, length=5).tolist()
        []
    """
    if length < 1 or hop < 1:
        raise UserError(f"a view's length {length} and hop {hop}, in frames, must be positive")
    return np.arange(0, n_frames - length + 1, hop, dtype=np.int32)


def count_views(n_frames: np.ndarray, length: int, hop: int = 1) -> np.ndarray:
    """Counts the views inside each of several clips, as many as `view_starts` has.

    Args:
        n_frames: integers (clips,), frames of each clip.
        length: frames of a view.
        hop: frames from one view's start to the next one's.

    Returns:
        int64 (clips,).

    Examples:
        >>> import numpy as np
        >>> count_views(np.array([10, 5, 4]), length=5, hop=2).tolist()
        [3, 1, 0]
    """
    return np.maximum((n_frames.astype(np.int64) - length) // hop + 1, 0)


def fill_view(frames: np.ndarray, length: int) -> np.ndarray:
    """Repeats a clip that has fewer frames than a view until it fills one.

    Args:
        frames: (frames, n_mels).
        length: frames of a view.

    Returns:
        (length, n_mels), or the clip itself if it is long enough.

    Examples:
        >>> import numpy as np
        >>> fill_view(np.array([[1], [2]]), 5).ravel().tolist()
        [1, 2, 1, 2, 1]
    """
    return np.resize(frames, (length, frames.shape[1])) if len(frames) < length else frames


def gather_crops(
    features: jax.Array, first: jax.Array, n_frames: jax.Array, offsets: jax.Array, length: int
) -> jax.Array:
    """Gathers a view of each of several clips; where a clip ends, it begins again.

    Args:
        features: (total_frames, n_mels).
        first: integers (...,), each clip's first row.
        n_frames: integers (...,), each clip's frames.
        offsets: integers (...,), where in its clip each view begins.
        length: frames of a view.

    Returns:
        (..., length, n_mels).

    Examples:
        >>> import numpy as np
        >>> features = np.arange(6).reshape(6, 1)  # two clips, of four and of two frames
        >>> first, n_frames = np.array([0, 4]), np.array([4, 2])
        >>> gather_crops(features, first, n_frames, np.array([1, 1]), 3)[..., 0].tolist()
        [[1, 2, 3], [5, 4, 5]]
    """
    within = (jnp.asarray(offsets)[..., None] + jnp.arange(length)) % n_frames[..., None]
    return jnp.asarray(features)[jnp.asarray(first)[..., None] + within]


def gather_views(features: jax.Array, starts: jax.Array, length: int) -> jax.Array:
    """Gathers views from a table of frames.

    Args:
        features: (total_frames, n_mels).
        starts: integers (...,), each view's first row, at most total_frames - length: a row
            past the end reads as the last one, as everywhere in JAX.
        length: frames of a view.

    Returns:
        (..., length, n_mels).

    Examples:
        >>> import numpy as np
        >>> features = np.arange(6).reshape(6, 1)  # six frames of one band
        >>> views = gather_views(features, np.array([0, 3]), length=2)
        >>> views.shape, views[..., 0].tolist()
        ((2, 2, 1), [[0, 1], [3, 4]])
    """
    return features[jnp.asarray(starts)[..., None] + jnp.arange(length)]
