"""What every system of the zoo gives to the rest of the package."""

import abc
import dataclasses
from collections.abc import Collection, Iterator, Sequence
from typing import Any, ClassVar, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import Config
from asd_jax.data.clips import Clip
from asd_jax.scoring import pooling
from asd_jax.training.task import Task


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Base of the systems' configurations; `name` is the detector's."""

    name: ClassVar[str] = ""


class Detector(abc.ABC):
    """A system: how one model is trained, and how it scores a clip.

    An instance holds settings only. Weights, and what is computed from the training clips
    after training (the calibration), are passed in, so that every method is a pure
    function that can be vmapped over the models of a fleet.

    Attributes:
        Config: the class of `config.detector`; its `name` is the system's name.
        title: the system in a few words.
        paper: the report it is from.
        scope: whether one model serves a machine type or one section (machine id) of it.
        by_section: whether a clip's section must be known to score it, although one model
            serves the machine type. Views of such a system's own clips are labelled by their
            section's place among the sections of the machine's training clips.
        uses_embedding: whether it has a use for a pretrained network's embedding of a clip
            (`Config.embedding`); where there is one, `score` and `statistics` take it last.
    """

    Config: ClassVar[type[DetectorConfig]]
    title: ClassVar[str]
    paper: ClassVar[str]
    scope: ClassVar[Literal["machine", "section"]]
    by_section: ClassVar[bool] = False
    uses_embedding: ClassVar[bool] = False

    def __init__(self, config: Config):
        self.config = config

    @property
    def dtype(self) -> jnp.dtype:
        """In what the networks compute; what they take and give is float32."""
        return jnp.dtype(self.config.precision)

    @property
    @abc.abstractmethod
    def view_length(self) -> int:
        """Frames in a view."""

    @property
    def fewest_frames(self) -> int:
        """Frames that a clip must have; where it has fewer than a view, it is repeated."""
        return self.view_length

    @property
    def view_hop(self) -> int:
        """Frames from one view to the next."""
        return 1

    @property
    def repeats(self) -> int:
        """Trainings of each seed, of whose scores of a clip the smallest counts."""
        return 1

    def other_machine(self, machine: str, machines: Collection[str]) -> str | None:
        """The machine type whose normal clips a model of `machine` learns from as well.

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
        """What one model learns from.

        Args:
            own: (n,) indices of the training clips of its machine, or machine and section.
            clips: the whole table of clips.
            seed: of whatever is drawn.

        Returns:
            (m,) indices of clips and (m,) int32 labels, from 0, which `Batch.labels` shows for
            their views. By default its own clips, labelled 0.

        Raises:
            UserError: the system cannot learn from these clips.
        """
        return own, np.zeros(len(own), np.int32)

    @abc.abstractmethod
    def task(self, n_labels: int = 1) -> Task:
        """How one model is trained.

        Args:
            n_labels: the most labels that a model of the fleet has.
        """

    @abc.abstractmethod
    def score(
        self,
        weights: Any,
        calibration: Any,
        features: jax.Array,
        n_frames: jax.Array,
        label: jax.Array | int = 0,
    ) -> jax.Array:
        """Scores one clip; larger is more anomalous.

        Args:
            weights: of one model, as a linen module's `apply` takes them.
            calibration: of that model, as `calibrate` gave it.
            features: (frames, mels), of which those past `n_frames` are padding.
            n_frames: ().
            label: (), that of the clip's section, see `by_section`.

        Returns:
            ().
        """

    def score_trained(self, weights, calibration, features, n_frames, label=0, *embedding):
        """Scores one of the model's own training clips, as if it had not been one.

        Where a score compares a clip with the training clips themselves, this leaves the clip
        out; by default it is the same as `score`, whose arguments it has.
        """
        return self.score(weights, calibration, features, n_frames, label, *embedding)

    def embed(
        self,
        weights: Any,
        features: jax.Array,
        n_frames: jax.Array,
        embedding: jax.Array | None = None,
    ) -> jax.Array:
        """(values,) embedding of a clip, for systems that have one; arguments as in `score`."""
        raise TypeError(f"{type(self).__name__} has no embedding")

    def statistics(self, weights: Any, features: jax.Array, n_frames: jax.Array) -> Any:
        """What `calibrate` needs of one training clip; arguments as in `score`.

        Where the clip has an embedding by `Config.embedding`, that comes last.
        """
        raise TypeError(f"{type(self).__name__} needs no statistics")

    def calibrated_on(self, own: np.ndarray) -> np.ndarray:
        """Which training clips `calibrate` needs: by default all, as indices like `own`."""
        return own

    def calibrate(self, clips: Iterator[tuple[Clip, Any]]) -> dict[str, np.ndarray]:
        """What a model needs of its training clips to score others.

        Args:
            clips: each clip of `calibrated_on` with its statistics (NumPy arrays), computed as
                it is asked for; a system that asks for none costs nothing.

        Returns:
            Arrays. Those of a fleet are stacked; where their first axes differ in length, the
            shorter ones are filled up with NaN.
        """
        return {}

    def calibrate_fleet(
        self,
        calibrations: dict[str, np.ndarray],
        clips: Sequence[np.ndarray],
        embeddings: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """What all models need, from what `calibrate` gave of each: fitted at once.

        Args:
            calibrations: stacked results of `calibrate`.
            clips: a model each: indices of its training clips as `calibrated_on` gave them; the
                same array for models of the same clips.
            embeddings: (clips, values) of the whole table of clips; None without.

        Returns:
            Arrays with the models' axis first. By default the calibrations as they are.
        """
        return calibrations


def mean_latent(module: nn.Module, weights: Any, inputs: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of what an autoencoder's narrow layer gives of a clip's views.

    Args:
        module: one that sows "latent".
        weights: its variables.
        inputs: (views, …) as it takes them.
        mask: (views,) true where a view counts.

    Returns:
        (values,).
    """
    _, sown = module.apply(weights, inputs, mutable=["intermediates"])
    (latent,) = sown["intermediates"]["latent"]
    return pooling.mean(latent.T, mask)
