"""Scores by the nearest of a machine's normal clips: one back end, from settings.

It joins what `asd_jax.scoring.neighbourhoods` and the modules named there have: synthetic target
rows, fewer source rows, and normalised distances. Beside the banks of all models it gives the
scores of their rows, each by a bank without the row's group:

- Neighbours, densities, weights and scales are those of the other groups' rows.
- Synthetic rows are drawn anew. Without a source row only their number changes, as a rule; a group
  that they are made of costs a bank of its own.
- Centres of the source rows are found anew for each of the parts of `asd_jax.scoring.parts`. The
  bank of a row is that without its part.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError
from asd_jax.scoring import neighbourhoods
from asd_jax.scoring.minority import memmixup, reduced, smote, wanted_children
from asd_jax.scoring.neighbourhoods import distances
from asd_jax.scoring.neighbours import METRICS, Bank, directions
from asd_jax.scoring.normalisation import (
    Density,
    density,
    leave_out,
    normalised_distance,
    varmin_alpha,
)
from asd_jax.scoring.parts import parts_of
from asd_jax.scoring.rows import side_by_side
from asd_jax.scoring.standardisation import (
    Scales,
    domain_scales,
    leave_out_standardised,
    standardised_distance,
)

OVERSAMPLING = ("none", "smote", "memmixup")
NORMALISATIONS = ("none", "ldn", "varmin", "ldn_varmin", "domain")

# As in the system whose published scores `mel_knn` has: target rows up to a fifth of the source.
_SMOTE_SHARE, _SMOTE_NEIGHBOURS = 0.2, 2


class _Form(NamedTuple):
    """How distances are normalised by density, see `asd_jax.scoring.normalisation`."""

    name: str
    alpha: float | None
    neighbours: int  # as its authors recommend


_FORMS = {
    "ldn": _Form("ratio", 1.0, 1),
    "varmin": _Form("difference", None, 4),
    "ldn_varmin": _Form("log", None, 1),
}


class BankSettings(NamedTuple):
    """How a bank is made and distances from it are scored.

    Attributes:
        neighbours: number of nearest rows whose mean distance counts, in each domain, for "none"
            and "domain"; the others take the smallest of the normalised distances.
        metric: "cosine" or "euclidean".
        normalisation: one of `NORMALISATIONS`.
        density_neighbours: number of neighbours of a row's density; 0 for as many as the authors
            recommend, 4 of "varmin" and 1 of the others.
        oversampling: one of `OVERSAMPLING`.
        centres: of the source rows; 0 keeps the rows.
    """

    neighbours: int = 1
    metric: str = "euclidean"
    normalisation: str = "none"
    density_neighbours: int = 0
    oversampling: str = "none"
    centres: int = 0


class FittedBank(NamedTuple):
    """A bank, and what its distances are normalised by.

    Attributes:
        rows: (..., n, d), synthetic ones and centres included; of length 1 for "cosine".
        mask: (..., n), true where a row counts.
        target: (..., n), true where a row is of the target domain.
        density: (..., n) of the rows; 0 without density normalisation, as are the next two.
        least: (...) `Density.least`.
        alpha: (...) weight of the densities.
        mean: (..., 2) of the domains' distances; 0 without domain standardisation.
        deviation: (..., 2) of the domains' distances; 1 without.
    """

    rows: Any
    mask: Any
    target: Any
    density: Any
    least: Any
    alpha: Any
    mean: Any
    deviation: Any


def bank_scores(fitted: FittedBank, queries: jax.Array, settings: BankSettings) -> jax.Array:
    """Scores of queries by one bank; jit-able.

    Args:
        fitted: the bank, without leading axes.
        queries: (q, d).
        settings: those that it was fitted with.

    Returns:
        (q,); infinite where no row of the bank counts.
    """
    between = distances(queries, fitted.rows, metric=settings.metric)
    form = _FORMS.get(settings.normalisation)
    if form is not None:
        known = Density(fitted.density, fitted.least)
        return normalised_distance(between, known, fitted.mask, form=form.name, alpha=fitted.alpha)
    scales = Scales(fitted.mean, fitted.deviation)
    return standardised_distance(between, scales, fitted.mask, fitted.target, k=settings.neighbours)


def fit_banks(
    bank: Bank, group: np.ndarray, settings: BankSettings
) -> tuple[FittedBank, np.ndarray]:
    """Fits the banks of several models, and scores their rows by banks without their groups.

    Args:
        bank: embeddings (models, n, d), mask and target (models, n), as NumPy arrays.
        group: int (models, n) from 0, the group of each row; two or more in each model.
        settings: of all banks.

    Returns:
        The banks, their arrays with the models' axis first, and (models, n) scores of the rows,
        NaN where they do not count; NumPy, float64.

    Raises:
        UserError: settings that do not exist or are out of range.

    Examples:
        >>> rows = np.array([[[0.0], [1.0], [3.0], [7.0]]])
        >>> bank = Bank(rows, np.ones((1, 4), bool), np.zeros((1, 4), bool))
        >>> fitted, own = fit_banks(bank, np.array([[0, 1, 2, 3]]), BankSettings())
        >>> own.tolist()
        [[1.0, 1.0, 2.0, 4.0]]
        >>> one = jax.tree.map(lambda leaf: leaf[0], fitted)
        >>> bank_scores(one, np.array([[9.0]]), BankSettings()).tolist()
        [2.0]
    """
    check_settings(settings)
    embeddings, mask, target = (np.asarray(leaf) for leaf in bank)
    embeddings = np.where(mask[..., None], embeddings, 0).astype(np.float64)
    with jax.enable_x64(True):
        if settings.metric == "cosine":
            embeddings = np.asarray(directions(jnp.asarray(embeddings)))
        bank = Bank(embeddings, mask, target & mask)
        if settings.centres:
            return _fit_centres(bank, group, settings)
        return _fit_rows(bank, group, settings)


def check_settings(settings: BankSettings, group: str = "") -> None:
    """Raises UserError for settings that do not exist or are out of range.

    Args:
        settings: the settings.
        group: prefix of their names in the message.
    """
    for name, least in (("neighbours", 1), ("density_neighbours", 0), ("centres", 0)):
        if getattr(settings, name) < least:
            raise UserError(
                f"{group}{name} is {getattr(settings, name)}; it must be {least} or more"
            )
    for name, choices in (
        ("metric", METRICS),
        ("normalisation", NORMALISATIONS),
        ("oversampling", OVERSAMPLING),
    ):
        if getattr(settings, name) not in choices:
            raise UserError(
                f"{group}{name} is {getattr(settings, name)!r}; there are {', '.join(choices)}"
            )


def _fit_rows(
    bank: Bank, group: np.ndarray, settings: BankSettings
) -> tuple[FittedBank, np.ndarray]:
    """Banks whose source rows are all kept."""
    size = _places(bank, settings)
    # Rows that do not count are groups of their own.
    group = np.where(bank.mask, group, group.shape[-1] + np.arange(group.shape[-1]))
    most = neighbourhoods.largest(group, group.shape[-1])

    def of_model(model: int) -> tuple[FittedBank, np.ndarray]:
        with jax.enable_x64(True):  # which each thread says for itself
            own = _of(bank, model)
            grown = _grown(own, settings, size)
            fitted, within = _fitted(grown, settings)
            return fitted, _leave_out(own, grown, group[model], within, settings, most)

    banks, scores = zip(*side_by_side(of_model, len(group)), strict=True)
    return _stacked(banks), np.stack(scores)


def _leave_out(
    own: Bank,
    grown: Bank,
    group: np.ndarray,
    within: jax.Array,
    settings: BankSettings,
    most: int,
) -> np.ndarray:
    """Scores (n,) of one model's rows, each by a bank without its group.

    Args:
        own: the rows.
        grown: the same with synthetic rows behind them.
        group: (n,) of the rows, most of them `most` rows.
        within: distances of the grown bank's rows from each other.
        settings: of the bank.
        most: rows of the largest group.
    """
    n, size = len(group), len(grown.mask) - len(group)
    anew = _parents(own, group, np.asarray(within), settings) if size else set()
    labels = np.concatenate([group, 2 * n + np.arange(size)])
    # Without a source group there are fewer synthetic rows, the first ones, by its size.
    count = np.full(n, size)
    if settings.oversampling == "smote":
        of_group = np.array([_children(own.mask & (group != each), own) for each in group])
        count = np.minimum(count, of_group)
    simple = own.mask & ~np.isin(group, [*anew])
    scores = np.full(n, np.nan)
    for each in np.unique(count[simple]):
        mask = np.asarray(grown.mask) & (np.arange(n + size) < n + each)
        found = _left_out_rows(within, mask, grown.target, labels, settings, most)
        chosen = simple & (count == each)
        scores[chosen] = np.asarray(found)[:n][chosen]
    for each in sorted(anew):
        rows = np.flatnonzero(own.mask & (group == each))
        without = _grown(own._replace(mask=own.mask & (group != each)), settings, size)
        queries = own.embeddings[np.resize(rows, most)]
        scores[rows] = np.asarray(_scores_by(without, queries, settings))[: len(rows)]
    return scores


def _fit_centres(
    bank: Bank, group: np.ndarray, settings: BankSettings
) -> tuple[FittedBank, np.ndarray]:
    """Banks of centres; those of all rows, and those without each part of the groups."""
    size = _places(bank, settings)
    folds = parts_of(bank.mask, group)  # (models, n)
    made = []
    for model, fold in enumerate(folds):
        own = _of(bank, model)
        parts = range(int(fold.max()) + 1)
        masks = np.stack([own.mask, *(own.mask & (fold != part) for part in parts)])
        several = Bank(
            np.broadcast_to(own.embeddings, (*masks.shape, bank.embeddings.shape[-1])),
            masks,
            np.broadcast_to(own.target, masks.shape),
        )
        several = _grown(several, settings, size)
        made.append(reduced(several, settings.centres, metric=settings.metric))
    width = max(each.mask.shape[-1] for each in made)
    banks, scores = [], np.full(group.shape, np.nan)
    for model, several in enumerate(made):
        several = Bank(*(_padded(np.asarray(leaf), width) for leaf in several))
        banks.append(_fitted(_of(several, 0), settings)[0])
        for part in range(len(several.mask) - 1):
            found = _scores_by(_of(several, part + 1), bank.embeddings[model], settings)
            chosen = folds[model] == part
            scores[model, chosen] = np.asarray(found)[chosen]
    return _stacked(banks), scores


@functools.partial(jax.jit, static_argnums=1)
def _fitted(bank: Bank, settings: BankSettings) -> tuple[FittedBank, jax.Array]:
    """One bank (n, d), and the distances (n, n) of its rows from each other."""
    rows, mask, target = bank
    within = distances(rows, rows, metric=settings.metric)
    known = Density(jnp.zeros(len(mask)), jnp.zeros(()))
    scales, alpha = Scales(jnp.zeros(2), jnp.ones(2)), jnp.zeros(())
    form = _FORMS.get(settings.normalisation)
    if form is not None:
        known = density(within, mask, k=settings.density_neighbours or form.neighbours)
        alpha = jnp.asarray(form.alpha or 0.0)
        if form.alpha is None:
            alpha = varmin_alpha(within, known, mask, form=form.name)
    elif settings.normalisation == "domain":
        scales = domain_scales(within, mask, target, k=settings.neighbours)
    return FittedBank(rows, mask, target, *known, alpha, *scales), within


@functools.partial(jax.jit, static_argnums=2)
def _scores_by(bank: Bank, queries: jax.Array, settings: BankSettings) -> jax.Array:
    """Scores (q,) of queries (q, d) by a bank that is not fitted yet."""
    return bank_scores(_fitted(bank, settings)[0], queries, settings)


@functools.partial(jax.jit, static_argnums=(4, 5))
def _left_out_rows(
    within: jax.Array,
    mask: jax.Array,
    target: jax.Array,
    group: jax.Array,
    settings: BankSettings,
    most: int,
) -> jax.Array:
    """Scores (n,) of a bank's rows, each without those of its group (n,)."""
    form = _FORMS.get(settings.normalisation)
    if form is not None:
        k = settings.density_neighbours or form.neighbours
        return leave_out(
            within, mask, group=group, k=k, form=form.name, alpha=form.alpha, most=most
        )
    k = settings.neighbours
    if settings.normalisation == "domain":
        return leave_out_standardised(within, mask, target, group, k=k, most=most)
    plain = Scales(jnp.zeros(2), jnp.ones(2))

    def score(row: jax.Array, stays: jax.Array) -> jax.Array:
        return standardised_distance(within[row][None], plain, stays, target, k=k)[0]

    return neighbourhoods.left_out(score, mask, group)


