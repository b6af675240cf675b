"""One network that recognises all machines and their ids, by a learned picture of the waveform.

Source: Choi and Choi 2024, Noisy-ArcMix, and their program (github.com/soonhyeon/Noisy-ArcMix,
MIT); the network is after Liu et al. 2022, STgram-MFN. Of the published systems that classify ids,
among the best on DCASE 2020.

As there: the first 10 s at 16 kHz; log-mels of 128 bands, 2048 samples a frame; a Tgram, the
    log-mels and a TAgram as the channels of MobileFaceNet (`asd_jax.models.TASTgramMFN`). A class
    for each machine and id, of all machines together. Noisy-ArcMix: waveforms and log-mels of a
    batch mixed in one proportion drawn from Beta(½, ½), and ArcFace's margin (0.7, scale 30) on the
    first of the two classes only. AdamW with its weight decay of 0.01, from 1e-4 along a cosine to
    a tenth after 300 epochs of batches of 64; the epoch of the lowest validation loss, of a
    twentieth of the clips. Score: the cross-entropy of the clip's own class, with the margin.

Decided here:
    The margin rises linearly from 0 in the first epochs (`warm_up`): without, users of the authors'
    program report losses that stay as they are. Validation and scores have the full margin always,
    so that all epochs are compared alike.
    The clips held out are of the run's own sections, evenly, and set the thresholds as well as they
    choose the epoch; those of the other set are all learned from.
    A mixed clip's partner is another one; there it may be itself.
    Training hears a random part of a longer clip, at multiples of 500 samples; a shorter one is
    repeated and begins anywhere in itself. A longer clip is scored in several views, each a quarter
    of the length later, by the mean of their cross-entropies. There, the beginning is heard.
    Single precision; there, products are in half.
    Of a section with several classes, the smallest cross-entropy is its score.

It needs many classes: users of the authors' program report an AUC below 80 % of one machine type's
four ids alone. Give it all machines together.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asd_jax.audio import FrontEnd
from asd_jax.audio.augmentation import draw_pairs, mix
from asd_jax.audio.waveform_blocks import samples_of
from asd_jax.config import Config as RunConfig
from asd_jax.detectors.base import TrainingClips
from asd_jax.detectors.joint import SECONDS, Joint, JointConfig
from asd_jax.errors import UserError
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.losses import centre_cosines, init_centres, margin_cross_entropies, noisy_arcmix
from asd_jax.models import TASTgramMFN
from asd_jax.models.tastgram_mfn import HOP
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import pooling
from asd_jax.training.task import Batch, Task, TrainingStatistics, gradient_task

_N_FFT = 2048  # of the log-mels


@dataclasses.dataclass(frozen=True)
class TASTgramMFNConfig(JointConfig):
    """Settings of the classifier of all machines' ids, beside those of its classes.

    Attributes:
        n_mels: bands of the log-mels, and filters of the Tgram.
        width: values of an embedding, and channels of the network's blocks.
        stages: number of the network's three sequences of blocks that are used, from its input
            on. Fewer make a smaller network for trials.
        mix: mix sounds in pairs (Noisy-ArcMix); without, the loss is ArcFace's.
        margin: on the angle to a clip's own class, in radians.
        scale: of the cosines.
        warm_up: epochs in which the margin rises linearly, from 0 in the first one; 0 for none.
        last_rate: share of the learning rate that is left after the last epoch; 1 keeps it as it
            is.
        weight_decay: of AdamW.
        score_margin: whether scores have the margin on a clip's own class.
    """

    name: ClassVar[str] = "tastgram_mfn"
    varied: ClassVar[tuple[str, ...]] = ("weight_decay",)
    own_score: ClassVar[tuple[str, ...]] = ("score_margin",)
    seconds: Annotated[float, SECONDS] = 10.0
    n_mels: Annotated[int, Between(1, 10**5)] = 128
    width: Annotated[int, Between(2, 10**5)] = 128
    stages: Annotated[int, Between(0, 3)] = 3
    classes: tuple[str, ...] = ("machine", "section")
    mix: bool = True
    margin: Annotated[float, Between(0, np.pi, below=True)] = 0.7
    scale: Annotated[float, Between(0, 10**6, above=True)] = 30.0
    warm_up: Annotated[int, Between(0, 10**6, at_low="off")] = 20
    last_rate: Annotated[float, Between(0, 1)] = 0.1
    weight_decay: Annotated[float, Between(0, 1000, at_low="off")] = 0.01
    score_margin: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_classes()
        self.require(self.width % 2 == 0, "width", "a multiple of 2")


class TASTgramMFNDetector(Joint):
    """The classifier of all machines' ids as a system."""

    Config = TASTgramMFNConfig
    title = "joint classifier of machine ids by Tgram, log-mels and TAgram (MobileFaceNet, ArcFace)"
    paper = "Choi and Choi 2024, Noisy-ArcMix; Liu et al. 2022, STgram-MFN"
    scope = "section"

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: TASTgramMFNConfig = config.detector
        settings, rate = self.settings, config.front_end.sample_rate
        self.module = TASTgramMFN(settings.width, settings.stages, jnp.dtype(config.precision))
        self._log_mels = FrontEnd(
            *(rate, _N_FFT, HOP, settings.n_mels), db="add", precision="float32"
        )
        if self.samples < _N_FFT:
            raise UserError(
                f"detector.seconds is {settings.seconds:g}; a frame of {_N_FFT} samples needs "
                f"{_N_FFT / rate:.4g} at {rate} Hz: raise it"
            )

    def task(self, n_labels: int = 1) -> Task:
        """Noisy-ArcMix's loss, minimised by AdamW along a cosine."""
        settings, train_settings = self.settings, self.config.train
        arcface = {"margin": settings.margin, "scale": settings.scale}

        def init(key: jax.Array, statistics: TrainingStatistics) -> Mapping[str, Any]:
            for_network, for_centres = jax.random.split(key)
            sounds = jnp.zeros((1, self.samples))
            variables = self.module.init(for_network, sounds, self._log_mels(sounds))
            centres = init_centres(for_centres, settings.width, self.n_classes(n_labels), 1)[..., 0]
            params = {"network": variables["params"], "centres": centres}
            return {"params": params, "batch_stats": variables["batch_stats"]}

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            sounds, labels = samples_of(batch.views), batch.labels
            # Not 1, which would be the second of the two keys that the mixture is drawn by.
            for_noise = jax.random.fold_in(key, 2) if train else None
            batch, sounds = self.with_noise(for_noise, batch, sounds, n_labels)
            log_mels = self._log_mels(sounds)
            # Noise that is mixed in has no class, and a batch of noise alone no loss.
            has_class = labels < self.n_classes(n_labels)
            if not train:
                cosines = self._cosines(variables, self._embed(variables, sounds, log_mels)[0])
                value = noisy_arcmix(cosines, labels, labels, 1.0, **arcface)
                return batch.mean(jnp.where(has_class, value, 0)), {}
            others, share = labels, jnp.float32(1)
            if settings.mix:
                partners, share = _draw_mix(key, batch.mask)
                # All in one proportion, the log-mels in dB.
                shares = jnp.full(len(partners), share)
                sounds, log_mels = (
                    mix(each, partners, shares, "log") for each in (sounds, log_mels)
                )
                others = labels[partners]
            embeddings, updates = self._embed(variables, sounds, log_mels, batch.mask)
            cosines = self._cosines(variables, embeddings)
            margin, scale = self.margin(batch.epoch), settings.scale
            value = noisy_arcmix(cosines, labels, others, share, margin=margin, scale=scale)
            return batch.mean(jnp.where(has_class, value, 0)), updates

        def schedule(epoch: jax.Array) -> jax.Array:
            """From 1 to `last_rate`, half a cosine."""
            turned = jnp.cos(jnp.pi * epoch / train_settings.epochs)
            return settings.last_rate + (1 - settings.last_rate) * (1 + turned) / 2

        return gradient_task(
            init,
            loss,
            optax.adamw(train_settings.learning_rate, weight_decay=settings.weight_decay),
            view_length=self.views.length,
            kind=self.kind,
            crop=True,
            schedule=schedule,
        )

    def margin(self, epoch: jax.Array | None) -> jax.Array:
        """The margin in a step of training.

        Args:
            epoch: () epochs trained before; None for none that are counted.

        Returns:
            () in radians.
        """
        margin, warm_up = jnp.float32(self.settings.margin), self.settings.warm_up
        if epoch is None or not warm_up:
            return margin
        return margin * jnp.minimum(epoch / warm_up, 1)

    def _embed(
        self, weights: Any, sounds: jax.Array, log_mels: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """(batch, width) of (batch, samples) and their log-mels, and the running statistics.

        With a mask (batch,), normalisation is by the marked rows of the batch.
        """
        return self.apply(weights, (sounds, log_mels), mask)

    def _cosines(self, weights: Any, embeddings: jax.Array) -> jax.Array:
        """(batch, classes) of (batch, width)."""
        return centre_cosines(embeddings, weights["params"]["centres"][..., None])[..., 0]

    def _of_views(self, weights: Any, clip: ClipInput) -> tuple[jax.Array, jax.Array]:
        """(views, width) embeddings, and (views,) true where a view counts."""
        views, mask = clip.views(self.views)
        sounds = samples_of(views)
        return self._embed(weights, sounds, self._log_mels(sounds))[0], mask

    def embed(self, weights: Any, clip: ClipInput) -> pooling.UnitMean:
        """Mean over a clip's views of their embeddings, scaled to length 1."""
        return pooling.UnitMean.of(*self._of_views(weights, clip))

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Pool:
        """(classes,) mean over a clip's views of the cross-entropy, if it were of each class."""
        embeddings, mask = self._of_views(weights, clip)
        margin = self.settings.margin if self.settings.score_margin else 0.0
        cosines = self._cosines(weights, embeddings)
        entropies = margin_cross_entropies(cosines, margin=margin, scale=self.settings.scale)
        return pooling.Mean.of(entropies, mask)

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """The numbers of the classes of a section."""
        return {"classes": np.unique(clips.labels).astype(np.float32)}

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """The cross-entropy of the clip's own class; of several the smallest."""
        classes = calibration["classes"]  # padded with NaN where another section has more
        own = pooled[jnp.nan_to_num(classes).astype(jnp.int32)]
        return jnp.nanmin(jnp.where(jnp.isnan(classes), jnp.nan, own))


def _draw_mix(key: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Partners (batch,), and the share () that sounds keep, of Beta(½, ½), the arcsine law."""
    for_pairs, for_share = jax.random.split(key)
    partners, _ = draw_pairs(for_pairs, mask)
    return partners, jnp.sin(jnp.pi / 2 * jax.random.uniform(for_share)) ** 2
