"""Calibrates and tries the choice among runs by pseudo-anomalies, on synthetic machines.

    .venv/bin/python scripts/select_sets.py --seeds=100-111 --dir=CALIBRATION
    .venv/bin/python scripts/select_sets.py --seeds=200-211 --dir=TRIAL
    .venv/bin/python scripts/select_calibration.py --dir=CALIBRATION              # the constants
    .venv/bin/python scripts/select_calibration.py --dir=CALIBRATION --trial=TRIAL

The third fits the constants of `asd_jax.evaluation.selection` to the true AUCs of the first seeds.
The last tries the choice with the constants of the package on the other seeds: its regret beside
that of other rules, and how often choices of a stated sureness are truly the best.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple
from unittest import mock

import numpy as np
import scipy.stats
from absl import app, flags
from select_sets import Machine, by_set, faults_of, hall_of, has_network, load, year_of

from asd_jax.audio.pseudo_anomalies import CHOOSING, KINDS
from asd_jax.errors import UserError
from asd_jax.evaluation import selection
from asd_jax.evaluation.pseudo_auc import MachineMeasure, measure

_DIR = flags.DEFINE_string("dir", None, "folder of measured data sets", required=True)
_TRIAL = flags.DEFINE_string("trial", None, "folder of the data sets to try the choice on")


def main(_: list[str]) -> None:
    """Prints the constants, or how they do."""
    try:
        machines = load(_DIR.value)
        if _TRIAL.value:
            print_trial(machines, load(_TRIAL.value))
        else:
            print_constants(machines)
    except UserError as error:
        sys.exit(f"select_calibration: {error}")


class Pairs(NamedTuple):
    """Differences of pairs of candidates, of machines or of data sets.

    Attributes:
        true: (pairs,) of the true AUCs.
        pseudo: (pairs,) of the pseudo-AUCs.
        unlike: (pairs,) 2 (1 − correlation of the scores).
        error: (pairs,) variance of `pseudo` by the bootstrap.
    """

    true: np.ndarray
    pseudo: np.ndarray
    unlike: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, machines: Sequence[Machine], measures: Sequence[MachineMeasure]) -> "Pairs":
        """Pairs of the means over some machines of one data set."""
        rows, columns = np.triu_indices(len(machines[0].names), 1)
        true = np.mean([machine.true for machine in machines], axis=0)
        pseudo = np.mean([each.auc for each in measures], axis=0)
        alike = np.mean([each.alike for each in measures], axis=0)
        drawn = np.mean([each.drawn for each in measures], axis=0)
        return cls(
            true[rows] - true[columns],
            pseudo[rows] - pseudo[columns],
            2 * (1 - alike[rows, columns]),
            np.var(drawn[rows] - drawn[columns], axis=1),
        )

    @classmethod
    def joined(cls, parts: Sequence["Pairs"]) -> "Pairs":
        """One after another."""
        return cls(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def measured(
    machine: Machine, candidates: np.ndarray | None = None, kinds: Sequence[str] = CHOOSING
) -> MachineMeasure:
    """The measure of a machine, by some of the candidates and kinds."""
    own = machine.section
    if candidates is not None:
        own = own._replace(normal=own.normal[candidates], pseudo=own.pseudo[candidates])
    counted = [KINDS.index(kind) for kind in kinds]
    return measure([own], len(KINDS), np.random.default_rng(0), counted)


def print_constants(machines: Sequence[Machine]) -> None:
    """Prints the constants of the model, and what was tried for the measure."""
    measures = {id(machine): measured(machine) for machine in machines}
    of_machines = Pairs.joined(
        [Pairs.of([machine], [measures[id(machine)]]) for machine in machines]
    )
    of_sets = [
        (own, Pairs.of(own, [measures[id(machine)] for machine in own])) for own in by_set(machines)
    ]
    # Generalised least squares: the error of a difference grows with how unlike scores are.
    weights = 1 / np.maximum(of_machines.unlike, 0.02)
    own, moment = of_machines, np.sum(weights * of_machines.pseudo**2)
    slope = float(np.sum(weights * own.pseudo * own.true) / moment)

    def variance(pairs: Pairs) -> float:
        """Of what is left, beyond the error of the pseudo-AUCs, for unlike scores."""
        left = (pairs.true - slope * pairs.pseudo) ** 2 - slope**2 * pairs.error
        return float(np.sum(left) / np.sum(pairs.unlike))

    alone = variance(of_machines)  # RUN_SD² + MACHINE_SD²
    together = variance(Pairs.joined([pairs for _, pairs in of_sets]))
    count = np.mean([len(own) for own, _ in of_sets])  # RUN_SD² + MACHINE_SD² / count
    of_run = max(0.0, (together - alone / count) / (1 - 1 / count))
    print(f"{len(machines)} machines of {len(of_sets)} data sets, {len(of_machines.true)} pairs")
    print(
        f"SLOPE {slope:.2f}, RUN_SD {np.sqrt(of_run):.3f}, "
        f"MACHINE_SD {np.sqrt(max(0.0, alone - of_run)):.3f}"
    )
    edges = np.quantile(of_machines.unlike, [0, 0.25, 0.5, 0.75, 1]).tolist()
    for low, high in zip(edges, edges[1:], strict=False):
        inside = (of_machines.unlike >= low) & (of_machines.unlike <= high)
        own = Pairs(*(column[inside] for column in of_machines))
        print(f"  unlike {low:.2f} to {high:.2f}: deviation {np.sqrt(max(0, variance(own))):.3f}")
    print("correlation with true differences, rank correlation, regret of the first (%)")
    tried = {"those that count": CHOOSING, "all kinds": KINDS, **{each: [each] for each in KINDS}}
    for name, kinds in tried.items():
        found = [measured(machine, kinds=kinds) for machine in machines]
        print(f"  {name:<18}{_agreement(machines, [each.auc for each in found])}")
    bounds = [measures[id(machine)].separation for machine in machines]
    print(f"  {'separation':<18}{_agreement(machines, bounds)}")
    for aim in (0.7, 0.75, 0.8, 0.85, 0.9):
        with mock.patch("asd_jax.evaluation.pseudo_auc.AIM", aim):
            print(f"  aim {aim:<14}{_agreement(machines, [measured(m).auc for m in machines])}")


def _agreement(machines: Sequence[Machine], values: Sequence[np.ndarray]) -> str:
    one: list[float] = []
    two: list[float] = []
    ranks, regrets = [], []
    for machine, value in zip(machines, values, strict=True):
        if np.isnan(value).any():
            continue
        rows, columns = np.triu_indices(len(value), 1)
        one += (machine.true[rows] - machine.true[columns]).tolist()
        two += (value[rows] - value[columns]).tolist()
        ranks.append(scipy.stats.spearmanr(machine.true, value)[0])
        regrets.append(machine.true.max() - machine.true[np.argmax(value)])
    return (
        f"{np.corrcoef(one, two)[0, 1]:6.2f}{np.nanmean(ranks):6.2f}{100 * np.mean(regrets):6.1f}"
        f"  ({len(ranks)} machines)"
    )


_BINS = (0.0, 0.4, 0.6, 0.8, 0.9, 1.0)
_SUBSETS = 20


def print_trial(calibration: Sequence[Machine], trial: Sequence[Machine]) -> None:
    """Prints regrets of the choice and of other rules, and how sure choices were rightly."""
    common = set.intersection(*(set(machine.names) for machine in (*calibration, *trial)))
    means = {
        name: float(np.mean([each.true[each.names.index(name)] for each in calibration]))
        for name in sorted(common)
    }
    fixed = max(means, key=means.__getitem__)
    print(f"fixed choice, the best of the calibration: {fixed}")
    sets, alone = [*by_set(trial)], [[machine] for machine in trial]
    print_regrets("per run", sets, fixed)
    print_regrets("per machine", alone, fixed)
    kinds: dict[str, Callable[[int], bool]] = {
        "2020": lambda seed: year_of(seed) == 2020,
        "2024, two domains": lambda seed: year_of(seed) == 2024,
        "own halls": lambda seed: hall_of(seed) == "own",
        "factory noise": lambda seed: hall_of(seed) == "factory",
        "faults added": lambda seed: faults_of(seed) == "added",
        "also wear": lambda seed: faults_of(seed) == "all",
        "with a network": has_network,
    }
    for name, chosen in kinds.items():
        own = [[machine] for machine in trial if chosen(machine.data)]
        if own:
            print_regrets(f"per machine, {name}", own, fixed)
    print_sureness("runs", sets)
    print_sureness("machines", alone)


def print_regrets(title: str, cases: Sequence[Sequence[Machine]], fixed: str) -> None:
    """Prints the mean regret of each rule in percent of AUC, and its standard error."""
    found: dict[str, list[float]] = {}
    for machines in cases:
        true = np.mean([machine.true for machine in machines], axis=0)
        measures = {machine.machine: measured(machine) for machine in machines}
        choice = _choice(machines[0].names, measures)
        first, names = choice.names[0], machines[0].names
        bound = np.mean([each.separation for each in measures.values()], axis=0)
        taken = {
            "select": true[names.index(first)],
            "select by separation": true[int(np.argmax(bound))],
            "each machine's own": np.mean(
                [
                    machine.true[names.index(choice.by_machine[machine.machine] or first)]
                    for machine in machines
                ]
            ),
            f"fixed ({fixed})": true[names.index(fixed)],
            "minimum of z-scores": np.mean([machine.lowest_z for machine in machines]),
            "at random": true.mean(),
        }
        for rule, value in taken.items():
            found.setdefault(rule, []).append(true.max() - value)
        found.setdefault("stated by select", []).append(choice.regret[0])
    print(f"\n{title}, {len(cases)} cases: regret in percent")
    for rule, values in found.items():
        error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
        print(f"  {rule:<28}{100 * np.mean(values):6.2f} ± {100 * error:.2f}")


def _choice(names: Sequence[str], measures: Mapping[str, MachineMeasure]) -> selection.Selection:
    return selection.choose(names, measures, least=0.5, rng=np.random.default_rng(0))


def print_sureness(title: str, cases: Sequence[Sequence[Machine]]) -> None:
    """Prints how often the first was truly the best, by how sure that was said to be.

    Among the candidates of each case, and among random ones of them: pairs up to all.
    """
    rng = np.random.default_rng(0)
    stated, right, owners = [], [], []
    for owner, machines in enumerate(cases):
        count = len(machines[0].names)
        for number in range(_SUBSETS + 1):
            size = int(rng.integers(2, count)) if number else count
            chosen = np.sort(rng.permutation(count)[:size])
            names = [machines[0].names[i] for i in chosen]
            measures = {each.machine: measured(each, chosen) for each in machines}
            choice = _choice(names, measures)
            true = np.mean([machine.true[chosen] for machine in machines], axis=0)
            if np.isnan(choice.sureness[0]):
                continue
            stated.append(choice.sureness[0])
            right.append(true[names.index(choice.names[0])] >= true.max())
            owners.append(owner)
    said, was, of_case = np.array(stated), np.array(right, float), np.array(owners)
    print(f"\nsureness of {title}: {len(said)} choices in {len(cases)} cases")
    for low, high in zip(_BINS, _BINS[1:], strict=False):
        inside = (said > low) & (said <= high)
        if not inside.any():
            continue
        shares = [was[inside & (of_case == owner)].mean() for owner in set(of_case[inside])]
        # Choices of one case depend on one another.
        error = np.std(shares, ddof=1) / np.sqrt(len(shares)) if len(shares) > 1 else np.nan
        print(
            f"  {100 * low:3.0f} to {100 * high:3.0f} %: stated {100 * said[inside].mean():3.0f}, "
            f"truly best {100 * was[inside].mean():3.0f} ± {100 * error:.0f} % "
            f"({inside.sum()} choices, {len(shares)} cases)"
        )


if __name__ == "__main__":
    app.run(main)
