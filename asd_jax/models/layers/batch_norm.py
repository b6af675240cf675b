"""Batch normalisation of images, fast on CPUs and in float32 whatever the images are."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from asd_jax.models.layers.convolution import IMAGE_AXES, sums_over_images, widened


class BatchNorm(nn.Module):
    """Normalisation of each channel by the batch, or by what is known of earlier batches.

    It has the parameters `scale` and `bias` and the running statistics `mean` and `var`, the
    variance that of the batch and not of what it was drawn from, as in Keras and Flax.

    Attributes:
        momentum: share of the running statistics that a batch leaves as it is.
        epsilon: added to variances.
        scale_init: initial scale.
    """

    momentum: float
    epsilon: float
    scale_init: nn.initializers.Initializer = nn.initializers.ones

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None):
        """Normalises images.

        Args:
            x: (batch, height, width, channels).
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            As `x`, in its precision; the statistics are float32 all the same.
        """
        shape = (x.shape[-1],)
        scale = self.param("scale", self.scale_init, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            return _scale_and_shift(x, mean.value, var.value, scale, bias, self.epsilon)
        y, of_batch = _normalise(x, scale, bias, mask, self.epsilon)
        if not self.is_initializing():
            for running, new in zip((mean, var), of_batch, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * new
        return y


def _scale_and_shift(x, mean, var, scale, bias, epsilon) -> jax.Array:
    factor = scale * lax.rsqrt(var + epsilon)
    return (widened(x) * factor + (bias - mean * factor)).astype(x.dtype)


def _count(x, mask):
    """Pixels that count."""
    return (len(x) if mask is None else mask.sum()) * np.float32(x.shape[1] * x.shape[2])


def _masked(x, mask):
    return x if mask is None else jnp.where(mask[:, None, None, None], x, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalise(x, scale, bias, mask, epsilon):
    """Normalised images, and the batch's mean and variance, without gradients."""
    wide, count = widened(x), _count(x, mask)
    mean = _masked(wide, mask).sum(IMAGE_AXES) / count
    centred = _masked(wide - mean, mask)
    # What the first sum is off zero, the mean was rounded by.
    rest, squares = sums_over_images(centred, centred * centred)
    var = (squares - rest * rest / count) / count
    return _scale_and_shift(x, mean, var, scale, bias, epsilon), (mean, var)


def _normalise_forward(x, scale, bias, mask, epsilon):
    y, (mean, var) = _normalise(x, scale, bias, mask, epsilon)
    return (y, (mean, var)), (x, scale, mask, mean, var)


def _normalise_backward(epsilon, saved, gradients):
    x, scale, mask, mean, var = saved
    gradient = widened(gradients[0])
    count, factor = _count(x, mask), lax.rsqrt(var + epsilon)
    centred = widened(x) - mean
    of_bias = gradient.sum(IMAGE_AXES)
    # A sum of its own above, so that XLA writes the gradient down before these read it. The
    # second corrects the first for the rounding of the mean.
    products, rest = sums_over_images(gradient * centred, _masked(centred, mask))
    of_scale = (products - of_bias * rest / count) * factor
    of_statistics = (of_bias + centred * (factor * of_scale)) / count
    of_x = scale * factor * (gradient - _masked(of_statistics, mask))
    return of_x.astype(x.dtype), of_scale, of_bias, None


_normalise.defvjp(_normalise_forward, _normalise_backward)
