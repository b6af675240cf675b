"""Mixing and warping of views against NumPy, SciPy and values derived by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from asd_jax.audio import augmentation
from asd_jax.audio.augmentation import exponents
from asd_jax.errors import UserError

# As programs: operation by operation, as in the docstrings' examples, each is compiled by itself.
mix = jax.jit(augmentation.mix, static_argnums=3)
warp = jax.jit(augmentation.warp)
draw_pairs = jax.jit(augmentation.draw_pairs)
draw_warp = jax.jit(augmentation.draw_warp, static_argnums=(1, 2, 3), static_argnames="strength")


def decibels(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-90, 10, shape).astype(np.float32)


def mixed(views, partners, proportions, space):
    """The definition, in float64."""
    x, p = views.astype(np.float64), np.asarray(proportions, np.float64)[:, None, None]
    if space == "log":
        return p * x + (1 - p) * x[partners]
    return 10 * np.log10(p * 10 ** (x / 10) + (1 - p) * 10 ** (x[partners] / 10))


@pytest.mark.parametrize("space", ["power", "log"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 5), (7, 6, 3)])
def test_mixing_by_definition(space, shape):
    """To 1e-4 dB: float32 has roundings of 8e-6 at 100 dB, and power takes a few."""
    views = decibels(*shape)
    rng = np.random.default_rng(1)
    partners, proportions = rng.integers(shape[0], size=shape[0]), rng.uniform(size=shape[0])
    proportions = proportions.astype(np.float32)
    found = mix(views, partners, proportions, space)
    assert found.shape == shape and found.dtype == jnp.float32
    np.testing.assert_allclose(found, mixed(views, partners, proportions, space), atol=1e-4)


def test_mixing_by_hand():
    # 0.4 * 1 + 0.6 * 10 = 6.4; of the logarithms, 0.4 * 0 + 0.6 * 10 = 6.
    views, partners = np.array([0.0, 10.0], np.float32).reshape(2, 1, 1), np.array([1, 0])
    proportions = np.array([0.4, 0.4], np.float32)
    power, log = (
        np.asarray(mix(views, partners, proportions, space)) for space in ("power", "log")
    )
    np.testing.assert_allclose(power.ravel(), [8.0618, 10 * np.log10(0.4 * 10 + 0.6)], atol=1e-4)
    np.testing.assert_allclose(log.ravel(), [6.0, 4.0], atol=1e-5)


@jax.jit
def first_and_gradient(views, proportions):
    return jax.value_and_grad(lambda x: mix(x, jnp.array([1, 1]), proportions, "power")[0].sum())(
        views
    )


@pytest.mark.parametrize("own, other", [(-200, 100), (100, -200), (-200, -200), (900, -900)])
@pytest.mark.parametrize("proportion", [0.0, 1e-6, 0.3, 1.0])
def test_extreme_levels_are_exact(own, other, proportion):
    """To 1e-6 of the larger level: float32 holds no more of a logarithm."""
    views = np.array([own, other], np.float32).reshape(2, 1, 1)
    proportions = np.array([proportion, 1.0], np.float32)
    p = np.float64(proportions[0])
    with np.errstate(divide="ignore"):
        terms = np.log10(p) + own / 10, np.log10(1 - p) + other / 10
    expected = 10 * np.logaddexp2(*(x * np.log2(10) for x in terms)) / np.log2(10)
    found, gradient = first_and_gradient(views, proportions)
    np.testing.assert_allclose(found, expected, atol=1e-6 * max(abs(own), abs(other)))
    # A level is raised by 1 dB where both sounds are: the two shares add up to 1.
    np.testing.assert_allclose(np.sum(gradient), 1, atol=1e-4)


@pytest.mark.parametrize("space", ["power", "log"])
def test_a_sound_mixed_with_itself_is_itself(space):
    views = decibels(4, 3, 2)
    same = mix(views, np.arange(4), np.linspace(0, 1, 4, dtype=np.float32), space)
    np.testing.assert_allclose(same, views, atol=1e-4)  # roundings, as above
    alone = mix(views, np.array([1, 2, 3, 0]), np.ones(4, np.float32), space)
    np.testing.assert_allclose(alone, views, atol=1e-4)


def test_an_unknown_space_is_named():
    with pytest.raises(UserError, match="'dB'; give one of 'power', 'log'"):
        mix(jnp.zeros((1, 1, 1)), jnp.zeros(1, int), jnp.ones(1), "dB")


draws = jax.jit(jax.vmap(draw_pairs, in_axes=(0, None)))


@pytest.mark.parametrize(
    "rows", [[], [0], [6], [0, 1], [0, 6], [3, 4], [1, 2, 3, 5], [0, 1, 2, 3, 4, 5, 6]]
)
def test_partners_are_all_other_rows_that_count(rows):
    mask = np.isin(np.arange(7), rows)
    partners, proportions = map(np.asarray, draws(jax.random.split(jax.random.key(0), 400), mask))
    assert partners.dtype == np.int32 and proportions.shape == (400, 7)
    for row, found in enumerate(partners.T):
        others = set(np.flatnonzero(mask)) - {row}
        expected = others if mask[row] and others else {row}
        # Of 400 draws from at most 6, one is missed with probability 6 * (5/6) ** 400.
        assert set(found.tolist()) == expected
        if len(expected) > 1:
            # Evenly: a share's standard deviation is below 0.025.
            shares = np.array([(found == other).mean() for other in expected])
            np.testing.assert_allclose(shares, 1 / len(expected), atol=0.12)
    assert proportions.min() >= 0 and proportions.max() < 1
    # Even from 0 to 1: mean 1/2 and standard deviation 0.29, of 400 draws or more.
    assert abs(proportions.mean() - 0.5) < 0.075
    assert abs(proportions.std() - 12**-0.5) < 0.05


def test_rows_that_only_fill_have_no_effect():
    mask = np.array([True, True, False, True, False])
    views = decibels(5, 4, 3)
    views[~mask] = np.nan
    for number in range(20):
        mixed_views = np.asarray(mix(views, *draw_pairs(jax.random.key(number), mask), "power"))
        assert np.isfinite(mixed_views[mask]).all()


def test_pairs_differ_by_row_and_by_key():
    mask = np.ones(64, bool)
    draws = [map(np.asarray, draw_pairs(jax.random.key(seed), mask)) for seed in (0, 0, 1)]
    for values, again, different in zip(*draws, strict=True):
        np.testing.assert_array_equal(values, again)
        assert (values != different).mean() > 0.9
        assert len(np.unique(values)) > 30


def warped(view, coefficients, degree):
    """The definition, in float64, by loops over the terms, and SciPy."""
    frames, mels = view.shape
    t = np.array([2 * i / max(frames - 1, 1) - 1 for i in range(frames)])[:, None]
    f = np.array([2 * i / max(mels - 1, 1) - 1 for i in range(mels)])[None, :]
    moved = [t + 0 * f, f + 0 * t]
    k = 0
    for total in range(degree + 1):
        for of_f in range(total + 1):
            for axis in (0, 1):
                moved[axis] = moved[axis] + coefficients[axis, k] * t ** (total - of_f) * f**of_f
            k += 1
    pixels = [(moved[0] + 1) / 2 * (frames - 1), (moved[1] + 1) / 2 * (mels - 1)]
    return scipy.ndimage.map_coordinates(view.astype(np.float64), pixels, order=1, mode="nearest")


@pytest.mark.parametrize(
    ("degree", "shape"),
    [*((degree, (33, 16)) for degree in (0, 2, 3, 5)), (3, (2, 2)), (3, (2, 7))],
)
def test_warping_equals_scipy(degree, shape):
    """To 5e-3 dB: neighbours differ by up to 100 dB, positions by a few roundings of 4e-6."""
    views = decibels(3, *shape)
    draws = np.random.default_rng(degree).uniform(-1, 1, (3, 2, len(exponents(degree))))
    coefficients = np.float32(0.7 * draws / np.abs(draws).sum(axis=-1, keepdims=True))
    found = np.asarray(warp(views, coefficients))
    for view, of_view, result in zip(views, np.asarray(coefficients), found, strict=True):
        np.testing.assert_allclose(result, warped(view, of_view, degree), atol=5e-3)
    if shape == (2, 7):
        mapped = jax.jit(jax.vmap(augmentation.warp))(views[None], coefficients[None])
        np.testing.assert_allclose(mapped[0], found, atol=5e-3)


def test_a_shift_by_hand():
    # Of 5 frames, half the axis is 2: a shift by 0.5 reads one frame later, the last one again.
    view = np.float32(np.arange(5.0)[None, :, None] * 10 + np.arange(3.0))

    def moved(time, band):
        return np.asarray(warp(view, np.array([[time], [band]], np.float32)))

    later = moved(0.5, 0.0)
    np.testing.assert_allclose(later[0], view[0, [1, 2, 3, 4, 4]], atol=1e-4)
    between = moved(0.0, -0.5)
    # Of 3 bands, half the axis is 1: half a band lower, and the edge goes on.
    np.testing.assert_allclose(between[0, 0], [0, 0.5, 1.5], atol=1e-4)
    far = moved(9.0, -9.0)
    np.testing.assert_allclose(far[0], 40.0)


def test_no_warp_is_no_change():
    views = decibels(2, 17, 9)
    none = draw_warp(jax.random.key(0), 2, strength=0.0)
    np.testing.assert_array_equal(warp(views, none), views)
    # To a bit: the two weights of an interpolation add up to 1.
    constant = np.full((2, 17, 9), -73.3, np.float32)
    moved = warp(constant, draw_warp(jax.random.key(0), 2, strength=0.9))
    np.testing.assert_allclose(moved, constant, rtol=3e-7)


def test_one_frame_and_one_band_stay():
    views = decibels(2, 1, 1)
    moved = warp(views, draw_warp(jax.random.key(0), 2, strength=0.9))
    np.testing.assert_array_equal(moved, views)


@pytest.mark.parametrize("degree", [0, 3])
def test_strength_bounds_every_move(degree):
    """Ramps of time and of frequency show where each point went."""
    strength = 0.3  # below 1 / 3
    ramp = np.linspace(-1, 1, 41, dtype=np.float32)
    # With XLA's own code for fused operations, unlike other tests (conftest.py): a point on the
    # border of two cells has its cell and its weight of one position, not of two roundings of it.
    warp = jax.jit(augmentation.warp, compiler_options={"xla_cpu_use_fusion_emitters": True})
    coefficients = draw_warp(jax.random.key(5), 50, degree, strength)
    time, band = (
        np.asarray(warp(np.broadcast_to(ramps, (50, 41, 41)), coefficients))
        for ramps in (ramp[:, None], ramp)
    )
    moves = np.stack([time - ramp[:, None], band - ramp])
    # A few roundings of float32 on numbers up to 1.
    assert np.abs(moves).max() <= strength + 1e-5
    # Every warp is one: its largest move is not far below the bound.
    assert np.abs(moves).max(axis=(0, 2, 3)).min() > strength / 4
    assert (np.diff(time, axis=1) >= -1e-5).all()
    assert (np.diff(band, axis=2) >= -1e-5).all()


def test_warps_differ_by_row_and_by_key():
    one, same, other = (np.asarray(draw_warp(jax.random.key(seed), 8)) for seed in (0, 0, 1))
    assert one.shape == (8, 2, 10) and one.dtype == jnp.float32
    np.testing.assert_array_equal(one, same)
    assert len(np.unique(one)) == one.size
    assert not np.isin(one, other).any()
    # The magnitudes add up to the strength; to a few roundings.
    np.testing.assert_allclose(np.abs(one).sum(axis=-1), 0.2, rtol=1e-6)


def test_one_warp_for_the_whole_batch():
    views = decibels(3, 8, 9)
    coefficients = np.asarray(draw_warp(jax.random.key(2), 1))
    np.testing.assert_allclose(
        warp(views, coefficients[0]), warp(views, np.repeat(coefficients, 3, axis=0)), atol=5e-3
    )


def test_gradient_of_a_warp_by_hand():
    # Half a band lower: an inner band is read twice with weight 1/2, the first once more by the
    # edge, the last once.
    gradient = jax.jit(jax.grad(lambda x: warp(x, jnp.array([[0.0], [-0.5]])).sum()))(
        jnp.zeros((1, 1, 3))
    )
    np.testing.assert_allclose(gradient.ravel(), [1.5, 1.0, 0.5], atol=1e-6)


def test_terms_of_a_polynomial():
    assert exponents(0) == ((0, 0),)
    assert exponents(2) == ((0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2))
    assert [len(exponents(degree)) for degree in range(5)] == [1, 3, 6, 10, 15]


@pytest.mark.parametrize("degree, strength", [(-1, 0.1), (3, -0.1), (3, float("nan"))])
def test_a_senseless_warp_is_named(degree, strength):
    with pytest.raises(UserError, match=f"degree {degree} and strength {strength}"):
        draw_warp(jax.random.key(0), 2, degree, strength)


@pytest.mark.parametrize("shape", [(2, 4), (2, 2, 0), (3, 3), (4, 1, 10)])
def test_coefficients_of_no_degree_are_named(shape):
    with pytest.raises(UserError, match="1, 3, 6, 10"):
        warp(jnp.zeros((4, 5, 6)), jnp.zeros(shape))


def test_mixup_mixes_sounds_as_it_mixes_labels():
    """Rows of one-hot labels say which rows are in a mixture, and by how much; padding is none."""
    rows, samples = 400, 6
    sounds = np.random.default_rng(0).normal(size=(rows, samples)).astype(np.float32)
    mask = np.arange(rows) < 390
    labels = np.eye(rows, dtype=np.float32)
    mixup = jax.jit(augmentation.mixup, static_argnames="probability")
    found, shares = map(np.asarray, mixup(jax.random.key(0), sounds, labels, mask))
    np.testing.assert_allclose(shares @ sounds, found, atol=1e-5)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found[~mask], sounds[~mask])
    assert not shares[:390, 390:].any()
    own = np.diag(shares)[:390]
    mixed = own < 1
    # Half of 390 rows, within four standard deviations; proportions are even from 0 to 1.
    assert abs(mixed.mean() - 0.5) < 4 * np.sqrt(0.25 / 390)
    assert abs(own[mixed].mean() - 0.5) < 4 * np.sqrt(1 / 12 / mixed.sum())
    none, _ = mixup(jax.random.key(0), sounds, labels, mask, probability=0.0)
    np.testing.assert_array_equal(none, sounds)


def test_noise_is_added_at_the_drawn_ratio_and_from_rows_of_noise_alone():
    """To 1e-3 dB in float32."""
    rng = np.random.default_rng(0)
    sounds = (rng.normal(size=(64, 500)) * rng.uniform(0.1, 9, (64, 1))).astype(np.float32)
    is_noise, mask = np.arange(64) % 4 == 3, np.arange(64) < 60
    add = jax.jit(functools.partial(augmentation.add_noise, snr_db=(5.0, 20.0), probability=0.5))
    found = np.asarray(add(jax.random.key(3), sounds, is_noise, mask))
    np.testing.assert_array_equal(found[is_noise], sounds[is_noise])
    added = (found - sounds)[~is_noise]
    power = np.mean(added**2, axis=1) / np.mean(sounds[~is_noise] ** 2, axis=1)
    changed = power > 0
    assert 10 < changed.sum() < 38  # of 48, half on average
    ratios = -10 * np.log10(power[changed])
    near = np.abs(ratios[:, None] - [5, 20])
    assert (near.min(axis=1) < 1e-3).all() and (near < 1e-3).any(axis=0).all()
    # Each is a multiple of a row of noise that is not padding.
    noise = sounds[is_noise & mask]
    lengths = np.linalg.norm(added[changed], axis=1)[:, None] * np.linalg.norm(noise, axis=1)
    cosines = (added[changed] @ noise.T) / lengths
    np.testing.assert_allclose(cosines.max(axis=1), 1, atol=1e-4)
    none = np.asarray(add(jax.random.key(3), sounds, np.zeros(64, bool), mask))
    np.testing.assert_array_equal(none, sounds)
