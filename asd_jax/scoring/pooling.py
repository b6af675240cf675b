"""Pooling of the values of a clip's views into values of the clip, piece by piece.

A long clip is scored in pieces, each of some of its views. A pool is what a piece keeps of its
views' values; the pools of a clip's pieces are merged, and the result is that of the whole clip.

    pool = Mean.of(errors, mask)        # on the device, of one piece
    pool = Mean.merge([pool, later])    # on the host, in float64
    pool.value                          # of the clip

Pools are tuples of arrays, so that `jit` and `vmap` take them as they are. Further axes of the
arrays come first: those of models and of pieces.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, Self

import jax
import jax.numpy as jnp
import numpy as np

STATISTICS = ("mean", "std", "median", "max", "iqr")
# Of generalised means: roots and powers are of positive values.
LEAST_VALUE = 1e-6


class Pool(Protocol):
    """Keeps what is needed of the values of some views of a clip."""

    @classmethod
    def merge(cls, parts: Sequence[Any]) -> Any:
        """One pool of the views of all parts, which are of this class, as NumPy arrays."""
        ...

    @property
    def value(self) -> Any:
        """What the views' values become."""
        ...


class Mean(NamedTuple):
    """The mean.

    Attributes:
        total: (..., values) sum over the views that count; () of one value a view.
        count: (...) number of these views.
    """

    total: Any
    count: Any

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array) -> Self:
        """Pools values (views, ...) of the views (views,) that count.

        Examples:
            >>> import numpy as np
            >>> errors, mask = np.array([1.0, 3.0, 9.0]), np.array([True, True, False])
            >>> float(Mean.of(errors, mask).value)
            2.0
        """
        counts = mask.reshape(mask.shape + (1,) * (values.ndim - 1))
        return cls(jnp.sum(values, axis=0, where=counts), jnp.sum(mask))

    @classmethod
    def merge(cls, parts: Sequence[Self]) -> Self:
        """The sums of all parts, in float64."""
        return cls(*(np.sum(leaves, axis=0, dtype=np.float64) for leaves in _leaves(parts)))

    @property
    def value(self) -> Any:
        """(..., values) mean; NaN where no view counts."""
        count = self.count.reshape(self.count.shape + (1,) * (self.total.ndim - self.count.ndim))
        return self.total / count


class UnitMean(Mean):
    """The mean of vectors, scaled to length 1.

    Examples:
        >>> import numpy as np
        >>> vectors, mask = np.array([[3.0, 4.0], [3.0, 4.0]]), np.ones(2, bool)
        >>> [round(float(value), 6) for value in UnitMean.of(vectors, mask).value]
        [0.6, 0.8]
    """

    @property
    def value(self) -> Any:
        """(..., values) mean over its length."""
        mean = super().value
        length = (mean**2).sum(axis=-1, keepdims=True) ** 0.5
        return mean / length.clip(min=1e-12)


class Maximum(NamedTuple):
    """The largest value.

    Attributes:
        value: (...) largest value of the views that count.
    """

    value: Any

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array) -> "Maximum":
        """Pools values (views,) of the views (views,) that count.

        Examples:
            >>> import numpy as np
            >>> errors, mask = np.array([1.0, 3.0, 9.0]), np.array([True, True, False])
            >>> float(Maximum.of(errors, mask).value)
            3.0
        """
        return cls(jnp.max(values, axis=0, where=mask, initial=-jnp.inf))

    @classmethod
    def merge(cls, parts: Sequence["Maximum"]) -> "Maximum":
        """The largest of all parts."""
        return cls(np.max([part.value for part in parts], axis=0))


