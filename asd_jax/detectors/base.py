"""The interface of every system of the zoo."""

import abc
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any, ClassVar, Literal

import jax
import numpy as np

from asd_jax.audio.views import ViewSpec
from asd_jax.audio.waveform_blocks import WaveformBlocks
from asd_jax.config import Config as RunConfig  # a system's own is `Detector.Config`
from asd_jax.data.clips import Clip
from asd_jax.detectors.cells import Cells, levels
from asd_jax.detectors.classes import By

# Names that were here before; systems of users import them from here.
from asd_jax.detectors.networks import mean_latent as mean_latent
from asd_jax.detectors.networks import standardisation as standardisation
from asd_jax.detectors.settings import DetectorConfig as DetectorConfig
from asd_jax.detectors.training_clips import TrainingClips as TrainingClips
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import ClipFacts, ClipInput, Features
from asd_jax.scoring.explanation import Part, map_of
from asd_jax.scoring.pooling import Pool
from asd_jax.training.task import Task

# Views in one call of the scoring program on a CPU, by kind of network. Of all systems, ten minutes
# of sound then take 90 to 350 MiB more than ten seconds.
_VIEWS_AT_ONCE = {"dense": 8192, "recurrent": 2048, "convolution": 128}


class Detector(abc.ABC):
    """A system: how one model is trained, and how it scores a clip.

    An instance holds settings only. Weights and calibration (arrays computed from the training
    clips after training) are passed in, so that every method is a pure function that can be
    vmapped over the models of a fleet.

    A system defines `Config`, `title`, `paper`, `scope`, `views`, `task` and `pool`; the other
    methods have defaults that suit most systems.

    A clip is scored in pieces of some views each, so that its length is of no account: `pool`
    keeps what is needed of one piece, pools of all pieces are merged, and `score_pooled` makes
    the score from their value.

    Attributes:
        Config: the class of `config.detector`; its `name` is the system's name.
        title: the system in a few words.
        paper: the report it is from.
        scope: one model serves a "machine" type; a "section" (machine id) of it; or a
            "machine by section", a machine type whose sections the model distinguishes: the
            section must be known to score a clip, and `ClipInput.label` is its place among the
            sections of the machine's training clips.
        joint: whether a seed has one network, trained on the clips of all machines; what serves
            a machine or section (`scope`) is then that network with a calibration of its own.
        float64: whether clips are pooled and scored in float64, on any device.
        by_gradient: whether a place of a map counts by how strongly the score depends on it, too.
        cache_dir: where weights that are fetched are kept; in the user's cache by default.
    """

    Config: ClassVar[type[DetectorConfig]]
    title: ClassVar[str]
    paper: ClassVar[str]
    scope: Literal["machine", "section", "machine by section"]
    joint: ClassVar[bool] = False
    float64: ClassVar[bool] = False
    by_gradient: ClassVar[bool] = True
    cache_dir: os.PathLike | str | None = None

    def __init__(self, config: RunConfig):
        self.config = config

    def settled(self, clips: Sequence[Clip]) -> "Detector":
        """The system with what the data decides of its settings, as the length of a view.

        Args:
            clips: of the run.

        Returns:
            By default the system as it is.
        """
        return self

    @property
    @abc.abstractmethod
    def views(self) -> ViewSpec:
        """Length and hop of the views that a clip is cut into."""

    @property
    def front_end(self) -> ClipFrontEnd:
        """What makes its features of recordings: log-mels, or blocks of samples."""
        if self.config.detector.hears_waveforms:
            return WaveformBlocks(self.config.front_end.sample_rate)
        return self.config.front_end

    @property
    def repeats(self) -> int:
        """Number of trainings of each seed; a clip gets the smallest of their scores."""
        return 1

    @property
    def both_sets(self) -> bool:
        """Whether it also learns from the training clips of the set that is not run.

        With "other" as their split. A system that is not `joint` is given those of its machines.
        """
        return False

    @property
    def supplemental(self) -> bool:
        """Whether it also learns from supplemental clips, see `asd_jax.data.supplemental`."""
        return False

    @property
    def keeps(self) -> Literal["", "clips", "sums"]:
        """What a network keeps of clips to be calibrated again with more, see `fitting.kept`.

        "clips": what each is pooled to, which must be what `statistics` gives; "sums": statistics
        of each domain, merged, which are `scoring.mahalanobis.Moments`. By default "": where it is
        adapted, the calibration stays.
        """
        return ""

    def other_machine(self, machine: str, machines: Collection[str]) -> str | None:
        """Second machine type whose normal clips a model of `machine` also learns from.

        Args:
            machine: a machine type.
            machines: all that have training clips.

        Returns:
            One of `machines`; None, as for most systems, where its own clips are enough.
        """
        return None

    def perturbed(self, clips: Sequence[Clip], seeds: Sequence[int]) -> Sequence[Clip]:
        """Changed copies of a machine's training clips from which its models learn as well.

        Args:
            clips: the training clips of one machine type.
            seeds: of the models.

        Returns:
            Clips with a `perturbation`, and "perturbed" as their split. By default none.
        """
        return []

    def examples(
        self, own: np.ndarray, clips: Sequence[Clip], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Chooses and labels the clips that one model learns from.

        Args:
            own: (n,) indices of the training clips of its machine, or machine and section; of all
                machines, for a network that serves all.
            clips: the whole table of clips.
            seed: of the random draws.

        Returns:
            (m,) indices of clips and (m,) int32 labels, from 0, which their views have in
            `Batch.labels`. By default its own clips, labelled 0.

        Raises:
            UserError: the system cannot learn from these clips.
        """
        return own, np.zeros(len(own), np.int32)

    def labelled(self, features: Features) -> Features:
        """The training clips with what the system finds out about them before it is trained.

        Args:
            features: of the training clips.

        Returns:
            The same features of clips that may have other attributes; by default the same clips.
        """
        return features

    @property
    def by(self) -> tuple[By, ...]:
        """What tells clips apart of which some must be left to learn from."""
        return "machine", "section"

    def validation(self, clips: Sequence[Clip]) -> np.ndarray | None:
        """Chooses the validation clips, the same for all models (`train.validation_split`).

        Args:
            clips: the table of clips.

        Returns:
            bool (clips,); None, as by default, where each model draws its own.
        """
        return None

    def plan(self, clips: Sequence[Clip]) -> list[str]:
        """What a user should know of the training clips before anything is trained, as lines.

        Args:
            clips: the table of clips.
        """
        return []

    @abc.abstractmethod
    def task(self, n_labels: int = 1) -> Task:
        """Training of one model: initialisation, step and validation loss.

        Args:
            n_labels: largest number of labels of a model of the fleet.
        """

    @property
    def of_settings_alone(self) -> bool:
        """Whether its task is made of its configuration, and of no file that this names.

        Traces of such a task's programs can be kept from one run to the next.
        """
        return True

    @property
    def kind(self) -> str:
        """Kind of its programs, see `Task.kind`."""
        return self.task().kind

    @property
    def views_at_once(self) -> int:
        """Views in one call of the scoring program on a CPU, which bounds its memory."""
        return _VIEWS_AT_ONCE[self.kind]

    @abc.abstractmethod
    def pool(self, weights: Any, clip: ClipInput) -> Pool:
        """Pools the values of a clip's views, or of those of a piece of a clip.

        Args:
            weights: of one model, as a linen module's `apply` takes them.
            clip: the clip, or a piece of it.

        Returns:
            One of the classes of `scoring.pooling`.
        """

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """The score of a clip, from what its views were pooled to; larger is more anomalous.

        Args:
            calibration: of the model, from `calibrate`.
            pooled: the value of the clip's pool; the score itself by default.
            facts: what is known of the clip beside its features.

        Returns:
            ().
        """
        return pooled

    def score(
        self, weights: Any, calibration: Any, clip: ClipInput, *, trained: bool = False
    ) -> jax.Array:
        """Scores one clip that is in memory as a whole.

        Args:
            weights: as of `pool`.
            calibration: as of `score_pooled`.
            clip: the clip, of at least a view's frames.
            trained: `ClipFacts.trained`.

        Returns:
            ().
        """
        facts = ClipFacts(clip.label, clip.embedding, trained)
        return self.score_pooled(calibration, self.pool(weights, clip).value, facts)

    def embed(self, weights: Any, clip: ClipInput) -> Pool:
        """Pools the embeddings (values,) of a clip's views, for systems that have some.

        Arguments as of `pool`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no embedding")

    def statistics(self, weights: Any, clip: ClipInput) -> Pool:
        """Pools what `calibrate` needs of a training clip; arguments as of `pool`."""
        raise NotImplementedError(f"{type(self).__name__} needs no statistics")

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """Computes arrays from a model's training clips that its scores need.

        Args:
            clips: its training clips; a system that asks for no statistics costs nothing.

        Returns:
            Arrays. Those of a fleet are stacked; shorter first axes are padded with NaN.
        """
        return {}

    def calibrate_fleet(
        self,
        calibrations: dict[str, np.ndarray],
        clips: Sequence[np.ndarray],
        embeddings: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Calibrates all models at once from their single calibrations.

        Args:
            calibrations: stacked results of `calibrate`.
            clips: indices of each model's training clips; models with the same clips share
                one array.
            embeddings: (clips, values) of the whole table of clips; None without.

        Returns:
            Arrays with the models' axis first. By default the calibrations as they are.
        """
        return calibrations

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """Values of each frame and band of a piece, of which maps show the unusual ones.

        By default the levels. Of these, places count by how strongly the score depends on them,
        see `by_gradient`.

        Args:
            weights: as of `pool`.
            clip: the piece.
        """
        return Cells.of_frames(levels(self.front_end, clip), clip)

    def parts(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> tuple[Part, ...]:
        """The statistics that a clip's score is made of; none of a system with a network.

        Args:
            calibration: of one model.
            pooled: the value of the clip's pool.
        """
        return ()

    def map(self, parts: Sequence[Part], evidence: np.ndarray) -> np.ndarray | None:
        """The map of a clip, see `Explanation.map`.

        Args:
            parts: of the score.
            evidence: (2, frames, kinds, bands) of the cells above and below the usual.
        """
        return map_of(evidence)

    def nearest(self, calibration: Mapping[str, np.ndarray], pooled: Any) -> int | None:
        """Place of the training clip nearest to a clip, for systems that keep what clips are by.

        Args:
            calibration: of one model.
            pooled: the value of the clip's pool.

        Returns:
            None, as by default, where mean spectra tell it.
        """
        return None

    def notes(
        self, calibration: Mapping[str, np.ndarray], clips: Sequence[Sequence[Clip]]
    ) -> list[str]:
        """What a user should know of the training clips, as lines; by default nothing.

        Args:
            calibration: of all models, from `calibrate_fleet`.
            clips: of each model.
        """
        return []

    def training_scores(self, calibration: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """(models, clips) scores of the training clips, where `calibrate_fleet` computed them.

        Args:
            calibration: of all models.

        Returns:
            Scores, padded with NaN at the end; None, as for most systems, where training clips
            are scored like others.
        """
        return None
