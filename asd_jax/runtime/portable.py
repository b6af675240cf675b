"""Programs that leave this package: traced of operations that other runtimes have as well.

JAX has several forms of one computation, of which this package chooses the fastest for the device.
Other runtimes know no complex numbers and no platforms. Inside `portable()` functions are traced in
the form that all of them know:

- Fourier transforms are products of real matrices in float32 (`asd_jax.audio.products`);
- lengths may be symbols (`jax.export.symbolic_shape`), so nothing is cut into pieces;
- pooling is the maximum of shifted images;
- probabilities near 0 keep their digits (`sigmoid`);
- with `convolutions`, convolutions are operations of their own. Without, they stay in the form that
  XLA computes fast on CPUs.
"""

import contextlib
import contextvars
from collections.abc import Iterator

import jax
import jax.numpy as jnp

_CONVOLUTIONS: contextvars.ContextVar[bool | None] = contextvars.ContextVar(
    "portable", default=None
)


@contextlib.contextmanager
def portable(*, convolutions: bool) -> Iterator[None]:
    """Has what is traced inside take the portable form.

    Args:
        convolutions: whether convolutions are operations of their own.

    Examples:
        >>> with portable(convolutions=False):
        ...     is_portable(), native_convolutions()
        (True, False)
        >>> is_portable()
        False
    """
    token = _CONVOLUTIONS.set(convolutions)
    try:
        yield
    finally:
        _CONVOLUTIONS.reset(token)


def is_portable() -> bool:
    """Whether a portable program is being traced."""
    return _CONVOLUTIONS.get() is not None


def native_convolutions() -> bool:
    """Whether a portable program is being traced that has convolutions of its own."""
    return bool(_CONVOLUTIONS.get())


def sigmoid(x: jax.Array) -> jax.Array:
    """1 / (1 + exp(−x)), of scores: to rounding, relatively, however near to 0.

    Its own operation is another one in each runtime: that of ONNX Runtime is exact to 1e-8, and 0
    below −18. Portable programs say the formula.

    Examples:
        >>> with portable(convolutions=False):
        ...     print(f"{sigmoid(jnp.float32(-23)):.6g}")
        1.02619e-10
    """
    return 1 / (1 + jnp.exp(-x)) if is_portable() else jax.nn.sigmoid(x)
