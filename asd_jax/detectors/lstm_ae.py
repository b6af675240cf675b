"""The LSTM autoencoder: how well are 15 frames reconstructed from a vector of eight numbers?

Source: Jalali et al. 2020 (DCASE), sections 2 and 3; tables 1 to 6 compare it with the
challenge's dense autoencoder.

As there:
    Input: 15 consecutive log-mel frames.
    Network: four LSTM layers to a vector of 8, which is repeated 15 times, four LSTM layers
        back and a dense layer for each step; tanh; dropout of 0.2 on the encoder's layers;
        755,776 values.
    Training: RMSprop at 1e-4 with a decay of 0.01, at most 100 epochs, a tenth held out,
        stopped when its loss has not improved for 20 epochs.
    Score: the error of the reconstruction; the threshold is that of the training set.

Decided here, where the report is silent:
    Layers of 128, 128, 128, 8 units and back, two biases a gate, as cuDNN's LSTM has, and
        batch normalisation after every LSTM layer: an arrangement that gives the report's
        number of values exactly. Dropout comes after the normalisation, with a draw for every
        value. The last layer is linear.
    Waveforms are reflected at their ends (`front_end.pad_mode`), as librosa before 0.9 does.
    One model a machine and id, as in the report's tables. Loss and score are the mean squared
        error, the score's over all sequences of the clip.
    The threshold is the mean of the training clips' scores: the report's shares of true and
        false alarms fit that better than a high quantile.
    Keras's RMSprop of 2020: ρ 0.9, epsilon 1e-7 added outside the root (inside it today), the
        learning rate divided by 1 + 0.01 × updates.
    Each band is standardised by the mean and standard deviation of the training frames. An
        update moves a weight by about the learning rate, in all by 0.01 · log(1 + 0.01 ×
        updates) with that decay: a few hundredths, too little to reach levels in dB.
    Batches of 32, Keras's default: on a CPU an epoch takes no longer than with 512, and one
        such epoch lowered the validation loss more than six with 512.
    Whole clips, a tenth of them, are held out; the weights of their lowest loss are kept.
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
from asd_jax.detectors.networks import mean_latent, standardisation
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.models import LSTMAutoencoder
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import pooling
from asd_jax.training.task import Batch, Task, TrainingStatistics, gradient_task


@dataclasses.dataclass(frozen=True)
class LSTMAutoencoderConfig(DetectorConfig):
    """Settings of the LSTM autoencoder.

    Attributes:
        frames: frames in a sequence.
        encoder: widths of the encoder's LSTM layers, mirrored in the decoder.
        dropout: share of the values dropped after each layer of the encoder in training.
        decay: the learning rate is divided by 1 + decay × updates.
        scaling: "standard" subtracts each band's mean over the training frames and divides by
            its standard deviation; "none" leaves the log-mels in dB.
    """

    name: ClassVar[str] = "lstm_ae"
    varied: ClassVar[tuple[str, ...]] = ("decay",)
    frames: Annotated[int, Between(1, 10**5)] = 15
    encoder: Annotated[tuple[int, ...], Between(1, 10**5)] = (128, 128, 128, 8)
    dropout: Annotated[float, Between(0, 1, below=True)] = 0.2
    decay: Annotated[float, Between(0, 10**6)] = 0.01
    scaling: Literal["standard", "none"] = "standard"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.encoder:
            raise UserError("detector.encoder is empty; name widths of 1 or more")


def decaying_rmsprop(learning_rate: float, decay: float) -> optax.GradientTransformation:
    """RMSprop of Keras in 2020, whose learning rate decays with the updates."""
    return optax.rmsprop(
        lambda count: learning_rate / (1 + decay * count), decay=0.9, eps=1e-7, eps_in_sqrt=False
    )


class LSTMAutoencoderDetector(Detector):
    """The LSTM autoencoder as a system."""

    Config = LSTMAutoencoderConfig
    title = "LSTM autoencoder"
    paper = "Jalali et al. 2020"
    scope = "section"
    by_gradient = False

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: LSTMAutoencoderConfig = config.detector
        self.module = LSTMAutoencoder(
            self.settings.encoder, self.settings.dropout, jnp.dtype(config.precision)
        )

    @property
    def views(self) -> ViewSpec:
        """Sequences of consecutive frames."""
        return ViewSpec(self.settings.frames)

    def task(self, n_labels: int = 1) -> Task:
        """Mean squared error, minimised by RMSprop with a decaying rate."""
        n_mels = self.config.front_end.n_mels

        def init(key: jax.Array, statistics: TrainingStatistics) -> Mapping[str, Any]:
            variables = self.module.init(key, jnp.zeros((1, self.settings.frames, n_mels)))
            mean, scale = jnp.zeros(n_mels), jnp.ones(n_mels)
            if self.settings.scaling == "standard":
                mean, scale = standardisation(statistics)
            return {**variables, "input": {"mean": mean, "scale": scale}}

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            options: dict[str, Any] = (
                {"mask": batch.mask, "rngs": {"dropout": key}} if train else {}
            )
            errors, updates = self._errors(variables, batch.views, train=train, **options)
            return batch.mean(errors), updates

        return gradient_task(
            init,
            loss,
            decaying_rmsprop(self.config.train.learning_rate, self.settings.decay),
            view_length=self.settings.frames,
            kind="recurrent",
        )

    def _errors(self, weights: Any, views: jax.Array, **options: Any) -> tuple[jax.Array, Any]:
        """(views,) mean squared errors of (views, frames, mels), and updated statistics."""
        residuals, updates = self._residuals(weights, views, **options)
        return jnp.mean(residuals**2, axis=(1, 2)), updates

    def _residuals(self, weights: Any, views: jax.Array, **options: Any) -> tuple[jax.Array, Any]:
        """Scaled input minus reconstruction (views, frames, mels), and updated statistics."""
        x = (views - weights["input"]["mean"]) / weights["input"]["scale"]
        output, updates = self.module.apply(weights, x, mutable=["batch_stats"], **options)
        return x - output, updates

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """Scaled input minus reconstruction."""
        views, _ = clip.views(self.views)
        residuals, _ = self._residuals(weights, views)
        return Cells.of_views(residuals, clip, self.views)

    def sequence_errors(self, weights: Any, clip: ClipInput) -> tuple[jax.Array, jax.Array]:
        """Mean squared errors of all sequences of a clip.

        Args:
            weights: of one model.
            clip: the clip.

        Returns:
            (views,) errors, of values scaled as the model's input, and (views,) false for
            padding.
        """
        views, mask = clip.views(self.views)  # (views, frames, mels)
        errors, _ = self._errors(weights, views)
        return errors, mask

    def embed(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean of the narrow layer over a clip's sequences."""
        views, mask = clip.views(self.views)  # (views, frames, mels)
        x = (views - weights["input"]["mean"]) / weights["input"]["scale"]
        return mean_latent(self.module, weights, x, mask)

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean squared error over a clip's sequences."""
        return pooling.Mean.of(*self.sequence_errors(weights, clip))