class LogMean(NamedTuple):
    """The logarithm of a mean, from logarithms that may be far below those of float32.

    Attributes:
        log_total: (..., values) logarithm of the sum over the views that count.
        count: (...) number of these views.
    """

    log_total: Any
    count: Any

    @classmethod
    def of(cls, logs: jax.Array, mask: jax.Array) -> "LogMean":
        """Pools logarithms (views, values) of the views (views,) that count.

        Examples:
            >>> import numpy as np
            >>> logs, mask = np.log([[0.2], [0.4], [0.9]]), np.array([True, True, False])
            >>> round(float(np.exp(LogMean.of(logs, mask).value[0])), 6)
            0.3
        """
        counting = jnp.where(mask[:, None], logs, -jnp.inf)
        return cls(jax.scipy.special.logsumexp(counting, axis=0), jnp.sum(mask))

    @classmethod
    def merge(cls, parts: Sequence["LogMean"]) -> "LogMean":
        """The sums of all parts, in float64."""
        logs, counts = _leaves(parts)
        return cls(
            np.logaddexp.reduce(np.asarray(logs, np.float64), axis=0), np.sum(counts, axis=0)
        )

    @property
    def value(self) -> Any:
        """(..., values) logarithm of the mean."""
        return self.log_total - array_module(self.count).log(self.count)[..., None]


class GeneralisedMean(NamedTuple):
    """The generalised mean (GeM): the p-th root of the mean of p-th powers.

    From the mean, p = 1, towards the maximum of each value, p → ∞. Values below `LEAST_VALUE`
    count as it.

    Attributes:
        total: (..., values) sum of powers over the views that count; () of one value a view.
        count: (...) number of these views.
        power: (...) p.
    """

    total: Any
    count: Any
    power: Any

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array, power: float = 3.0) -> "GeneralisedMean":
        """Pools values (views, ...) of the views (views,) that count; p must be above 0.

        Examples:
            >>> import numpy as np
            >>> values, mask = np.array([1.0, 3.0, 9.0]), np.array([True, True, False])
            >>> round(float(GeneralisedMean.of(values, mask, power=2.0).value), 6)
            2.236068
        """
        counts = mask.reshape(mask.shape + (1,) * (values.ndim - 1))
        powers = jnp.maximum(values, LEAST_VALUE) ** power
        total = jnp.sum(powers, axis=0, where=counts)
        return cls(total, jnp.sum(mask), jnp.asarray(power, total.dtype))

    @classmethod
    def merge(cls, parts: Sequence["GeneralisedMean"]) -> "GeneralisedMean":
        """The sums of all parts, of one power, in float64."""
        totals, counts, powers = _leaves(parts)
        total, count = (np.sum(leaves, axis=0, dtype=np.float64) for leaves in (totals, counts))
        return cls(total, count, np.asarray(powers[0], np.float64))

    @property
    def value(self) -> Any:
        """(..., values) generalised mean; NaN where no view counts."""
        later = (1,) * (self.total.ndim - self.count.ndim)
        count = self.count.reshape(self.count.shape + later)
        return (self.total / count) ** (1 / self.power.reshape(self.power.shape + later))


class DeviationMean(NamedTuple):
    """Relative-deviation pooling (RDP) of vectors, see `deviation_mean`; it keeps all values.

    Attributes:
        values: (..., views, values).
        mask: (..., views) true where a view counts.
        gamma: (...) exponent of the weights.
    """

    values: Any
    mask: Any
    gamma: Any

    @classmethod
    def of(cls, values: jax.Array, mask: jax.Array, gamma: float = 10.0) -> "DeviationMean":
        """Pools vectors (views, values) of the views (views,) that count."""
        return cls(values, mask, jnp.asarray(gamma, values.dtype))

    @classmethod
    def merge(cls, parts: Sequence["DeviationMean"]) -> "DeviationMean":
        """The vectors of all parts, of one gamma, one after another, in float64."""
        values, masks, gammas = _leaves(parts)
        return cls(
            np.concatenate(values, axis=-2, dtype=np.float64),
            np.concatenate(masks, axis=-1),
            np.asarray(gammas[0], np.float64),
        )

    @property
    def value(self) -> Any:
        """(..., values)."""
        return deviation_mean(self.values, self.mask, self.gamma)


