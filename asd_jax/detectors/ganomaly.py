"""Asymmetric GANomaly: how far the latent of a reconstruction is from that of its input.

Source: Hassankhani, Dini and Drossos 2021 (DCASE), sections 2 and 3, after Akcay et al. 2018.

As there:
    Input: 312 frames of 128 log-mels, one a clip.
    Networks: two encoders of one architecture with four convolutions each, a smaller decoder with
        three transposed ones, a larger discriminator with five; all 5 × 5 with a padding of 2.
    Losses of the generator: squared difference of the two latents (weight 1), absolute
        difference of input and reconstruction (50), adversarial (1).
    Training: one model a machine and section, about 300 epochs of batches of 64, stochastic
        gradient descent.
    Score: difference of the two latents.

Where the report and its authors' published program differ, there is a setting for both:
    `activation`: the output is a tanh in the report and a ReLU in the program.
    `adversarial`: the squared difference of the discriminator's probabilities for input and
        reconstruction ("probability", equation 4 of the report) or of its last features
        ("features", the program).
    `train.learning_rate`: 1e-6 in the program; the report names none.

Taken from the program, where the report is silent: a clip is cut from its beginning; widths, and
no bias of convolutions, which make 15,588,096 and 4,551,297 parameters; initial weights of
convolutions and normalisations; momentum 0.9; the discriminator minimises the cross-entropy of real
and reconstructed input (minimising the report's total loss would train it to see no difference);
losses and score are means.

Decided here:
    Where the report and the program differ in the networks, they are the program's:
        Strides: 2 everywhere in the report, by which an encoder would halve lengths four times and
        the decoder double them three times only. In the program the second convolution of an
        encoder, and of the discriminator, has 1, and transposed ones an output padding of 1.
        Order in the decoder: normalisation, then ReLU; the report has the ReLU first. Encoders and
        discriminator have the leaky ReLU first in both.
        Normalisation: none after an encoder's last convolution and the discriminator's fifth; the
        report has one after each.
        The discriminator ends in a linear layer to one value; the report says that it has one.
    That linear layer's weights start with variance 1 / inputs and its bias at 0, as in Flax;
        PyTorch's default draws both with a third of that variance.
    The last batch of an epoch may be short; it is kept.
    Waveforms are reflected at their ends (`front_end.pad_mode`), as librosa before 0.9 does.
    Input is scaled to the output's range, −1 to 1 or 0 to 1, by the smallest and the largest
        value of the training frames: no tanh or ReLU can give decibels.
    The discriminator learns from the reconstruction made before the generator's step.
    Batch normalisation uses its running statistics for scores; the program normalises
        by the batch, which makes a clip's score depend on its neighbours.
    The learning rate is 1e-3, the largest power of ten at which the generator's loss on
        training clips falls steadily from the first step (at 1e-2 it rises again).
    No clip is held out and the last epoch's weights are kept; the program keeps those of the
        best test AUC.
    A clip of more than 312 frames is read in whole pieces; its score is their mean. An
        incomplete last piece is not read.
"""

import dataclasses
from typing import Annotated, Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import optax

from asd_jax.audio.views import ViewSpec
from asd_jax.config import Config as RunConfig
from asd_jax.detectors.base import Detector, DetectorConfig
from asd_jax.detectors.cells import Cells
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.models import GANomalyDiscriminator, GANomalyGenerator
from asd_jax.runtime.bounds import Between
from asd_jax.scoring import pooling
from asd_jax.training.task import Batch, Learner, Task, TrainingStatistics, variables


@dataclasses.dataclass(frozen=True)
class GANomalyConfig(DetectorConfig):
    """Settings of asymmetric GANomaly.

    Attributes:
        frames: frames in a view, a multiple of 8.
        width: channels of the first convolution; the others grow with it. The report's is
            128; 16 trains on a CPU.
        activation: "tanh" (the report's) or "relu" (the program's) of the output.
        adversarial: "probability" (the report's) or "features" (the program's).
        latent_weight: of the difference of the latents.
        reconstruction_weight: of the difference of input and reconstruction.
        adversarial_weight: of the adversarial loss.
        momentum: of the gradient descent.
    """

    name: ClassVar[str] = "ganomaly"
    varied: ClassVar[tuple[str, ...]] = (
        *("latent_weight", "reconstruction_weight", "adversarial_weight"),
        "momentum",
    )
    frames: Annotated[int, Between(8, 10**5)] = 312
    width: Annotated[int, Between(1, 10**5)] = 128
    activation: Literal["tanh", "relu"] = "tanh"
    adversarial: Literal["probability", "features"] = "probability"
    latent_weight: Annotated[float, Between(0, 10**6)] = 1.0
    reconstruction_weight: Annotated[float, Between(0, 10**6)] = 50.0
    adversarial_weight: Annotated[float, Between(0, 10**6)] = 1.0
    momentum: Annotated[float, Between(0, 1, below=True)] = 0.9

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.frames % 8:
            raise UserError(f"detector.frames is {self.frames}; it must be a multiple of 8")


