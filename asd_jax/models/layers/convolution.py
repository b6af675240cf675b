"""Convolutions that are fast on CPUs too, in loops too.

Their parameters are those of `flax.linen.Conv`. On GPUs and TPUs they are XLA's, with its own
gradients. On CPUs XLA (of jax 0.10) is fast for one case only: a dense convolution without
reversed or exchanged operands, of an image larger than the kernel. Any other case takes ten to a
hundred times as long, and inside a loop (`lax.scan`, `lax.map`) all gradients are other cases. So
here each operation is brought into a form that is fast on CPUs, in loops as well:

- gradients are plain convolutions of rearranged operands;
- 1×1 convolutions and those of tiny images are matrix products;
- depthwise convolutions are sums of shifted images;
- sums over images that come in groups are made in one pass.

The programs that hold them should be compiled with `runtime.compilation.compiler_options`, which
makes XLA's own convolutions fast. `python -m benchmarks steps` measures what both gain.

Images are (batch, height, width, channels), dense kernels (height, width, inputs, outputs),
depthwise kernels (height, width, 1, channels). Padding is "SAME" (TensorFlow's: the odd row or
column is at the end), "VALID", one number for all sides, or ((top, bottom), (left, right)).
"""

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = str | int | Pads

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# All axes of images but their channels.
IMAGE_AXES = (0, 1, 2)


class Convolution(nn.Module):
    """Dense convolution: `kernel` (height, width, inputs, features) and `bias` (features,).

    Attributes:
        features: channels of the output.
        kernel_size: height and width of the kernel.
        strides: of both directions, or of each.
        padding: as the module's docstring says.
        use_bias: add a learned bias.
        kernel_init: initial kernel; Keras's by default.
        bias_init: initial bias.
        dtype: of the computation and its output; weights are float32.
    """

    features: int
    kernel_size: tuple[int, int]
    strides: int | tuple[int, int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) → (batch, height', width', features)."""
        shape = (*self.kernel_size, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = convolve(x, kernel, self.strides, self.padding)
        return _add_bias(self, y) if self.use_bias else y


class DepthwiseConvolution(nn.Module):
    """Each channel by a kernel of its own: `kernel` (height, width, 1, channels), and `bias`.

    Attributes:
        kernel_size: height and width of the kernel.
        strides: of both directions, or of each.
        padding: as the module's docstring says.
        use_bias: add a learned bias.
        kernel_init: initial kernel; Keras's by default. Its fans are exchanged here, as Keras
            keeps the channels in the other place, which its law does not see.
        bias_init: initial bias.
        dtype: of the computation and its output; weights are float32.
    """

    kernel_size: tuple[int, int] = (3, 3)
    strides: int | tuple[int, int] = 1
    padding: Padding = "SAME"
    use_bias: bool = True
    kernel_init: nn.initializers.Initializer = nn.initializers.glorot_uniform()
    bias_init: nn.initializers.Initializer = nn.initializers.zeros
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) → (batch, height', width', channels)."""
        channels = x.shape[-1]
        kernel = self.param("kernel", self.kernel_init, (*self.kernel_size, 1, channels))
        x, kernel = nn.dtypes.promote_dtype(x, kernel, dtype=self.dtype)
        y = convolve_depthwise(x, kernel, self.strides, self.padding)
        return _add_bias(self, y) if self.use_bias else y


def _add_bias(layer: Convolution | DepthwiseConvolution, y: jax.Array) -> jax.Array:
    return y + layer.param("bias", layer.bias_init, y.shape[-1:]).astype(y.dtype)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
) -> jax.Array:
    """Dense convolution, by the means that suit the backend.

    Args:
        x: (batch, height, width, inputs).
        kernel: (kernel height, kernel width, inputs, outputs).
        strides: of both directions, or of each.
        padding: as the module's docstring says.

    Returns:
        (batch, height', width', outputs).
    """
    strides, pads = _geometry(x, kernel, strides, padding)
    if not _on_cpu():
        return _native(x, kernel, strides, pads)
    if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        x = x[:, :: strides[0], :: strides[1]]
        # As matrices: the gradient of a product of more axes would be copied to transpose it.
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)
    return _convolve(x, kernel, strides, pads)


def convolve_depthwise(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
) -> jax.Array:
    """Depthwise convolution, by the means that suit the backend.

    Args:
        x: (batch, height, width, channels).
        kernel: (kernel height, kernel width, 1, channels).
        strides: of both directions, or of each.
        padding: as the module's docstring says.

    Returns:
        (batch, height', width', channels).
    """
    strides, pads = _geometry(x, kernel, strides, padding)
    if not _on_cpu():
        return _native(x, kernel, strides, pads, feature_group_count=x.shape[-1])
    return _convolve_depthwise(x, kernel, strides, pads)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu"


