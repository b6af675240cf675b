"""Choice among systems by their pseudo-AUC, and how sure it is.

How sure a choice is, is modelled here:

    true AUC = SLOPE · pseudo-AUC + what pseudo-anomalies do not show
             + what they do not show of this machine, for each candidate,

the last two normally distributed, of deviations RUN_SD and MACHINE_SD, and correlated between
candidates as their scores are: systems that rank all clips alike also err alike. The constants are
measured by `scripts/select_calibration.py` on synthetic machines.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from asd_jax.evaluation.bootstrap import percentile_interval
from asd_jax.evaluation.pseudo_auc import DRAWS, MachineMeasure

# Of the AUC, as a fraction; measured, see docs/selection.md.
SLOPE, RUN_SD, MACHINE_SD = 0.57, 0.044, 0.082
_ROUNDING = 1e-9


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
    def separation_of_all(self) -> np.ndarray:
        """(candidates,) mean of `separation` over the machines that count; NaN if none does."""
        return _mean_of_known(self.separation)

    @property
    def by_machine(self) -> dict[str, str | None]:
        """The candidate that each machine would take; None where all kinds saturate."""
        return {
            machine: None if np.isnan(column).all() else self.names[int(np.nanargmax(column))]
            for machine, column in zip(self.machines, self.sureness_of_machine.T, strict=True)
        }


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
    mean = _mean_of_known(of_machine)
    order = np.argsort(-mean, kind="stable")
    low = high = sureness = regret = np.full(len(names), np.nan)
    own_sureness = np.full(of_machine.shape, np.nan)
    if len(counts):
        drawn = np.stack([measures[machines[m]].drawn for m in counts], axis=1)
        alike = np.stack([measures[machines[m]].alike for m in counts])
        resampled = drawn[:, rng.integers(len(counts), size=(len(counts), DRAWS)), np.arange(DRAWS)]
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
    # Of equal candidates an eigenvalue is 0, up to rounding: they have equal errors.
    root = vectors * np.sqrt(np.where(values > _ROUNDING, values, 0))
    return SLOPE * pseudo + deviation * root @ rng.standard_normal(pseudo.shape)


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
    wins = true >= best - _ROUNDING
    return (wins / wins.sum(axis=0)).mean(axis=1), (best - true).mean(axis=1)


def _mean_of_known(values: np.ndarray) -> np.ndarray:
    """(candidates,) mean over the machines (candidates, machines) that have no NaN."""
    known = values[:, ~np.isnan(values).any(axis=0)]
    return known.mean(axis=1) if known.size else np.full(len(values), np.nan)


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
