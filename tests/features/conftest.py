"""Recordings, and their features in a cache of a test's own."""

import pytest
from recordings import FRONT_END, make_clip

from asd_jax.features import entries
from asd_jax.features.compute import compute_features


@pytest.fixture
def clips(tmp_path):
    lengths = [16000, 9000, 16000, 100, 33001]
    return [make_clip(tmp_path / "data", i, n) for i, n in enumerate(lengths)]


@pytest.fixture
def compute(tmp_path, monkeypatch):
    """compute_features on a cache of its own; .read counts the recordings read."""
    read_recordings = entries.read_recordings

    def counting(paths, *args):
        run.read += len(paths)
        return read_recordings(paths, *args)

    monkeypatch.setattr(entries, "read_recordings", counting)

    def run(clips, front_end=FRONT_END, **options):
        run.read, run.lines = 0, []
        options = {"cache_dir": tmp_path / "cache", "report": run.lines.append} | options
        return compute_features(clips, front_end, **options)

    return run
