"""Classification of a machine type's ids: a clip not recognised as its own id is anomalous.

Sources: Giri et al. 2020 (DCASE), section 2.2; Deng et al. 2019 for ArcFace; and the MobileNetV2
baseline of the challenges of 2021 and 2022, with which Hassankhani et al. 2021 compare.

As in Giri et al.:
    Input (2.2.2): images of 64 log-mel frames of 128 bands, 8 frames from one to the next.
    Networks (2.2.1): Keras's MobileNetV2 of width 0.5, Keras's ResNet-50; one model a machine
        type, trained on the normal clips of all its ids: the seven or eight (1) of development
        and additional training set together, all of them classes (`both_sets`).
    Score (2.2): the negative softmax of the clip's own id; here averaged over its images, plus
        1, which keeps the order and the precision of scores near 0.
    Label augmentation (2.2.3), each by a setting: mixtures of two images in random proportions,
        in power or in dB, learned by the Kullback-Leibler divergence (`mix`); polynomial warps,
        whose results are a class of their own for every id (`warp`); resampled recordings,
        likewise (`resample`).
    ArcFace in place of the softmax (section 4, System 3): `head="arcface"`; score: the negative
        cosine to the centre of the clip's own id, averaged.

As in the baseline of 2021 and 2022 (configuration mobilenet_v2_baseline):
    The same images and network, Adam at 1e-5, 20 epochs, batches of 32. Sections as classes,
        those of the set that is run alone: its program trains each set by itself.
    Score: log(1 − p) − log(p) of the clip's own section, averaged (`score="log_odds"`), with both
        at least 2.2e-16, the rounding of float64: an image's is within ±36.04.

Decided here, where the reports are silent:
    Images are repeated to three channels, as in the baseline and as Keras's parameter counts
    say. For Giri et al.: bands are standardised by the training frames; Adam at 1e-3, batches
    of 32, 20 epochs, no clip held out; half of the images are mixed, half of them warped. The
    report does not assign augmentations to machines, so each has its configuration.
    Waveforms are reflected at their ends (`front_end.pad_mode`), as librosa before 0.9 does.
    Both probabilities of the log odds come from the logits. The baseline's program has p in
        float32, where 1 − p is 0, and so at the floor, if it is below 3e-8.
    ArcFace's margin 0.5 and scale 30; no augmentation with it, by default.
    Each of the two labels of a mixed image has the margin in its own share of the loss.
"""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import logsumexp, xlog1py, xlogy

from asd_jax.audio.augmentation import draw_pairs, draw_warp, mix, warp
from asd_jax.audio.views import ViewSpec
from asd_jax.config import Config as RunConfig
from asd_jax.config.types import check_no_effect
from asd_jax.data.clips import Clip, ClipTable
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.detectors.networks import standardisation
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.losses import arcface_logits
from asd_jax.models import MobileNetV2, ResNet50
from asd_jax.models.layers import heads
from asd_jax.runtime.bounds import Between
from asd_jax.runtime.portable import sigmoid
from asd_jax.scoring import pooling
from asd_jax.training.task import Batch, Task, TrainingStatistics, gradient_task

_SHARE = 0.5  # share of the images that are mixed, and share of those that are warped
# Of log(1 − p) − log(p) with the baseline's floor under both probabilities, sys.float_info.epsilon.
_LARGEST_LOG_ODDS = -float(np.log(np.finfo(np.float64).eps))


