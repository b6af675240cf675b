"""Pseudo-AUC: how well systems tell pseudo-anomalies from the normal clips of one machine type.

Source: Wilkinghoff and Tan, who choose systems by it, and by the bound `separation`.

Decided here:
    Of each kind of pseudo-anomaly the strength counts that tells the candidates apart, see `AIM`;
    a kind that all find or all miss at every strength does not count.
    Scores of different sections are on different scales, so that each section has an AUC of its
    own; kinds, sections and both domains count alike.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import scipy

# A pseudo-AUC tells systems apart best where a change of a system moves it most beside its own
# error. Of normally distributed scores, d deviations apart, it is Φ(x), x = d/√2; a system that
# hears everything better by some percent moves it by x φ(x), and its error is about
# √(Φ(x)(1 − Φ(x))). Their ratio is largest at 0.94, where the better half of the candidates would
# saturate, and three quarters of that at 0.8. On the calibration's machines 0.75 to 0.85 do best.
AIM = 0.8
# Beyond these all find a kind, or all miss it.
INFORMATIVE = (0.55, 0.97)
# With fewer normal clips of the target domain, one clip would decide half of the pseudo-AUC.
_FEWEST_TARGET = 5
DRAWS = 2000  # resamples


class SectionScores(NamedTuple):
    """Scores of one machine and section by all candidates.

    Attributes:
        normal: (candidates, normal clips).
        group: int (normal clips,), equal for clips that were recorded together.
        target: bool (normal clips,), whether a clip is of the target domain.
        pseudo: (candidates, strengths, pseudo-anomalies).
        kind: int (pseudo-anomalies,), the kind of each.
        base: int (pseudo-anomalies,), the normal clip that each is made from.
    """

    normal: np.ndarray
    group: np.ndarray
    target: np.ndarray
    pseudo: np.ndarray
    kind: np.ndarray
    base: np.ndarray


class MachineMeasure(NamedTuple):
    """What pseudo-anomalies show of one machine type.

    Attributes:
        ladder: (candidates, kinds, strengths) pseudo-AUC, mean over the sections; NaN for kinds
            that there are none of.
        strength: int (kinds,), the one that counts; −1 for a kind that tells nothing apart.
        auc: (candidates,) mean over the kinds that count; NaN without any.
        separation: (candidates,) likewise of `separation`.
        drawn: (candidates, draws) `auc` of bootstrap resamples.
        alike: (candidates, candidates) correlation of the candidates' scores.
    """

    ladder: np.ndarray
    strength: np.ndarray
    auc: np.ndarray
    separation: np.ndarray
    drawn: np.ndarray
    alike: np.ndarray


def weighted_auc(
    normal: np.ndarray,
    pseudo: np.ndarray,
    normal_weights: np.ndarray | None = None,
    pseudo_weights: np.ndarray | None = None,
) -> np.ndarray:
    """Share of (normal, pseudo-anomaly) pairs in the right order, equal scores counted half.

    Args:
        normal: (..., normal clips) scores.
        pseudo: (..., pseudo-anomalies) scores.
        normal_weights: (draws, normal clips); equal ones by default.
        pseudo_weights: (draws, pseudo-anomalies).

    Returns:
        (..., draws); (...) without weights. NaN where a score is, or all weights are 0.

    Examples:
        >>> float(weighted_auc(np.array([1.0, 2.0]), np.array([2.0, 3.0])))
        0.875
        >>> weighted_auc(np.array([1, 2.0]), np.array([2.0]), np.array([[1, 1], [0, 1]])).tolist()
        [0.75, 0.5]
    """
    above = pseudo[..., :, None] > normal[..., None, :]
    right = above + 0.5 * (pseudo[..., :, None] == normal[..., None, :])  # (..., pseudo, normal)
    undefined = np.isnan(normal).any(axis=-1) | np.isnan(pseudo).any(axis=-1)
    alone = normal_weights is None and pseudo_weights is None
    of_normal = np.ones((1, normal.shape[-1])) if normal_weights is None else normal_weights
    of_pseudo = np.ones((1, pseudo.shape[-1])) if pseudo_weights is None else pseudo_weights
    total = of_normal.sum(axis=-1) * of_pseudo.sum(axis=-1)  # (draws,)
    # (..., pseudo, draws), then weighted by the pseudo-anomalies' own.
    of_each = right @ of_normal.T.astype(float)
    counted = np.einsum(
        "...pd,dp->...d", of_each, np.broadcast_to(of_pseudo, (len(total), pseudo.shape[-1]))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(undefined[..., None], np.nan, counted / total)
    return value[..., 0] if alone else value


def separation(normal: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    """The bound Δμ² / (Var_out + Var_in + Δμ²) on how well scores are told apart.

    Args:
        normal: (..., normal clips) scores.
        pseudo: (..., pseudo-anomalies) scores.

    Returns:
        (...) in [0, 1]; 0 where pseudo-anomalies score lower in the mean, or all scores are equal;
        NaN where a score is.

    Examples:
        >>> float(separation(np.array([0.0, 2.0]), np.array([3.0, 5.0])))
        0.8181818181818182
    """
    apart = np.maximum(pseudo.mean(axis=-1) - normal.mean(axis=-1), 0) ** 2
    within = normal.var(axis=-1) + pseudo.var(axis=-1)
    whole = apart + within
    return np.divide(apart, whole, out=np.where(np.isnan(whole), np.nan, 0.0), where=whole > 0)


def normal_weights(target: np.ndarray) -> np.ndarray:
    """(normal clips,) weights by which both domains count alike.

    That is the mean of the domains' AUCs. Of a domain with few clips each counts as any other.

    Examples:
        >>> normal_weights(np.arange(20) < 5).round(2).tolist()[3:7]
        [2.0, 2.0, 0.67, 0.67]
        >>> normal_weights(np.arange(20) < 4).tolist()[3:5]
        [1.0, 1.0]
    """
    weights = np.ones(len(target))
    if min(target.sum(), (~target).sum()) >= _FEWEST_TARGET:
        for domain in (target, ~target):
            weights[domain] = len(target) / 2 / domain.sum()
    return weights


def measure(
    sections: Sequence[SectionScores],
    n_kinds: int,
    rng: np.random.Generator,
    counted: Collection[int] | None = None,
) -> MachineMeasure:
    """Measures candidates on the pseudo-anomalies of one machine type.

    Args:
        sections: scores of each of its sections.
        n_kinds: kinds of pseudo-anomalies.
        rng: of the resamples, which draw groups of normal clips with what is made from them.
        counted: kinds that may count; all by default.
    """
    n_candidates, n_strengths = sections[0].pseudo.shape[:2]
    ladders = [_ladder(own, n_kinds, n_strengths) for own in sections]
    ladder = _mean(ladders)
    strength = strengths_of(ladder)
    if counted is not None:
        strength[[kind for kind in range(n_kinds) if kind not in counted]] = -1
    drawn: list[np.ndarray] = []
    values: list[np.ndarray] = []
    bounds: list[np.ndarray] = []
    for own in sections:
        of_section: list[list[np.ndarray]] = [[], [], []]
        counts = _resampled(own.group, rng)  # (draws, normal clips)
        for kind in np.flatnonzero(strength >= 0):
            rows = np.flatnonzero(own.kind == kind)
            if not len(rows):
                continue
            pseudo = own.pseudo[:, strength[kind], rows]  # (candidates, rows)
            weights = normal_weights(own.target)
            of_section[0].append(
                weighted_auc(own.normal, pseudo, counts * weights, counts[:, own.base[rows]])
            )
            of_section[1].append(weighted_auc(own.normal, pseudo, weights[None])[:, 0])
            of_section[2].append(separation(own.normal, pseudo))
        for found, of_kinds in zip((drawn, values, bounds), of_section, strict=True):
            if of_kinds:
                # A resample may have none of a kind.
                found.append(_mean(of_kinds))
    auc = _mean(values) if values else np.full(n_candidates, np.nan)
    resampled = _mean(drawn) if drawn else np.full((n_candidates, DRAWS), np.nan)
    return MachineMeasure(
        ladder,
        strength,
        auc,
        _mean(bounds) if bounds else auc,
        # A resample may have no pseudo-anomaly, where there are few.
        np.where(np.isnan(resampled), auc[:, None], resampled),
        np.mean([_alike(own) for own in sections], axis=0),
    )


def strengths_of(ladder: np.ndarray) -> np.ndarray:
    """int (kinds,) strength at which the candidates' mean is nearest to `AIM`.

    Args:
        ladder: (candidates, kinds, strengths) pseudo-AUC.

    Returns:
        −1 for a kind that no strength makes `INFORMATIVE`.

    Examples:
        >>> strengths_of(np.array([[[0.5, 0.75, 1.0], [0.5, 0.5, 0.52]]])).tolist()
        [1, -1]
    """
    means = ladder.mean(axis=0)  # (kinds, strengths)
    low, high = INFORMATIVE
    usable = (low <= means) & (means <= high)  # false of NaN
    distance = np.where(usable, np.abs(means - AIM), np.inf)
    return np.where(usable.any(axis=1), distance.argmin(axis=1), -1)


def _ladder(own: SectionScores, n_kinds: int, n_strengths: int) -> np.ndarray:
    """(candidates, kinds, strengths) pseudo-AUC of a section."""
    ladder = np.full((len(own.normal), n_kinds, n_strengths), np.nan)
    weights = normal_weights(own.target)
    for kind in np.unique(own.kind):
        pseudo = own.pseudo[:, :, own.kind == kind]  # (candidates, strengths, rows)
        for strength in range(n_strengths):
            ladder[:, kind, strength] = weighted_auc(
                own.normal, pseudo[:, strength], weights[None]
            )[:, 0]
    return ladder


def _resampled(group: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(draws, normal clips) how often each is drawn, groups as a whole."""
    n_groups = int(group.max()) + 1
    draws = rng.integers(n_groups, size=(DRAWS, n_groups))
    counts = np.apply_along_axis(np.bincount, 1, draws, minlength=n_groups)
    return counts[:, group].astype(float)


def _alike(own: SectionScores) -> np.ndarray:
    """(candidates, candidates) correlation of the candidates' rankings of all clips."""
    scores = np.concatenate([own.normal, own.pseudo.reshape(len(own.normal), -1)], axis=1)
    ranks = scipy.stats.rankdata(scores, axis=1)
    ranks -= ranks.mean(axis=1, keepdims=True)
    size = np.sqrt(np.sum(ranks**2, axis=1))
    # Of equal scores, whose ranks do not vary, nothing is known.
    unit = ranks / np.where(size > 0, size, 1)[:, None]
    alike = unit @ unit.T
    np.fill_diagonal(alike, 1.0)
    return np.nan_to_num(alike)


def _mean(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over parts, without those that are NaN; NaN where all are."""
    stacked = np.stack(parts)
    known = ~np.isnan(stacked)
    total = np.where(known, stacked, 0).sum(axis=0)
    return np.divide(
        total, known.sum(axis=0), out=np.full(total.shape, np.nan), where=known.any(axis=0)
    )
