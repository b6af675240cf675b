"""The interface of fitted detectors, ensembles, and choices among them."""

import abc
from collections.abc import Sequence
from typing import Any

import numpy as np

from asd_jax.config import nearest
from asd_jax.errors import UserError
from asd_jax.evaluation.promises import NO_REFERENCE, rounded, too_few
from asd_jax.fitting.layout import Group
from asd_jax.runtime.arguments import check, check_machine, check_section, composed
from asd_jax.scoring.alarm_promises import (
    AlarmPromise,
    Cadence,
    alarm_promise,
    alarm_threshold,
)
from asd_jax.scoring.alarms import AlarmRule
from asd_jax.scoring.conformal import (
    Promise,
    Reference,
    conformal_threshold,
    p_values,
    promise_of,
)

_NUMBERS = (float, int, np.floating, np.integer)


class Fitted(abc.ABC):
    """Scores recordings of the machines and sections that it was fitted to.

    Attributes:
        seeds: of its models; scores are computed for each seed, and averaged by default.
        machines: machine types that it scores.
    """

    @property
    @abc.abstractmethod
    def seeds(self) -> tuple[int, ...]:
        """Seeds of its models."""

    @property
    @abc.abstractmethod
    def machines(self) -> tuple[str, ...]:
        """Machine types that it scores."""

    @abc.abstractmethod
    def sections_of(self, machine: str) -> tuple[str, ...] | None:
        """Sections of a machine type that it scores; None where all are scored alike."""

    @abc.abstractmethod
    def seed_scores(
        self, waveforms: np.ndarray, sample_rate: int, group: Group, seeds: Sequence[int]
    ) -> np.ndarray:
        """Scores recordings by each seed.

        Args:
            waveforms: as in `score`.
            sample_rate: as in `score`.
            group: their machine and section, from `resolve`.
            seeds: some of its seeds.

        Returns:
            (seeds, clips).
        """

    @abc.abstractmethod
    def group_threshold(self, group: Group, seed: int | None) -> float:
        """`threshold` of a machine and section, from `resolve`."""

    @abc.abstractmethod
    def group_reference(self, group: Group, seed: int | None) -> Reference:
        """Scores of normal clips of a machine and section that no model was fitted to."""

    def score(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Scores recordings; larger is more anomalous.

        Args:
            waveforms: (clips, samples), or (samples,) of one clip; −1 to 1, or signed integers
                of any width. With `front_end.canceller` (clips, samples, 2) or (samples, 2).
            sample_rate: Hz; resampled where it is not the front end's.
            machine: machine type; may be left out where there is only one.
            section: section or machine id; may be left out where there is only one, or where
                models score all sections of a machine alike.
            seed: the model of that seed; the mean over all seeds by default.

        Returns:
            (clips,).

        Raises:
            UserError: a machine, section or seed that was not fitted or is none, waveforms of
                other shapes, with samples that are not finite, or too short.
        """
        group, seeds = self.resolve(machine, section), self._seeds(seed)
        return self.seed_scores(waveforms, sample_rate, group, seeds).mean(axis=0)

    def threshold(
        self,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
        false_alarms: float | None = None,
    ) -> float:
        """Score above which a clip is called anomalous.

        Args:
            machine: as in `score`.
            section: as in `score`.
            seed: as in `score`.
            false_alarms: largest rate at which normal clips are to be called anomalous, in (0, 1);
                by default the threshold is the configuration's.

        Raises:
            UserError: as `score`; or the rate cannot be promised, and what can be.
        """
        self._seeds(seed)
        group = self.resolve(machine, section)
        if false_alarms is None:
            return self.group_threshold(group, seed)
        check("false_alarms", false_alarms, _NUMBERS, "a rate, as 0.01")
        reference = self.group_reference(group, seed)
        threshold, problem = conformal_threshold(reference, float(false_alarms))
        if problem:
            raise UserError(f"{' '.join(filter(None, group))}: {too_few(problem, reference)}")
        return threshold

    def p_values(
        self,
        scores: np.ndarray,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Largest rates at which normal clips have such scores, or larger ones.

        They are by normal clips that the system was not fitted to, see `scoring.conformal`.

        Args:
            scores: (...) from `score`, with the same machine, section and seed.
            machine: as in `score`.
            section: as in `score`.
            seed: as in `score`.

        Returns:
            (...) in (0, 1]; NaN where a score is.

        Raises:
            UserError: as `score`; or no normal clip was kept apart from the fit.
        """
        self._seeds(seed)
        group = self.resolve(machine, section)
        reference = self.group_reference(group, seed)
        if not reference.n_groups:
            raise UserError(f"{' '.join(filter(None, group))}: {NO_REFERENCE}")
        try:
            scores = rounded(scores)
        except (TypeError, ValueError):
            raise UserError("scores must be numbers, as `score` gives them") from None
        return p_values(scores, reference)

    def promise(
        self,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
        false_alarms: float | None = None,
    ) -> Promise:
        """What `threshold` promises of new normal clips; arguments as there.

        Raises:
            UserError: as `threshold`; or no normal clip was kept apart from the fit.
        """
        place: dict[str, Any] = {"machine": machine, "section": section, "seed": seed}
        threshold = self.threshold(**place, false_alarms=false_alarms)
        group = self.resolve(machine, section)
        reference = self.group_reference(group, seed)
        if not reference.n_groups:
            raise UserError(f"{' '.join(filter(None, group))}: {NO_REFERENCE}")
        return promise_of(threshold, reference)

    def alarm_threshold(
        self,
        rule: AlarmRule,
        cadence: Cadence,
        alarms_a_month: float,
        *,
        machine: str | None = None,
        section: str | int | None = None,
    ) -> float:
        """The lowest threshold of windows that lets so few false alarms a month through.

        Args:
            rule: when windows make an alarm.
            cadence: length of a window, about that of the training clips, and their distance.
            alarms_a_month: most false alarms in 30 days, on average over what might have been the
                reference.
            machine: as in `score`.
            section: as in `score`.

        Raises:
            UserError: as `score`; or no normal clip was kept apart from the fit, or so few that no
                threshold promises it, and what one promises.

        Examples:
            >>> from asd_jax.scoring.alarm_promises import Cadence
            >>> from asd_jax.scoring.alarms import AlarmRule
            >>> rule, cadence = AlarmRule(need=4, among=6, stays=360), Cadence(10, 10)
            >>> fitted.alarm_threshold(rule, cadence, 20.0, machine="fan")  # doctest: +SKIP
        """
        group = self.resolve(machine, section)
        check("alarms_a_month", alarms_a_month, _NUMBERS, "a number, as 2.5")
        reference = self.group_reference(group, None)
        threshold, problem = alarm_threshold(rule, reference, cadence, float(alarms_a_month))
        if problem and "a month" in problem:
            problem += (
                "; ask for as many, need more windows for an alarm, let alarms stay longer, or "
                "give more normal recordings"
            )
        elif problem:
            problem = too_few(problem, reference)
        if problem:
            raise UserError(f"{' '.join(filter(None, group))}: {problem}")
        return threshold

    def alarm_promise(
        self,
        rule: AlarmRule,
        cadence: Cadence,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        threshold: float | None = None,
    ) -> AlarmPromise:
        """How many false alarms a month a threshold of windows lets through.

        Args:
            rule: as in `alarm_threshold`.
            cadence: as in `alarm_threshold`.
            machine: as in `score`.
            section: as in `score`.
            threshold: of the mean score over the seeds; that of `threshold` by default.

        Raises:
            UserError: as `score`; or no normal clip was kept apart from the fit.
        """
        group = self.resolve(machine, section)
        if threshold is None:
            threshold = self.group_threshold(group, None)
        reference = self.group_reference(group, None)
        if not reference.n_groups:
            raise UserError(f"{' '.join(filter(None, group))}: {NO_REFERENCE}")
        return alarm_promise(rule, threshold, reference, cadence)

    def resolve(self, machine: str | None, section: str | int | None) -> Group:
        """Infers a machine or section that is left out, where there is only one.

        Returns:
            Machine and section; the section is "" where all are scored alike.

        Raises:
            UserError: there are several to choose from, or the given one was not fitted.
        """
        machines = self.machines
        check_machine(machine, optional=True)
        if section is not None:
            check_section("section", section)
        if machine is not None and machine not in machines:
            machine = composed(machine)
        if machine is None and len(machines) == 1:
            machine = machines[0]
        if machine is None:
            raise UserError(
                "several machines were fitted; choose one with machine= (--machine=): "
                + ", ".join(machines)
            )
        if machine not in machines:
            raise UserError(
                f"machine {machine!r} was not fitted{nearest(machine, machines)}; there are "
                + ", ".join(machines)
            )
        sections = self.sections_of(machine)
        if sections is None:
            return machine, ""
        if section is None and len(sections) == 1:
            section = sections[0]
        if section is None:
            raise UserError(
                f"several sections of {machine} were fitted; choose one with section= "
                "(--section=): " + ", ".join(sections)
            )
        if str(section) not in sections:
            raise UserError(
                f"{machine}: section {section} was not fitted; there are " + ", ".join(sections)
            )
        return machine, str(section)

    def _seeds(self, seed: int | None) -> tuple[int, ...]:
        """All seeds, or the given one; UserError where it was not fitted."""
        if seed is None:
            return self.seeds
        check("seed", seed, (int, np.integer), "one whole number, or None for the mean over all")
        if seed not in self.seeds:
            raise UserError(
                f"seed {seed} was not fitted; there are " + ", ".join(map(str, self.seeds))
            )
        return (int(seed),)