@dataclasses.dataclass(frozen=True)
class IdClassifierConfig(DetectorConfig):
    """Settings of the classifier of machine ids.

    Attributes:
        network: "mobilenet_v2" or "resnet50".
        width: of MobileNetV2, a factor of its numbers of channels.
        stages: number of the network's sequences of blocks that are used, from its input on;
            0 for all. Fewer make a smaller network for trials.
        momentum: of the batch normalisation's running statistics.
        frames: frames in an image.
        hop: frames from one image to the next.
        scaling: "standard" subtracts each band's mean and divides by its standard deviation,
            both of the training frames; "none" leaves dB.
        head: "softmax" or "arcface".
        margin: of ArcFace, in radians.
        scale: of ArcFace's cosines.
        mix: images are mixed in mel "power", in dB ("log"), in one of them at random ("both"),
            or not ("none").
        warp: largest displacement by a warp, as a share of half an image; 0 for no warps.
        resample: factors by which recordings are played faster; each makes a class of every id.
        score: "probability", "log_odds", or, with ArcFace, "cosine".
        both_sets: whether a model also learns from its machine's training clips in the set that
            is not run, development or evaluation, where the data has both; their ids are classes,
            too.
    """

    name: ClassVar[str] = "id_classifier"
    network: Literal["mobilenet_v2", "resnet50"] = "mobilenet_v2"
    width: Annotated[float, Between(0, 100, above=True)] = 0.5
    stages: Annotated[int, Between(0, len(MobileNetV2.stages), at_low="all")] = 0
    momentum: Annotated[float, Between(0, 1, below=True)] = 0.99
    frames: Annotated[int, Between(1, 10**5)] = 64
    hop: Annotated[int, Between(1, 10**5)] = 8
    scaling: Literal["standard", "none"] = "standard"
    head: Literal["softmax", "arcface"] = "softmax"
    margin: Annotated[float, Between(0, np.pi, below=True)] = 0.5
    scale: Annotated[float, Between(0, 10**6, above=True)] = 30.0
    mix: Literal["none", "power", "log", "both"] = "none"
    warp: Annotated[float, Between(0, 1, below=True, at_low="off")] = 0.0
    resample: Annotated[tuple[float, ...], Between(0.01, 100)] = ()
    score: Literal["probability", "log_odds", "cosine"] = "probability"
    both_sets: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()

        def require(condition: bool, name: str, wanted: str) -> None:
            if not condition:
                raise UserError(f"detector.{name} is {getattr(self, name)}; it must be {wanted}")

        n_stages = len(_NETWORKS[self.network].stages)
        require(0 <= self.stages <= n_stages, "stages", f"0 to {n_stages}")
        require(
            len(set(self.resample) | {1.0}) == len(self.resample) + 1,
            "resample",
            "different factors other than 1",
        )
        if (self.score == "cosine") and self.head != "arcface":
            raise UserError("detector.score=cosine needs detector.head=arcface")
        if self.head != "arcface":
            why = f"detector.head is {self.head}, not arcface"
            check_no_effect("detector", self, ("margin", "scale"), why)
        if self.network != "mobilenet_v2":
            why = f"detector.network is {self.network}, which has one width"
            check_no_effect("detector", self, ("width",), why)


_NETWORKS: dict[str, Any] = {"mobilenet_v2": MobileNetV2, "resnet50": ResNet50}


