"""Discrete Fourier transforms as products of real matrices, in float32.

For runtimes without Fourier transforms or complex numbers. A transform of n samples by one matrix
takes n² products; here n is split into factors of about √n, each with a small matrix, and twiddle
factors between them (Cooley and Tukey 1965): at n = 1024 eleven times fewer products, constants of
kilobytes in place of megabytes, and sums of 32 values in place of 1024, whose rounding is that of
an FFT.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.errors import UserError

# A prime factor has a matrix of its square: 16 MiB for both parts of this one.
LARGEST_FACTOR = 1448
# Factors of a length: each is a product with its matrix.
_SMALL = 64

_Parts = tuple[jax.Array, jax.Array]  # real and imaginary


def squared_spectrum(frames: jax.Array) -> jax.Array:
    """Squared magnitudes of the transform of real frames.

    Args:
        frames: float32 (..., n).

    Returns:
        (..., n // 2 + 1).

    Raises:
        UserError: n has a prime factor above `LARGEST_FACTOR`.

    Examples:
        >>> squared_spectrum(jnp.ones((1, 4))).round(6).tolist()
        [[16.0, 0.0, 0.0]]
    """
    n = frames.shape[-1]
    first, rest = factors_of(n)[0], n // factors_of(n)[0]
    if rest == 1:
        real, imaginary = _by_matrix((frames, None), n)
        return (real**2 + imaginary**2)[..., : n // 2 + 1]
    # Sample rest · i + j is in row i and column j; bin k + first · l in row k and column l. The
    # conjugates of rows up to first / 2 are in the other rows, whose magnitudes are not needed.
    rows = first // 2 + 1
    matrix = _matrix(first)[:, :rows]
    columns = jnp.swapaxes(frames.reshape(*frames.shape[:-1], first, rest), -1, -2)
    parts = _product(columns, matrix.real), _product(columns, matrix.imag)  # (..., rest, rows)
    twiddles = _twiddles(n, rest, rows)
    parts = _times(parts, twiddles)
    of_rows = jnp.swapaxes(parts[0], -1, -2), jnp.swapaxes(parts[1], -1, -2)
    real, imaginary = _transform(of_rows, rest)  # (..., rows, rest)
    squared = (real**2 + imaginary**2).reshape(*frames.shape[:-1], rows * rest)
    return jnp.take(squared, _places(n, first), axis=-1, mode="clip")


def factors_of(n: int) -> tuple[int, ...]:
    """Factors of a length, by whose matrices it is transformed.

    Raises:
        UserError: it has a prime factor above `LARGEST_FACTOR`.

    Examples:
        >>> factors_of(1024), factors_of(160_000), factors_of(97)
        ((32, 32), (40, 50, 80), (97,))
    """
    found = _factors(n)
    if found[-1] > LARGEST_FACTOR:
        raise UserError(
            f"a transform of {n} samples cannot be exported: it has the prime factor {found[-1]}, "
            f"above {LARGEST_FACTOR}; choose a length of small factors, as a power of two"
        )
    return found


@functools.lru_cache
def _factors(n: int) -> tuple[int, ...]:
    primes, rest = [], n
    for p in range(2, math.isqrt(n) + 1):
        while rest % p == 0:
            primes.append(p)
            rest //= p
    primes += [rest] if rest > 1 or not primes else []
    count = 1
    while n > _SMALL**count:
        count += 1
    # The largest primes first, each to the smallest factor so far.
    factors = [1] * count
    for p in sorted(primes, reverse=True):
        place = factors.index(min(factors))
        factors[place] *= p
    return tuple(sorted(f for f in factors if f > 1)) or (1,)


def _transform(parts: _Parts, n: int) -> _Parts:
    """Transform (..., n) of complex values (..., n)."""
    first, rest = factors_of(n)[0], n // factors_of(n)[0]
    if rest == 1:
        return _by_matrix(parts, n)
    leading = parts[0].shape[:-1]
    columns = [jnp.swapaxes(p.reshape(*leading, first, rest), -1, -2) for p in parts]
    found = _by_matrix((columns[0], columns[1]), first)  # (..., rest, first)
    found = _times(found, _twiddles(n, rest, first))
    of_rows = jnp.swapaxes(found[0], -1, -2), jnp.swapaxes(found[1], -1, -2)
    real, imaginary = _transform(of_rows, rest)  # (..., first, rest)
    return (
        jnp.swapaxes(real, -1, -2).reshape(*leading, n),
        jnp.swapaxes(imaginary, -1, -2).reshape(*leading, n),
    )


def _by_matrix(parts: tuple[jax.Array, jax.Array | None], n: int) -> _Parts:
    """Transform (..., n) of values (..., n) by one matrix; imaginary parts None are zero."""
    real, imaginary = parts
    matrix = _matrix(n)
    if imaginary is None:
        return _product(real, matrix.real), _product(real, matrix.imag)
    return (
        _product(real, matrix.real) - _product(imaginary, matrix.imag),
        _product(real, matrix.imag) + _product(imaginary, matrix.real),
    )


def _product(values: jax.Array, matrix: np.ndarray) -> jax.Array:
    # Not in the TF32 of GPUs, which has three digits.
    return jnp.matmul(values, matrix.astype(np.float32), precision=jax.lax.Precision.HIGHEST)


def _times(parts: _Parts, factors: np.ndarray) -> _Parts:
    real, imaginary = factors.real.astype(np.float32), factors.imag.astype(np.float32)
    return (
        parts[0] * real - parts[1] * imaginary,
        parts[0] * imaginary + parts[1] * real,
    )


@functools.lru_cache
def _matrix(n: int) -> np.ndarray:
    """(n, n) exp(−2πi jk / n), complex128, of exact products jk modulo n."""
    return np.exp(-2j * np.pi / n * (np.outer(np.arange(n), np.arange(n)) % n))


@functools.lru_cache
def _twiddles(n: int, rest: int, rows: int) -> np.ndarray:
    """(rest, rows) exp(−2πi jk / n)."""
    return np.exp(-2j * np.pi / n * (np.outer(np.arange(rest), np.arange(rows)) % n))


@functools.lru_cache
def _places(n: int, first: int) -> np.ndarray:
    """Place of each bin (n // 2 + 1,) among rows k ≤ first / 2 and columns l."""
    rest = n // first
    column, row = np.divmod(np.arange(n // 2 + 1), first)
    mirrored = row > first // 2
    row = np.where(mirrored, first - row, row)
    column = np.where(mirrored, rest - 1 - column, column)
    return (row * rest + column).astype(np.int32)
