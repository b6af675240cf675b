"""Fitting tables of features in memory, as a run fits those of its recordings."""

from asd_jax.detectors import make_detector
from asd_jax.fitting.fitting import fit_clips
from asd_jax.fitting.layout import lay_out


def layout_of(config, features):
    """The layout of a table's models."""
    return lay_out(make_detector(config), features.clips, features.n_frames)


def fit_table(config, features, **options):
    """A detector fitted to a table of features, without thresholds."""
    layout = layout_of(config, features)
    return fit_clips(make_detector(config), features, layout, **options)
