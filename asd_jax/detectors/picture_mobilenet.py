"""An image network on pictures of spectrograms, trained to classify machine and outliers.

Source: Kazakova et al. 2022 (DCASE), sections 2, 2.1, 2.2 and 3.2.

As there:
    Picture (2.1): spectrogram with windows of 256 ms that overlap by half, reduced to 320 × 320.
    Network (2): MobileNetV2 trained on images, fine-tuned to distinguish the target machine
        from an outlier machine; the report's Table 3 pairs them, the default of `outliers`.
    Training data (2.1): 500 clips of the machine, drawn at random, and 1,000 made of them by a
        pitch shift and then a time stretch of the library audiomentations, cut to the clip's
        length; besides them clips of the outlier machine.
    Threshold (equation 2): (1 − α) times the mean probability of the target over 500 training
        clips, α = 0.04.

Decided here, where the report is silent:
    Reduced in frequency by 320 evenly spaced triangular bands (front_end.scale "linear"), in
    time by linear interpolation; in dB, clipped at 80 dB below the picture's largest value
    (librosa's default for pictures), scaled to −1 to 1 over the picture, low frequencies at
    the bottom, grey in all three channels.
    Waveforms are reflected at their ends (`front_end.pad_mode`), as librosa before 0.9 does.
    A picture shows `frames` frames. A longer clip has as many pictures as fit side by side from
    its start; its probability is their mean.
    The report's network had 90 classes, which are not named; here the weights are of ImageNet,
    MobileNetV2 1.0, from a file (`weights`). There is no training from random weights
    unless `from_scratch` says so.
    Score: distance of the clip's probability below the threshold, so that it is anomalous
    above 0 (`threshold` "zero"); measured in log odds, which order clips as the probabilities
    do and still distinguish those within a millionth of 1.
    As many outlier clips as clips of the machine, changed ones included, or all if they are
    fewer. A clip shortened by its change is repeated, so that it fills a picture. The model's
    seed draws all of them; the 500 clips of the threshold are drawn by one seed for all.
    Adam at 1e-4, batches of 32, 10 epochs; all weights are trained. Where the data has no other
    machine, the machine's own pictures upside down serve as outliers.
"""

import dataclasses
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asd_jax.audio.views import ViewSpec
from asd_jax.config import Config as RunConfig
from asd_jax.config.types import check_no_effect
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.detectors import outliers
from asd_jax.detectors.base import Detector, DetectorConfig, TrainingClips
from asd_jax.errors import UserError
from asd_jax.features.cache import folder_of
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.models import MobileNetV2
from asd_jax.models.pretrained.imported import load_imagenet_mobilenet
from asd_jax.models.pretrained.weights import weights_file
from asd_jax.runtime.bounds import Between
from asd_jax.runtime.extras import check_installed
from asd_jax.scoring import pooling
from asd_jax.training.task import Batch, Task, TrainingStatistics, gradient_task

_RANGE_DB = 80.0
_TARGET = 1  # the network's output for the machine itself; 0 is for outliers


@dataclasses.dataclass(frozen=True)
class PictureMobileNetConfig(DetectorConfig):
    """Settings of the picture network.

    Attributes:
        weights: path or URL of the ImageNet weights of MobileNetV2 1.0, an .npz with TF-slim's
            names.
        weights_sha256: checksum of the file of weights; needed for a URL.
        from_scratch: whether to train from random weights where `weights` names none.
        width: of MobileNetV2; other than 1 only from scratch.
        stages: number of the network's sequences of blocks that are used, from its input on; 0
            for all, fewer only from scratch.
        momentum: of the batch normalisation's running statistics.
        frames: frames in a picture.
        size: height and width of a picture.
        outliers: machine types that serve as outliers, each as "machine:outliers"; a type alone
            serves every machine that is not named.
        clips: number of the machine's clips that a model learns from, and of the threshold's.
        copies: changed copies of each of these clips, from which a model learns as well.
        alpha: α of the threshold, (1 − α) times the mean probability of the clips.
    """

    name: ClassVar[str] = "picture_mobilenet"
    weights: str = ""
    weights_sha256: str = ""
    from_scratch: bool = False
    width: Annotated[float, Between(0, 100, above=True)] = 1.0
    stages: Annotated[int, Between(0, len(MobileNetV2.stages), at_low="all")] = 0
    momentum: Annotated[float, Between(0, 1, below=True)] = 0.99
    frames: Annotated[int, Between(1, 10**5)] = 79
    size: Annotated[int, Between(1, 10**5)] = 320
    outliers: tuple[str, ...] = (
        "ToyCar:gearbox",
        "ToyTrain:slider",
        "bearing:gearbox",
        "fan:gearbox",
        "gearbox:fan",
        "slider:valve",
        "valve:slider",
    )
    clips: Annotated[int, Between(1, 10**9)] = 500
    copies: Annotated[int, Between(0, 10**4)] = 2
    alpha: Annotated[float, Between(0, 1, below=True)] = 0.04

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and (self.width != 1 or self.stages):
            raise UserError(
                "detector.weights are of the whole MobileNetV2 1.0; leave detector.width and "
                "detector.stages as they are"
            )
        if self.weights:
            why = "training starts from detector.weights"
            check_no_effect("detector", self, ("from_scratch",), why)
        else:
            why = "detector.weights names no file"
            check_no_effect("detector", self, ("weights_sha256",), why)
        object.__setattr__(self, "outliers", outliers.checked_pairs(self.outliers))


