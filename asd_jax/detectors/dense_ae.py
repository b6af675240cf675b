"""The dense autoencoder: the baseline of the challenge, and of all five reports.

Source: the DCASE Challenge task 2 baselines of 2020 to 2022, in Keras, and of 2023 onwards, in
PyTorch: Harada et al. 2023 (arXiv 2303.00455) and its program's documentation, which also have the
selective Mahalanobis score. Jalali et al. 2020 (section 1), Hassankhani et al. 2021 (section 4) and
Kazakova et al. 2022 (section 2) describe the former and compare with it.

As there:
    Input: five consecutive log-mel frames, laid end to end (640 values), in dB as they are.
    Network: 640 → 128, 128, 128, 128 → 8 → 128, 128, 128, 128 → 640; dense, batch
        normalisation and ReLU, the last layer linear; 269,992 values.
    Training: one model a machine type, mean squared error, Adam at 1e-3, 100 epochs of batches of
        512, since 2023 of 256; the last epoch's weights are kept.
    Score: mean squared error over all five-frame views of the clip; or the selective
        Mahalanobis distance, the smaller of the two domains'. Both are of one training.
    `dense_ae_2023` and `mahalanobis_2023` (`framework` = "pytorch"): weights and biases drawn
        between ±1/√inputs as by PyTorch's linear layers, running variances with n − 1 in their
        denominator, Adam's epsilon 1e-8 in place of Keras's 1e-7. Momentum and epsilon of the
        normalisation are not PyTorch's but Keras's, 0.99 (0.01 as PyTorch counts) and 1e-3, as in
        ASDKit's network, which is after that program. Waveforms are continued as zeros at their
        ends, as by the librosa that the program names, 0.9.2 and later.

Decided here:
    The tenth of the data that is held out is drawn by whole clips with the model's own seed
    (the programs take a tenth of the vectors, whose clips also are in training).
    It steers nothing unless `train.patience` is set.
    The last batch of an epoch may be short; it is kept, as Keras and PyTorch do.
    Biases before a normalisation, which takes them off again, stay as they start, at zero or as
    PyTorch draws them: their gradient is rounding alone, of which Adam makes steps of full size, so
    that scores would depend more than they do on the order of sums.
    One model serves all sections of a machine, of which the program of 2023 has one each; since
    2023 a machine has one section.
    Covariances are of all training residuals around their means, see `scoring.mahalanobis`, where
    it is said how the program's differ.
    What is said of the program of 2023 is from its documentation and from ASDKit, since its licence
    allows its evaluation only.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.views import ViewSpec
from asd_jax.config import Config as RunConfig
from asd_jax.detectors.base import Detector, DetectorConfig, TrainingClips
from asd_jax.detectors.cells import Cells
from asd_jax.detectors.networks import adam, dense_autoencoder, mean_latent
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.models.dense_autoencoder import Framework
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import mahalanobis, pooling
from asd_jax.training.task import Batch, Task, TrainingStatistics, gradient_task


@dataclasses.dataclass(frozen=True)
class DenseAutoencoderConfig(DetectorConfig):
    """Settings of the dense autoencoder.

    Attributes:
        frames: consecutive frames in an input vector.
        hidden: widths of the encoder's layers, mirrored in the decoder.
        latent: width of the bottleneck.
        score: "mse", or "mahalanobis" for the selective Mahalanobis distance.
        framework: "keras" or "pytorch", whose initial weights, running variances and epsilon of
            Adam the training has.
        momentum: of the batch normalisation's running statistics; 1 less PyTorch's.
        epsilon: that the batch normalisation adds to variances.
    """

    name: ClassVar[str] = "dense_ae"
    frames: Annotated[int, Between(1, 10**5)] = 5
    hidden: Annotated[tuple[int, ...], Between(1, 10**5)] = (128, 128, 128, 128)
    latent: Annotated[int, Between(1, 10**5)] = 8
    score: Literal["mse", "mahalanobis"] = "mse"
    framework: Framework = "keras"
    momentum: Annotated[float, Between(0, 1, below=True)] = 0.99
    epsilon: Annotated[float, Between(0, 1, above=True)] = 1e-3


class DenseAutoencoderDetector(Detector):
    """The dense autoencoder as a system."""

    Config = DenseAutoencoderConfig
    title = "dense autoencoder (challenge baseline)"
    paper = "DCASE Challenge task 2 baselines, 2020 to 2026"
    scope = "machine"
    by_gradient = False

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: DenseAutoencoderConfig = config.detector
        self.module = dense_autoencoder(self.settings, config.precision)

    @property
    def keeps(self) -> Literal["", "clips", "sums"]:
        """Moments of the residuals, where these are compared."""
        return "sums" if self.settings.score == "mahalanobis" else ""

    @property
    def views(self) -> ViewSpec:
        """Input vectors: consecutive frames laid end to end."""
        return ViewSpec(self.settings.frames)

    def task(self, n_labels: int = 1) -> Task:
        """Mean squared error, minimised by Adam."""
        n_values = self.settings.frames * self.config.front_end.n_mels

        def init(key: jax.Array, statistics: TrainingStatistics) -> Mapping[str, Any]:
            return self.module.init(key, jnp.zeros((1, n_values)))

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            x = batch.views.reshape(-1, n_values)
            output, updates = self.module.apply(
                variables,
                x,
                train=train,
                mask=batch.mask if train else None,
                mutable=["batch_stats"],
            )
            return batch.mean(jnp.mean((output - x) ** 2, axis=-1)), updates

        return gradient_task(
            init,
            loss,
            adam(self.config.train.learning_rate, self.settings.framework),
            view_length=self.settings.frames,
        )

    def residuals(self, weights: Any, clip: ClipInput) -> tuple[jax.Array, jax.Array]:
        """Input minus reconstruction of all views of a clip.

        Returns:
            (views, frames in a view, mels), and (views,) true where a view has no padding.
        """
        views, mask = clip.views(self.views)  # (views, frames, mels)
        values = views.reshape(views.shape[0], -1)  # (views, values)
        output: Any = self.module.apply(weights, values)
        return views - output.reshape(views.shape), mask

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """Input minus reconstruction."""
        residuals, _ = self.residuals(weights, clip)
        return Cells.of_views(residuals, clip, self.views)

    def embed(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean of the narrow layer over a clip's vectors."""
        views, mask = clip.views(self.views)
        return mean_latent(self.module, weights, views.reshape(views.shape[0], -1), mask)

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean squared error, or mean residual (mels,), of a clip's views."""
        residuals, mask = self.residuals(weights, clip)
        if self.settings.score == "mse":
            return pooling.Mean.of(jnp.mean(residuals**2, axis=(1, 2)), mask)
        return pooling.Mean.of(jnp.mean(residuals, axis=1), mask)

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """Mean squared error, or the smaller Mahalanobis distance of the mean residual."""
        if self.settings.score == "mse":
            return pooled
        return mahalanobis.selective(
            pooled, calibration["source_precision"], calibration["target_precision"]
        )

    def statistics(self, weights: Any, clip: ClipInput) -> mahalanobis.Moments:
        """Moments of a clip's residuals; each frame of each view is a sample."""
        residuals, mask = self.residuals(weights, clip)
        frames = residuals.reshape(-1, residuals.shape[-1])  # (views × frames, mels)
        return mahalanobis.moments(frames, jnp.repeat(mask, self.settings.frames))

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """Inverse covariances of the source's and the target's residuals."""
        if self.settings.score == "mse":
            return {}
        totals: dict[str, mahalanobis.Moments] = {}
        for clip, moments in clips:
            domain = "target" if clip.domain == "target" else "source"
            known = [totals[domain]] if domain in totals else []
            totals[domain] = mahalanobis.Moments.merge([*known, moments])
        precisions = {domain: mahalanobis.precision(total) for domain, total in totals.items()}
        either = next(iter(precisions.values()))
        return {
            f"{domain}_precision": precisions.get(domain, either).astype(np.float32)
            for domain in ("source", "target")
        }