def _grown(bank: Bank, settings: BankSettings, size: int) -> Bank:
    """The bank, and `size` places for synthetic rows behind it."""
    if not size:
        return bank
    if settings.oversampling == "memmixup":
        return _memmixup(bank, size, settings.metric)
    return _smote(bank, size, settings.metric)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _smote(bank: Bank, size: int, metric: str) -> Bank:
    key = jax.random.key(0)
    return smote(key, bank, share=_SMOTE_SHARE, k=_SMOTE_NEIGHBOURS, size=size, metric=metric)


@functools.partial(jax.jit, static_argnums=(1, 2))
def _memmixup(bank: Bank, size: int, metric: str) -> Bank:
    return memmixup(bank, size=size, metric=metric)


def _places(bank: Bank, settings: BankSettings) -> int:
    """Most synthetic rows of a model, with all its rows or without some."""
    if settings.oversampling == "none" or not bank.target.any():
        return 0
    if settings.oversampling == "memmixup":
        return int(bank.target.sum(axis=-1).max())
    return int(_children(bank.mask & ~bank.target, bank).max())  # the fewer target rows, the more


def _children(mask: np.ndarray, bank: Bank) -> np.ndarray:
    """Synthetic rows (...) that SMOTE makes of the rows (..., n) of a bank."""
    return wanted_children(mask, bank.target, _SMOTE_SHARE)


def _parents(own: Bank, group: np.ndarray, within: np.ndarray, settings: BankSettings) -> set[int]:
    """Groups without which the synthetic rows are others."""
    parents = own.target.copy()
    source = own.mask & ~own.target
    if settings.oversampling == "memmixup" and source.any():
        n = len(group)
        parents[np.argmin(np.where(source, within[:n, :n], np.inf), axis=-1)[own.target]] = True
    return set(group[parents].tolist())


def _of(bank: Bank, model: int) -> Bank:
    return Bank(*(leaf[model] for leaf in bank))


def _padded(leaf: np.ndarray, width: int) -> np.ndarray:
    """Places (models, width, …) that are zero behind those of a leaf (models, n, …)."""
    return np.pad(leaf, [(0, 0), (0, width - leaf.shape[1])] + [(0, 0)] * (leaf.ndim - 2))


def _stacked(banks: Sequence[FittedBank]) -> FittedBank:
    return jax.tree.map(lambda *leaves: np.stack([np.asarray(leaf) for leaf in leaves]), *banks)