def deviation_mean(values: Any, mask: Any, gamma: Any = 10.0) -> Any:
    """The mean of vectors, of which those far from their mean weigh more.

    With μ the mean and d the length of a vector's deviation from it, weights are proportional to
    (1 + d / max d)^γ (Wilkinghoff, Yadav and Tan, arXiv 2603.04605). γ = 0 is the mean; they find
    1 to 20 best, by embedding.

    Args:
        values: (..., views, values).
        mask: (..., views) true where a view counts.
        gamma: (...) exponent.

    Returns:
        (..., values), by NumPy of NumPy arrays, else by JAX; NaN where no view counts.

    Examples:
        >>> import numpy as np
        >>> pooled = deviation_mean(np.array([[0.0], [0.0], [3.0]]), np.ones(3, bool), 1.0)
        >>> round(float(pooled[0]), 6)  # weights 1.5, 1.5 and 2
        1.2
    """
    library = array_module(values)
    counts = mask[..., None]
    values = library.where(counts, values, 0)
    number = library.sum(counts, axis=-2, keepdims=True)
    mean = library.sum(values, axis=-2, keepdims=True) / number
    squared = library.where(counts, values - mean, 0) ** 2
    deviation = library.sum(squared, axis=-1) ** 0.5  # (..., views)
    largest = library.max(deviation, axis=-1, keepdims=True)
    relative = deviation / library.where(largest > 0, largest, 1)
    weight = library.where(mask, (1 + relative) ** library.asarray(gamma)[..., None], 0)
    total = library.sum(weight, axis=-1)[..., None]
    return library.sum(weight[..., None] * values, axis=-2) / total


class Statistics(NamedTuple):
    """The five statistics of `statistics`; it keeps all values.

    Attributes:
        values: (..., views).
        mask: (..., views) true where a view counts.
    """

    values: Any
    mask: Any

    @classmethod
    def merge(cls, parts: Sequence["Statistics"]) -> "Statistics":
        """The values of all parts, one after another."""
        return cls(*(np.concatenate(leaves, axis=-1) for leaves in _leaves(parts)))

    @property
    def value(self) -> Any:
        """(..., 5)."""
        return statistics(self.values, self.mask)


def statistics(errors: Any, mask: Any) -> Any:
    """The five statistics of Grollmisch et al. 2020, section 3.1, in the order of `STATISTICS`.

    Standard deviation with n in its denominator, quantiles by linear interpolation. These are
    NumPy's defaults: the report names no others and used scikit-learn, which is built on NumPy.

    Args:
        errors: (..., views).
        mask: (..., views) true where a view counts; at least one must.

    Returns:
        (..., 5), by NumPy of NumPy arrays, else by JAX.

    Examples:
        >>> import numpy as np
        >>> values = statistics(np.array([1.0, 2.0, 3.0, 6.0]), np.ones(4, bool))
        >>> dict(zip(STATISTICS, [round(float(value), 3) for value in values]))
        {'mean': 3.0, 'std': 1.871, 'median': 2.5, 'max': 6.0, 'iqr': 2.0}
    """
    library = array_module(errors)
    # NumPy warns where all values are NaN, as those of a diverged training are.
    broken = library.isnan(library.where(mask, errors, 0)).any(axis=-1, keepdims=True)
    counting = library.where(broken, 0, library.where(mask, errors, np.nan))
    quartiles = library.nanquantile(counting, np.array([0.25, 0.5, 0.75]), axis=-1)  # (3, ...)
    values = library.stack(
        [
            library.mean(errors, axis=-1, where=mask),
            library.std(errors, axis=-1, where=mask),
            quartiles[1],
            library.max(errors, axis=-1, where=mask, initial=-np.inf),
            quartiles[2] - quartiles[0],
        ],
        axis=-1,
    )
    return library.where(broken, np.nan, values)


def _leaves(parts: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Each field of all parts."""
    return [*zip(*parts, strict=True)]


def array_module(array: Any) -> Any:
    """NumPy for its arrays, jax.numpy for others: what the value of a pool is computed by."""
    return np if isinstance(array, np.ndarray | np.generic) else jnp
