"""One network for all machines, which tells apart all that is known of normal clips (MultiResNet).

Source: Fujimura et al., ASDKit (github.com/TakuyaFujimura/dcase-asd-toolkit, MIT),
`dis_multispec_scac_trainable`, after Wilkinghoff 2021 to 2024. The best published system without
pretrained weights over the challenges of 2020 to 2024 (arithmetic mean of official scores 71.66;
`dis_spec_scac_trainable`, with one spectrogram, 70.53).

As there: a fixed length a year, of which a crop in training and the beginning in scoring; shorter
    clips are repeated. Training clips of the development and of the evaluation set. Mixed
    waveforms and labels, for half of the clips. A branch of the spectrum, and one for each
    spectrogram (`asd_jax.models.Multibranch`). Classes by machine, section, attributes and domain.
    Sixteen learned centres a class, AdaCos's fixed scale. AdamW at 1e-3 with its weight decay of
    0.01, on centres, too; batches of 64, 16 epochs, the last weights. A machine's score is the
    cosine distance of a clip's embedding from the nearest source clip or target clip, sections
    together; target clips made up to a fifth of the source clips by SMOTE.

Decided here:
    Crops begin at multiples of 500 samples; a repeated clip begins anywhere in itself.
    A clip longer than the fixed length is heard in several views, each a quarter of it later; the
    last one goes on with the clip's beginning. The mean of their embeddings, of length 1, is the
    clip's. ASDKit hears its beginning only.
    A mixed clip's partner is another one; ASDKit's may be itself.
    The last batch of an epoch has the clips that are left.
    Scores of training clips are by banks without the clip itself. A network that has learned from
    a clip knows it all the same, so a tenth of each machine's clips, spread over its classes, is
    held out from training and from the banks, the same for all seeds, and sets the thresholds
    (`train.threshold_split`; at 0 all clips do, and too many normal clips are above).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from asd_jax.audio.augmentation import mixup
from asd_jax.audio.spectra import Spectrogram, magnitude_spectrum
from asd_jax.audio.waveform_blocks import samples_of
from asd_jax.config import Config as RunConfig
from asd_jax.config.types import check_no_effect
from asd_jax.detectors.banked import BankedConfig, score_by_bank, spread
from asd_jax.detectors.base import TrainingClips
from asd_jax.detectors.joint import Joint, JointConfig
from asd_jax.errors import UserError
from asd_jax.features.table import ClipFacts, ClipInput
from asd_jax.losses import (
    adacos_scale,
    centre_cosines,
    dynamic_scale,
    exchange_parts,
    init_centres,
    init_subspaces,
    projection_cosines,
    soft_cross_entropy,
    sub_centre_log_probabilities,
)
from asd_jax.models.multibranch import FEWEST, FEWEST_BINS, Multibranch
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import pooling
from asd_jax.scoring.banks import fit_banks
from asd_jax.scoring.neighbours import Bank
from asd_jax.training.task import Batch, Task, gradient_task


@dataclasses.dataclass(frozen=True)
class MultibranchConfig(BankedConfig, JointConfig):
    """Settings of the network, beside those of its classes and of its scores.

    Attributes:
        spectrum: whether it has a branch of the spectrum.
        n_ffts: samples of a transform of each spectrogram that has a branch.
        fmin: lowest frequency of the spectrograms, in Hz.
        center: whether their first frame is centred on the first sample, or begins there.
        subtract_mean: whether the mean over time of each of their frequencies is subtracted.
        width: channels of the last convolutions.
        values: of a branch's embedding; 0 for as many as `width`.
        double: whether the branches are those of Direct-ACT, see `asd_jax.models.Multibranch`.
        sections: whether a machine's sections are compared "together" or "apart".
        loss: "sub_centres" of each class, or "subspaces" (AdaProj).
        sub_centres: centres of a class; of subspaces, their dimensions.
        learned_centres: whether centres are learned, or stay as they are drawn.
        scale: of the cosines, "fixed", or "dynamic" as in AdaCos.
        mix: probability of a clip's being mixed with another one.
        exchange: probability of an embedding's parts being exchanged, which is a class of its own
            (FeatEx), in a second loss with learned centres; 0 for no such loss.
        optimizer: "adamw", or "adam", which adds the decay to the gradient.
        weight_decay: of the optimizer.
    """

    name: ClassVar[str] = "multibranch"
    varied: ClassVar[tuple[str, ...]] = ("weight_decay",)
    spectrum: bool = True
    n_ffts: Annotated[tuple[int, ...], Between(64, 2**20)] = (256, 1024, 4096)
    fmin: Annotated[float, Between(0, 8000, below=True)] = 200.0
    center: bool = True
    subtract_mean: bool = False
    width: Annotated[int, Between(8, 10**5)] = 128
    values: Annotated[int, Between(0, 10**5, at_low="as many as detector.width")] = 0
    double: bool = False
    sections: Literal["together", "apart"] = "together"
    loss: Literal["sub_centres", "subspaces"] = "sub_centres"
    sub_centres: Annotated[int, Between(1, 10**5)] = 16
    learned_centres: bool = True
    scale: Literal["fixed", "dynamic"] = "fixed"
    mix: Annotated[float, Between(0, 1, at_low="off")] = 0.5
    exchange: Annotated[float, Between(0, 1, at_low="off")] = 0.0
    optimizer: Literal["adamw", "adam"] = "adamw"
    weight_decay: Annotated[float, Between(0, 1000, at_low="off")] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        require = self.require
        self.check_bank()
        self.check_classes()
        powers = all(n & (n - 1) == 0 for n in self.n_ffts)
        distinct = len(set(self.n_ffts)) == len(self.n_ffts)
        require(powers and distinct, "n_ffts", "different powers of two from 64 on")
        require(
            self.spectrum or bool(self.n_ffts), "n_ffts", "at least one without detector.spectrum"
        )
        if not self.n_ffts:
            why = "detector.n_ffts names no spectrogram"
            check_no_effect("detector", self, ("fmin", "center", "subtract_mean"), why)
        require(self.width % 8 == 0, "width", "a multiple of 8")
        if self.exchange and self.spectrum + len(self.n_ffts) < 2:
            raise UserError("detector.exchange needs two branches, whose parts are exchanged")


class MultibranchDetector(Joint):
    """The joint network of several branches as a system."""

    Config = MultibranchConfig
    title = "joint network of spectrum and spectrograms, learned sub-centres, nearest neighbours"
    paper = "Fujimura et al., ASDKit; Wilkinghoff 2021 to 2024"
    scope: Literal["machine", "section", "machine by section"] = "machine"

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: MultibranchConfig = config.detector
        if self.settings.sections == "apart":
            self.scope = "section"
        shape = self.settings.width, self.settings.values, self.settings.double
        self.module = Multibranch(*shape, jnp.dtype(config.precision))
        self._check_length()

    def _check_length(self) -> None:
        """Raises UserError where a branch needs more samples than there are."""
        settings, rate = self.settings, self.config.front_end.sample_rate
        needed = {"spectrum": 2 * (FEWEST_BINS - 1)} if settings.spectrum else {}
        frames = FEWEST - 1 if settings.center else FEWEST + 1
        needed |= {f"n_ffts {n}": frames * n // 2 for n in settings.n_ffts}
        for branch, samples in needed.items():
            if samples > self.samples:
                raise UserError(
                    f"detector.seconds is {self.samples / rate:g}; the branch of {branch} needs "
                    f"{samples / rate:.4g} at {rate} Hz: raise it, or leave that branch out"
                )
        for n in settings.n_ffts:
            bins = self._spectrogram(n).bins
            if bins < FEWEST:
                raise UserError(
                    f"detector.n_ffts has {n}, of which {bins} frequencies are from "
                    f"{settings.fmin:g} to 8000 Hz at {rate} Hz; its branch needs {FEWEST}"
                )

    def task(self, n_labels: int = 1) -> Task:
        """Cross-entropy of mixed clips by their cosines with the classes' centres."""
        settings = self.settings
        n_classes = self.n_classes(n_labels)
        parts = settings.spectrum + len(settings.n_ffts)

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            sounds = samples_of(batch.views)  # (batch, samples)
            labels = jax.nn.one_hot(batch.labels, n_classes)
            if not train:
                batch, _ = self.with_noise(None, batch, sounds, n_labels)
                embeddings, _ = self._embed(variables, sounds)
                value, _ = self._loss(variables, "centres", embeddings, labels, None)
                return batch.mean(value), {}
            for_mix, for_exchange, for_noise = jax.random.split(key, 3)
            # A batch of noise alone has labels of zeros, and a loss of 0.
            batch, sounds = self.with_noise(for_noise, batch, sounds, n_labels)
            if settings.mix:
                sounds, labels = mixup(
                    for_mix, sounds, labels, batch.mask, probability=settings.mix
                )
            embeddings, updates = self._embed(variables, sounds, batch.mask)
            value, scale = self._loss(variables, "centres", embeddings, labels, batch.mask)
            scales = {"centres": scale}
            if settings.exchange:
                embeddings, labels = exchange_parts(
                    *(for_exchange, embeddings, labels, batch.mask),
                    parts=parts,
                    probability=settings.exchange,
                )
                second, scale = self._loss(variables, "exchanged", embeddings, labels, batch.mask)
                value, scales["exchanged"] = value + second, scale
            if settings.scale == "dynamic":
                updates = {**updates, "scales": scales}
            return batch.mean(value), updates

        return gradient_task(
            lambda key, statistics: self._start(key, n_classes),
            loss,
            self._optimizer(),
            view_length=self.views.length,
            kind=self.kind,
            crop=True,
        )

    def _start(self, key: jax.Array, n_classes: int) -> dict[str, Any]:
        """Initial variables: the network, what stands for the classes, and dynamic scales."""
        settings = self.settings
        draw = init_centres if settings.loss == "sub_centres" else init_subspaces
        parts = settings.spectrum + len(settings.n_ffts)
        for_network, for_centres, for_exchanged = jax.random.split(key, 3)
        variables = self.module.init(for_network, *self._inputs(jnp.zeros((1, self.samples))))
        inputs = parts * (settings.values or settings.width)
        centres = draw(for_centres, inputs, n_classes, settings.sub_centres)
        params, state = {"network": variables["params"]}, {"batch_stats": variables["batch_stats"]}
        if settings.learned_centres:
            params["centres"] = centres
        else:
            state["fixed"] = {"centres": centres}
        classes = {"centres": n_classes}
        if settings.exchange:
            classes["exchanged"] = n_classes * (1 + parts)
            params["exchanged"] = draw(
                *(for_exchanged, inputs, classes["exchanged"], settings.sub_centres)
            )
        if settings.scale == "dynamic":
            state["scales"] = {name: self._first_scale(count) for name, count in classes.items()}
        return {"params": params, **state}

    def _optimizer(self) -> optax.GradientTransformation:
        rate, decay = self.config.train.learning_rate, self.settings.weight_decay
        if self.settings.optimizer == "adamw":
            return optax.adamw(rate, weight_decay=decay)
        return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate, eps=1e-7))

    def _first_scale(self, classes: int) -> jax.Array:
        """The scale of so many classes."""
        centres = self.settings.sub_centres if self.settings.loss == "sub_centres" else 1
        # Of two subspaces it would be 0.
        return jnp.float32(adacos_scale(max(3, classes * centres)))

    def _loss(
        self,
        variables: Any,
        name: str,
        embeddings: jax.Array,
        labels: jax.Array,
        mask: jax.Array | None,
    ) -> tuple[jax.Array, jax.Array]:
        """(batch,) cross-entropies of embeddings and labels (batch, classes), and the scale.

        With a mask (batch,), a dynamic scale is set by the marked rows before it is used.
        """
        settings, params = self.settings, variables["params"]
        centres = params[name] if name in params else variables["fixed"][name]
        subspaces = settings.loss == "subspaces"
        cosines = (projection_cosines if subspaces else centre_cosines)(embeddings, centres)
        scale = self._first_scale(labels.shape[1])
        if settings.scale == "dynamic":
            scale = variables["scales"][name]
            if mask is not None:
                scale = dynamic_scale(cosines, labels, scale, mask=mask, without_own=subspaces)
        if subspaces:
            log_p = jax.nn.log_softmax(scale * cosines)
        else:
            log_p = sub_centre_log_probabilities(cosines, scale)
        return soft_cross_entropy(log_p, labels), scale

    def _inputs(self, sounds: jax.Array) -> tuple[jax.Array | None, list[jax.Array]]:
        """What the branches take of waveforms (batch, samples)."""
        spectrum = magnitude_spectrum(sounds) if self.settings.spectrum else None
        return spectrum, [self._spectrogram(n)(sounds) for n in self.settings.n_ffts]

    def _spectrogram(self, n_fft: int) -> Spectrogram:
        settings, rate = self.settings, self.config.front_end.sample_rate
        return Spectrogram(
            n_fft, rate, settings.fmin, center=settings.center, subtract_mean=settings.subtract_mean
        )

    def _embed(
        self, weights: Any, sounds: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """(batch, values) of (batch, samples), and the running statistics.

        With a mask (batch,), normalisation is by the marked rows of the batch.
        """
        return self.apply(weights, self._inputs(sounds), mask)

    @property
    def keeps(self) -> Literal["", "clips", "sums"]:
        """The clips' embeddings."""
        return "clips"

    def embed(self, weights: Any, clip: ClipInput) -> pooling.UnitMean:
        """Mean over a clip's views of their embeddings, scaled to length 1."""
        views, mask = clip.views(self.views)
        embeddings, _ = self._embed(weights, samples_of(views))
        return pooling.UnitMean.of(embeddings, mask)

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Pool:
        """A clip's embedding."""
        return self.embed(weights, clip)

    def statistics(self, weights: Any, clip: ClipInput) -> pooling.Pool:
        """A clip's embedding."""
        return self.embed(weights, clip)

    def calibrate(self, clips: TrainingClips) -> dict[str, np.ndarray]:
        """Embeddings of the training clips, and their domains."""
        own, embeddings = zip(*clips, strict=True)
        if len(own) < 2:
            raise UserError(
                "1 training clip; the nearest of the others, which sets the threshold, needs 2"
            )
        return {
            "embeddings": np.stack(embeddings),
            "target": np.array([clip.domain == "target" for clip in own], np.float32),
        }

    def calibrate_fleet(
        self,
        calibrations: dict[str, np.ndarray],
        clips: Sequence[np.ndarray],
        embeddings: np.ndarray | None,
    ) -> dict[str, np.ndarray]:
        """Banks of embeddings, and the training clips' distances from banks without them."""
        rows = calibrations["embeddings"]
        mask = np.isfinite(rows).all(axis=-1)  # (models, clips)
        sound = mask.any(axis=1)
        if not sound.any():
            raise UserError("no network has embeddings that are numbers; lower the learning rate")
        bank = Bank(rows[sound], mask[sound], calibrations["target"][sound] == 1)
        group = np.broadcast_to(np.arange(mask.shape[1]), bank.mask.shape)
        fitted, scores = fit_banks(bank, group, self.settings.bank)
        arrays = {**fitted._asdict(), "training_scores": scores}
        return {name: spread(_single(leaf), sound) for name, leaf in arrays.items()}

    def score_pooled(self, calibration: Any, pooled: Any, facts: ClipFacts) -> jax.Array:
        """The distance from the nearest clip."""
        return score_by_bank(calibration, pooled, self.settings.bank)

    def training_scores(self, calibration: Mapping[str, np.ndarray]) -> np.ndarray:
        """(models, clips) scores of the training clips, from banks without them."""
        return calibration["training_scores"]


def _single(leaf: np.ndarray) -> np.ndarray:
    return leaf.astype(np.float32) if leaf.dtype == np.float64 else leaf
