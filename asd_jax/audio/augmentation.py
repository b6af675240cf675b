"""Label augmentation: views of further machines, made from views of the recorded ones.

Source: Giri et al. 2020 (DCASE), section 2.2.3, "linear combination" and "spectral warping".

As there:
    Views of two machines are combined linearly in random proportions, either before taking the
    logarithm (`space="power"`) or after it ("log"), and the classifier predicts the proportions.
    Views are warped by polynomials of time and frequency; each warp counts as another machine.

Decided here, where the report is silent:
    Partners are drawn evenly from the other rows of the batch, whatever their machine;
    proportions evenly from 0 to 1.
    The report warps with OpenCV and gives neither the polynomials nor their size. Here each
    axis has one polynomial, of total degree 3 by default; interpolation is bilinear, and edges
    are extended by their last value. Coefficients are drawn so that every warp has the same
    size: a warped view has a label of its own, and a view that is hardly warped would carry two.

All functions are pure, for use inside a training step: they work under `jit`, `vmap` and `grad`.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from asd_jax.errors import UserError

SPACES = ("power", "log")

_DB_PER_NEPER = 10 / math.log(10)


def draw_pairs(key: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Draws a mixing partner and a proportion for each row of a batch.

    Args:
        key: of `jax.random`.
        mask: bool (batch,), False for padding rows.

    Returns:
        partners: int32 (batch,), another row that the mask marks; padding rows, and a row
            without another one, are their own partners.
        proportions: float32 (batch,), the row's own share, from 0 up to 1; the partner's share
            is the rest.

    Examples:
        Two rows and a padding row: the two are each other's partners.

        >>> import jax, numpy as np
        >>> mask = np.array([True, True, False])
        >>> partners, proportions = draw_pairs(jax.random.key(0), mask)
        >>> partners.tolist(), proportions.shape
        ([1, 0, 2], (3,))
    """
    batch = len(mask)
    for_partner, for_proportion = jax.random.split(key)
    # The marked rows stand in a circle; a partner is a random number of steps away, but never
    # the whole way round.
    rows = jnp.argsort(~mask)  # (batch,), marked rows first
    n = jnp.sum(mask)
    place = jnp.cumsum(mask) - 1  # (batch,), of a marked row in the circle
    steps = jax.random.randint(for_partner, (batch,), 1, jnp.maximum(n, 2))
    partners = jnp.where(mask, rows[(place + steps) % jnp.maximum(n, 1)], jnp.arange(batch))
    return partners.astype(jnp.int32), jax.random.uniform(for_proportion, (batch,))


def mix(
    views: jax.Array, partners: jax.Array, proportions: jax.Array, space: str = "power"
) -> jax.Array:
    """Combines log-mel views linearly, p x1 + (1 - p) x2; "log" serves any other arrays, too.

    Args:
        views: (batch, frames, mels), in dB; with "log" (batch, ...).
        partners: integers (batch,), the row that is x2 where this row is x1.
        proportions: (batch,), p; 1 leaves a row as it is, up to rounding.
        space: "power" combines mel powers, 10 ** (dB / 10), and is as exact at -200 dB as at
            100; "log" combines the dB themselves.

    Returns:
        Of the shape of `views`, in dB.

    Raises:
        UserError: `space` is neither.

    Examples:
        Half of 0 dB and half of 20 dB, in powers (1 and 100) and in decibels:

        >>> import numpy as np
        >>> views = np.array([[[0.0]], [[20.0]]])
        >>> partners, halves = np.array([1, 0]), np.array([0.5, 0.5])
        >>> [round(float(level), 2) for level in np.ravel(mix(views, partners, halves))]
        [17.03, 17.03]
        >>> np.ravel(mix(views, partners, halves, space="log")).tolist()
        [10.0, 10.0]
    """
    if space not in SPACES:
        raise UserError(f"cannot mix in {space!r}; give one of {', '.join(map(repr, SPACES))}")
    own = proportions.reshape((-1,) + (1,) * (views.ndim - 1))  # (batch, 1, 1)
    others = views[partners]  # (batch, frames, mels)
    if space == "log":
        return own * views + (1 - own) * others
    # Powers of float32 would overflow above 385 dB and vanish below -448.
    mixed = jnp.logaddexp(
        views / _DB_PER_NEPER + jnp.log(own), others / _DB_PER_NEPER + jnp.log1p(-own)
    )
    return mixed * _DB_PER_NEPER


