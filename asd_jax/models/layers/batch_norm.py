"""Batch normalisation of images, fast on CPUs, in float32 also for images of lower precision."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from asd_jax.models.layers.operations import IMAGE_AXES, sums_over_images, widened


class BatchNorm(nn.Module):
    """Normalises each channel by the statistics of the batch, or by running ones.

    It has the parameters `scale` and `bias`, unless `affine` is false, and the running statistics
    `mean` and `var`. A batch is normalised by the variance with the number of pixels n in its
    denominator.

    Attributes:
        momentum: weight of the running statistics in their update by a batch; 1 less PyTorch's.
        epsilon: added to variances.
        scale_init: initial scale.
        affine: scale and shift by learned parameters.
        unbiased: the running variance is of those with n − 1 in their denominator, as in PyTorch;
            else of those with n, as in Keras and Flax.

    Examples:
        >>> layer = BatchNorm(momentum=0.9, epsilon=1e-3)
        >>> images = jnp.zeros((4, 8, 8, 3))
        >>> y, variables = jax.eval_shape(layer.init_with_output, jax.random.key(0), images)
        >>> y.shape, sorted(variables), sorted(variables["batch_stats"])
        ((4, 8, 8, 3), ['batch_stats', 'params'], ['mean', 'var'])
    """

    momentum: float
    epsilon: float
    scale_init: nn.initializers.Initializer = nn.initializers.ones
    affine: bool = True
    unbiased: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool = False, mask: jax.Array | None = None
    ) -> jax.Array:
        """Normalises images.

        Args:
            x: (batch, height, width, channels).
            train: normalise by the batch and update the running statistics.
            mask: (batch,) true where a row counts towards the batch's statistics.

        Returns:
            As `x`, in its precision; the statistics are float32 in any case.
        """
        shape = (x.shape[-1],)
        scale, bias = jnp.ones(shape), jnp.zeros(shape)
        if self.affine:
            scale = self.param("scale", self.scale_init, shape)
            bias = self.param("bias", nn.initializers.zeros, shape)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
        var = self.variable("batch_stats", "var", jnp.ones, shape)
        if not train:
            return _scale_and_shift(x, mean.value, var.value, scale, bias, self.epsilon)
        y, (batch_mean, batch_var) = _normalise(x, scale, bias, mask, self.epsilon)
        if not self.is_initializing():
            if self.unbiased:
                count = _count(x, mask)
                batch_var = batch_var * (count / jnp.maximum(count - 1, 1))
            for running, new in ((mean, batch_mean), (var, batch_var)):
                running.value = self.momentum * running.value + (1 - self.momentum) * new
        return y


def _scale_and_shift(x, mean, var, scale, bias, epsilon) -> jax.Array:
    factor = scale * lax.rsqrt(var + epsilon)
    return (widened(x) * factor + (bias - mean * factor)).astype(x.dtype)


def _count(x, mask):
    """Number of pixels that count."""
    return (len(x) if mask is None else mask.sum()) * np.float32(x.shape[1] * x.shape[2])


def _masked(x, mask):
    return x if mask is None else jnp.where(mask[:, None, None, None], x, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _normalise(x, scale, bias, mask, epsilon):
    """Normalised images, and the batch's mean and variance, without gradients."""
    wide, count = widened(x), _count(x, mask)
    mean = _masked(wide, mask).sum(IMAGE_AXES) / count
    centred = _masked(wide - mean, mask)
    # `rest` is not 0 because of the mean's rounding; it corrects the variance accordingly.
    rest, squares = sums_over_images(centred, centred * centred)  # (channels,) each
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
    # A sum of its own, so that XLA stores the gradient before the next sums read it.
    bias_gradient = gradient.sum(IMAGE_AXES)
    # `rest` corrects the products for the rounding of the mean.
    products, rest = sums_over_images(gradient * centred, _masked(centred, mask))
    scale_gradient = (products - bias_gradient * rest / count) * factor
    # The share of each pixel in the statistics: rows that do not count have none.
    by_statistics = (bias_gradient + centred * (factor * scale_gradient)) / count
    x_gradient = scale * factor * (gradient - _masked(by_statistics, mask))
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient, None


_normalise.defvjp(_normalise_forward, _normalise_backward)
