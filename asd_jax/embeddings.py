"""Embeddings of recordings by pretrained networks: OpenL3, and EdgeL3, a small one of its kind.

    waveforms (rows, samples) → windows of a second → pictures → embeddings (rows, windows, size)

The weights are not part of this package; its user names a file. That file is one of Keras, as
the networks' authors publish them, or one that `save_weights` wrote.

A window costs OpenL3 10 GFLOP, EdgeL3 a fortieth of that. With a window each tenth of a second, a
clip of 10 s has 96, for OpenL3 some 20 s on two CPU cores: data sets want a GPU, or a larger `hop`.

An `Embedder` stands where a front end stands in `asd_jax.features.compute_features`, which
computes a data set once and keeps the embeddings of all windows on disk; `clip_embeddings` makes
one of each clip. Recordings of other sample rates are resampled by soxr there; the networks'
authors used resampy, from which it differs near half the lower rate.
"""

import contextlib
import dataclasses
import functools
import gzip
import hashlib
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from asd_jax.audio.openl3_frontend import OpenL3FrontEnd, count_windows, pad_to_windows
from asd_jax.errors import UserError
from asd_jax.files import atomic_write
from asd_jax.models.keras_file import read_keras_layers
from asd_jax.models.openl3 import OpenL3, openl3_from_keras
from asd_jax.weights import weights_file

# Clips a batch that `compute_features` does well with: the device gets its work in windows, and
# rows that only fill up a batch cost as much as clips.
BATCH_CLIPS = 4

_WINDOWS = 16  # that the network sees together: 100 MiB of intermediate values of OpenL3
_READ_WINDOWS = 4096  # of a cache, in memory together
_ZIP, _GZIP = b"PK", b"\x1f\x8b"  # what such files begin with
# What NumPy, its zip files and gzip raise for a file that is not what was written.
_DAMAGE = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


class _Kind(NamedTuple):
    """A pretrained network and what goes before it."""

    source: str  # of its weights, for people
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

    It has what `asd_jax.features.compute_features` asks of a front end, whose frames are here
    windows and whose bands are the values of an embedding. The fields are all that embeddings
    depend on. `load_embedder` makes one.

    Attributes:
        kind: one of `KINDS`.
        size: values of an embedding.
        hop: seconds from one window's start to the next one's.
        center: half a second of zeros is in front of a clip, so that the first window is centred
            on its start.
        weights_sha256: checksum of the file of weights.
        variables: of the network; no field, so that settings alone are compared and hashed.

    Raises:
        UserError: a setting has a value that makes no sense.
    """

    kind: str
    size: int
    hop: float
    center: bool
    weights_sha256: str
    variables: dataclasses.InitVar[Mapping[str, Any]]

    def __post_init__(self, variables):
        _network(self.kind, self.size)
        if not (isinstance(self.hop, int | float) and 1 <= self.hop * self.sample_rate < 2**31):
            raise UserError(f"embeddings: hop {self.hop!r} must be a positive number of seconds")
        object.__setattr__(self, "_variables", variables)

    @property
    def sample_rate(self) -> int:
        """Of the waveforms, in Hz."""
        return _KINDS[self.kind].front_end.sample_rate

    @property
    def n_fft(self) -> int:
        """Samples of a window."""
        return _KINDS[self.kind].front_end.window

    @property
    def n_mels(self) -> int:
        """Values of an embedding."""
        return self.size

    def frames(self, n_samples: int) -> int:
        """Number of windows of a waveform.

        Args:
            n_samples: length of the waveform, in samples.

        Raises:
            UserError: the waveform has no samples.
        """
        return count_windows(n_samples, self.n_fft, self._hop, self.center)

    def __call__(self, waveforms: jax.Array) -> jax.Array:
        """Embeddings of the windows of waveforms.

        A window past a waveform's end sees zeros, so that zeros behind a waveform change none of
        its own `frames(samples)` embeddings. The windows are computed a few at a time, whatever
        their number.

        Args:
            waveforms: floating point (rows, samples), full scale at 1.

        Returns:
            (rows, windows, size) float32.

        Raises:
            UserError: waveforms of another form.
        """
        if np.ndim(waveforms) != 2:
            raise UserError(f"waveforms are of shape {np.shape(waveforms)}, not (rows, samples)")
        settings = (self.kind, self.size, self._hop, self.center)
        return _embed(self._variables, jnp.asarray(waveforms, jnp.float32), settings)

    @property
    def _hop(self) -> int:
        # The networks' authors cut the product off, too.
        return int(self.hop * self.sample_rate)


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
    """An embedder with the weights of a file.

    Args:
        kind: one of `KINDS`.
        weights: path or URL of the file, see `asd_jax.weights.weights_file`: one of Keras
            (.h5), packed by gzip or not, or one of `save_weights`.
        sha256: its checksum; needed for a URL.
        size: values of an embedding of OpenL3, 512 or 6144; EdgeL3's have 64 whatever is given.
        hop: seconds from one window's start to the next one's.
        center: see `Embedder`.
        cache_dir: where fetched files are kept.

    Raises:
        UserError: there is no such file, it is damaged, or it is not for this kind.
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
        is_saved = file.read(len(_ZIP)) == _ZIP
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    read = _read_saved if is_saved else _read_keras
    return Embedder(kind, size, float(hop), center, digest, read(path, kind, network))


