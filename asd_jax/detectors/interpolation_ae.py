"""The interpolation autoencoder: how badly is a frame predicted from its neighbours?

Source: Grollmisch et al. 2020 (DCASE), section 3.1 and Table 1: a branch of a larger system
and, for valves, a system of its own with the largest error of a clip as the score; after the
interpolation network of Suefusa et al. 2020, which they name IAE.

As there:
    Input: five consecutive log-mel frames without the middle one, which is the target.
    Network: dense layers of 256, 128, 64, 32 and 64, 128, 256 units; about 250 thousand values.
    Training: one model a machine and id, mean squared error, Adam at 1e-3, 30 epochs.
    Per clip: mean, standard deviation, median, maximum and interquartile range of the frames'
        errors, as features for other detectors (`InterpolationDetector.error_statistics`).

Decided here, where the report is silent:
    ReLU between the layers, no normalisation, the last layer linear: 250,912 values.
    Waveforms are reflected at their ends (`front_end.pad_mode`), as librosa before 0.9 does.
    Log-mels in dB as they are and batches of 512, as in the challenge's baseline. No clip is
    held out, since the report mentions none, and the last epoch's weights are kept.
    The score of a clip is the mean of its frames' errors unless `pooling` is "max".
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from asd_jax.audio.views import ViewSpec
from asd_jax.config import Config as RunConfig
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.detectors.cells import Cells
from asd_jax.detectors.networks import mean_latent
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.models import InterpolationAutoencoder
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import pooling
from asd_jax.scoring.pooling import Pool
from asd_jax.training.task import Batch, Task, gradient_task


@dataclasses.dataclass(frozen=True)
class InterpolationAutoencoderConfig(DetectorConfig):
    """Settings of the interpolation autoencoder.

    Attributes:
        frames: frames in a view, an odd number; the middle one is predicted.
        encoder: widths of the encoder's layers; the report also uses (128, 64, 32).
        pooling: the clip's score is the "mean" or the "max" of its frames' errors.
    """

    name: ClassVar[str] = "interpolation_ae"
    frames: Annotated[int, Between(3, 10**5)] = 5
    encoder: Annotated[tuple[int, ...], Between(1, 10**5)] = (256, 128, 64, 32)
    pooling: Literal["mean", "max"] = "mean"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shape(self.frames, self.encoder)


def check_shape(frames: int, encoder: tuple[int, ...]) -> None:
    """Raises UserError where an interpolation autoencoder cannot have these settings."""
    if frames % 2 == 0:
        raise UserError(f"detector.frames is {frames}; it must be odd, 3 or more")
    if not encoder:
        raise UserError(f"detector.encoder is {encoder}; name widths of 1 or more")


class InterpolationDetector(Detector):
    """The interpolation autoencoder as a system."""

    Config: ClassVar[type[DetectorConfig]] = InterpolationAutoencoderConfig
    settings: Any  # `frames` and `encoder`, as `Config` has them
    title = "interpolation autoencoder (IDNN, IAE)"
    paper = "Grollmisch et al. 2020, section 3.1"
    scope = "section"
    by_gradient = False

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings = config.detector
        self.module = InterpolationAutoencoder(self.settings.encoder, jnp.dtype(config.precision))

    @property
    def views(self) -> ViewSpec:
        """Consecutive frames, the predicted one included."""
        return ViewSpec(self.settings.frames)

    def task(self, n_labels: int = 1) -> Task:
        """Mean squared error of the middle frame, minimised by Adam."""
        shape = (1, self.settings.frames - 1, self.config.front_end.n_mels)

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            return batch.mean(self._errors(variables, batch.views)), {}

        return gradient_task(
            lambda key, statistics: self.module.init(key, jnp.zeros(shape)),
            loss,
            optax.adam(self.config.train.learning_rate, eps=1e-7),
            view_length=self.settings.frames,
        )

    def _residuals(self, weights: Any, views: jax.Array) -> jax.Array:
        """(views, mels) middle frame minus its prediction, of (views, frames, mels)."""
        middle = self.settings.frames // 2
        neighbours = jnp.delete(views, middle, axis=1)  # (views, frames − 1, mels)
        predicted: Any = self.module.apply(weights, neighbours)  # (views, mels)
        return views[:, middle] - predicted

    def _errors(self, weights: Any, views: jax.Array) -> jax.Array:
        """(views,) mean squared errors of (views, frames, mels)."""
        return jnp.mean(self._residuals(weights, views) ** 2, axis=-1)

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """Frames minus their predictions; the first and last of a clip have none."""
        views, _ = clip.views(self.views)
        residuals = self._residuals(weights, views)[:, None]  # (views, 1, mels)
        return Cells.of_views(residuals, clip, self.views, self.settings.frames // 2)

    def frame_errors(self, weights: Any, clip: ClipInput) -> tuple[jax.Array, jax.Array]:
        """Errors of all frames of a clip that have neighbours on both sides.

        Args:
            weights: of one model.
            clip: the clip.

        Returns:
            (views,) errors, and (views,) false for padding.
        """
        views, mask = clip.views(self.views)
        return self._errors(weights, views), mask

    def embed(self, weights: Any, clip: ClipInput) -> Pool:
        """Mean of the narrow layer over a clip's views."""
        views, mask = clip.views(self.views)  # (views, frames, mels)
        neighbours = jnp.delete(views, self.settings.frames // 2, axis=1)  # (…, frames − 1, mels)
        return mean_latent(self.module, weights, neighbours, mask)

    def pool(self, weights: Any, clip: ClipInput) -> Pool:
        """Mean or maximum of a clip's frame errors."""
        errors, mask = self.frame_errors(weights, clip)
        kind = pooling.Mean if self.settings.pooling == "mean" else pooling.Maximum
        return kind.of(errors, mask)
