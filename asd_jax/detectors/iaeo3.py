"""IAEO3: embeddings of a pretrained network and errors of an interpolation autoencoder, in a GMM.

Source: Grollmisch et al. 2020 (DCASE), section 3. The autoencoder is that of `interpolation_ae`.

As there:
    Embedding (3.1): OpenL3, of environmental videos, 512 values, averaged over the clip;
        standardised; its first 50 principal components.
    Errors (3.1): mean, standard deviation, median, maximum and interquartile range of the
        autoencoder's errors over a clip's frames.
    Predictor (3.1): a Gaussian mixture with three components over both, fitted to the training
        clips of the machine and id; the score is its negative weighted log probability.
    Five trainings of the autoencoder, each with its mixture; the smallest score counts.
    IAEO3_opt (3.2, Table 1), configuration iaeo3_opt: other spectrograms and encoders for some
        machine types; for valves no embedding and no mixture, but the largest error of a clip
        (`predictor="max"`).

Decided here, where the report is silent:
    OpenL3's input has 256 mel bands, the default of its library at that time.
    Standardisation and principal components are fitted to the training clips of the model's
    machine and id: "all files" would let test clips in. With fewer clips than components, those
    past the clips' rank are 0. The errors enter the mixture as they are. The mixture has
    the defaults of scikit-learn at that time: k-means, one start, full covariances, 1e-6 on
    their diagonals.
    Waveforms are reflected at their ends (`front_end.pad_mode`), the default of librosa 0.7.2.
    For valves, too, the smallest of five trainings' scores counts.
"""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.config import Config as RunConfig
from asd_jax.config.types import check_no_effect
from asd_jax.detectors.base import DetectorConfig, TrainingClips
from asd_jax.detectors.interpolation_ae import InterpolationDetector, check_shape
from asd_jax.errors import UserError
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import pooling
from asd_jax.scoring.mixture import GaussianMixture, fit_mixture, log_likelihood
from asd_jax.scoring.pooling import Pool
from asd_jax.scoring.projection import Projection, fit_projection, project


@dataclasses.dataclass(frozen=True)
class IAEO3Config(DetectorConfig):
    """Settings of IAEO3.

    Attributes:
        frames: frames in a view, an odd number; the middle one is predicted.
        encoder: widths of the encoder's layers, mirrored in the decoder.
        trainings: trainings of each seed; the smallest of their scores counts.
        principal: principal components of the embedding.
        predictor: "mixture", or "max" for the largest error of a clip alone.
        components: Gaussians of the mixture.
    """

    name: ClassVar[str] = "iaeo3"
    uses_embedding: ClassVar[bool] = True
    frames: Annotated[int, Between(3, 10**5)] = 5
    encoder: Annotated[tuple[int, ...], Between(1, 10**5)] = (256, 128, 64, 32)
    trainings: Annotated[int, Between(1, 1000)] = 5
    principal: Annotated[int, Between(1, 10**5)] = 50
    predictor: Literal["mixture", "max"] = "mixture"
    components: Annotated[int, Between(1, 10**5)] = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_shape(self.frames, self.encoder)
        if self.predictor == "max":
            names = ("principal", "components")
            check_no_effect("detector", self, names, "detector.predictor=max has no mixture")


class IAEO3Detector(InterpolationDetector):
    """IAEO3 as a system."""

    Config = IAEO3Config
    title = "IAEO3 (pretrained embeddings, interpolation autoencoder, Gaussian mixture)"
    paper = "Grollmisch et al. 2020, section 3"
    scope = "section"

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: IAEO3Config = config.detector
        if self.settings.predictor == "max" and config.embedding.kind != "none":
            raise UserError(
                f"detector.predictor=max has no use for embeddings ({config.embedding.kind}); set "
                "--config.embedding=none"
            )
        if config.backend.kind != "own" and config.embedding.kind == "none":
            raise UserError(
                f"backend={config.backend.kind} needs an embedding; choose one with "
                "--config.embedding=KIND"
            )

    @property
    def repeats(self) -> int:
        """Trainings of each seed."""
        return self.settings.trainings

    @property
    def keeps(self) -> Literal["", "clips", "sums"]:
        """The clips' errors, where a mixture is fitted to them."""
        return "clips" if self.settings.predictor == "mixture" else ""

    def embed(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """The pretrained network's embedding of a clip, the same for all of its views."""
        embedding: Any = clip.embedding  # there, as the settings name a network
        _, mask = clip.starts(self.views)
        return pooling.Mean.of(jnp.broadcast_to(embedding, (len(mask), len(embedding))), mask)

    def statistics(self, weights: Any, clip: ClipInput) -> pooling.Statistics:
        """Five statistics of a clip's errors."""
        return pooling.Statistics(*self.frame_errors(weights, clip))

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """Statistics of the training clips' errors, (clips, 5)."""
        if self.settings.predictor == "max":
            return {}
        return {"errors": np.stack([errors for _, errors in clips])}

    def calibrate_fleet(
        self,
        calibrations: dict[str, np.ndarray],
        clips: Sequence[np.ndarray],
        embeddings: np.ndarray | None,
    ) -> dict[str, Any]:
        """Principal components of each machine and id, and the mixture of each model."""
        if self.settings.predictor == "max":
            return calibrations
        values = calibrations["errors"]  # (models, clips, 5), padded with NaN
        mask = np.arange(values.shape[1]) < np.array([len(own) for own in clips])[:, None]
        fitted: dict[str, Any] = {}
        if embeddings is not None:
            # Trainings and seeds of one machine and id share their clips, hence one projection.
            alike = {id(own): own for own in clips}
            place = np.array([[*alike].index(id(own)) for own in clips])
            # (groups, clips, values), with zeros for padding
            padded = np.zeros((len(alike), values.shape[1], embeddings.shape[1]), np.float32)
            for row, own in zip(padded, alike.values(), strict=True):
                row[: len(own)] = embeddings[own]
            _, first = np.unique(place, return_index=True)
            projection = fit_projection(
                padded, mask[first], n_components=min(self.settings.principal, padded.shape[-1])
            )
            principal = project(projection, padded)  # (groups, clips, components)
            values = np.concatenate([principal[place], values], axis=-1)
            fitted["projection"] = {
                name: np.asarray(leaf)[place] for name, leaf in projection._asdict().items()
            }
        # No mixture can be fitted to the errors of a diverged training: its means become NaN.
        broken: Any = ~np.isfinite(np.where(mask[..., None], values, 0)).all(axis=(1, 2))
        values = np.where(broken[:, None, None], 0, values)
        mixture, _ = fit_mixture(values, mask, n_components=self.settings.components)
        means = np.where(broken[:, None, None], np.nan, mixture.means)
        fitted["mixture"] = mixture._replace(means=means)._asdict()
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), fitted)

    def pool(self, weights: Any, clip: ClipInput) -> Pool:
        """Five statistics of a clip's errors, or the largest error."""
        if self.settings.predictor == "max":
            return pooling.Maximum.of(*self.frame_errors(weights, clip))
        return self.statistics(weights, clip)

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """Negative log probability of a clip's embedding and errors, or its largest error."""
        if self.settings.predictor == "max":
            return pooled
        values = pooled  # (5,)
        if facts.embedding is not None:
            # (components,)
            principal = project(Projection(**calibration["projection"]), facts.embedding)
            values = jnp.concatenate([principal, pooled])
        return -log_likelihood(GaussianMixture(**calibration["mixture"]), values[None])[0]
