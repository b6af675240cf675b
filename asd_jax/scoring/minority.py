"""Banks made even: synthetic rows of the target domain, and fewer rows of the source domain.

A bank has about a thousand source rows and ten target rows. Rows between the target rows fill
the gaps among them, and so do target rows moved a little towards the source; a few centres can
stand for the many source rows.

Synthetic rows are appended to the bank, behind all its rows, so that a row of the bank keeps its
place. They are made of target rows: to leave one out, leave out its children as well.

Sources: Chawla et al. 2002, SMOTE. MemMixup, from systems for DCASE 2023 Task 2 and later.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring import neighbourhoods, rows
from asd_jax.scoring.neighbourhoods import distances
from asd_jax.scoring.neighbours import METRICS, Bank, directions

# A share of a number of rows that is whole but for rounding is whole, in float32 as well.
_ROUNDING = 1e-3


def smote(
    key: jax.Array,
    bank: Bank,
    *,
    share: float = 0.2,
    k: int = 2,
    size: int | None = None,
    metric: str = "euclidean",
) -> Bank:
    """Appends rows between near target rows, until these are a share of the source; jit-able.

    A child is a + u (b − a): a a target row, b one of its k nearest others, u from U(0, 1), all
    drawn anew for each child. Child j depends on j, the key and the bank alone, so that fewer
    children are the first of more. Where fewer than two target rows count there is nothing
    between them, and no child counts. Children of rows of length 1 are shorter, which cosine
    distances do not see.

    Args:
        key: a JAX key. Models on leading axes share it: vmap over keys where they should not.
        bank: with any leading axes.
        share: target rows, children included, over source rows; the children are as many as do
            not exceed it.
        k: number of neighbours; all others where a target row has fewer.
        size: places for children, None for as many as there can be: those of the model with the
            most, or, of a mask that is traced, `share` of all rows. Others do not count.
        metric: distance by which neighbours are near, as in `asd_jax.scoring.neighbours`.

    Returns:
        The bank with `size` more rows, of the target domain.

    Raises:
        UserError: settings out of range.

    Examples:
        >>> rows = np.arange(12.0)[:, None]
        >>> bank = Bank(rows, np.ones(12, bool), np.arange(12) >= 10)
        >>> grown = smote(jax.random.key(0), bank, share=0.5)
        >>> grown.embeddings.shape, grown.mask.tolist()[12:]
        ((15, 1), [True, True, True])
        >>> bool(jnp.all((grown.embeddings[12:] >= 10) & (grown.embeddings[12:] <= 11)))
        True
    """
    if not 0 <= share < np.inf:
        raise UserError(f"the share of the source rows must be 0 or more, not {share}")
    if k < 1:
        raise UserError(f"the number of neighbours must be at least 1, not {k}")
    n = jnp.shape(bank.mask)[-1]
    if size is not None:
        places = size
    elif _is_traced(bank):
        places = int(share * n + _ROUNDING)
    else:
        places = int(np.max(wanted_children(np.asarray(bank.mask), np.asarray(bank.target), share)))

    def one(embeddings: jax.Array, mask: jax.Array, target: jax.Array) -> Any:
        of_target = mask & target
        held = jnp.where(of_target[:, None], embeddings, 0)
        # Target rows first.
        place = jnp.argsort(~of_target, stable=True)
        count = jnp.sum(of_target)

        def draw(number: jax.Array) -> tuple[jax.Array, ...]:
            of_parent, of_other, of_u = jax.random.split(jax.random.fold_in(key, number), 3)
            parent = place[jax.random.randint(of_parent, (), 0, jnp.maximum(count, 1), jnp.int32)]
            neighbours = jnp.clip(count - 1, 1, min(k, n))
            other = jax.random.randint(of_other, (), 0, neighbours, jnp.int32)
            return parent, other, jax.random.uniform(of_u, dtype=held.dtype)

        numbers = jnp.arange(places)
        parent, other, u = jax.vmap(draw)(numbers)
        # Of the parents alone: target rows are few, and how many is not known here.
        others = of_target & (parent[:, None] != jnp.arange(n))
        between = distances(held[parent], held, metric=metric)
        near = neighbourhoods.nearest(between, others, min(k, n)).place[numbers, other]
        children = held[parent] + u[:, None] * (held[near] - held[parent])
        return children, (numbers < wanted_children(mask, target, share)) & (count > 1)

    return _with(bank, one, places)


def memmixup(
    bank: Bank, *, weight: float = 0.9, size: int | None = None, metric: str = "euclidean"
) -> Bank:
    """Appends each target row moved towards its nearest source row; jit-able.

    The j-th new row is weight × the j-th target row + (1 − weight) × the nearest source row.
    Without a source row, no new row counts.

    Args:
        bank: with any leading axes.
        weight: of the target row, from 0 to 1.
        size: places for new rows, None for as many as there can be: those of the model with the
            most target rows, or, of a mask that is traced, all rows. Others do not count.
        metric: distance by which rows are near, as in `asd_jax.scoring.neighbours`.

    Returns:
        The bank with `size` more rows, of the target domain.

    Raises:
        UserError: a weight out of range.

    Examples:
        >>> rows = np.array([[0.0], [10.0], [30.0]])
        >>> mixed = memmixup(Bank(rows, np.ones(3, bool), np.array([False, False, True])))
        >>> mixed.embeddings[:, 0].tolist(), mixed.target.tolist()
        ([0.0, 10.0, 30.0, 28.0], [False, False, True, True])
    """
    if not 0 <= weight <= 1:
        raise UserError(f"the weight of the target row must be from 0 to 1, not {weight}")
    n = jnp.shape(bank.mask)[-1]
    if size is not None:
        places = min(size, n)
    elif _is_traced(bank):
        places = n
    else:
        places = int(np.max(np.sum(np.asarray(bank.mask) & np.asarray(bank.target), axis=-1)))

    def one(embeddings: jax.Array, mask: jax.Array, target: jax.Array) -> Any:
        of_source, of_target = mask & ~target, mask & target
        held = jnp.where(mask[:, None], embeddings, 0)
        place = jnp.argsort(~of_target, stable=True)[:places]
        between = distances(held[place], held, metric=metric)
        nearest = jnp.argmin(jnp.where(of_source, between, jnp.inf), axis=-1)
        mixed = weight * held[place] + (1 - weight) * held[nearest]
        return mixed, of_target[place] & jnp.any(of_source)

    return _with(bank, one, places)


def reduced(bank: Bank, centres: int = 16, *, seed: int = 0, metric: str = "euclidean") -> Bank:
    """Replaces the source rows by k-means centres; runs on the host, by scikit-learn.

    A model with no more distinct source rows than centres keeps all its rows. Target rows stay.

    Args:
        bank: with any leading axes, as NumPy or JAX arrays.
        centres: number of centres of each model.
        seed: of the first centres.
        metric: "euclidean", or "cosine" to scale the rows to length 1 before.

    Returns:
        Each model's source rows, target rows, and places that do not count, as NumPy arrays; the
        bank itself where no model has more source rows than centres.

    Raises:
        UserError: no such metric, fewer than one centre, or rows that are not finite.

    Examples:
        >>> rows = np.array([[0.0], [1.0], [8.0], [9.0], [20.0]])
        >>> bank = reduced(Bank(rows, np.ones(5, bool), np.arange(5) == 4), 2)
        >>> sorted(bank.embeddings[:, 0].tolist()), bank.target.tolist()
        ([0.5, 8.5, 20.0], [False, False, True])
    """
    if metric not in METRICS:
        raise UserError(f"no metric {metric!r}; there are {', '.join(METRICS)}")
    if centres < 1:
        raise UserError(f"the number of centres must be at least 1, not {centres}")
    embeddings, mask, target = (np.asarray(leaf) for leaf in bank)
    if not np.isfinite(embeddings[mask]).all():
        raise UserError("rows of the bank are not finite; mask them")
    leading = mask.shape[:-1]
    of_models = zip(rows.flat(embeddings, 2), rows.flat(mask, 1), rows.flat(target, 1), strict=True)
    parts, changed = [], False
    for values, counts, of_target in of_models:
        source = values[counts & ~of_target]
        found = _centres(source, centres, seed, metric)
        if found is not None:
            source, changed = found, True
        parts.append((source, values[counts & of_target]))
    if not changed:
        return bank
    made = _bank_of(parts)
    return Bank(*(leaf.reshape(*leading, *leaf.shape[1:]) for leaf in made))


def _centres(values: np.ndarray, centres: int, seed: int, metric: str) -> np.ndarray | None:
    """The k-means centres (centres, d) of rows (n, d); None where so many are not distinct."""
    from sklearn.cluster import KMeans  # slow to import

    if metric == "cosine":
        values = np.asarray(directions(jnp.asarray(values)))
    if len(np.unique(values, axis=0)) <= centres:
        return None
    return KMeans(centres, random_state=seed).fit(values).cluster_centers_


def _bank_of(parts: list[tuple[np.ndarray, np.ndarray]]) -> Bank:
    """The bank (models, n, d) of the source and target rows of each model."""
    n = max(len(source) + len(of_target) for source, of_target in parts)
    d, dtype = parts[0][1].shape[-1], parts[0][1].dtype
    bank = Bank(
        np.zeros((len(parts), n, d), dtype),
        np.zeros((len(parts), n), bool),
        np.zeros((len(parts), n), bool),
    )
    for model, (source, of_target) in enumerate(parts):
        both = np.concatenate([source, of_target])
        bank.embeddings[model, : len(both)] = both
        bank.mask[model, : len(both)] = True
        bank.target[model, len(source) : len(both)] = True
    return bank


def _with(bank: Bank, make: Callable[..., Any], places: int) -> Bank:
    """The bank and behind it the rows (places, d), and whether they count, that `make` makes."""
    if places < 0:
        raise UserError(f"the places for new rows must be 0 or more, not {places}")
    if places == 0:
        return bank
    embeddings, mask, target = (jnp.asarray(leaf) for leaf in bank)
    made, counts = jnp.vectorize(make, signature="(n,d),(n),(n)->(m,d),(m)")(
        embeddings, mask, target
    )
    shape = (*counts.shape[:-1], mask.shape[-1])
    mask, target = jnp.broadcast_to(mask, shape), jnp.broadcast_to(target, shape)
    embeddings = jnp.broadcast_to(embeddings, (*shape, embeddings.shape[-1]))
    return Bank(
        jnp.concatenate([embeddings, made], axis=-2),
        jnp.concatenate([mask, counts], axis=-1),
        jnp.concatenate([target, jnp.ones_like(counts)], axis=-1),
    )


def wanted_children(mask: Any, target: Any, share: float) -> Any:
    """Children (...) that make the target rows that share of the source rows."""
    of_source, of_target = (mask & ~target).sum(axis=-1), (mask & target).sum(axis=-1)
    return (share * of_source + _ROUNDING - of_target).clip(0) // 1


def _is_traced(bank: Bank) -> bool:
    """Whether it is not known yet which rows there are; their embeddings need not be known."""
    return isinstance(bank.mask, jax.core.Tracer) or isinstance(bank.target, jax.core.Tracer)
