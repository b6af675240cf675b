"""Clips of another machine type as outliers: choice of the type, and draw of its clips."""

from collections.abc import Collection, Sequence

import numpy as np

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.errors import UserError
from asd_jax.runtime.arguments import composed

# Labels of views: of the machine itself; of another machine; of the machine itself with its
# bands in reverse order, which serve as outliers where the data has no other machine.
OWN, OUTLIER, REVERSED = 0, 1, 2


def checked_pairs(pairs: Sequence[str]) -> tuple[str, ...]:
    """Composes the names, see `composed`; UserError for no "machine:outliers" or "outliers"."""
    for pair in pairs:
        machine, _, outliers = pair.rpartition(":")
        if not outliers or machine == outliers:
            raise UserError(
                f"detector.outliers has {pair!r}; write machine:outliers, two different types"
            )
    return tuple(map(composed, pairs))


def other_machine(pairs: Sequence[str], machine: str, machines: Collection[str]) -> str | None:
    """The type whose clips are outliers for a machine.

    Args:
        pairs: "machine:outliers" each; a type alone serves every machine that is not named.
        machine: the machine type.
        machines: all that have training clips.

    Returns:
        The type that the pairs name; the first other type by name where they name none, or a
        type without clips; None where there is no other type.
    """
    named = {target: outliers for target, outliers in (p.rpartition(":")[::2] for p in pairs)}
    wanted = named.get(machine, named.get(""))
    others = sorted(set(machines) - {machine})
    if not others:
        return None
    return wanted if wanted in others else others[0]


def draw(rng: np.random.Generator, indices: np.ndarray, most: int) -> np.ndarray:
    """Draws at most `most` of the indices, in ascending order."""
    return np.sort(rng.permutation(indices)[:most])


def with_outliers(
    rng: np.random.Generator, own: np.ndarray, clips: Sequence[Clip], pairs: Sequence[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Adds as many outliers as there are own clips, or all outliers if they are fewer.

    Args:
        rng: draws them.
        own: (n,) indices of a machine's own clips.
        clips: the whole table of clips.
        pairs: as in `other_machine`.

    Returns:
        (m,) indices and (m,) int32 labels.
    """
    clips = ClipTable.of(clips)
    machine = clips[own[0]].machine
    normal = clips.where(split=["train", "other"])
    other = other_machine(pairs, machine, clips[normal].distinct("machine"))
    if other is None:
        outliers, label = own, REVERSED
    else:
        candidates = np.flatnonzero(normal & clips.where(machine=other))
        outliers, label = draw(rng, candidates, len(own)), OUTLIER
    labels = np.repeat(np.array([OWN, label], np.int32), [len(own), len(outliers)])
    return np.concatenate([own, outliers]), labels
