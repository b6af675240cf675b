"""Global weighted ranking pooling (GWRP): between the mean and the maximum of values.

With values in descending order, the n-th of them, from 0, weighs r^n; the weights are scaled to a
sum of 1. r = 0 gives the maximum, r = 1 the mean.

Source: Kolesnikov and Lampert 2016, Seed, expand and constrain; of the bands of a spectrogram over
time, Guan et al., TWFR-GMM.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.scoring.pooling import array_module

# Values whose weight is below this share of the largest one's are not kept, where more come.
_NEGLIGIBLE = 1e-9


class RankedMeans(NamedTuple):
    """Weighted ranking pooling of each band, for several r.

    It keeps all values of a few views, and of more the largest of each band: as many as weigh
    anything, of r = 0.98 about a thousand. They are put in order once, on the host: XLA's sort is
    slow on CPUs.

    Attributes:
        values: (..., kept, bands), −∞ where there is no value.
        total: (..., bands) sum over the views that count.
        count: (...) number of these views.
        r: (..., bases), each from 0 to 1.
    """

    values: Any
    total: Any
    count: Any
    r: Any

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array, r: Sequence[float]) -> "RankedMeans":
        """Pools values (views, bands) of the views (views,) that count.

        Examples:
            >>> values, mask = np.array([[1.0], [3.0], [9.0]]), np.array([True, True, False])
            >>> pool = RankedMeans.of(values, mask, (0.0, 0.5, 1.0))
            >>> [round(float(value), 3) for value in pool.value]  # 0.5 weighs 2 : 1
            [3.0, 2.333, 2.0]
        """
        counts = mask[:, None]
        held = jnp.where(counts, values, -jnp.inf)
        if not _most(r):
            held = held[:0]
        total = jnp.sum(values.astype(float), axis=0, where=counts)
        return cls(held, total, jnp.sum(mask), jnp.asarray(r, total.dtype))

    @classmethod
    def merge(cls, parts: Sequence["RankedMeans"]) -> "RankedMeans":
        """The largest values of all parts, and their sums in float64."""
        every, totals, counts, bases = zip(*parts, strict=True)
        r = np.asarray(bases[0])
        values = np.concatenate(every, axis=-2)
        most = _most(r.reshape(-1, r.shape[-1])[0])
        if values.shape[-2] > most:
            values = np.partition(values, -most, axis=-2)[..., -most:, :]
        total = np.sum(totals, axis=0, dtype=np.float64)
        return cls(values, total, np.sum(counts, axis=0), r)

    @property
    def value(self) -> Any:
        """(..., bases · bands), those of the first r first; by NumPy of NumPy arrays."""
        library = array_module(self.total)
        mean = self.total / self.count[..., None]  # (..., bands)
        shape = (*mean.shape[:-1], self.r.shape[-1] * mean.shape[-1])
        ranks, r = library.arange(self.values.shape[-2]), self.r[..., None]  # (..., bases, 1)
        if not len(ranks):
            return library.broadcast_to(
                mean[..., None, :], (*r.shape[:-1], mean.shape[-1])
            ).reshape(shape)
        ordered = library.sort(self.values, axis=-2)[..., ::-1, :]
        ordered = library.where(ordered == -library.inf, 0, ordered)
        weight = library.where(ranks < self.count[..., None, None], r**ranks, 0)
        weight = weight / weight.sum(axis=-1, keepdims=True)  # (..., bases, kept)
        pooled = library.where(r == 1, mean[..., None, :], library.matmul(weight, ordered))
        return pooled.reshape(shape)


def _most(r: Sequence[float] | np.ndarray) -> int:
    """Values to keep of a band, the largest, so that the others weigh nothing.

    Examples:
        >>> _most((0.0,)), _most((0.0, 0.98, 1.0)), _most((1.0,))
        (1, 1026, 0)
    """
    ranked = [float(base) for base in r if base < 1]
    if not ranked:
        return 0
    largest = max(ranked)
    return math.ceil(math.log(_NEGLIGIBLE) / math.log(largest)) if largest > 0 else 1
