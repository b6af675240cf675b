"""Network architectures as linen modules: no loss, no data, one file each."""

from asd_jax.models.dense_autoencoder import DenseAutoencoder

__all__ = ["DenseAutoencoder"]
