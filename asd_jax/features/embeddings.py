"""Embeddings of recordings by pretrained networks: OpenL3, and EdgeL3, a small one of its kind.

    waveforms (rows, samples) → windows of a second → pictures → embeddings (rows, windows, size)

The weights are not part of this package; its user names a file: one of Keras, as the networks'
authors publish them, or one from `save_weights`.

A window costs OpenL3 10 GFLOP, EdgeL3 a fortieth. With a window each tenth of a second, a
clip of 10 s has 96, for OpenL3 some 20 s on two CPU cores: data sets want a larger `hop`.

An `Embedder` takes the place of a front end in `compute_features`, which computes a data set once
and keeps the embeddings of all windows on disk; `clip_embeddings` averages them for each clip.
Recordings of other sample rates are resampled by soxr; the networks' authors used resampy, which
differs near half the lower rate.
"""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.audio.openl3_frontend import OpenL3FrontEnd, count_windows, pad_to_windows
from asd_jax.config import Config
from asd_jax.errors import UserError
from asd_jax.features.batches import read_blocks
from asd_jax.features.cache import folder_of
from asd_jax.features.table import Features
from asd_jax.models.openl3 import OpenL3
from asd_jax.models.pretrained.openl3_file import load_openl3, save_openl3
from asd_jax.models.pretrained.weights import weights_file

_WINDOWS = 16  # windows in a batch of the network: 100 MiB of intermediate values of OpenL3


class _Kind(NamedTuple):
    """A pretrained network and its front end."""

    source: str  # of its weights, for messages
    front_end: OpenL3FrontEnd
    networks: Mapping[int, OpenL3]  # by the size of the embedding


_RELEASE = "(env: from environmental videos) of the openl3 project's models"
_EDGE_CHANNELS = (32, 32, 64, 64, 128, 128, 64, 64)
_KINDS = {
    "openl3_mel128": _Kind(
        f"openl3_audio_mel128_env-v0_2_0.h5.gz {_RELEASE}",
        OpenL3FrontEnd(n_mels=128),
        {512: OpenL3(pool=(16, 24)), 6144: OpenL3(pool=(4, 8))},
    ),
    "openl3_mel256": _Kind(
        f"openl3_audio_mel256_env-v0_2_0.h5.gz {_RELEASE}",
        OpenL3FrontEnd(n_mels=256),
        {512: OpenL3(pool=(32, 24)), 6144: OpenL3(pool=(8, 8))},
    ),
    "edgel3": _Kind(
        "edgel3_sea_ust_audio_emb_64.h5, a model of the edgel3 project",
        OpenL3FrontEnd(8000, 1024, 160, 64),
        {64: OpenL3(_EDGE_CHANNELS, normalise_last=True, pool=(8, 6))},
    ),
}
KINDS = tuple(_KINDS)


@dataclasses.dataclass(frozen=True)
class Embedder:
    """A pretrained network with its front end; calling it embeds waveforms.

    It implements `ClipFrontEnd`: frames are windows, and bands are values of an embedding. The
    fields are all that embeddings depend on. `load_embedder` makes one.

    Attributes:
        kind: one of `KINDS`.
        size: values of an embedding.
        hop: seconds from one window's start to the next one's.
        center: whether half a second of zeros precedes a clip, so that the first window is
            centred on its start.
        weights_sha256: checksum of the file of weights.
        variables: of the network; no field, so that settings alone are compared and hashed.

    Raises:
        UserError: a setting is out of range.
    """

    kind: str
    size: int
    hop: float
    center: bool
    weights_sha256: str
    variables: dataclasses.InitVar[Mapping[str, Any]]

    def __post_init__(self, variables: Mapping[str, Any]) -> None:
        _network(self.kind, self.size)
        if not (isinstance(self.hop, int | float) and 1 <= self.hop * self.sample_rate < 2**31):
            raise UserError(f"embeddings: hop {self.hop!r} must be a positive number of seconds")
        self._variables: Mapping[str, Any]
        object.__setattr__(self, "_variables", variables)

    @property
    def arrays(self) -> Any:
        """The network's variables."""
        return self._variables

    def with_arrays(self, arrays: Mapping[str, Any]) -> "Embedder":
        """The same with other variables, as those that a compiled program is given."""
        return dataclasses.replace(self, variables=arrays)

    @property
    def sample_rate(self) -> int:
        """Sample rate of the waveforms, in Hz."""
        return _KINDS[self.kind].front_end.sample_rate

    @property
    def n_fft(self) -> int:
        """Samples of a window."""
        return _KINDS[self.kind].front_end.window

    @property
    def width(self) -> int:
        """Values of an embedding."""
        return self.size

    @property
    def dtype(self) -> str:
        """Type of the values."""
        return "float32"

    def frames(self, n_samples: int) -> int:
        """Number of windows of a waveform of so many samples; UserError for one without any."""
        return count_windows(n_samples, self.n_fft, self.hop_length, self.center)

    @property
    def hop_length(self) -> int:
        """Samples from one window's start to the next one's."""
        # Truncated, as by the networks' authors.
        return int(self.hop * self.sample_rate)

    @property
    def frames_at_once(self) -> int:
        """Windows in one call of `of_padded` on a CPU."""
        return _WINDOWS

    def padding(self, n_samples: int) -> tuple[int, int]:
        """Zeros before and behind a waveform: half a window, and up to a window's end."""
        before = self.n_fft // 2 if self.center else 0
        reached = (self.frames(n_samples) - 1) * self.hop_length + self.n_fft
        return before, reached - before - n_samples

    def of_padded(self, waveforms: jax.Array | np.ndarray) -> jax.Array:
        """As `__call__`, of waveforms that have their padding and end where a window does."""
        settings = (self.kind, self.size, self.hop_length, False)
        return _embed(self._variables, jnp.asarray(waveforms, jnp.float32), settings)

    def __call__(self, waveforms: jax.Array | np.ndarray) -> jax.Array:
        """Embeddings of the windows of waveforms.

        A window past a waveform's end sees zeros, so that padding with zeros changes none of its
        own `frames(samples)` embeddings. A few windows are computed at a time, whatever their
        number.

        Args:
            waveforms: floating point (rows, samples), full scale at 1.

        Returns:
            (rows, windows, size) float32.

        Raises:
            UserError: waveforms of another form.
        """
        if np.ndim(waveforms) != 2:
            raise UserError(f"waveforms are of shape {np.shape(waveforms)}, not (rows, samples)")
        settings = (self.kind, self.size, self.hop_length, self.center)
        return _embed(self._variables, jnp.asarray(waveforms, jnp.float32), settings)


