"""Systems with one network for all machines, which hears waveforms and tells classes apart."""

import dataclasses
import re
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.augmentation import add_noise
from asd_jax.audio.views import ViewSpec
from asd_jax.audio.waveform_blocks import BLOCK
from asd_jax.config.types import check_no_effect
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.groups import hold_out
from asd_jax.data.supplemental import NOISE, SPLIT
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.detectors.classes import (
    By,
    check_several,
    describe_classes,
    find_classes,
    with_pseudo_attributes,
)
from asd_jax.errors import UserError
from asd_jax.features.table import Features
from asd_jax.runtime.bounds import Between
from asd_jax.training.task import Batch

# Seconds of a recording by year, as in ASDKit; the challenges' longest clips.
_SECONDS = {2020: 11.0, 2021: 10.0, 2022: 10.0, 2023: 18.0, 2024: 12.0, 2025: 12.0, 2026: 12.0}
_OTHER_SECONDS = 10.0
_SHORTEST = 10  # a clip has at least such a part of the length


_KNOWN: tuple[By, ...] = ("machine", "section", "attributes", "domain")


SECONDS = Between(0, 10**6, at_low="by the challenge's year")


@dataclasses.dataclass(frozen=True)
class JointConfig(DetectorConfig):
    """Settings of what a joint network hears and tells apart.

    Attributes:
        seconds: of a recording that the network hears at a time; 0 for those of a run's challenge
            year (11, 10, 10, 18, 12, 12 from 2020 on); 10 for other data, and in `asd_jax.fit`.
        classes: what tells classes apart, in any order: "machine", "section", "attributes",
            "domain".
        pseudo_classes: classes by sound of each section without attributes; 0 for none.
        both_sets: whether the network also learns from the training clips of the set that is not
            run, development or evaluation, where the data has both; of `data.machines`, where
            these are named, else of all.
        noise: use of supplemental clips. "mix" adds noise to half of a step's clips, at 5 to 20 dB
            below them; "class" tells each machine's supplemental clips apart as well, those of
            noise and others; "none" leaves them out.
        noise_names: regular expression that is found in the names of supplemental clips of noise.
    """

    hears_waveforms: ClassVar[bool] = True
    seconds: Annotated[float, SECONDS] = 0.0
    classes: tuple[str, ...] = ("machine", "section", "attributes", "domain")
    pseudo_classes: Annotated[int, Between(0, 10**5, at_low="off")] = 0
    both_sets: bool = True
    noise: Literal["none", "mix", "class"] = "none"
    noise_names: str = NOISE

    def require(self, condition: bool, name: str, wanted: str) -> None:
        """Raises UserError about a setting where a condition is not met."""
        if not condition:
            raise UserError(f"detector.{name} is {getattr(self, name)!r}; it must be {wanted}")

    def check_classes(self) -> None:
        """Raises UserError for settings of what is heard and told apart that cannot be."""
        right = bool(self.classes) and set(self.classes) <= {*_KNOWN}
        self.require(
            right and len(set(self.classes)) == len(self.classes),
            "classes",
            "some of machine,section,attributes,domain",
        )
        several = self.pseudo_classes != 1
        self.require(several, "pseudo_classes", "0 (off), or 2 or more")
        if "attributes" not in self.classes:
            why = "detector.classes does not have attributes"
            check_no_effect("detector", self, ("pseudo_classes",), why)
        if self.noise == "none":
            why = "detector.noise is none"
            check_no_effect("detector", self, ("noise_names",), why)
        try:
            re.compile(self.noise_names)
        except re.error as error:
            raise UserError(
                f"detector.noise_names is {self.noise_names!r}, which is no regular expression: "
                f"{error}"
            ) from None