def mixup(
    key: jax.Array,
    sounds: jax.Array,
    labels: jax.Array,
    mask: jax.Array,
    *,
    probability: float = 0.5,
) -> tuple[jax.Array, jax.Array]:
    """Mixes some rows of a batch, and their labels, with other rows in random proportions.

    Source: Zhang et al. 2018, mixup; on waveforms, with even proportions and a probability for
    each row, as in ASDKit. There a row may be its own partner; here it has another one.

    Args:
        key: of `jax.random`.
        sounds: (batch, ...), waveforms or what else can be added.
        labels: (batch, classes) proportions.
        mask: bool (batch,), False for padding rows.
        probability: of a row's being mixed.

    Returns:
        Sounds and labels, of the same shapes.

    Examples:
        Each row keeps a share of itself, which its label tells.

        >>> import jax, numpy as np
        >>> sounds, labels = np.array([[1.0], [2.0]]), np.eye(2)
        >>> mask = np.ones(2, bool)
        >>> mixed, shares = mixup(jax.random.key(0), sounds, labels, mask, probability=1.0)
        >>> bool(np.allclose(shares @ sounds, mixed)), shares.sum(axis=1).tolist()
        (True, [1.0, 1.0])
    """
    for_pairs, for_choice = jax.random.split(key)
    partners, proportions = draw_pairs(for_pairs, mask)
    mixed = jax.random.bernoulli(for_choice, probability, (len(mask),))
    own = jnp.where(mixed, proportions, 1.0)  # (batch,)
    sounds, labels = jnp.asarray(sounds), jnp.asarray(labels)
    return mix(sounds, partners, own, "log"), mix(labels, partners, own, "log")


def add_noise(
    key: jax.Array,
    sounds: jax.Array,
    is_noise: jax.Array,
    mask: jax.Array,
    *,
    snr_db: tuple[float, ...] = (5.0, 10.0, 15.0, 20.0),
    probability: float = 0.5,
) -> jax.Array:
    """Adds noise, which some rows of a batch are, to some of the others.

    Source: a system of 2025's challenge (SJTU-AITHU), which mixes supplemental noise in so, with
    these ratios and this probability.

    Args:
        key: of `jax.random`.
        sounds: (batch, samples).
        is_noise: bool (batch,) of the rows.
        mask: bool (batch,), False for padding rows.
        snr_db: ratios of power from which each row's is drawn.
        probability: of a row's noise.

    Returns:
        Sounds of the same shape; those of noise as they are, and all where no row is noise, or
        the noise is silent.

    Examples:
        >>> import jax, numpy as np
        >>> sounds = np.array([[1.0, -1.0], [0.2, 0.2]])
        >>> noise, mask = np.array([False, True]), np.ones(2, bool)
        >>> key, always = jax.random.key(0), {"snr_db": (20.0,), "probability": 1.0}
        >>> noisy = add_noise(key, sounds, noise, mask, **always)
        >>> [round(float(each), 3) for each in noisy.ravel()]
        [1.1, -0.9, 0.2, 0.2]
    """
    sounds = jnp.asarray(sounds)
    batch = len(sounds)
    for_choice, for_noise, for_ratio = jax.random.split(key, 3)
    usable = jnp.asarray(mask) & is_noise
    # Evenly among the rows of noise; where there is none, the row's own weight is of no account.
    weights = jnp.where(usable, 0.0, -jnp.inf)
    weights = jnp.where(jnp.any(usable), weights, 0.0)
    noise = sounds[jax.random.categorical(for_noise, weights, shape=(batch,))]
    ratio = jax.random.choice(for_ratio, jnp.asarray(snr_db), (batch,))
    power, of_noise = (jnp.mean(each**2, axis=-1) for each in (sounds, noise))  # (batch,)
    gain = jnp.sqrt(power / jnp.where(of_noise > 0, of_noise, 1) / 10 ** (ratio / 10))
    chosen = jax.random.bernoulli(for_choice, probability, (batch,))
    chosen &= ~is_noise & jnp.any(usable)
    return sounds + jnp.where(chosen, gain, 0.0)[:, None] * noise


