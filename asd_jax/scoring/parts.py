"""Parts of a model's training clips that are left out together, group by group."""

import numpy as np

MOST = 10


def parts_of(mask: np.ndarray, group: np.ndarray) -> np.ndarray:
    """The part of each clip: that of its group, of at most `MOST`.

    Args:
        mask: (..., n), true where a clip counts.
        group: int (..., n) from 0, the group of each clip within its model.

    Returns:
        int (..., n) from 0; −1 where a clip does not count. Groups have a part each where there
        are no more than `MOST`; else every tenth is of one part.

    Examples:
        >>> parts_of(np.array([True, True, True, False]), np.array([0, 1, 1, 0])).tolist()
        [0, 1, 1, -1]
        >>> parts_of(np.ones(12, bool), np.arange(12)).tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    """
    return np.where(mask, group % MOST, -1)
