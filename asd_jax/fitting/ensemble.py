"""The fitted ensemble: finished runs whose scores are combined, or chosen among by machine."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.config import nearest
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.scoring import ensemble

Group = tuple[str, str]  # machine and section


FORMAT = 1


class FittedEnsemble:
    """A finished ensemble, ready to score other recordings.

    Args:
        members: the fitted systems by their names.
        meta: what `combine_runs` wrote.

    Attributes:
        members: as given.
        machines: machine types it can score.
    """

    def __init__(
        self, members: Mapping[str, "FittedDetector | FittedEnsemble"], meta: Mapping[str, Any]
    ):
        self.members = dict(members)
        self._meta = meta
        self._scales = {(s["machine"], s["section"]): s for s in meta["scales"]}
        if meta["combine"] == "choose":
            self.machines = tuple(meta["chosen"])
        else:
            self.machines = tuple(dict.fromkeys(machine for machine, _ in self._scales))

    @classmethod
    def load(cls, path: os.PathLike | str, load_run) -> "FittedEnsemble":
        """Reads an `ensemble.json`, and the members' run directories by `load_run(path)`.

        Raises:
            UserError: it is damaged, or a member is not where it was.
        """
        path = Path(path)
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
            members = dict(zip(meta["members"], meta["paths"], strict=True))
            if meta["format"] != FORMAT or not {"combine", "chosen", "scales"} <= meta.keys():
                raise ValueError("it is of another version")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{path} is damaged ({error}); remove it, and the command that made "
                "the run makes it again"
            ) from error
        return cls(
            {
                name: load_run(Path(os.path.normpath(path.parent / p)))
                for name, p in members.items()
            },
            meta,
        )

    def resolve(self, machine: str | None, section: str | int | None) -> Group:
        """Machine and section of recordings by their names, as in `FittedDetector.score`.

        Raises:
            UserError: they are not told, or not served.
        """
        if machine is None and len(self.machines) == 1:
            machine = self.machines[0]
        if machine not in self.machines:
            said = "is not told" if machine is None else f"{machine!r} was not fitted"
            raise UserError(
                f"the machine of the recordings {said} (machine=, --machine=)"
                f"{nearest(machine or '', self.machines)}; there are "
                f"{listed(self.machines)}"
            )
        if self._meta["combine"] == "choose":
            return self.members[self.serving(machine)[0]].resolve(machine, section)
        sections = [s for m, s in self._scales if m == machine]
        if section is None and len(sections) == 1:
            section = sections[0]
        if section is None or str(section) not in sections:
            said = "is not told" if section is None else f"{section} was not fitted"
            raise UserError(
                f"{machine}: the section of the recordings {said} (section=, --section=); there "
                f"are {listed(sections)}"
            )
        return machine, str(section)

    def serving(self, machine: str) -> list[str]:
        """Names of the members that score a machine type's recordings."""
        if self._meta["combine"] == "choose":
            return [self._meta["chosen"][machine]]
        return [*self.members]

    def combined(self, scores: Sequence[np.ndarray], group: Group) -> np.ndarray:
        """(seeds, clips) from the same of each member that serves the group, in their order."""
        if self._meta["combine"] == "choose":
            return np.asarray(scores[0])
        scale = self._scales[group]
        mean, deviation = (np.array(scale[name])[..., None] for name in ("mean", "deviation"))
        return ensemble.combine(np.stack(scores), mean, deviation, self._meta["combine"])

    def seed_scores_of(
        self, waveforms: np.ndarray, sample_rate: int, machine: str | None, section: str | None
    ) -> np.ndarray:
        """(seeds, clips) scores of each seed; arguments as in `score`."""
        group = self.resolve(machine, section)
        served = [self.members[name] for name in self.serving(group[0])]
        scores = [
            member.seed_scores_of(waveforms, sample_rate, group[0], group[1] or None)
            for member in served
        ]
        return self.combined(scores, group)

    def score(
        self,
        waveforms: np.ndarray,
        sample_rate: int,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
    ) -> np.ndarray:
        """Scores recordings; arguments and result as in `FittedDetector.score`."""
        scores = self.seed_scores_of(waveforms, sample_rate, machine, section)
        return scores.mean(axis=0) if seed is None else scores[self._seed(seed)]

    def threshold(
        self,
        *,
        machine: str | None = None,
        section: str | int | None = None,
        seed: int | None = None,
    ) -> float:
        """The score above which a clip is decided to be anomalous; arguments as in `score`."""
        group = self.resolve(machine, section)
        if self._meta["combine"] == "choose":
            member = self.members[self.serving(group[0])[0]]
            return member.threshold(machine=group[0], section=group[1] or None, seed=seed)
        scale = self._scales[group]
        return scale["threshold"] if seed is None else scale["thresholds"][self._seed(seed)]

    def _seed(self, seed: int) -> int:
        if seed not in self._meta["seeds"]:
            raise UserError(f"seed {seed} was not fitted; there are {listed(self._meta['seeds'])}")
        return self._meta["seeds"].index(seed)


def listed(values: Sequence[Any]) -> str:
    """The values as people list them."""
    return ", ".join(map(str, values))
