"""Convolutions and sums of images that are fast on CPUs too, in loops too.

On GPUs and TPUs the convolutions are XLA's, with its own gradients. On CPUs XLA (of jax 0.10) is
fast for one case only: a dense convolution without reversed or exchanged operands, of an image
larger than the kernel. Any other case takes ten to a hundred times as long, and inside a loop
(`lax.scan`, `lax.map`) all gradients are other cases. So here each operation is brought into a
form that is fast on CPUs, in loops as well:

- gradients are plain convolutions of rearranged operands;
- 1×1 convolutions and those of tiny images are matrix products;
- depthwise convolutions are sums of shifted images;
- sums over several images are computed in one pass.

Compile programs that hold them with `runtime.compilation.compiler_options`, which makes XLA's own
convolutions fast. `python -m benchmarks steps` measures the gain of both.

Images are (batch, height, width, channels), dense kernels (height, width, inputs, outputs),
depthwise kernels (height, width, 1, channels). Padding is "SAME" (TensorFlow's: the odd row or
column is at the end), "VALID", one number for all sides, or ((top, bottom), (left, right)).
"""

import functools
import itertools
import operator
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from asd_jax.runtime.portable import native_convolutions

Pads = tuple[tuple[int, int], tuple[int, int]]
Padding = str | int | Pads

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
# All axes of images but their channels.
IMAGE_AXES = (0, 1, 2)


def convolve(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
) -> jax.Array:
    """Dense convolution, in the form that is fast on the backend.

    Args:
        x: (batch, height, width, inputs).
        kernel: (kernel height, kernel width, inputs, outputs).
        strides: of both directions, or of each.
        padding: see the module's docstring.

    Returns:
        (batch, height', width', outputs).

    Examples:
        >>> import numpy as np
        >>> image = np.arange(4.0).reshape(1, 2, 2, 1)
        >>> np.ravel(convolve(image, np.ones((2, 2, 1, 1)), padding="VALID")).tolist()
        [6.0]
    """
    strides, pads = _geometry(x, kernel, strides, padding)
    if not _on_cpu():
        return _native(x, kernel, strides, pads)
    if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)):
        x = x[:, :: strides[0], :: strides[1]]
        # As matrices: XLA would copy the gradient of a product of more axes to transpose it.
        return (x.reshape(-1, x.shape[-1]) @ kernel[0, 0]).reshape(*x.shape[:3], -1)
    return _convolve(x, kernel, strides, pads)


def convolve_depthwise(
    x: jax.Array,
    kernel: jax.Array,
    strides: int | tuple[int, int] = 1,
    padding: Padding = "SAME",
) -> jax.Array:
    """Depthwise convolution, in the form that is fast on the backend.

    Args:
        x: (batch, height, width, channels).
        kernel: (kernel height, kernel width, 1, channels).
        strides: of both directions, or of each.
        padding: see the module's docstring.

    Returns:
        (batch, height', width', channels).

    Examples:
        >>> import numpy as np
        >>> image = np.ones((1, 2, 2, 2))
        >>> kernel = np.ones((2, 2, 1, 2)) * np.array([1.0, 3.0])  # a factor a channel
        >>> np.ravel(convolve_depthwise(image, kernel, padding="VALID")).tolist()
        [4.0, 12.0]
    """
    strides, pads = _geometry(x, kernel, strides, padding)
    if not _on_cpu():
        return _native(x, kernel, strides, pads, feature_group_count=x.shape[-1])
    return _convolve_depthwise(x, kernel, strides, pads)


def _on_cpu() -> bool:
    return jax.default_backend() == "cpu" and not native_convolutions()


def _geometry(x, kernel, strides, padding: Padding) -> tuple[tuple[int, int], Pads]:
    """Stride of each direction and padding of each side."""
    down, across = (strides, strides) if isinstance(strides, int) else strides
    pads: Sequence[tuple[int, int]]
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (down, across), padding)
    elif isinstance(padding, int):
        pads = ((padding, padding),) * 2
    else:
        pads = padding
    (top, bottom), (left, right) = pads
    return (down, across), ((int(top), int(bottom)), (int(left), int(right)))


def _native(x, kernel, strides, pads, **options) -> jax.Array:
    return lax.conv_general_dilated(
        x, kernel, strides, pads, dimension_numbers=_DIMENSIONS, **options
    )


def _pad(x: jax.Array, pads: Pads) -> jax.Array:
    """Pads images with zeros; negative numbers cut off."""
    config = ((0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0))
    return lax.pad(x, np.zeros((), x.dtype), config)