class PictureMobileNetDetector(Detector):
    """The picture network as a system."""

    Config = PictureMobileNetConfig
    title = "MobileNetV2 on pictures of spectrograms, with outlier exposure"
    paper = "Kazakova et al. 2022, sections 2.1 and 3.2"
    scope = "machine"

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: PictureMobileNetConfig = config.detector
        stages = MobileNetV2.stages[: self.settings.stages or None]
        self.module = MobileNetV2(
            width=self.settings.width,
            classes=2,
            momentum=self.settings.momentum,
            stages=stages,
            dtype=jnp.dtype(config.precision),
        )

    @property
    def views(self) -> ViewSpec:
        """Pictures side by side; a clip fills a quarter or more, as the data's 6 to 18 s do."""
        frames = self.settings.frames
        return ViewSpec(frames, hop=frames, fewest_frames=-(-frames // 4))

    def other_machine(self, machine: str, machines: Collection[str]) -> str | None:
        """The outliers' type: that of the settings, else the first other one by name."""
        return outliers.other_machine(self.settings.outliers, machine, machines)

    def perturbed(self, clips: Sequence[Clip], seeds: Sequence[int]) -> Sequence[Clip]:
        """Copies of each seed's clips, each with a pitch shift and a time stretch of its own."""
        if self.settings.copies:  # said before any work
            check_installed("audiomentations", f"detector.copies={self.settings.copies}")
        copies = []
        for seed in seeds:
            rng = np.random.default_rng([seed, zlib.crc32(clips[0].machine.encode())])
            for i in outliers.draw(rng, np.arange(len(clips)), self.settings.clips):
                copies += [
                    dataclasses.replace(
                        clips[i],
                        split="perturbed",
                        attributes=(*clips[i].attributes, ("seed", str(seed))),
                        perturbation=f"pitch_and_stretch {rng.integers(2**31)}",
                    )
                    for _ in range(self.settings.copies)
                ]
        return copies

    def examples(
        self, own: np.ndarray, clips: Sequence[Clip], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The seed's clips with their copies, labelled 0, and as many outliers.

        Raises:
            UserError: there are no weights to start from, and `from_scratch` is off.
        """
        if not self.settings.weights and not self.settings.from_scratch:
            raise UserError(
                "picture_mobilenet starts from ImageNet weights of MobileNetV2 1.0: name the .npz "
                "file with --config.detector.weights=FILE, or train from random weights with "
                "--config.detector.from_scratch=true"
            )
        clips = ClipTable.of(clips)
        machine = clips[own[0]].machine
        of_seed = [each for each in clips.distinct("attributes") if ("seed", str(seed)) in each]
        copies = np.flatnonzero(clips.where(split="perturbed", machine=machine, attributes=of_seed))
        rng = np.random.default_rng(seed)
        if len(copies):
            drawn = {clips.path(i) for i in copies.tolist()}
            chosen = np.array([i for i in own if clips.path(i) in drawn] + [*copies])
        else:
            chosen = outliers.draw(rng, own, self.settings.clips)
        return outliers.with_outliers(rng, chosen, clips, self.settings.outliers)

    @property
    def of_settings_alone(self) -> bool:
        """Not where initial weights are a file's."""
        return not self.settings.weights

    def task(self, n_labels: int = 1) -> Task:
        """Cross-entropy of the machine against outliers, minimised by Adam."""

        def init(key: jax.Array, statistics: TrainingStatistics) -> Mapping[str, Any]:
            image = jnp.zeros((1, self.settings.size, self.settings.size, 3))
            variables: Mapping[str, Any] = self.module.init(key, image)
            if self.settings.weights:
                loaded = load_imagenet_mobilenet(
                    weights_file(
                        self.settings.weights,
                        self.settings.weights_sha256,
                        cache_dir=folder_of(self.cache_dir),
                    )
                )
                variables = {name: {**variables[name], **loaded[name]} for name in variables}
            return variables

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            # Outliers made of the machine itself, where the data has no other machine.
            upside_down = (batch.labels == outliers.REVERSED)[:, None, None]
            views = jnp.where(upside_down, batch.views[..., ::-1], batch.views)
            logits, updates = self._logits(variables, views, batch.mask if train else None)
            target = jnp.where(batch.labels == outliers.OWN, _TARGET, 1 - _TARGET)
            values = optax.softmax_cross_entropy_with_integer_labels(logits, target)
            return batch.mean(values), updates

        return gradient_task(
            init,
            loss,
            optax.adam(self.config.train.learning_rate, eps=1e-7),
            view_length=self.settings.frames,
            kind="convolution",
        )

    def pictures(self, views: jax.Array) -> jax.Array:
        """Pictures of spectrograms.

        Args:
            views: (views, frames, bands), in dB.

        Returns:
            (views, size, size, 3), from −1 for the darkest point to 1 for the brightest; rows
            are frequencies from high to low, columns are times.
        """
        size = self.settings.size
        loudest = jnp.max(views, axis=(1, 2), keepdims=True)  # (views, 1, 1)
        views = jnp.maximum(views, loudest - _RANGE_DB)
        quietest = jnp.min(views, axis=(1, 2), keepdims=True)
        grey = 2 * (views - quietest) / jnp.maximum(loudest - quietest, 1e-3) - 1
        grey = jnp.swapaxes(grey[..., ::-1], 1, 2)  # (views, bands, frames)
        grey = jax.image.resize(grey, (grey.shape[0], size, size), "linear")  # (views, size, size)
        return jnp.repeat(grey[..., None], 3, axis=-1)

    def _logits(
        self, weights: Any, views: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """(views, 2) logits, and the running statistics; a mask selects normalisation by batch."""
        return self.module.apply(
            {"params": weights["params"], "batch_stats": weights["batch_stats"]},
            self.pictures(views),
            train=mask is not None,
            mask=mask,
            mutable=["batch_stats"],
        )

    @property
    def views_at_once(self) -> int:
        """Pictures; a large one has the values of many smaller images."""
        return max(1, 8 * 320**2 // self.settings.size**2)

    def pool(self, weights: Any, clip: ClipInput) -> pooling.LogMean:
        """Logarithms (2,) of a clip's mean probabilities over its pictures.

        The mean is computed from logarithms so that none rounds to 0 or 1.
        """
        views, mask = clip.views(self.views)
        logits, _ = self._logits(weights, views)  # (views, 2)
        return pooling.LogMean.of(jax.nn.log_softmax(logits), mask)

    def embed(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean over a clip's pictures of the last layer's input."""
        views, mask = clip.views(self.views)
        variables = {"params": weights["params"], "batch_stats": weights["batch_stats"]}
        # (views, values)
        pooled: Any = self.module.clone(classes=None).apply(variables, self.pictures(views))
        return pooling.Mean.of(pooled, mask)

    def statistics(self, weights: Any, clip: ClipInput) -> pooling.LogMean:
        """As `pool`."""
        return self.pool(weights, clip)

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """The log odds of the threshold, (1 − α) times the mean of that probability.

        The mean is over as many training clips as a model learns from, drawn anew.
        """
        places = np.arange(len(clips))
        clips = clips.take(outliers.draw(np.random.default_rng(0), places, self.settings.clips))
        probability = np.mean([np.exp(logs[_TARGET]) for _, logs in clips], dtype=np.float64)
        threshold = np.clip((1 - self.settings.alpha) * probability, 1e-30, 1 - 1e-7)
        return {"threshold": np.asarray(np.log(threshold / (1 - threshold)), np.float32)}

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """Log odds of the threshold minus those of a clip."""
        return calibration["threshold"] - (pooled[_TARGET] - pooled[1 - _TARGET])