class Joint(Detector):
    """Base of these systems.

    Attributes:
        module: the network, whose `apply` takes `train` and `mask`.
    """

    joint = True
    module: nn.Module

    def settled(self, clips: Sequence[Clip]) -> Detector:
        """The length of the challenge's year, where none is set."""
        settings = self.config.detector
        if settings.seconds:
            return self
        years = ClipTable.of(clips).distinct("year")
        seconds = _SECONDS.get(years[0], _OTHER_SECONDS) if len(years) == 1 else _OTHER_SECONDS
        longer = dataclasses.replace(settings, seconds=seconds)
        return type(self)(dataclasses.replace(self.config, detector=longer))

    @property
    def samples(self) -> int:
        """Samples that the network hears at a time."""
        seconds = self.config.detector.seconds or _OTHER_SECONDS
        return max(1, round(seconds * self.config.front_end.sample_rate / BLOCK)) * BLOCK

    @property
    def views(self) -> ViewSpec:
        """The fixed length, a quarter of it apart; in training one a clip, anywhere."""
        length = self.samples // BLOCK
        return ViewSpec(length, max(1, length // 4), -(-length // _SHORTEST), crop=True)

    @property
    def kind(self) -> str:
        """Convolutions."""
        return "convolution"

    @property
    def views_at_once(self) -> int:
        """Recordings, of which each has millions of values."""
        return 16

    def apply(
        self, weights: Any, inputs: Sequence[Any], mask: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """Applies the network `module`.

        Args:
            weights: of one model.
            inputs: of the network.
            mask: (batch,) true where a row counts; normalisation is then by these rows.

        Returns:
            (batch, values) embeddings, and the running statistics.
        """
        before = {"batch_stats": weights["batch_stats"]}
        embeddings, after = self.module.apply(
            {"params": weights["params"]["network"], **before},
            *inputs,
            train=mask is not None,
            mask=mask,
            mutable=["batch_stats"],
        )
        if mask is not None:
            # One row has no variance, and says nothing of that of others.
            several = jnp.sum(mask) > 1
            after = jax.tree.map(lambda new, old: jnp.where(several, new, old), after, before)
        return embeddings, after

    def labelled(self, features: Features) -> Features:
        """Classes by sound of clips without attributes."""
        count = self.config.detector.pseudo_classes
        if not count:
            return features
        return with_pseudo_attributes(features, count, self.config.front_end.sample_rate)

    def plan(self, clips: Sequence[Clip]) -> list[str]:
        """The classes, and the length of what is heard."""
        clips = ClipTable.of(clips)
        own = clips[clips.where(split=["train", "other"])]
        seconds = self.samples / self.config.front_end.sample_rate
        lines = describe_classes(own, self.by, self.config.detector.pseudo_classes)
        if self.supplemental:
            is_noise = self._noise(clips)
            rest = int(clips.where(split=SPLIT).sum()) - len(is_noise)
            use = {"mix": "are mixed with others", "class": "have classes of their own"}
            lines.append(
                f"{len(is_noise)} supplemental clips of noise {use[self.config.detector.noise]}; "
                f"{rest} others "
                + ("too" if self.config.detector.noise == "class" else "are not used")
            )
        lines.append(f"hears {seconds:g} s of a recording; a shorter one is repeated")
        return lines

    def validation(self, clips: Sequence[Clip]) -> np.ndarray:
        """A share of each section's clips, spread over what is known of them.

        Clips of the other set and supplemental ones are all learned from.
        """
        clips = ClipTable.of(clips)
        own = np.flatnonzero(clips.where(split="train"))
        chosen = np.zeros(len(clips), bool)
        labels = find_classes(clips[own], self.by).labels
        chosen[own] = hold_out(clips[own], labels, self.config.train.validation_split, ())
        return chosen

    @property
    def by(self) -> tuple[By, ...]:
        """What tells classes apart."""
        return tuple(name for name in _KNOWN if name in self.config.detector.classes)

    def examples(
        self, own: np.ndarray, clips: Sequence[Clip], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """All machines' training clips, labelled by their classes.

        Supplemental clips have labels behind these: one for all noise that is mixed with others;
        or one for each machine's noise, and one for its other supplemental clips.
        """
        clips = ClipTable.of(clips)
        own = np.append(own, np.flatnonzero(clips.where(split="other")))
        learned = clips[own]
        check_several(learned, self.by, self.config.detector.pseudo_classes)
        keys, labels = find_classes(learned, self.by)
        if not self.supplemental:
            return own, labels
        noise = self._noise(clips)
        if self.config.detector.noise == "mix":
            return np.append(own, noise), np.append(
                labels, np.full(len(noise), len(keys), np.int32)
            )
        rows = np.flatnonzero(clips.where(split=SPLIT))
        kinds = 2 * find_classes(clips[rows], ("machine",)).labels + np.isin(rows, noise)
        behind = np.unique(kinds, return_inverse=True)[1].astype(np.int32) + len(keys)
        return np.append(own, rows), np.append(labels, behind)

    @property
    def both_sets(self) -> bool:
        """As the setting."""
        return self.config.detector.both_sets

    @property
    def supplemental(self) -> bool:
        """Whether noise is mixed in, or told apart."""
        return self.config.detector.noise != "none"

    def n_classes(self, n_labels: int) -> int:
        """Classes of so many labels: noise that is mixed in has the last one, and is no class."""
        return max(1, n_labels - (self.config.detector.noise == "mix"))

    def with_noise(
        self, key: jax.Array | None, batch: Batch, sounds: jax.Array, n_labels: int
    ) -> tuple[Batch, jax.Array]:
        """Adds a batch's noise to its other sounds, where that is asked for.

        Args:
            key: of the draws; None in validation, which adds nothing.
            batch: as the step gets it.
            sounds: (batch, samples) of its views.
            n_labels: number of labels, see `n_classes`.

        Returns:
            The batch, in which rows of noise do not count, unless there are no others; and the
            sounds.
        """
        if self.config.detector.noise != "mix":
            return batch, sounds
        is_noise = batch.labels == self.n_classes(n_labels)
        if key is not None:
            sounds = add_noise(key, sounds, is_noise, batch.mask)
        counts = batch.mask & ~is_noise
        return batch._replace(mask=jnp.where(jnp.any(counts), counts, batch.mask)), sounds

    def _noise(self, clips: ClipTable) -> np.ndarray:
        """Indices of the supplemental clips of noise; UserError where there is none."""
        settings = self.config.detector
        rows = np.flatnonzero(clips.where(split=SPLIT))
        if not len(rows):
            raise UserError(
                f"detector.noise is {settings.noise}, and the machines have no supplemental clips "
                "(a folder `supplemental` beside `train`); leave it at none"
            )
        found = [row for row in rows.tolist() if re.search(settings.noise_names, clips[row].name)]
        if not found:
            raise UserError(
                f"no supplemental clip has {settings.noise_names!r} in its name, as "
                f"{clips[rows[0]].name}; name what those of noise have (detector.noise_names)"
            )
        return np.array(found)
