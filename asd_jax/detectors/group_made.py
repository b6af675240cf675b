"""Group MADE: how likely are five frames, each given some of the others?

Source: Giri et al. 2020 (DCASE), section 2.1, used in ensembles and, as their system 4, alone;
after the masked autoencoder for distribution estimation (MADE) of Germain et al. 2015.

As there:
    Input: five consecutive log-mel frames of 128 bands.
    Density: a product over the frames in some order, each given all before it; a frame's values
        are independent given those, and each has a mixture of 10 Gaussians of its own.
    Order: the middle frame last, given the four others; or causal (`order` = 0,1,2,3,4).
    Network: dense layers of 128, 128, 128, 128, 32, 128, 128, 128 and 128 units and 19,200
        outputs, with connections cut so that no frame sees itself or a later one.
    Training: one model a machine type, on the normal clips of all its ids, those of the
        additional training set included (`both_sets`); negative log likelihood, Adam at 1e-3.
    Score: negative log likelihood.

Decided here, where the report is silent:
    Waveforms are reflected at their ends (`front_end.pad_mode`), as librosa before 0.9 does.
    The order of the four other frames: ascending, 0, 1, 3, 4.
    The score of a clip is the mean over its views; with `score` = "last", only the last
    frame's conditional density counts. The whole density is trained either way.
    Log-mels are standardised by the training frames' mean and deviation of each band; a band
    with a deviation below 1e-3 is only centred. The density is that of the standardised values:
    the density in dB would add a constant to every score of a model.
    ReLU between the layers, no normalisation. A layer's units share the degrees evenly. Weights
        start with variance 2 / connections of the unit (He et al. 2015, cut ones not counted),
        or the signal would fade on its way through ten layers; the last layer's with 0.01 /
        connections, so that the biases are what the mixtures start from.
    The Gaussians' means start at quantiles of a standard normal distribution: only biases
        reach the first frame, where ten equal means would stay equal.
    Log variances are 7·tanh(x/7), so that distant views and constant bands stay finite.
    20 epochs of batches of 512. No clip is held out and the last epoch's weights are kept.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asd_jax.audio.views import ViewSpec
from asd_jax.config import Config as RunConfig
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.detectors.cells import Cells
from asd_jax.detectors.networks import standardisation
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.models.group_made import GroupMADE, log_densities
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import pooling
from asd_jax.scoring.explanation import Part, map_of
from asd_jax.training.task import Batch, Task, TrainingStatistics, gradient_task

_WIDTH = Between(1, 10**5)


@dataclasses.dataclass(frozen=True)
class GroupMADEConfig(DetectorConfig):
    """Settings of Group MADE.

    Attributes:
        order: which of a view's frames is at each position; a frame is conditioned on those at
            earlier positions. A view has as many frames as are named.
        hidden: widths of the layers.
        components: Gaussians in the mixture of every value.
        score: the negative log likelihood of "all" frames of a view, or that of the order's
            "last" given the others.
        both_sets: whether a model also learns from its machine's training clips in the set that
            is not run, development or evaluation, where the data has both.
    """

    name: ClassVar[str] = "group_made"
    order: Annotated[tuple[int, ...], Between(0, 10**5)] = (0, 1, 3, 4, 2)
    hidden: Annotated[tuple[int, ...], _WIDTH] = (128, 128, 128, 128, 32, 128, 128, 128, 128)
    components: Annotated[int, Between(1, 10**5)] = 10
    score: Literal["all", "last"] = "all"
    both_sets: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.order) < 2 or sorted(self.order) != list(range(len(self.order))):
            raise UserError(
                f"detector.order is {self.order}; name each frame of a view once, counted from 0, "
                "of 2 frames or more"
            )
        if not self.hidden or min(self.hidden) < len(self.order) - 1:
            raise UserError(
                f"detector.hidden is {self.hidden}; name widths of {len(self.order) - 1} or more, "
                "one unit for each frame that others are conditioned on"
            )


class GroupMADEDetector(Detector):
    """Group MADE as a system."""

    Config = GroupMADEConfig
    title = "Group MADE (masked autoencoder for density estimation)"
    paper = "Giri et al. 2020, section 2.1"
    scope = "machine"
    by_gradient = False

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: GroupMADEConfig = config.detector
        self.module = GroupMADE(
            self.settings.hidden,
            self.settings.components,
            self.settings.order,
            jnp.dtype(config.precision),
        )

    @property
    def views(self) -> ViewSpec:
        """The frames whose joint density is modelled."""
        return ViewSpec(len(self.settings.order))

    @property
    def both_sets(self) -> bool:
        """As the setting."""
        return self.settings.both_sets

    def examples(
        self, own: np.ndarray, clips: Sequence[Clip], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Own clips, and those of the same machine in the other set."""
        clips = ClipTable.of(clips)
        more = clips.where(split="other", machine=clips[own[0]].machine)
        learned = np.append(own, np.flatnonzero(more))
        return learned, np.zeros(len(learned), np.int32)

    def task(self, n_labels: int = 1) -> Task:
        """Negative log likelihood of views, minimised by Adam."""
        shape = (1, self.views.length, self.config.front_end.n_mels)

        def init(key: jax.Array, statistics: TrainingStatistics) -> Mapping[str, Any]:
            mean, scale = standardisation(statistics)
            return {
                **self.module.init(key, jnp.zeros(shape)),
                "input": {"mean": mean, "scale": scale},
            }

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            return batch.mean(-jnp.sum(self.log_densities(variables, batch.views), axis=-1)), {}

        return gradient_task(
            init,
            loss,
            optax.adam(self.config.train.learning_rate, eps=1e-7),
            view_length=self.views.length,
        )

    def log_densities(self, weights: Any, views: jax.Array) -> jax.Array:
        """Log density of every frame of views given those before it in the order.

        Args:
            weights: of one model.
            views: (views, frames, mels).

        Returns:
            (views, frames), in nats, of the standardised values.
        """
        return jnp.sum(self._of_values(weights, views), axis=-1)

    def _of_values(self, weights: Any, views: jax.Array) -> jax.Array:
        """Log density (views, frames, mels) of every value given the frames before its own."""
        x = (views - weights["input"]["mean"]) / weights["input"]["scale"]  # (views, frames, mels)
        return log_densities(x, *self.module.apply({"params": weights["params"]}, x))

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """Negative log likelihoods of the values; of those that the score is of."""
        views, _ = clip.views(self.views)
        surprise, first = -self._of_values(weights, views), 0  # (views, frames, mels)
        if self.settings.score == "last":
            first = self.settings.order[-1]
            surprise = surprise[:, first : first + 1]
        return Cells.of_views(surprise, clip, self.views, first)

    def map(self, parts: Sequence[Part], evidence: np.ndarray) -> np.ndarray | None:
        """What is less likely than usual; what is likelier is nothing strange."""
        return map_of(evidence[0])

    @property
    def views_at_once(self) -> int:
        """Few: each has 19,200 outputs."""
        return 512

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean negative log likelihood of a clip's views, or of their last frames."""
        views, mask = clip.views(self.views)
        densities = self.log_densities(weights, views)  # (views, frames)
        if self.settings.score == "last":
            densities = densities[:, self.settings.order[-1]]
        else:
            densities = jnp.sum(densities, axis=-1)
        return pooling.Mean.of(-densities, mask)
