"""Label augmentation: sounds of machines that do not exist, made of views of those that do.

Source: Giri et al. 2020 (DCASE), section 2.2.3, "linear combination" and "spectral warping".

As there:
    Views of two machines are combined linearly in random proportions, either before taking the
    logarithm (`space="power"`) or after it ("log"), and the classifier is to name the
    proportions.
    Views are warped by polynomials of time and frequency, as if of further machines.

Decided here, where the report is silent:
    Partners are drawn evenly from the other rows of the batch, whatever their machine;
    proportions evenly from 0 to 1.
    The report warps with OpenCV and gives neither the polynomials nor their size. Here both
    axes have one polynomial each, of total degree 3 unless said otherwise, bilinear
    interpolation, and edges that go on with their last value. Coefficients are drawn so that
    every warp has the same size: a warped view is a machine of its own, and one that is hardly
    warped would be two machines at once.

All functions are pure, for inside a training step: they work under `jit`, `vmap` and `grad`.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from asd_jax.errors import UserError

SPACES = ("power", "log")

_DB_PER_NEPER = 10 / math.log(10)


def draw_pairs(key: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whom each row of a batch is mixed with, and in what proportion.

    Args:
        key: of `jax.random`.
        mask: bool (batch,), False for the rows that only fill the batch.

    Returns:
        partners: int32 (batch,), another row that the mask marks; the row itself where there is
            no other, and for the rows that only fill.
        proportions: float32 (batch,), the row's own share, from 0 up to 1; 1 - that is the
            partner's.
    """
    batch = len(mask)
    for_partner, for_proportion = jax.random.split(key)
    # The marked rows stand in a circle; a partner is a random number of steps away, but never
    # the whole way round.
    rows = jnp.argsort(~mask)
    n = jnp.sum(mask)
    place = jnp.cumsum(mask) - 1
    steps = jax.random.randint(for_partner, (batch,), 1, jnp.maximum(n, 2))
    partners = jnp.where(mask, rows[(place + steps) % jnp.maximum(n, 1)], jnp.arange(batch))
    return partners.astype(jnp.int32), jax.random.uniform(for_proportion, (batch,))


def mix(
    views: jax.Array, partners: jax.Array, proportions: jax.Array, space: str = "power"
) -> jax.Array:
    """Linear combinations p x1 + (1 - p) x2 of log-mel views.

    Args:
        views: (batch, frames, mels), in dB.
        partners: integers (batch,), the row that is x2 where this row is x1.
        proportions: (batch,), p; 1 leaves a row as it is, up to rounding.
        space: "power" combines mel powers, 10 ** (dB / 10), and is as exact at -200 dB as at
            100; "log" combines the dB themselves.

    Returns:
        (batch, frames, mels), in dB.

    Raises:
        UserError: `space` is neither.
    """
    if space not in SPACES:
        raise UserError(f"cannot mix in {space!r}; give one of {', '.join(map(repr, SPACES))}")
    own = proportions.reshape((-1,) + (1,) * (views.ndim - 1))
    others = views[partners]
    if space == "log":
        return own * views + (1 - own) * others
    # Powers of float32 would overflow above 385 dB and vanish below -448.
    mixed = jnp.logaddexp(
        views / _DB_PER_NEPER + jnp.log(own), others / _DB_PER_NEPER + jnp.log1p(-own)
    )
    return mixed * _DB_PER_NEPER


def exponents(degree: int) -> tuple[tuple[int, int], ...]:
    """Powers of time and frequency in a polynomial's terms, in the order of the coefficients.

    Args:
        degree: highest sum of the two powers, 0 or more.

    Returns:
        Pairs, lowest degree first, then highest power of time: 1, t, f, t², tf, f², …
    """
    return tuple((total - f, f) for total in range(degree + 1) for f in range(total + 1))


def draw_warp(key: jax.Array, batch: int, degree: int = 3, strength: float = 0.2) -> jax.Array:
    """Coefficients of random warps, for `warp`.

    The magnitudes of a polynomial's coefficients add up to `strength`. As no term exceeds 1 on
    the plane, no point moves further than that along either axis; and with a strength below
    1 / degree no two points change their order along an axis.

    Args:
        key: of `jax.random`.
        batch: number of warps.
        degree: total degree of the polynomials; 0 only shifts.
        strength: the most that a point moves along an axis, as a share of half the axis; 0
            changes nothing.

    Returns:
        float32 (batch, 2, terms), as `warp` takes them.

    Raises:
        UserError: the degree or the strength is negative.
    """
    if degree < 0 or not strength >= 0:
        raise UserError(f"a warp's degree {degree} and strength {strength} must be 0 or more")
    shape = (batch, 2, len(exponents(degree)))
    drawn = jax.random.uniform(key, shape, minval=-1, maxval=1)
    total = jnp.sum(jnp.abs(drawn), axis=-1, keepdims=True)
    return strength * drawn / jnp.maximum(total, jnp.finfo(drawn.dtype).tiny)


def warp(views: jax.Array, coefficients: jax.Array) -> jax.Array:
    """Moves the points of the time-frequency plane along polynomials.

    The output at time t and frequency f, both from -1 for the first frame or mel band to 1 for
    the last, is the input at t + P(t, f) and f + Q(t, f): between four points by bilinear
    interpolation, outside the plane the value at its edge.

    Args:
        views: (batch, frames, mels), in dB.
        coefficients: (batch, 2, terms), of P and of Q, in the order of `exponents`; or
            (2, terms), one warp for the whole batch. Zeros change nothing.

    Returns:
        (batch, frames, mels), in dB.

    Raises:
        UserError: no degree has this number of terms.
    """
    batch, frames, mels = views.shape
    terms = coefficients.shape[-1]
    degree = (math.isqrt(8 * terms + 1) - 3) // 2
    powers = exponents(degree)
    if not powers or coefficients.shape[-2] != 2 or len(powers) != terms:
        raise UserError(
            f"coefficients of a warp are {coefficients.shape}; they must be (batch, 2, terms) or "
            "(2, terms) with 1, 3, 6, 10, 15, … terms"
        )
    t, f = np.meshgrid(_axis(frames), _axis(mels), indexing="ij")
    plane = np.stack([t**i * f**j for i, j in powers]).astype(np.float32)
    # TF32, the default of GPUs for float32 products, would be off by a hundredth of a band.
    shifts = jnp.einsum(
        "...ak,ktf->...atf", coefficients, plane, precision=jax.lax.Precision.HIGHEST
    )
    shifts = jnp.broadcast_to(shifts, (batch, 2, frames, mels))
    half = np.array([frames - 1, mels - 1], np.float32)[:, None, None] / 2
    # Added to whole numbers, so that no shift is no change to the last bit.
    positions = np.indices((frames, mels), np.float32) + half * shifts

    def one(view, at):
        return map_coordinates(view, [at[0], at[1]], order=1, mode="nearest")

    return jax.vmap(one)(views, positions)


def _axis(n: int) -> np.ndarray:
    """Coordinates of n points from -1 to 1; of one point, 0."""
    return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
