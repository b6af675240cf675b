"""Network architectures as linen modules: no loss, no data, one file each."""

from asd_jax.models.dense_autoencoder import DenseAutoencoder
from asd_jax.models.interpolation_autoencoder import InterpolationAutoencoder

__all__ = ["DenseAutoencoder", "InterpolationAutoencoder"]