def _windows(x: jax.Array, kernel_size, strides, pads: Pads) -> list[jax.Array]:
    """The pixels under each tap of the kernel, tap by tap: (batch, height', width', channels)."""
    x = _pad(x, pads)
    # Outputs at stride 1; a slice with the stride takes every so many of them.
    ends = [size - taps + 1 for size, taps in zip(x.shape[1:3], kernel_size, strict=True)]
    return [
        x[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
        for i, j in itertools.product(*map(range, kernel_size))
    ]


def widened(x: jax.Array) -> jax.Array:
    """Converts to float32, unless the precision is wider already.

    Examples:
        >>> import jax.numpy as jnp
        >>> widened(jnp.zeros(3, jnp.bfloat16)).dtype
        dtype('float32')
    """
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def sums_over_images(*terms: jax.Array) -> list[jax.Array]:
    """Sums (channels,) of each of several images, in float32 or their wider precision.

    On CPUs one pass over the rows computes all terms and their sums; as separate sums, each term
    would first be written to memory.

    Args:
        terms: (batch, height, width, channels) each.

    Examples:
        >>> import jax.numpy as jnp
        >>> x = jnp.ones((2, 3, 4, 1))
        >>> [total.tolist() for total in sums_over_images(x, 2 * x)]
        [[24.0], [48.0]]
    """
    terms = tuple(map(widened, terms))
    if not _on_cpu():
        return [term.sum(IMAGE_AXES) for term in terms]
    zeros = tuple(np.zeros((), term.dtype) for term in terms)
    # A reduction of a tuple, over the rows alone, is what XLA makes one loop of.
    sums = lax.reduce(terms, zeros, lambda a, b: tuple(map(operator.add, a, b)), (1,))
    return [total.sum((0, 1)) for total in sums]


class _Blocks(NamedTuple):
    """One direction of an image, cut into blocks for the gradient of a strided convolution.

    A block has as many pixels as the stride. The same outputs read all pixels of a block, through
    different taps of the kernel. So the gradient of the image is a convolution of stride 1 of the
    output's gradient: its kernel has one place for each block that the forward kernel reaches, in
    reverse order, and its output channels hold every pixel of a block.

    Attributes:
        places: blocks that the kernel reaches over.
        number: blocks to compute.
        pads: zeros before and behind the output's gradient; negative numbers cut off.
        start: first pixel of the image in the computed blocks.
    """

    places: int
    number: int
    pads: tuple[int, int]
    start: int


def _blocks(taps: int, stride: int, pad: int, size: int, outputs: int) -> _Blocks:
    """Blocks of `size` pixels behind `pad` zeros, read by so many outputs."""
    places = -(-taps // stride)  # rounded up
    skipped = min(pad // stride, places - 1)  # blocks of zeros only, which need no gradient
    count = -(-(pad + size) // stride) - skipped
    # Block b is read by the outputs b - places + 1 to b.
    before = places - 1 - skipped
    return _Blocks(
        places,
        count,
        (before, count + places - 1 - outputs - before),
        pad - skipped * stride,
    )


def _both_blocks(x, gradient, kernel, strides, pads) -> tuple[_Blocks, _Blocks]:
    """Blocks of the rows and of the columns of images `x`."""
    sizes = zip(kernel.shape[:2], strides, pads, x.shape[1:3], gradient.shape[1:3], strict=True)
    rows, columns = (
        _blocks(taps, stride, low, size, n) for taps, stride, (low, _), size, n in sizes
    )
    return rows, columns


def _is_tiny(x: jax.Array, kernel_size: Sequence[int]) -> bool:
    """True if XLA would exchange image and kernel, which takes a hundred times as long on CPUs."""
    return x.shape[1] * x.shape[2] <= kernel_size[0] * kernel_size[1]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve(x, kernel, strides, pads):
    """Dense convolution on CPUs, with the gradients below."""
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
    """Gradient (batch, height, width, inputs) of images `x`, in blocks as `_Blocks` describes.

    Args:
        x: (batch, height, width, inputs).
        gradient: (batch, height', width', outputs), of the convolution's output.
        kernel: (kernel height, kernel width, inputs, outputs).
        strides: of both directions.
        pads: of the convolution.
    """
    rows, columns = _both_blocks(x, gradient, kernel, strides, pads)
    (taps_h, taps_w, inputs, outputs), (stride_h, stride_w) = kernel.shape, strides
    # Taps of zeros fill the kernel to whole blocks.
    missing = ((0, rows.places * stride_h - taps_h), (0, columns.places * stride_w - taps_w))
    kernel = jnp.pad(kernel, (*missing, (0, 0), (0, 0)))
    # Each tap becomes a place (which block) and a pixel (which one of the block).
    kernel = kernel.reshape(rows.places, stride_h, columns.places, stride_w, inputs, outputs)
    # Places in reverse order; outputs are now read, and every pixel's inputs computed.
    kernel = kernel[::-1, :, ::-1].transpose(0, 2, 5, 1, 3, 4)  # (…, outputs, pixel, inputs)
    kernel = kernel.reshape(rows.places, columns.places, outputs, -1)
    y = _convolve(gradient, kernel, (1, 1), (rows.pads, columns.pads))
    if strides != (1, 1):
        # The channels hold the pixels of a block: move them beside one another.
        y = y.reshape(-1, rows.number, columns.number, *strides, inputs)
        y = y.transpose(0, 1, 3, 2, 4, 5).reshape(x.shape[0], rows.number * stride_h, -1, inputs)
    # Cut the padding off.
    height, width = x.shape[1:3]
    return y[:, rows.start : rows.start + height, columns.start : columns.start + width]


def _kernel_gradient(x, gradient, kernel, strides, pads) -> jax.Array:
    """Gradient of the kernel: a convolution with batch and channels exchanged.

    It sums over the batch as a convolution sums over its input channels. The output's gradient is
    the kernel, its taps as far apart as the stride.
    """
    taps = kernel.shape[:2]
    if _is_tiny(x, taps):
        patches = jnp.concatenate(_windows(x, taps, strides, pads), -1)  # (n, h, w, taps · inputs)
        return jnp.einsum("nhwi,nhwo->io", patches, gradient).reshape(kernel.shape)
    # The padding behind ends where the last tap reads for the last output.
    after = [
        (outputs - 1) * stride + n - low - size
        for outputs, stride, n, (low, _), size in zip(
            gradient.shape[1:3], strides, taps, pads, x.shape[1:3], strict=True
        )
    ]
    y = _native(
        x.transpose(3, 1, 2, 0),  # (inputs, height, width, batch)
        gradient.transpose(1, 2, 0, 3),  # (height', width', batch, outputs)
        (1, 1),
        [(low, high) for (low, _), high in zip(pads, after, strict=True)],
        rhs_dilation=strides,
    )
    return y.transpose(1, 2, 0, 3)  # from (inputs, taps, taps, outputs)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _convolve_depthwise(x, kernel, strides, pads):
    """Depthwise convolution on CPUs: a sum of shifted images, each times its tap's weights."""
    taps = kernel.reshape(-1, x.shape[-1])
    windows = _windows(x, kernel.shape[:2], strides, pads)
    return functools.reduce(operator.add, map(operator.mul, windows, taps))


def _convolve_depthwise_forward(x, kernel, strides, pads):
    return _convolve_depthwise(x, kernel, strides, pads), (x, kernel)


def _convolve_depthwise_backward(strides, pads, saved, gradient):
    x, kernel = saved
    taps = kernel.shape[:2]
    rows, columns = _both_blocks(x, gradient, kernel, strides, pads)
    # Both gradients read this padded array, so that XLA computes the output's gradient once and
    # stores it, not once for each tap. The kernel's gradient needs all of it: nothing is cut off.
    (top, bottom), (left, right) = rows.pads, columns.pads
    padded = _pad(gradient, ((top, max(bottom, 0)), (left, max(right, 0))))

    def pixel(i, j):
        """The gradient of pixel (i, j) of all blocks; some places have no tap for a pixel."""
        parts = [
            padded[:, h : h + rows.number, w : w + columns.number] * kernel[k, m, 0]
            for k in range(i, taps[0], strides[0])
            for m in range(j, taps[1], strides[1])
            for h, w in [(rows.places - 1 - k // strides[0], columns.places - 1 - m // strides[1])]
        ]
        if parts:
            return functools.reduce(operator.add, parts)
        return jnp.zeros((x.shape[0], rows.number, columns.number, x.shape[-1]), x.dtype)

    if strides == (1, 1):
        x_gradient = pixel(0, 0)
    else:
        # The pixels of each block beside one another, then the padding cut off.
        x_gradient = jnp.stack(
            [jnp.stack([pixel(i, j) for j in range(strides[1])], 3) for i in range(strides[0])], 2
        ).reshape(x.shape[0], rows.number * strides[0], -1, x.shape[-1])
    height, width = x.shape[1:3]
    x_gradient = x_gradient[
        :, rows.start : rows.start + height, columns.start : columns.start + width
    ]

    # A tap's gradient: the pixels it read, times the output's gradient, summed over all outputs.
    height, width = gradient.shape[1:3]
    unpadded = padded[:, top : top + height, left : left + width]
    windows = _windows(x, taps, strides, pads)
    kernel_gradient = jnp.stack(sums_over_images(*(window * unpadded for window in windows)))
    return x_gradient, kernel_gradient.reshape(kernel.shape).astype(kernel.dtype)


_convolve_depthwise.defvjp(_convolve_depthwise_forward, _convolve_depthwise_backward)