def exponents(degree: int) -> tuple[tuple[int, int], ...]:
    """Powers of time and frequency in a polynomial's terms, in the order of the coefficients.

    Args:
        degree: highest sum of the two powers, 0 or more.

    Returns:
        Pairs, lowest degree first, then highest power of time: 1, t, f, t², tf, f², …

    Examples:
        >>> exponents(2)
        ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
    """
    return tuple((total - f, f) for total in range(degree + 1) for f in range(total + 1))


def draw_warp(key: jax.Array, batch: int, degree: int = 3, strength: float = 0.2) -> jax.Array:
    """Draws coefficients of random warps, for `warp`.

    The magnitudes of a polynomial's coefficients add up to `strength`. As no term exceeds 1 on
    the plane, no point moves further than `strength` along either axis; and with a strength
    below 1 / degree no two points change their order along an axis.

    Args:
        key: of `jax.random`.
        batch: number of warps.
        degree: total degree of the polynomials; 0 only shifts.
        strength: largest move of a point along an axis, as a share of half the axis; 0 changes
            nothing.

    Returns:
        float32 (batch, 2, terms), as `warp` takes them.

    Raises:
        UserError: the degree or the strength is negative.

    Examples:
        >>> import jax, numpy as np
        >>> coefficients = draw_warp(jax.random.key(0), 2)
        >>> coefficients.shape  # two warps, two axes, ten terms of degree 3
        (2, 2, 10)
        >>> [round(float(total), 3) for total in np.abs(coefficients).sum(-1).ravel()]
        [0.2, 0.2, 0.2, 0.2]
    """
    if degree < 0 or not strength >= 0:
        raise UserError(f"a warp's degree {degree} and strength {strength} must be 0 or more")
    shape = (batch, 2, len(exponents(degree)))
    drawn = jax.random.uniform(key, shape, minval=-1, maxval=1)
    total = jnp.sum(jnp.abs(drawn), axis=-1, keepdims=True)  # (batch, 2, 1)
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

    Examples:
        A shift of time by half the axis, here one frame; the last frame repeats at the edge.

        >>> import numpy as np
        >>> views = np.array([[[0.0], [1.0], [2.0]]])  # three frames of one band
        >>> np.ravel(warp(views, np.array([[1.0], [0.0]]))).tolist()
        [1.0, 2.0, 2.0]
    """
    batch, frames, mels = views.shape
    terms = coefficients.shape[-1]
    # Degree n has (n + 1) (n + 2) / 2 terms; this is its inverse.
    degree = (math.isqrt(8 * terms + 1) - 3) // 2
    powers = exponents(degree)
    if not powers or coefficients.shape[-2] != 2 or len(powers) != terms:
        raise UserError(
            f"coefficients of a warp are {coefficients.shape}; they must be (batch, 2, terms) or "
            "(2, terms) with 1, 3, 6, 10, 15, … terms"
        )
    t, f = np.meshgrid(_axis(frames), _axis(mels), indexing="ij")
    plane = np.stack([t**i * f**j for i, j in powers]).astype(np.float32)  # (terms, frames, mels)
    # TF32, the default of GPUs for float32 products, would be off by a hundredth of a band.
    shifts = jnp.einsum(
        "...ak,ktf->...atf", coefficients, plane, precision=jax.lax.Precision.HIGHEST
    )
    shifts = jnp.broadcast_to(shifts, (batch, 2, frames, mels))
    half = np.array([frames - 1, mels - 1], np.float32)[:, None, None] / 2  # (2, 1, 1)
    # Shifts are added to whole numbers, so that a zero shift changes no bit.
    positions = np.indices((frames, mels), np.float32) + half * shifts  # (batch, 2, frames, mels)

    def one(view: jax.Array, at: Any) -> jax.Array:
        return map_coordinates(view, [at[0], at[1]], order=1, mode="nearest")

    return jax.vmap(one)(views, positions)


def _axis(n: int) -> np.ndarray:
    """Coordinates of n points from -1 to 1; of one point, 0."""
    return np.linspace(-1, 1, n) if n > 1 else np.zeros(1)