class GANomalyDetector(Detector):
    """Asymmetric GANomaly as a system."""

    Config = GANomalyConfig
    title = "asymmetric GANomaly"
    paper = "Hassankhani et al. 2021"
    scope = "section"
    by_gradient = False

    def __init__(self, config: RunConfig):
        super().__init__(config)
        self.settings: GANomalyConfig = config.detector
        if config.front_end.n_mels % 8:
            raise UserError(
                f"front_end.n_mels is {config.front_end.n_mels}; ganomaly needs a multiple of 8"
            )
        self.generator = GANomalyGenerator(
            self.settings.width, self.settings.activation, jnp.dtype(config.precision)
        )
        self.discriminator = GANomalyDiscriminator(self.settings.width, jnp.dtype(config.precision))

    @property
    def views(self) -> ViewSpec:
        """Views side by side; a clip has a quarter of one or more, as the data's 6 to 18 s have."""
        frames = self.settings.frames
        return ViewSpec(frames, hop=frames, fewest_frames=-(-frames // 4))

    def task(self, n_labels: int = 1) -> Task:
        """Generator and discriminator, each with its own gradient descent, in one step."""
        optimizer = optax.sgd(self.config.train.learning_rate, momentum=self.settings.momentum)
        networks = {"generator": self.generator, "discriminator": self.discriminator}

        def init(key: jax.Array, statistics: TrainingStatistics) -> Learner:
            x = jnp.zeros((1, self.settings.frames, self.config.front_end.n_mels, 1))
            made = {
                name: network.init(jax.random.fold_in(key, i), x)
                for i, (name, network) in enumerate(networks.items())
            }
            params = {name: each["params"] for name, each in made.items()}
            low, high = jnp.min(statistics.minimum), jnp.max(statistics.maximum)
            return {
                "params": params,
                "model_state": {
                    "batch_stats": {name: each["batch_stats"] for name, each in made.items()},
                    "input": {"low": low, "range": jnp.maximum(high - low, 1e-3)},
                },
                "opt_state": {name: optimizer.init(each) for name, each in params.items()},
            }

        def step(learner: Learner, batch: Batch, key: jax.Array) -> tuple[Learner, jax.Array]:
            weights = variables(learner)
            x = self._scaled(weights, batch.views)  # (views, frames, mels, 1)

            def generator_loss(params: Any) -> tuple[jax.Array, tuple[jax.Array, Any]]:
                moved = {**weights, "params": {**weights["params"], "generator": params}}
                return self._generator_loss(moved, x, batch, train=True)

            gradient = jax.value_and_grad(generator_loss, has_aux=True)
            (loss, (fake, generator_stats)), gradients = gradient(weights["params"]["generator"])
            # Made before the generator's step; the discriminator must not train the generator.
            fake = jax.lax.stop_gradient(fake)  # (views, frames, mels, 1)

            discriminator_gradients, discriminator_stats = jax.grad(
                self._discriminator_loss, has_aux=True
            )(
                weights["params"]["discriminator"],
                weights["batch_stats"]["discriminator"],
                x,
                fake,
                batch,
            )

            all_gradients = {"generator": gradients, "discriminator": discriminator_gradients}
            params, opt_state = _updated(optimizer, all_gradients, learner)
            stats = {"generator": generator_stats, "discriminator": discriminator_stats}
            return {
                "params": params,
                "model_state": {**learner["model_state"], "batch_stats": stats},
                "opt_state": opt_state,
            }, loss

        def evaluate(learner: Learner, batch: Batch) -> jax.Array:
            weights = variables(learner)
            x = self._scaled(weights, batch.views)
            return self._generator_loss(weights, x, batch, train=False)[0]

        return Task(init, step, evaluate, self.settings.frames, kind="convolution")

    def _scaled(self, weights: Any, views: jax.Array) -> jax.Array:
        """(views, frames, mels) in dB → (views, frames, mels, 1) in the output's range."""
        scaled = (views - weights["input"]["low"]) / weights["input"]["range"]
        if self.settings.activation == "tanh":
            scaled = 2 * scaled - 1
        return scaled[..., None]

    def _apply(self, name: str, weights: Any, x: jax.Array, batch: Batch, train: bool) -> Any:
        """Outputs of a network, and its running statistics after the batch."""
        outputs, updates = getattr(self, name).apply(
            {"params": weights["params"][name], "batch_stats": weights["batch_stats"][name]},
            x,
            train=train,
            mask=batch.mask if train else None,
            mutable=["batch_stats"],
        )
        return outputs, updates["batch_stats"]

    def _generator_loss(
        self, weights: Any, x: jax.Array, batch: Batch, train: bool
    ) -> tuple[jax.Array, tuple[jax.Array, Any]]:
        """Total loss, with the reconstruction and the generator's running statistics."""
        (fake, latent, latent_of_fake), stats = self._apply("generator", weights, x, batch, train)
        judged = [
            self._apply("discriminator", weights, each, batch, train)[0] for each in (x, fake)
        ]
        if self.settings.adversarial == "probability":
            real, false = (jax.nn.sigmoid(logits) for logits, _ in judged)
        else:
            real, false = (features for _, features in judged)

        def mean(values: jax.Array) -> jax.Array:
            return batch.mean(values.reshape(values.shape[0], -1).mean(axis=-1))

        loss = (
            self.settings.latent_weight * mean((latent - latent_of_fake) ** 2)
            + self.settings.reconstruction_weight * mean(jnp.abs(x - fake))
            + self.settings.adversarial_weight * mean((real - false) ** 2)
        )
        return loss, (fake, stats)

    def _discriminator_loss(
        self, params: Any, stats: Any, x: jax.Array, fake: jax.Array, batch: Batch
    ) -> tuple[jax.Array, Any]:
        """Loss of distinguishing `x` from `fake`, and the discriminator's running statistics."""
        losses = []
        # Running statistics after the real batch go into that of the reconstructions.
        for judged, label in ((x, 1.0), (fake, 0.0)):
            moved = {"params": {"discriminator": params}, "batch_stats": {"discriminator": stats}}
            (logits, _), stats = self._apply("discriminator", moved, judged, batch, True)
            losses.append(optax.sigmoid_binary_cross_entropy(logits, label))  # (views,)
        return batch.mean(sum(losses)) / 2, stats

    @property
    def views_at_once(self) -> int:
        """Few: one of 312 frames and 128 channels has 40 MiB of intermediate values."""
        return min(128, max(1, 8 * 312 * 128 // (self.settings.frames * self.settings.width)))

    def pool(self, weights: Any, clip: ClipInput) -> pooling.Mean:
        """Mean squared difference of the latents of a clip's views and their reconstructions."""
        views, mask = clip.views(self.views)
        _, latent, latent_of_fake = self._generated(weights, self._scaled(weights, views))
        distances = jnp.mean((latent - latent_of_fake) ** 2, axis=(1, 2, 3))  # (views,)
        return pooling.Mean.of(distances, mask)

    def _generated(self, weights: Any, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Reconstruction of x (views, frames, mels, 1), and the latents of both."""
        outputs: Any = self.generator.apply(
            {
                "params": weights["params"]["generator"],
                "batch_stats": weights["batch_stats"]["generator"],
            },
            x,
        )
        return outputs

    def cells(self, weights: Any, clip: ClipInput) -> Cells:
        """Scaled input minus reconstruction, of whole views."""
        views, _ = clip.views(self.views)
        x = self._scaled(weights, views)
        fake, _, _ = self._generated(weights, x)
        return Cells.of_views((x - fake)[..., 0], clip, self.views)


def _updated(
    optimizer: optax.GradientTransformation, gradients: dict[str, Any], learner: Learner
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and optimiser states after a step of each network by its own gradients."""
    params, opt_state = {}, {}
    for name, before in learner["params"].items():
        updates, opt_state[name] = optimizer.update(
            gradients[name], learner["opt_state"][name], before
        )
        params[name] = optax.apply_updates(before, updates)
    return params, opt_state