def load_embedder(
    kind: str,
    weights: str,
    sha256: str = "",
    *,
    size: int = 512,
    hop: float = 0.1,
    center: bool = True,
    cache_dir: os.PathLike | str,
) -> Embedder:
    """Loads an embedder with the weights of a file.

    Args:
        kind: one of `KINDS`.
        weights: path or URL of the file, see `weights_file`: one of Keras (.h5), compressed by
            gzip or not, or one of `save_weights`.
        sha256: its checksum; needed for a URL.
        size: values of an embedding of OpenL3, 512 or 6144; ignored for EdgeL3, which has 64.
        hop: seconds from one window's start to the next one's.
        center: see `Embedder`.
        cache_dir: folder of fetched files.

    Raises:
        UserError: the file is missing, damaged, or not for this kind.
    """
    sizes = _chosen(kind).networks
    size = size if len(sizes) > 1 else next(iter(sizes))
    network = _network(kind, size)
    if not weights or ("://" not in weights and not Path(weights).expanduser().is_file()):
        problem = f"{weights}: there is no such file" if weights else "no file of weights is named"
        raise UserError(
            f"{problem}; {kind} needs {_KINDS[kind].source}: name it with "
            "--config.embedding.weights=PATH, and with --config.embedding.sha256=… to have it "
            "checked, or do without: --config.embedding=none"
        )
    path = weights_file(weights, sha256, cache_dir=cache_dir)
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    filters, wanted = _KINDS[kind].front_end.filters, _KINDS[kind].source
    variables = load_openl3(path, kind, network, filters, wanted=wanted)
    return Embedder(kind, size, float(hop), center, digest, variables)


def save_weights(embedder: Embedder, path: os.PathLike | str) -> None:
    """Writes a network's weights to an .npz file, which `load_embedder` reads as well as Keras's.

    Args:
        embedder: the network.
        path: the file; its entry `kind` names the kind of network.
    """
    save_openl3(path, embedder.kind, embedder._variables)


def clip_embeddings(table: Features) -> np.ndarray:
    """One embedding a clip, the mean over its windows.

    Args:
        table: embeddings of windows from `compute_features`; some thousand are in memory at a
            time.

    Returns:
        (clips, values) float32.
    """
    clips = read_blocks(table, np.arange(len(table.n_frames)))
    return np.stack([mean_embedding(blocks) for _, blocks in clips])