class IdClassifierDetector(Detector):
    """The classifier of machine ids as a system."""

    Config = IdClassifierConfig
    title = "classifier of machine ids (MobileNetV2, ResNet-50, ArcFace)"
    paper = "Giri et al. 2020, section 2.2; DCASE 2021 and 2022 baseline"
    scope = "machine by section"

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: IdClassifierConfig = config.detector
        network = _NETWORKS[self.settings.network]
        options = {"momentum": self.settings.momentum, "dtype": jnp.dtype(config.precision)}
        if network is MobileNetV2:
            options["width"] = self.settings.width
        if self.settings.stages:
            options["stages"] = network.stages[: self.settings.stages]
        self.module = network(**options)

    @property
    def views(self) -> ViewSpec:
        """Images of consecutive frames."""
        return ViewSpec(self.settings.frames, self.settings.hop)

    @property
    def both_sets(self) -> bool:
        """As the setting."""
        return self.settings.both_sets

    def plan(self, clips: Sequence[Clip]) -> list[str]:
        """The classes of each machine that has some of the set that is not run."""
        lines, clips = [], ClipTable.of(clips)
        for (machine,), own in clips.groups("machine", rows=clips.where(split="train")).items():
            sections, others = self._ids(machine, own, clips)
            if others:
                lines.append(
                    f"{machine}: classes are its ids {', '.join(sections)} and, of the other set, "
                    f"{', '.join(others)}"
                )
        return lines

    def _ids(self, machine: str, own: np.ndarray, clips: ClipTable) -> tuple[list[str], list[str]]:
        """The ids of a machine's own training clips, and those of the other set alone."""
        sections = clips[own].distinct("section")
        others = clips[clips.where(split="other", machine=machine)].distinct("section")
        return sections, [section for section in others if section not in sections]

    def perturbed(self, clips: Sequence[Clip], seeds: Sequence[int]) -> Sequence[Clip]:
        """Each training clip at each of the settings' speeds, the same for all seeds."""
        copies = ClipTable.of(clips).replace(split="perturbed")
        return ClipTable.concatenate(
            copies.replace(perturbation=f"resample {factor!r}") for factor in self.settings.resample
        )

    def examples(
        self, own: np.ndarray, clips: Sequence[Clip], seed: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Own clips with a class for each id, then resampled ones with a class for id and speed.

        Ids of the other set alone come after the own ones, whose labels they leave as they are.
        """
        clips = ClipTable.of(clips)
        machine = clips[own[0]].machine
        sections = [*itertools.chain(*self._ids(machine, own, clips))]
        own = np.append(own, np.flatnonzero(clips.where(split="other", machine=machine)))
        speeds = ["", *(f"resample {factor!r}" for factor in self.settings.resample)]
        classes = len(sections) * len(speeds) * (2 if self.settings.warp else 1)
        if classes < 2:
            raise UserError(
                f"{machine} has training clips of only one id, {sections[0]}, and a classifier "
                "needs two classes; add warped or resampled ones (--config.detector.warp=0.2, "
                "--config.detector.resample=0.9,1.1) or choose other machines "
                "(--config.data.machines)"
            )
        copies = clips.where(split="perturbed", machine=machine, section=sections)
        chosen = np.concatenate([own, np.flatnonzero(copies)])
        learned = clips[chosen]
        speed = learned.places("perturbation", speeds)
        labels = speed * len(sections) + learned.places("section", sections)
        return chosen, labels.astype(np.int32)

    def task(self, n_labels: int = 1) -> Task:
        """Cross-entropy or ArcFace's loss of augmented images, minimised by Adam."""
        columns = n_labels * (2 if self.settings.warp else 1)

        def init(key: jax.Array, statistics: TrainingStatistics) -> Mapping[str, Any]:
            for_network, for_head = jax.random.split(key)
            image = jnp.zeros((1, self.settings.frames, self.config.front_end.n_mels, 3))
            variables = self.module.init(for_network, image)
            inputs = jax.eval_shape(self.module.apply, variables, image).shape[-1]
            classes = statistics.n_labels * (2 if self.settings.warp else 1)
            head = heads.init_head(for_head, inputs, columns, classes)
            mean, std = standardisation(statistics)
            if self.settings.scaling == "none":
                mean, std = jnp.zeros_like(mean), jnp.ones_like(std)
            return {
                "params": {"network": variables["params"], "head": head._asdict()},
                "batch_stats": variables["batch_stats"],
                "input": {"mean": mean, "std": std},
                "labels": {"count": jnp.int32(statistics.n_labels)},
            }

        def loss(
            variables: Any, batch: Batch, key: jax.Array, train: bool
        ) -> tuple[jax.Array, Mapping[str, Any]]:
            if not train:
                embeddings, _ = self._embed(variables, batch.views)
                return batch.mean(self._cross_entropy(variables, embeddings, batch.labels)), {}
            batch, partners, proportions = self._augment(variables, batch, key)
            embeddings, updates = self._embed(variables, batch.views, batch.mask)
            others = batch.labels[partners]
            # (views,) entropy of the labels' proportions; 0 where both labels are the same.
            entropy = -xlogy(proportions, proportions) - xlog1py(1 - proportions, -proportions)
            entropy = jnp.where(batch.labels == others, 0, entropy)
            own = self._cross_entropy(variables, embeddings, batch.labels)
            other = self._cross_entropy(variables, embeddings, others)
            # Kullback-Leibler divergence from the proportions; cross-entropy if not mixed.
            divergence = proportions * own + (1 - proportions) * other - entropy
            return batch.mean(divergence), updates

        return gradient_task(
            init,
            loss,
            optax.adam(self.config.train.learning_rate, eps=1e-7),
            view_length=self.settings.frames,
            kind="convolution",
        )

    def _augment(
        self, variables: Any, batch: Batch, key: jax.Array
    ) -> tuple[Batch, jax.Array, jax.Array]:
        """The batch with warps and mixtures; each row's partner and its own proportion."""
        rows = len(batch.views)
        for_choice, for_warp, for_space, for_share, for_pairs = jax.random.split(key, 5)
        views, labels = batch.views, batch.labels
        if self.settings.warp:
            chosen = jax.random.bernoulli(for_choice, _SHARE, (rows,))
            coefficients = draw_warp(for_warp, rows, strength=self.settings.warp)
            views = jnp.where(chosen[:, None, None], warp(views, coefficients), views)
            # Warped images are classes of their own, after the others.
            labels = jnp.where(chosen, labels + variables["labels"]["count"], labels)
        partners, proportions = draw_pairs(for_pairs, batch.mask)
        if self.settings.mix == "none":
            return batch._replace(views=views, labels=labels), partners, jnp.ones(rows)
        mixed = jax.random.bernoulli(for_share, _SHARE, (rows,))
        proportions = jnp.where(mixed, proportions, 1.0)
        if self.settings.mix == "both":
            in_power = jax.random.bernoulli(for_space, 0.5, (rows,))[:, None, None]
            combined = jnp.where(
                in_power,
                mix(views, partners, proportions, "power"),
                mix(views, partners, proportions, "log"),
            )
        else:
            combined = mix(views, partners, proportions, self.settings.mix)
        views = jnp.where(mixed[:, None, None], combined, views)
        return batch._replace(views=views, labels=labels), partners, proportions

    def _embed(
        self, weights: Any, views: jax.Array, mask: jax.Array | None = None
    ) -> tuple[jax.Array, Any]:
        """(views, values) of (views, frames, mels), and the running statistics.

        With a mask (views,), normalisation is by the marked views of the batch.
        """
        x = (views - weights["input"]["mean"]) / weights["input"]["std"]  # (views, frames, mels)
        return self.module.apply(
            {"params": weights["params"]["network"], "batch_stats": weights["batch_stats"]},
            jnp.repeat(x[..., None], 3, axis=-1),
            train=mask is not None,
            mask=mask,
            mutable=["batch_stats"],
        )

    def _classes(self, weights: Any) -> jax.Array:
        return weights["labels"]["count"] * (2 if self.settings.warp else 1)

    def _logits(
        self, weights: Any, embeddings: jax.Array, labels: jax.Array | None = None
    ) -> jax.Array:
        """(views, columns) logits; with labels (views,), those have ArcFace's margin."""
        head, classes = heads.Head(**weights["params"]["head"]), self._classes(weights)
        if self.settings.head == "softmax":
            return heads.logits(head, embeddings, classes)
        margin = self.settings.margin
        if labels is None:
            margin, labels = 0.0, jnp.zeros(len(embeddings), jnp.int32)
        cosines = heads.cosines(head, embeddings)  # (views, columns)
        logits = arcface_logits(cosines, labels, margin=margin, scale=self.settings.scale)
        return heads.without_spare(logits, classes)

    def _cross_entropy(self, weights: Any, embeddings: jax.Array, labels: jax.Array) -> jax.Array:
        """(views,) cross-entropies of (views, values) embeddings and (views,) labels."""
        logits = self._logits(weights, embeddings, labels)
        return logsumexp(logits, axis=-1) - jnp.take_along_axis(logits, labels[:, None], 1)[:, 0]

    def embed(self, weights: Any, clip: ClipInput) -> pooling.UnitMean:
        """Mean over a clip's images of the last layer's input, scaled to length 1."""
        views, mask = clip.views(self.views)
        embeddings, _ = self._embed(weights, views)  # (views, values)
        return pooling.UnitMean.of(embeddings, mask)

    @property
    def views_at_once(self) -> int:
        """Images; ResNet-50 keeps several times as many values of one."""
        return 128 if self.settings.network == "mobilenet_v2" else 32

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean over a clip's images of their distance from its own id (`detector.score`)."""
        views, mask = clip.views(self.views)
        embeddings, _ = self._embed(weights, views)  # (views, values)
        if self.settings.score == "cosine":
            head = heads.Head(**weights["params"]["head"])
            values = -heads.cosines(head, embeddings)[:, clip.label]
        else:
            logits = self._logits(weights, embeddings)  # (views, columns)
            others = jnp.where(jnp.arange(logits.shape[-1]) == clip.label, -jnp.inf, logits)
            log_odds = logsumexp(others, axis=-1) - logits[:, clip.label]  # log(1 − p) − log(p)
            probability = self.settings.score == "probability"
            bounded = jnp.clip(log_odds, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS)
            values = sigmoid(log_odds) if probability else bounded
        return pooling.Mean.of(values, mask)