def save_weights(embedder: Embedder, path: os.PathLike | str) -> None:
    """Writes a network's weights to an .npz file, which `load_embedder` reads as well as Keras's.

    Args:
        embedder: whose weights.
        path: the file; `kind` in it says what the arrays are for.
    """
    arrays = {k: np.asarray(v) for k, v in flatten_dict(embedder._variables, sep="/").items()}
    with atomic_write(path, "wb") as file:
        np.savez(file, kind=embedder.kind, **arrays)


class ClipTable(Protocol):
    """What `clip_embeddings` needs of an `asd_jax.features.FeatureSet`."""

    n_frames: np.ndarray

    def read_clips(self, indices: Sequence[int]) -> list[np.ndarray]:
        """(windows, values) of each clip."""


def clip_embeddings(table: ClipTable) -> np.ndarray:
    """One embedding a clip, the mean over its windows.

    Args:
        table: embeddings of windows as `asd_jax.features.compute_features` keeps them; some
            thousand are in memory at a time.

    Returns:
        (clips, values) float32.
    """
    # Clips that lie side by side are read together.
    ends = np.cumsum(table.n_frames, dtype=np.int64)
    groups = np.split(
        np.arange(len(ends)), np.flatnonzero(np.diff((ends - 1) // _READ_WINDOWS)) + 1
    )
    clips = (clip for group in groups for clip in table.read_clips(group))
    return np.stack([_mean(clip) for clip in clips])


def clip_means(embedder: Embedder, waveforms: np.ndarray) -> np.ndarray:
    """One embedding a clip of waveforms in memory, the mean over its windows.

    Args:
        embedder: what to compute.
        waveforms: (clips, samples) at the embedder's sample rate.

    Returns:
        (clips, values) float32.
    """
    return np.stack([_mean(clip) for clip in np.asarray(embedder(waveforms))])


def _mean(clip: np.ndarray) -> np.ndarray:
    return clip.mean(0, dtype=np.float64).astype(np.float32)


@functools.partial(jax.jit, static_argnums=2)
def _embed(variables, waveforms: jax.Array, settings: tuple[str, int, int, bool]) -> jax.Array:
    kind, size, hop, center = settings
    front_end, network = _KINDS[kind].front_end, _network(kind, size)
    padded, count = pad_to_windows(waveforms, front_end.window, hop, center)
    total = len(waveforms) * count
    together = min(_WINDOWS, total)
    rounds = -(-total // together)

    def embed(indices):
        starts = jnp.stack([indices // count, indices % count * hop], axis=1)
        shape = (1, front_end.window)
        windows = jax.vmap(lambda start: jax.lax.dynamic_slice(padded, start, shape)[0])(starts)
        return network.apply(variables, front_end(windows)[..., None])

    # The last window fills up the last round.
    indices = np.minimum(np.arange(rounds * together, dtype=np.int32), total - 1)
    # TF32, the default of GPUs, would be off by some thousandths.
    with jax.default_matmul_precision("highest"):
        found = jax.lax.map(embed, indices.reshape(rounds, together))
    return found.reshape(-1, size)[:total].reshape(len(waveforms), count, size)


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


def _read_keras(path: Path, kind: str, network: OpenL3) -> dict:
    """Variables from a file of Keras; its spectrogram, else its name, says what it is for."""
    front_end = _KINDS[kind].front_end
    with _unpacked(path) as plain:
        layers = read_keras_layers(plain)
    named = re.search("mel128|mel256|linear", path.name)
    stripped = not any("spectrogram" in name for name in layers)
    if stripped and named and not kind.endswith(named[0]):
        raise UserError(
            f"{path} is for {named[0]} by its name, and {kind} is asked for; give "
            f"{_KINDS[kind].source}"
        )
    return openl3_from_keras(network, layers, front_end.filters, source=str(path))


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[Path]:
    """The file, or what it is without gzip, as OpenL3's are published."""
    with open(path, "rb") as file:
        is_packed = file.read(len(_GZIP)) == _GZIP
    if not is_packed:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / path.stem
        try:
            with gzip.open(path) as source, open(plain, "wb") as target:
                shutil.copyfileobj(source, target)
        except _DAMAGE as error:
            raise UserError(
                f"{path} cannot be unpacked ({error}); download or copy it again"
            ) from error
        yield plain


def _read_saved(path: Path, kind: str, network: OpenL3) -> dict:
    """Variables from a file of `save_weights`."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        saved = str(arrays.pop("kind"))
    except _DAMAGE as error:
        raise UserError(
            f"{path} cannot be read as weights of an embedding ({error}); download or copy it again"
        ) from error
    if saved != kind:
        raise UserError(f"{path} is for {saved}, and {kind} is asked for; choose one of them")
    picture = jax.ShapeDtypeStruct((1, 64, 64, 1), jnp.float32)
    wanted = flatten_dict(jax.eval_shape(network.init, jax.random.key(0), picture), sep="/")
    form = {name: (leaf.shape, leaf.dtype) for name, leaf in wanted.items()}
    if {name: (array.shape, array.dtype) for name, array in arrays.items()} != form:
        raise UserError(f"{path} has other arrays than {kind}; convert the file of Keras again")
    return unflatten_dict({name: jnp.asarray(array) for name, array in arrays.items()}, sep="/")
