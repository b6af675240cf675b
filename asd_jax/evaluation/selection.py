"""Choice among systems by pseudo-anomalies, and how sure it is; by scores alone.

Sources: Wilkinghoff and Tan, for the choice by the AUC of pseudo-anomalies (`pseudo-AUC`) and the
bound `separation`. How sure a choice is, is modelled here:

    true AUC = SLOPE · pseudo-AUC + what pseudo-anomalies do not show
             + what they do not show of this machine, for each candidate,

the last two normally distributed, of deviations RUN_SD and MACHINE_SD, and correlated between
candidates as their scores are: systems that rank all clips alike also err alike. The constants are
measured by `scripts/select_calibration.py` on synthetic machines.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import scipy.stats

from asd_jax.evaluation.bootstrap import percentile_interval

# Of the AUC, as a fraction; measured, see docs/selection.md.
SLOPE, RUN_SD, MACHINE_SD = 0.6, 0.04, 0.08
# A pseudo-AUC of a kind tells systems apart best where a change of a system moves it most beside its
# own error. Of normally distributed scores, d deviations apart, it is Φ(d/√2): a system that hears
# everything better by some percent moves it by x φ(x), x = d/√2, and its error is about
# √(Φ(x)(1 − Φ(x))). Their ratio is largest around 0.9, where half of the candidates, better than the
# mean, would saturate; it falls by a fifth at 0.8.
AIM = 0.8
# Beyond these all find a kind, or all miss it.
INFORMATIVE = (0.55, 0.97)
# With fewer normal clips of the target domain, one clip would decide half of the pseudo-AUC.
_FEWEST_TARGET = 5
_DRAWS = 2000


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


@dataclasses.dataclass(frozen=True)
class Selection:
    """A choice among candidates, the best first.

    Attributes:
        names: of the candidates.
        machines: machine types.
        chosen: name of the candidate; None if it is undecided.
        reason: why it is undecided; "" if it is not.
        auc: (candidates,) pseudo-AUC, mean over the machines that count; NaN if none does.
        low: (candidates,) lower limit of the 95 % interval of the first one's pseudo-AUC minus
            each one's, by a bootstrap over clips and machines.
        high: (candidates,) upper limit.
        sureness: (candidates,) probability that it has the best true AUC of all.
        regret: (candidates,) by how much less than the best true AUC it is expected to have.
        of_machine: (candidates, machines) pseudo-AUC; NaN where all kinds saturate.
        separation: (candidates, machines) `separation`.
        sureness_of_machine: (candidates, machines) as `sureness`, of one machine by itself.
        strengths: of each machine and kind, the strength that counts; −1 for none.
        notes: what to know of the measure, as lines.
    """

    names: tuple[str, ...]
    machines: tuple[str, ...]
    chosen: str | None
    reason: str
    auc: np.ndarray
    low: np.ndarray
    high: np.ndarray
    sureness: np.ndarray
    regret: np.ndarray
    of_machine: np.ndarray
    separation: np.ndarray
    sureness_of_machine: np.ndarray
    strengths: Mapping[str, np.ndarray]
    notes: tuple[str, ...] = ()

    @property
    def by_machine(self) -> dict[str, str | None]:
        """The candidate that each machine would take; None where all kinds saturate."""
        return {
            machine: None if np.isnan(column).all() else self.names[int(np.nanargmax(column))]
            for machine, column in zip(self.machines, self.sureness_of_machine.T, strict=True)
        }


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
    sections: Sequence[SectionScores], n_kinds: int, rng: np.random.Generator
) -> MachineMeasure:
    """Measures candidates on the pseudo-anomalies of one machine type.

    Args:
        sections: scores of each of its sections.
        n_kinds: kinds of pseudo-anomalies.
        rng: of the resamples, which draw groups of normal clips with what is made from them.
    """
    n_candidates, n_strengths = sections[0].pseudo.shape[:2]
    ladders = [_ladder(own, n_kinds, n_strengths) for own in sections]
    ladder = _mean(ladders)
    strength = strengths_of(ladder)
    counted = np.flatnonzero(strength >= 0)
    drawn, values, bounds = [], [], []
    for own in sections:
        of_section: list[list[np.ndarray]] = [[], [], []]
        counts = _resampled(own.group, rng)  # (draws, normal clips)
        for kind in counted:
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
    nothing = np.full(n_candidates, np.nan)
    return MachineMeasure(
        ladder,
        strength,
        _mean(values) if values else nothing,
        _mean(bounds) if bounds else nothing,
        _mean(drawn) if drawn else np.full((n_candidates, _DRAWS), np.nan),
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


def choose(
    names: Sequence[str],
    measures: Mapping[str, MachineMeasure],
    *,
    least: float,
    rng: np.random.Generator,
    notes: Sequence[str] = (),
) -> Selection:
    """Ranks candidates by their pseudo-AUC, and says how sure that is.

    Args:
        names: of the candidates.
        measures: of each machine type.
        least: probability of being the best below which a choice is undecided.
        rng: of the draws.
        notes: handed on.
    """
    machines = [*measures]
    of_machine = np.stack([measures[machine].auc for machine in machines], axis=1)
    counts = np.flatnonzero(~np.isnan(of_machine).any(axis=0))
    mean = of_machine[:, counts].mean(axis=1) if len(counts) else np.full(len(names), np.nan)
    order = np.argsort(-mean, kind="stable")
    low = high = sureness = regret = np.full(len(names), np.nan)
    own_sureness = np.full(of_machine.shape, np.nan)
    if len(counts):
        drawn = np.stack([measures[machines[m]].drawn for m in counts], axis=1)
        alike = np.stack([measures[machines[m]].alike for m in counts])
        resampled = drawn[
            :, rng.integers(len(counts), size=(len(counts), _DRAWS)), np.arange(_DRAWS)
        ]
        means = resampled.mean(axis=1)  # (candidates, draws), over clips and machines
        low, high = np.moveaxis(percentile_interval(means[order[0]] - means), -1, 0)
        true = true_aucs(drawn.mean(axis=1), alike.mean(axis=0), len(counts), rng)
        sureness, regret = best_of(true)
        for place, m in enumerate(counts):
            own = true_aucs(drawn[:, place], alike[place], 1, rng)
            own_sureness[:, m] = best_of(own)[0]
    reason = _reason(names, order, mean, sureness, least)
    return Selection(
        names=tuple(names[i] for i in order),
        machines=tuple(machines),
        chosen=None if reason else names[order[0]],
        reason=reason,
        auc=mean[order],
        low=low[order],
        high=high[order],
        sureness=sureness[order],
        regret=regret[order],
        of_machine=of_machine[order],
        separation=np.stack([measures[each].separation for each in machines], axis=1)[order],
        sureness_of_machine=own_sureness[order],
        strengths={machine: measures[machine].strength for machine in machines},
        notes=tuple(notes),
    )


def true_aucs(
    pseudo: np.ndarray, alike: np.ndarray, n_machines: int, rng: np.random.Generator
) -> np.ndarray:
    """(candidates, draws) true AUCs that may be behind pseudo-AUCs, but for a common constant.

    Args:
        pseudo: (candidates, draws) mean over the machines.
        alike: (candidates, candidates) correlation of the candidates' scores.
        n_machines: that the mean is over.
        rng: of the draws.
    """
    deviation = math.sqrt(RUN_SD**2 + MACHINE_SD**2 / n_machines)
    values, vectors = np.linalg.eigh(alike)
    # Rounding makes eigenvalues of 0 slightly negative, as of two equal candidates.
    root = vectors * np.sqrt(np.maximum(values, 0))
    return SLOPE * pseudo + deviation * root @ rng.standard_normal(pseudo.shape)


def difference_probability(difference: float, alike: float, n_machines: int) -> float:
    """Probability that the first of two candidates is truly better, without errors of pseudo-AUCs.

    Args:
        difference: of the pseudo-AUCs, as a fraction.
        alike: correlation of the scores.
        n_machines: that the difference is over.

    Examples:
        >>> round(difference_probability(0.0, 0.5, 1), 3)
        0.5
    """
    deviation = math.sqrt(2 * (1 - alike) * (RUN_SD**2 + MACHINE_SD**2 / n_machines))
    if deviation == 0:
        return 0.5 + 0.5 * float(np.sign(difference))
    return float(scipy.stats.norm.cdf(SLOPE * difference / deviation))


def best_of(true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How often each candidate is the best, and by how much it is worse in the mean.

    Args:
        true: (candidates, draws).

    Returns:
        (candidates,) shares, equal ones sharing a draw, and (candidates,) mean regrets.

    Examples:
        >>> share, regret = best_of(np.array([[1.0, 1.0], [0.5, 1.0]]))
        >>> share.tolist(), regret.tolist()
        ([0.75, 0.25], [0.0, 0.25])
    """
    best = true.max(axis=0)
    wins = true >= best - 1e-12  # equal up to rounding
    return (wins / wins.sum(axis=0)).mean(axis=1), (best - true).mean(axis=1)


def _reason(
    names: Sequence[str], order: np.ndarray, mean: np.ndarray, sureness: np.ndarray, least: float
) -> str:
    """Why a choice is undecided; "" if it is not."""
    if np.isnan(mean).all():
        return (
            "all candidates find the pseudo-anomalies, or all miss them, at every strength, so "
            "these do not tell them apart"
        )
    first = order[0]
    if sureness[first] < least:
        return (
            f"{names[first]} has the best pseudo-AUC, and is the best by a probability of "
            f"{100 * sureness[first]:.0f} % only, less than {100 * least:.0f} %"
        )
    return ""


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
    draws = rng.integers(n_groups, size=(_DRAWS, n_groups))
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