def mean_embedding(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Mean (values,) float32 over a clip's windows, from blocks (windows, values) of them."""
    count, total = 0, np.zeros(1)
    for block in blocks:
        count += len(block)
        total = total + block.sum(axis=0, dtype=np.float64)
    return (total / count).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def _embed(
    variables: Mapping[str, Any], waveforms: jax.Array, settings: tuple[str, int, int, bool]
) -> jax.Array:
    # (rows, samples) → (rows, windows, size)
    kind, size, hop, center = settings
    front_end, network = _KINDS[kind].front_end, _network(kind, size)
    padded, count = pad_to_windows(waveforms, front_end.window, hop, center)
    total = len(waveforms) * count
    together = min(_WINDOWS, total)
    rounds = -(-total // together)

    def embed(indices: jax.Array) -> jax.Array:
        starts = jnp.stack([indices // count, indices % count * hop], axis=1)
        shape = (1, front_end.window)
        # (windows, samples)
        windows = jax.vmap(lambda start: jax.lax.dynamic_slice(padded, start, shape)[0])(starts)
        embeddings = network.apply(variables, front_end(windows)[..., None])
        assert isinstance(embeddings, jax.Array)  # nothing is mutable here
        return embeddings

    # The last round is padded with the last window.
    indices = np.minimum(np.arange(rounds * together, dtype=np.int32), total - 1)
    # TF32, the default of GPUs, would cause errors of some thousandths.
    with jax.default_matmul_precision("highest"):
        # (rounds, windows, size)
        embeddings = jax.lax.map(embed, indices.reshape(rounds, together))
    return embeddings.reshape(-1, size)[:total].reshape(len(waveforms), count, size)


def _chosen(kind: str) -> _Kind:
    if kind not in _KINDS:
        raise UserError(f"no embedding of kind {kind!r}; there are {', '.join(KINDS)}")
    return _KINDS[kind]


def _network(kind: str, size: int) -> OpenL3:
    networks = _chosen(kind).networks
    if size not in networks:
        sizes = " or ".join(map(str, networks))
        raise UserError(f"embeddings of kind {kind} have {sizes} values, not {size!r}")
    return networks[size]


def log_mel_embeddings(features: Features) -> np.ndarray:
    """Mean and standard deviation of every clip's frames, band by band.

    Args:
        features: a table of clips; read in batches.

    Returns:
        (clips, 2 · mels) float32.
    """
    clips = read_blocks(features, np.arange(len(features.n_frames)))
    return np.array([log_mel_embedding(blocks) for _, blocks in clips], np.float32)


def log_mel_embedding(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """Mean and standard deviation of one clip's frames, band by band.

    Args:
        blocks: (frames, mels) of the clip, one after another.

    Returns:
        (2 · mels,) float32.

    Examples:
        >>> log_mel_embedding([np.array([[1.0], [2.0]]), np.array([[3.0], [6.0]])]).round(3)
        array([3.   , 1.871], dtype=float32)
    """
    count, total, squares = 0, np.zeros(1), np.zeros(1)
    for block in blocks:
        values = np.asarray(block, np.float64)
        count += len(values)
        total = total + values.sum(axis=0)
        squares = squares + (values**2).sum(axis=0)
    mean = total / count
    # float64 keeps 12 digits of a variance of 1 dB² around −100 dB.
    variance = np.maximum(squares / count - mean**2, 0)
    return np.concatenate([mean, np.sqrt(variance)]).astype(np.float32)


def embedder_of(config: Config, cache_dir: os.PathLike | str | None = None) -> Embedder:
    """The pretrained network that the configuration names.

    Args:
        config: one whose embedding is `pretrained`.
        cache_dir: folder of fetched weights; as in `compute_features`.

    Raises:
        UserError: its weights are missing, or of another network.
    """
    wanted = config.embedding
    return load_embedder(
        wanted.kind,
        wanted.weights,
        wanted.sha256,
        size=wanted.size,
        hop=wanted.hop,
        cache_dir=folder_of(cache_dir),
    )


def embeddings_of(config: Config, features: Features) -> np.ndarray | None:
    """(clips, values) embeddings that the configuration asks for; None where it asks for none.

    Raises:
        UserError: embeddings of a pretrained network, which cannot be computed from features, are
            missing; or they are given in another shape, or where the configuration has none.
    """
    kind, given = config.embedding.kind, features.embeddings
    if not config.embedding.pretrained and given is not None:
        raise UserError(
            f"embeddings are given, and embedding is {kind} in the configuration; leave them out, "
            "or set embedding to the network that they are of"
        )
    if kind == "log_mel":
        return log_mel_embeddings(features)
    if not config.embedding.pretrained:
        return None
    if given is None:
        raise UserError(
            f"the {kind} embeddings of the clips are missing; give them (embeddings=), or choose "
            "--config.embedding=none"
        )
    given = np.asarray(given)
    if given.ndim != 2 or len(given) != len(features.n_frames) or given.dtype.kind not in "fiu":
        raise UserError(
            f"embeddings are {given.dtype} {given.shape}; they must be numbers "
            f"({len(features.n_frames)} clips, values)"
        )
    if not np.isfinite(given).all():
        raise UserError("embeddings have NaN or infinite values; leave those clips out")
    return given.astype(np.float32)
