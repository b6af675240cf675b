"""Distances from normal clips, made commensurate by how densely the normal clips lie.

A clip that is 0.1 away from clips that are 0.01 apart is more unusual than one that is as far
from clips 0.1 apart. Source clips lie densely and the few target clips apart, so plain distances
rank target clips too high. Here each row of a bank has a density, a mean distance from its
nearest other rows, and a query's score is the minimum over the rows of its distance, normalised
by the row's density:

    within = distances(bank.embeddings, bank.embeddings)        # once, for all that follows
    known = density(within, bank.mask, k=1)                     # to keep for scoring
    score = normalised_distance(distances(queries, bank.embeddings), known, bank.mask)
    own = leave_out(within, bank.mask, k=1)                     # to set a threshold by

The forms: d the distance from a row, D its density, α 1 or fitted by `varmin_alpha`.

| form | score | with α = 1 |
|---|---|---|
| "ratio" | min d / D^α | local density normalisation (LDN) |
| "difference" | min d − α D | its difference form |
| "log" | min ln d − α ln D | the logarithm of the ratio |

VarMin is the difference with D of k = 4 and the fitted α. LDN and VarMin together are the
logarithm with the fitted α: Wilkinghoff, Yadav and Tan (arXiv 2603.04605) state that they apply
LDN with k = 1 and variance minimisation in logarithms. We know their sentence and not their
formula; that α is fitted as VarMin's, of logarithms, is our reading. Wilkinghoff et al. (arXiv
2602.18777) use the same pair with other k.

Sources: Wilkinghoff et al., Keeping the balance (ICASSP 2025), and Local density-based anomaly
score normalization for domain generalization (arXiv 2509.10951): LDN. Matsumoto et al. (DCASE
2025 workshop): VarMin.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asd_jax.errors import UserError
from asd_jax.scoring import neighbourhoods
from asd_jax.scoring.neighbourhoods import Neighbours, Score

FORMS = ("ratio", "difference", "log")

# Densities below this share of the bank's mean density come from duplicates and count as it.
DENSITY_FLOOR = 1e-3


class Density(NamedTuple):
    """How far the rows of banks are from their nearest others.

    Attributes:
        value: (..., n) mean distances, small where rows lie densely; 0 where a row does not count.
        least: (...) smallest density, and distance, of ratios and logarithms: `DENSITY_FLOOR`
            times the mean density. 0 where all rows that count are equal or there is only one;
            then densities count as 1 in ratios and logarithms, whose scores are plain distances.
    """

    value: Any
    least: Any


class _Lists(NamedTuple):
    """Sorted neighbours of the rows of a bank.

    Attributes:
        of_all: among all rows.
        of_domain: among the rows of the same domain, or None.
        k: (n,) number of neighbours of each row's density.
    """

    of_all: Neighbours
    of_domain: Neighbours | None
    k: jax.Array


def density(
    within: jax.Array,
    mask: Any = None,
    target: Any = None,
    *,
    k: int = 1,
    k_target: int | None = None,
    r: float | None = None,
) -> Density:
    """The mean distance of each row from its k nearest other rows; jit-able.

    A row with fewer others averages all of them.

    Args:
        within: (..., n, n) distances of the bank's rows from each other.
        mask: (..., n), true where a row counts; None for all of them.
        target: (..., n), true where a row is of the target domain. Only read with `k_target`.
        k: number of neighbours; of source rows, where `k_target` is given.
        k_target: None, or the number of neighbours of target rows; then a row's neighbours are
            those of its own domain, as in GenRep (16 and 9 with ten target clips). A row without
            others in its domain has its k nearest of all.
        r: None, or a base from 0 to 1. Then all other rows count, the nearest by r^0, the next
            by r^1, and so on, over the sum of these weights (global weighted ranking pooling,
            0.9 in the paper); k is not read.

    Raises:
        UserError: distances that are not square, or settings out of range.

    Examples:
        >>> import numpy as np
        >>> from asd_jax.scoring.neighbourhoods import distances
        >>> rows = np.array([[0.0], [1.0], [3.0], [7.0]])
        >>> density(distances(rows, rows, metric="euclidean")).value.tolist()
        [1.0, 1.0, 2.0, 4.0]
    """
    _check(within, k, k_target, r)

    def one(within: jax.Array, mask: jax.Array, target: jax.Array) -> tuple[jax.Array, ...]:
        lists = _lists(within, mask, target, (k, k_target, r), taken_out=0)
        return _density(lists, mask, r)

    over = jnp.vectorize(one, signature="(n,n),(n),(n)->(n),()")
    return Density(*over(*neighbourhoods.filled(within, mask, target)[:3]))


def normalised_distance(
    between: jax.Array, density: Density, mask: Any = None, *, form: str = "ratio", alpha: Any = 1.0
) -> jax.Array:
    """The minimum over the rows of distances normalised by the rows' densities; jit-able.

    The minimum is that of the normalised distances: the row that gives it need not be the
    nearest. With α = 0, ratio and difference are the distance from the nearest row.

    Args:
        between: (..., q, n) distances of the queries from the rows.
        density: of the rows.
        mask: (..., n), true where a row counts; None for all of them.
        form: "ratio", "difference" or "log", as above.
        alpha: (...) weight of the density.

    Returns:
        (..., q); infinite where no row counts, else finite.

    Raises:
        UserError: no such form.

    Examples:
        The second row is nearest, but the third lies in a sparse place.

        >>> import numpy as np
        >>> known = Density(np.array([1.0, 1.0, 2.0]), np.array(1e-3))
        >>> normalised_distance(np.array([[4.0, 1.0, 1.5]]), known).tolist()
        [0.75]
    """
    _check_form(form)

    def one(
        between: jax.Array, mask: jax.Array, value: jax.Array, least: jax.Array, alpha: jax.Array
    ) -> jax.Array:
        return _minimum(between, Density(value, least), mask, form, alpha)

    mask = jnp.ones(jnp.shape(between)[-1], bool) if mask is None else jnp.asarray(mask, bool)
    over = jnp.vectorize(one, signature="(q,n),(n),(n),(),()->(q)")
    return over(between, mask, *density, jnp.asarray(alpha, jnp.result_type(between)))


def varmin_alpha(
    within: jax.Array, density: Density, mask: Any = None, *, form: str = "difference"
) -> jax.Array:
    """The weight of the densities for which the bank's own scores vary least; jit-able.

    With u the distance of a row from its nearest other row, and v that other row's density, the
    variance of u − α v is least for α = Cov(u, v) / Var(v). For "ratio" and "log", u and v are
    logarithms. α is 0 where the densities v are all equal.

    Args:
        within: (..., n, n) distances of the bank's rows from each other.
        density: of the rows; VarMin's are those of k = 4.
        mask: (..., n), true where a row counts; None for all of them.
        form: that of the scores.

    Returns:
        (...).

    Raises:
        UserError: distances that are not square, or no such form.

    Examples:
        >>> import numpy as np
        >>> from asd_jax.scoring.neighbourhoods import distances
        >>> rows = np.array([[0.0], [1.0], [3.0], [7.0]])
        >>> within = distances(rows, rows, metric="euclidean")
        >>> round(float(varmin_alpha(within, density(within))), 3)
        2.667
    """
    neighbourhoods.check_square(within)
    _check_form(form)

    def one(within: jax.Array, mask: jax.Array, value: jax.Array, least: jax.Array) -> jax.Array:
        nearest = neighbourhoods.nearest(within, neighbourhoods.others(mask), 1)
        return _alpha(nearest, Density(value, least), mask, form)

    over = jnp.vectorize(one, signature="(n,n),(n),(n),()->()")
    return over(*neighbourhoods.filled(within, mask)[:2], *density)


def leave_out(
    within: jax.Array,
    mask: Any = None,
    target: Any = None,
    group: Any = None,
    *,
    k: int = 1,
    k_target: int | None = None,
    r: float | None = None,
    form: str = "ratio",
    alpha: float | None = 1.0,
    most: int | None = None,
) -> jax.Array:
    """The score of each row by a bank without its group; jit-able.

    It equals `density`, `varmin_alpha` and `normalised_distance` once for each group, with the
    group's rows taken out of everything. The densities of a thousand rows are not sorted anew for
    that: the time grows as n² times k + the rows of the largest group.

    Args:
        within: (..., n, n) distances of the bank's rows from each other.
        mask: (..., n), true where a row counts; None for all of them.
        target: (..., n), true where a row is of the target domain. Only read with `k_target`.
        group: (n,) or (..., n) integers; rows of one label are taken out together, such as those
            of one recording. None where each row is its own group.
        k: as in `density`, as are `k_target` and `r`.
        k_target: as in `density`.
        r: as in `density`.
        form: as in `normalised_distance`.
        alpha: weight of the densities, or None for VarMin's, fitted anew without each group.
        most: rows of the largest group, for labels that are traced; else the time grows as n³.

    Returns:
        (..., n); infinite where no other group has rows, NaN where a row does not count.

    Raises:
        UserError: as those functions.

    Examples:
        Without itself, the row at 7 is 4 away from a row whose density is 2.

        >>> import numpy as np
        >>> from asd_jax.scoring.neighbourhoods import distances
        >>> rows = np.array([[0.0], [1.0], [3.0], [7.0]])
        >>> scores = leave_out(distances(rows, rows, metric="euclidean"))
        >>> [round(float(score), 3) for score in scores]
        [0.5, 0.333, 0.667, 2.0]
    """
    taken_out = most or neighbourhoods.largest(group, jnp.shape(within)[-1])
    score = _scorer(within, taken_out, (k, k_target, r), form, alpha)

    def one(within: jax.Array, mask: jax.Array, target: jax.Array, group: jax.Array) -> jax.Array:
        return neighbourhoods.left_out(score(within, mask, target), mask, group)

    over = jnp.vectorize(one, signature="(n,n),(n),(n),(n)->(n)")
    return over(*neighbourhoods.filled(within, mask, target, group))


def leave_out_pairs(
    within: jax.Array,
    mask: Any = None,
    target: Any = None,
    group: Any = None,
    *,
    k: int = 1,
    k_target: int | None = None,
    r: float | None = None,
    form: str = "ratio",
    alpha: float | None = 1.0,
) -> jax.Array:
    """The bank's own leave-one-out scores, once for each group that is taken out; jit-able.

    What `asd_jax.scoring.standardisation.leave_out_minimum_of_z` standardises by. A density of two
    rows taken out is not that of either: the time grows as n³.

    Arguments and errors as in `leave_out`.

    Returns:
        (..., n, n): [i, j] the score of row j by a bank without row j and without the group of
        row i. On the diagonal, the scores of `leave_out`. NaN where a row does not count.
    """
    taken_out = 1 + neighbourhoods.largest(group, jnp.shape(within)[-1])
    score = _scorer(within, taken_out, (k, k_target, r), form, alpha)

    def one(within: jax.Array, mask: jax.Array, target: jax.Array, group: jax.Array) -> jax.Array:
        return neighbourhoods.left_out_pairs(score(within, mask, target), mask, group)

    over = jnp.vectorize(one, signature="(n,n),(n),(n),(n)->(n,n)")
    return over(*neighbourhoods.filled(within, mask, target, group))


def _scorer(
    within: jax.Array, taken_out: int, settings: Any, form: str, alpha: float | None
) -> Callable[[jax.Array, jax.Array, jax.Array], Score]:
    """Makes of a bank's distances, mask and target what scores a row by the rows that stay."""
    _check(within, *settings)
    _check_form(form)

    def of_bank(within: jax.Array, mask: jax.Array, target: jax.Array) -> Score:
        lists = _lists(within, mask, target, settings, taken_out)

        def score(row: jax.Array, stays: jax.Array) -> jax.Array:
            known = _density(lists, stays, settings[2])
            weight = _alpha(lists.of_all, known, stays, form) if alpha is None else alpha
            return _minimum(within[row], known, stays, form, weight)

        return score

    return of_bank


