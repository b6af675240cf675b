"""OpenL3: the audio network of a model trained to match sounds and pictures."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import numpy as np

from asd_jax.errors import UserError
from asd_jax.models.layers.batch_norm import BatchNorm
from asd_jax.models.layers.convolution import Convolution
from asd_jax.models.pretrained.imported import from_keras

_LAST = "audio_embedding_layer"


class OpenL3(nn.Module):
    """OpenL3's audio network as in Keras, with Keras's names of layers; weights are frozen.

    Eight 3×3 convolutions, with a max-pool by two after each pair but the last. With the channels
    of OpenL3 it has 4,689,860 values, running statistics included.

    Cramer, Wu, Salamon, Bello: Look, Listen, and Learn More: Design Choices for Deep Audio
    Embeddings, ICASSP 2019. EdgeL3's smaller ones: Srivastava, Roy, Cartwright, Bello, Arora:
    Specialized Embedding Approximation for Edge Intelligence, ICASSP 2021.

    Attributes:
        channels: of the convolutions, in pairs.
        normalise_last: apply normalisation and ReLU after the last convolution too.
        pool: bands and frames of the last max-pool, which reduces the map to the embedding. For
            pictures of 128 × 199, (16, 24) gives 512 values and (4, 8) gives 6,144; for 256 × 199
            they are (32, 24) and (8, 8).

    Examples:
        >>> import jax.numpy as jnp
        >>> network, pictures = OpenL3(), jnp.zeros((2, 128, 199, 1))
        >>> embeddings, variables = jax.eval_shape(
        ...     network.init_with_output, jax.random.key(0), pictures
        ... )
        >>> embeddings.shape, sum(leaf.size for leaf in jax.tree.leaves(variables))
        ((2, 512), 4689860)
    """

    channels: tuple[int, ...] = (64, 64, 128, 128, 256, 256, 512, 512)
    normalise_last: bool = False
    pool: tuple[int, int] = (16, 24)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Computes embeddings of pictures.

        Args:
            x: (batch, mels, frames, 1), from `asd_jax.audio.openl3_frontend`.

        Returns:
            (batch, values), the pooled map flattened in the order mels, frames, channels.
        """

        def normalise(x: jax.Array, i: int) -> jax.Array:
            return BatchNorm(0.99, 1e-3, name=f"batch_normalization_{i}")(x)

        count = len(self.channels)
        x = normalise(x, 1)
        for i, channels in enumerate(self.channels, 1):
            name = _LAST if i == count else f"conv2d_{i}"
            x = Convolution(channels, (3, 3), name=name)(x)
            if i < count or self.normalise_last:
                x = nn.relu(normalise(x, i + 1))
            if i % 2 == 0 and i < count:
                x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.max_pool(x, self.pool, self.pool, "SAME")
        return x.reshape(x.shape[0], -1)


def openl3_from_keras(
    module: OpenL3,
    layers: Mapping[str, Sequence[np.ndarray]],
    filters: np.ndarray,
    *,
    source: str = "the Keras model",
) -> dict:
    """Variables of a network from the layers of a Keras file, by their order.

    Keras continues the numbers of layers over all models of a program, so names differ from file
    to file.

    Args:
        module: the network.
        layers: layer name → arrays, in the order of the file, from `read_keras_layers`. The layer
            of kapre that computes the mel spectrogram may be missing.
        filters: (bins, mels) mel filters of the network's pictures.
        source: origin of the arrays, for messages.

    Returns:
        {"params": …, "batch_stats": …} for `module.apply`.

    Raises:
        UserError: the layers are not those of such a network, or the file's own mel filters
            differ.

    Examples:
        A network of one convolution:

        >>> ones, zeros = np.ones(1), np.zeros(1)
        >>> layers = {
        ...     "batch_normalization_7": [ones, zeros, zeros, ones],
        ...     "conv2d_9": [np.zeros((3, 3, 1, 2)), np.zeros(2)],
        ... }
        >>> network, filters = OpenL3(channels=(2,)), np.zeros((513, 64))
        >>> sorted(openl3_from_keras(network, layers, filters)["params"])
        ['audio_embedding_layer', 'batch_normalization_1']
    """
    weights = {name: arrays for name, arrays in layers.items() if len(arrays)}
    for name in [name for name in weights if "spectrogram" in name]:
        _check_filters(weights.pop(name), filters, source)
    names = [name for pair in _names(module) for name in pair]
    if len(weights) != len(names):
        raise UserError(
            f"{source} has {len(weights)} layers with weights beside the spectrogram's, the "
            f"network {len(names)}; give the weights of its audio model"
        )
    return from_keras(
        module, dict(zip(names, weights.values(), strict=True)), channels=1, source=source
    )


def _names(module: OpenL3) -> list[tuple[str, ...]]:
    """Names of layers in the order of the network."""
    count = len(module.channels)
    names: list[tuple[str, ...]] = [("batch_normalization_1",)]
    names += [(f"conv2d_{i}", f"batch_normalization_{i + 1}") for i in range(1, count)]
    last = (f"batch_normalization_{count + 1}",) if module.normalise_last else ()
    return [*names, (_LAST, *last)]


def _check_filters(arrays: Sequence[np.ndarray], filters: np.ndarray, source: str) -> None:
    """Raises UserError unless the mel filters in a file are `filters`."""
    theirs = arrays[-1]  # of kapre's layer of mel spectrograms, (bins, mels)
    if theirs.shape != filters.shape:
        raise UserError(
            f"{source} is for another front end: its spectrogram ends in an array of shape "
            f"{theirs.shape}, the mel filters here are {filters.shape}; give the file of the "
            "embedding's kind, or choose the kind of the file"
        )
    if not np.allclose(theirs, filters, rtol=0, atol=1e-6):
        raise UserError(
            f"{source} has other mel filters than this kind of embedding; give the file of "
            "release 0.3.1"
        )
