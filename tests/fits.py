"""Fitting tables of features in memory, as a run fits those of its recordings."""

import contextlib
from collections.abc import Iterator
from unittest import mock

from asd_jax.detectors import make_detector
from asd_jax.fitting import fitting
from asd_jax.fitting.fitting import fit_clips
from asd_jax.fitting.layout import lay_out


def layout_of(config, features):
    """The layout of a table's models."""
    return lay_out(make_detector(config), features.clips, features.n_frames)


def fit_table(config, features, **options):
    """A detector fitted to a table of features, without thresholds."""
    layout = layout_of(config, features)
    return fit_clips(make_detector(config), features, layout, **options)


@contextlib.contextmanager
def trained_before(weights) -> Iterator[None]:
    """Fits inside take these weights instead of training them, for tests of what follows."""
    with mock.patch.object(fitting, "train", lambda *arguments, **options: weights):
        yield