def _lists(
    within: jax.Array, mask: jax.Array, target: jax.Array, settings: Any, taken_out: int
) -> _Lists:
    """Sorted neighbours of one bank, enough of them after that many rows are taken out."""
    k, k_target, r = settings
    most = max(k, k_target or 0)
    size = neighbourhoods.needed(len(mask), most, r, taken_out)
    pairs = neighbourhoods.others(mask)
    of_all = neighbourhoods.nearest(within, pairs, size)
    if k_target is None:
        return _Lists(of_all, None, jnp.full(len(mask), k))
    of_domain = neighbourhoods.nearest(within, pairs & (target[:, None] == target), size)
    return _Lists(of_all, of_domain, jnp.where(target, k_target, k))


def _density(lists: _Lists, stays: jax.Array, r: float | None) -> Density:
    """Densities (n,) of a bank of the rows that stay (n,); 0 of the others."""
    value = neighbourhoods.mean_nearest(lists.of_all, stays, lists.k, r)
    if lists.of_domain is not None:
        of_domain = neighbourhoods.mean_nearest(lists.of_domain, stays, lists.k, r)
        value = jnp.where(jnp.isfinite(of_domain), of_domain, value)
    # A bank's only row has no others.
    value = jnp.where(stays & jnp.isfinite(value), value, 0)
    return Density(value, DENSITY_FLOOR * jnp.sum(value) / jnp.maximum(jnp.sum(stays), 1))


