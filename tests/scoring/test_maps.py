"""Maps: a click is found where it is, however long the recording; sums and blocks by hand."""

import numpy as np
import pytest

from asd_jax.scoring import maps
from asd_jax.scoring.explanation import Explanation, map_of
from asd_jax.scoring.maps import EvidenceSum, Frames, Smoother, Usual

USUAL = Usual(np.zeros((1, 4)), np.ones((1, 4)), np.ones((1, 4)))


def blocks_of(cells, size, sensitivity=None):
    known = np.ones(len(cells), bool)
    for first in range(0, len(cells), size):
        part = slice(first, first + size)
        own = None if sensitivity is None else sensitivity[part]
        yield Frames(cells[part, 0], cells[part], known[part], own)


def summed(cells, size, **options):
    evidence = EvidenceSum(USUAL, 0.032)
    for block in blocks_of(cells, size, **options):
        evidence.add(block)
    return evidence.result()


@pytest.mark.parametrize("size", [64, 1000, 20_000])
def test_blocks_of_any_size_give_the_same_frames(size):
    """Smoothed across blocks as in one piece, to rounding of sums in another order."""
    cells = np.random.default_rng(0).normal(size=(10_001, 1, 4))
    whole, parts = Smoother(0.032), Smoother(0.032)
    whole._halo = len(cells)  # all frames wait for the end
    assert not [*whole.add(next(blocks_of(cells, len(cells))))]
    (expected,) = whole.rest()
    found = [part for block in blocks_of(cells, size) for part in parts.add(block)] + parts.rest()
    np.testing.assert_allclose(np.concatenate([part.cells for part in found]), expected.cells)


@pytest.mark.parametrize("n_frames", [1, 100, maps.MOST_FRAMES + 1, 5 * maps.MOST_FRAMES + 3])
def test_long_maps_are_sums_of_neighbours(n_frames):
    """A click in the third quarter stays there; the evidence adds up to the same."""
    cells = np.zeros((n_frames, 1, 4))
    place = 3 * n_frames // 4
    cells[place, 0, 2] = 50.0
    found = summed(cells, 777)
    assert found.values.shape[1] == len(found.levels) <= maps.MOST_FRAMES
    assert found.together * len(found.levels) >= n_frames == found.n_frames
    loudest = np.unravel_index(found.values.argmax(), found.values.shape)
    assert loudest == (0, place // found.together, 0, 2)
    smoother = Smoother(0.032)
    frames = [*smoother.add(next(blocks_of(cells, n_frames))), *smoother.rest()]
    total = sum(maps.evidence(own.cells, USUAL).sum() for own in frames)
    assert found.values.sum() == pytest.approx(total, rel=1e-9)
    np.testing.assert_allclose(found.mean_level, cells[:, 0].mean(axis=0), atol=1e-12)


def test_sensitivity_weighs_places():
    """Of two equal clicks, the one that the score does not depend on counts for nothing."""
    cells, sensitivity = np.zeros((200, 1, 4)), np.zeros((200, 4))
    cells[[50, 150], 0, 1] = 9.0
    sensitivity[100:] = 1.0
    shares = map_of(summed(cells, 64, sensitivity=sensitivity).values)
    assert shares[:90].sum() < 1e-6 and shares[140:160].sum() == pytest.approx(1, abs=1e-6)


def test_frames_without_cells_have_no_evidence():
    cells = np.full((20, 1, 4), 5.0)
    known = np.arange(20) >= 2
    evidence = EvidenceSum(USUAL, 0.032)
    evidence.add(Frames(cells[:, 0], np.where(known[:, None, None], cells, 1e9), known))
    values = evidence.result().values
    assert (values[:, :2] == 0).all() and np.ptp(values[0, 2:]) < 1e-6 * values.max()


def test_without_normal_clips_a_clip_is_compared_with_itself():
    cells = np.random.default_rng(0).normal(size=(300, 1, 4))
    cells[100:103, 0, 2] += 20
    evidence = EvidenceSum(None, 0.032)
    evidence.add(next(blocks_of(cells, 300)))
    shares = map_of(evidence.result().values)
    assert shares[95:108].sum() > 0.9


def test_ranges_are_the_largest_first():
    """By hand: 60 % are asked for; a gap of two frames is part of a range."""
    shares = np.zeros((40, 2))
    shares[3, 0] = shares[6, 0] = 0.2
    shares[20:22, 0] = 0.25
    shares[30, 1] = 0.1
    times = np.arange(40)[:, None] + np.array([0.0, 1.0])
    found = Explanation(1.0, (), np.array([[0, 10], [5, 15]]), shares, times)
    assert found.when() == [(20.0, 22.0, pytest.approx(0.5)), (3.0, 4.0, pytest.approx(0.2))]
    assert found.when(1) == found.when()[:1]
    assert found.which_hz() == [(0.0, 10.0, pytest.approx(0.9))]
    even = found._replace(map=np.full((40, 2), 1 / 80))
    assert even.when() == [(0.0, 40.0, 1.0)]
    nothing = found._replace(map=np.zeros((40, 2)))
    assert nothing.when() == [] and "nothing is unusual" in nothing.lines()[0]
    assert found._replace(map=None).when() == [] == found._replace(map=None).lines()
