"""What networks of log-mels share: standardised input, the values of a narrow layer, Adam."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from asd_jax.models.dense_autoencoder import DenseAutoencoder, Framework
from asd_jax.scoring import pooling
from asd_jax.training.task import TrainingStatistics

_LEAST_STD_DB = 1e-3  # a band that varies less is taken not to vary at all
_ADAM_EPSILON: dict[Framework, float] = {"keras": 1e-7, "pytorch": 1e-8}


def adam(learning_rate: float, framework: Framework) -> optax.GradientTransformation:
    """Adam with a framework's own epsilon."""
    return optax.adam(learning_rate, eps=_ADAM_EPSILON[framework])


def dense_autoencoder(settings: Any, precision: str) -> DenseAutoencoder:
    """The network of a configuration with its widths, framework and normalisation.

    Args:
        settings: with `hidden`, `latent`, `framework`, `momentum` and `epsilon`.
        precision: in which the network computes, by its name.
    """
    return DenseAutoencoder(
        settings.hidden,
        settings.latent,
        jnp.dtype(precision),
        settings.framework,
        settings.momentum,
        settings.epsilon,
    )


def mean_latent(
    module: nn.Module, weights: Any, inputs: jax.Array, mask: jax.Array
) -> pooling.Mean:
    """Pools the narrow layer of an autoencoder over a clip's views.

    Args:
        module: one that sows "latent".
        weights: its variables.
        inputs: (views, …) inputs of the module.
        mask: (views,) true where a view counts.

    Returns:
        The mean (values,).
    """
    _, sown = module.apply(weights, inputs, mutable=["intermediates"])
    (latent,) = sown["intermediates"]["latent"]
    return pooling.Mean.of(latent, mask)


def standardisation(statistics: TrainingStatistics) -> tuple[jax.Array, jax.Array]:
    """Mean and scale by which each band of the features is standardised.

    Args:
        statistics: of the training frames.

    Returns:
        (mels,) and (mels,), in dB. The scale of a band that never changes is 1 dB.
    """
    return statistics.mean, jnp.where(statistics.std > _LEAST_STD_DB, statistics.std, 1.0)