def _divisor(density: Density) -> jax.Array:
    """(n,) densities by which ratios divide, never 0."""
    return jnp.where(density.least > 0, jnp.maximum(density.value, density.least), 1)


def _logarithm(distance: jax.Array, least: jax.Array) -> jax.Array:
    """Logarithms of distances, finite also of duplicates'."""
    tiny = jnp.finfo(distance.dtype).tiny
    return jnp.log(jnp.maximum(distance, jnp.where(least > 0, least, tiny)))


def _minimum(
    between: jax.Array, density: Density, stays: jax.Array, form: str, alpha: Any
) -> jax.Array:
    """Minimum (...) over the rows that stay (n,) of normalised distances (..., n)."""
    if form == "difference":
        normalised = between - alpha * density.value
    elif form == "ratio":
        normalised = between / _divisor(density) ** alpha
    else:
        logarithms = _logarithm(between, density.least)
        normalised = logarithms - alpha * jnp.log(_divisor(density))
    return jnp.min(jnp.where(stays, normalised, jnp.inf), axis=-1)


def _alpha(neighbours: Neighbours, density: Density, stays: jax.Array, form: str) -> jax.Array:
    """VarMin's weight () for the rows that stay (n,)."""
    kept = neighbourhoods.staying(neighbours, stays)  # (n, size)
    counts = stays & jnp.any(kept, axis=-1)
    first = jnp.argmax(kept, axis=-1)[:, None]
    u = jnp.take_along_axis(neighbours.distance, first, axis=-1)[:, 0]
    place = jnp.take_along_axis(neighbours.place, first, axis=-1)[:, 0]
    unit = 0.0
    if form == "difference":
        v = density.value[place]
    else:
        u, v = _logarithm(u, density.least), jnp.log(_divisor(density))[place]
        unit = 1.0  # of logarithms, a change of 1 is a change by the factor e
    number = jnp.maximum(jnp.sum(counts), 1)
    # Differences from the means, as sums of squares would cancel.
    u, v = (jnp.where(counts, x, 0) for x in (u, v))
    away_u, away_v = (jnp.where(counts, x - jnp.sum(x) / number, 0) for x in (u, v))
    variance = jnp.sum(away_v**2) / number
    # Equal densities differ by rounding alone, which is no variance.
    rounding = 100 * jnp.finfo(v.dtype).eps * jnp.maximum(jnp.max(jnp.abs(v)), unit)
    varies = variance > rounding**2
    return jnp.where(varies, jnp.sum(away_u * away_v) / number / jnp.where(varies, variance, 1), 0)


def _check(within: jax.Array, k: int, k_target: int | None, r: float | None) -> None:
    neighbourhoods.check_square(within)
    if min(k, k if k_target is None else k_target) < 1:
        raise UserError(f"the number of neighbours must be at least 1, not {k} and {k_target}")
    if r is not None and not 0 <= r <= 1:
        raise UserError(f"the base of the weights, r, must be from 0 to 1, not {r}")


def _check_form(form: str) -> None:
    if form not in FORMS:
        raise UserError(f"no form {form!r}; there are {', '.join(FORMS)}")