def _geometry(x, kernel, strides, padding: Padding) -> tuple[tuple[int, int], Pads]:
    """Stride of each direction and padding of each side."""
    strides = (strides, strides) if isinstance(strides, int) else tuple(strides)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    elif isinstance(padding, int):
        padding = ((padding, padding),) * 2
    return strides, tuple((int(low), int(high)) for low, high in padding)


def _native(x, kernel, strides, pads, **options) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=_DIMENSIONS, **options
    )


def _pad(x: jax.Array, pads: Pads) -> jax.Array:
    """Zeros around images; negative numbers cut off."""
    config = ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0))
    return lax.pad(x, np.zeros((), x.dtype), config)


def _windows(x: jax.Array, kernel_size, strides, pads: Pads) -> list[jax.Array]:
    """What each place of the kernel sees, row by row: (batch, height', width', channels) each."""
    x = _pad(x, pads)
    ends = [size - taps + 1 for size, taps in zip(x.shape[1:3], kernel_size, strict=True)]
    return [
        x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i, j in itertools.product(*map(range, kernel_size))
    ]


def widened(x: jax.Array) -> jax.Array:
    """In float32, or in its own precision where that is wider."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def sums_over_images(*terms: jax.Array) -> list[jax.Array]:
    """(channels,) sums over each of several images, in float32 or their wider precision.

    On CPUs in one pass over the rows, whatever has to be computed to get the terms; as sums of
    their own, each term would first be written down whole.
    """
    terms = tuple(map(widened, terms))
    if not _on_cpu():
        return [term.sum(IMAGE_AXES) for term in terms]
    zeros = tuple(np.zeros((), term.dtype) for term in terms)
    sums = lax.reduce(terms, zeros, lambda a, b: tuple(map(operator.add, a, b)), (1,))
    return [total.sum((0, 1)) for total in sums]


class _Blocks(NamedTuple):
    """One direction of an image as a convolution of some stride sees it when it goes back.

    The pixels are in blocks of as many as the stride is. All pixels of a block are seen by the
    same outputs, through different places of the kernel. So the gradient of the image is a
    convolution of stride 1 of the output's gradient, with a kernel that has a place a block,
    in reverse order, and outputs for each pixel of a block.

    Attributes:
        places: blocks that the kernel reaches over.
        count: blocks to compute.
        pads: zeros to put before and behind the output's gradient; negative cuts off.
        start: where in the computed blocks the image begins.
    """

    places: int
    count: int
    pads: tuple[int, int]
    start: int


def _blocks(taps: int, stride: int, pad: int, size: int, outputs: int) -> _Blocks:
    """The blocks of `size` pixels behind `pad` zeros that were seen by so many outputs."""
    places = -(-taps // stride)
    skipped = min(pad // stride, places - 1)  # blocks of zeros only
    count = -(-(pad + size) // stride) - skipped
    before = places - 1 - skipped
    return _Blocks(
        places,
        count,
        (before, count + places - 1 - outputs - before),
        pad - skipped * stride,
    )


def _both_blocks(x, gradient, kernel, strides, pads) -> tuple[_Blocks, _Blocks]:
    sizes = zip(kernel.shape[:2], strides, pads, x.shape[1:3], gradient.shape[1:3], strict=True)
    return tuple(_blocks(taps, stride, low, size, n) for taps, stride, (low, _), size, n in sizes)


def _is_tiny(x: jax.Array, kernel_size: Sequence[int]) -> bool:
    """Whether XLA would exchange image and kernel, a hundred times slower on CPUs."""
    return x.shape[1] * x.shape[2] <= kernel_size[0] * kernel_size[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, strides, pads):
    if _is_tiny(x, kernel.shape):
        patches = jnp.concatenate(_windows(x, kernel.shape[:2], strides, pads), -1)
        return patches @ kernel.reshape(-1, kernel.shape[-1])
    return _native(x, kernel, strides, pads)


def _convolve_forward(x, kernel, strides, pads):
    return _convolve(x, kernel, strides, pads), (x, kernel)


def _convolve_backward(strides, pads, saved, gradient):
    x, kernel = saved
    return (
        _input_gradient(x, gradient, kernel, strides, pads),
        _kernel_gradient(x, gradient, kernel, strides, pads),
    )


_convolve.defvjp(_convolve_forward, _convolve_backward)


def _input_gradient(x, gradient, kernel, strides, pads) -> jax.Array:
    rows, columns = _both_blocks(x, gradient, kernel, strides, pads)
    (taps_h, taps_w, inputs, outputs), (stride_h, stride_w) = kernel.shape, strides
    missing = ((0, rows.places * stride_h - taps_h), (0, columns.places * stride_w - taps_w))
    kernel = jnp.pad(kernel, (*missing, (0, 0), (0, 0)))
    kernel = kernel.reshape(rows.places, stride_h, columns.places, stride_w, inputs, outputs)
    kernel = kernel[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)
    kernel = kernel.reshape(rows.places, columns.places, outputs, -1)
    y = _convolve(gradient, kernel, (1, 1), (rows.pads, columns.pads))
    if strides != (1, 1):
        y = y.reshape(-1, rows.count, columns.count, *strides, inputs)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(len(x), rows.count * stride_h, -1, inputs)
    height, width = x.shape[1:3]
    return y[:, rows.start : rows.start + height, columns.start : columns.start + width]


def _kernel_gradient(x, gradient, kernel, strides, pads) -> jax.Array:
    """A convolution in which batch and channels change places, so that it sums over the batch."""
    taps = kernel.shape[:2]
    if _is_tiny(x, taps):
        patches = jnp.concatenate(_windows(x, taps, strides, pads), -1)
        return jnp.einsum("nhwi,nhwo->io", patches, gradient).reshape(kernel.shape)
    # To where the last place of the kernel looks from the last output, and no further.
    after = [
        (outputs - 1) * stride + n - low - size
        for outputs, stride, n, (low, _), size in zip(
            gradient.shape[1:3], strides, taps, pads, x.shape[1:3], strict=True
        )
    ]
    y = _native(
        x.transpose(3, 1, 2, 0),
        gradient.transpose(1, 2, 0, 3),
        (1, 1),
        [(low, high) for (low, _), high in zip(pads, after, strict=True)],
        rhs_dilation=strides,
    )
    return y.transpose(1, 2, 0, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_depthwise(x, kernel, strides, pads):
    taps = kernel.reshape(-1, x.shape[-1])
    windows = _windows(x, kernel.shape[:2], strides, pads)
    return functools.reduce(operator.add, map(operator.mul, windows, taps))


def _convolve_depthwise_forward(x, kernel, strides, pads):
    return _convolve_depthwise(x, kernel, strides, pads), (x, kernel)


def _convolve_depthwise_backward(strides, pads, saved, gradient):
    x, kernel = saved
    taps = kernel.shape[:2]
    rows, columns = _both_blocks(x, gradient, kernel, strides, pads)
    # Both gradients read what is padded here, so that XLA computes the gradient once, to write
    # it down, and not once a place of the kernel. The kernel's needs all of it: nothing is cut.
    (top, bottom), (left, right) = rows.pads, columns.pads
    padded = _pad(gradient, ((top, max(bottom, 0)), (left, max(right, 0))))

    def pixel(i, j):
        """The gradient of pixel (i, j) of all blocks; not every pixel is seen by all places."""
        parts = [
            padded[:, h : h + rows.count, w : w + columns.count] * kernel[k, m, 0]
            for k in range(i, taps[0], strides[0])
            for m in range(j, taps[1], strides[1])
            for h, w in [(rows.places - 1 - k // strides[0], columns.places - 1 - m // strides[1])]
        ]
        if parts:
            return functools.reduce(operator.add, parts)
        return jnp.zeros((len(x), rows.count, columns.count, x.shape[-1]), x.dtype)

    if strides == (1, 1):
        of_x = pixel(0, 0)
    else:
        of_x = jnp.stack(
            [jnp.stack([pixel(i, j) for j in range(strides[1])], 3) for i in range(strides[0])], 2
        ).reshape(len(x), rows.count * strides[0], -1, x.shape[-1])
    height, width = x.shape[1:3]
    of_x = of_x[:, rows.start : rows.start + height, columns.start : columns.start + width]

    height, width = gradient.shape[1:3]
    own = padded[:, top : top + height, left : left + width]
    windows = _windows(x, taps, strides, pads)
    of_kernel = jnp.stack(sums_over_images(*(window * own for window in windows)))
    return of_x, of_kernel.reshape(kernel.shape).astype(kernel.dtype)


_convolve_depthwise.defvjp(_convolve_depthwise_forward, _convolve_depthwise_backward)
