"""Levels of recordings, block by block."""

import numpy as np
import pytest

from asd_jax.data.levels import Level, LevelMeter


def level_of(*blocks):
    meter = LevelMeter()
    for block in blocks:
        meter.add(np.asarray(block, np.float32))
    return meter.level()


def test_a_recording_without_samples_has_no_level():
    assert level_of() == level_of(np.zeros((0, 1))) == Level()


def test_blocks_have_the_level_of_the_whole():
    """Also where a run of clipped samples is cut in two, and a block is empty."""
    rng = np.random.default_rng(0)
    whole = rng.normal(0, 0.3, (100, 2))
    whole[40:60, 1] = 1.0
    parts = level_of(whole[:50], whole[:0], whole[50:51], whole[51:])
    assert parts == pytest.approx(level_of(whole), rel=1e-6)
    assert parts.peak == np.float32(np.abs(whole).max())
