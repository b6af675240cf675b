"""Features of many clips as scoring needs them: in memory or on disk, in even batches."""

import os
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from asd_jax import distributed
from asd_jax.audio.views import fill_view
from asd_jax.config import Config
from asd_jax.data.audio_files import resample
from asd_jax.data.clips import Clip
from asd_jax.embeddings import Embedder, load_embedder
from asd_jax.errors import UserError
from asd_jax.features import default_cache_dir

# Clips in a batch, and the number of frames to a multiple of which they are padded, so that
# clips of many lengths make few programs.
BATCH_CLIPS, BATCH_FRAMES = 32, 64


class Features(Protocol):
    """Features of a table of clips, whether they lie in memory or on disk.

    Attributes:
        clips: the clips.
        n_frames: (clips,) frames of each.
        offsets: (clips,) first frame of each in the table of frames.
        embeddings: (clips, values) where the clips have some.
    """

    clips: Sequence[Clip]
    n_frames: np.ndarray
    offsets: np.ndarray
    embeddings: np.ndarray | None

    def read_clips(self, indices: Sequence[int]) -> list[np.ndarray]:
        """(frames, mels) of each clip."""


class ArrayFeatures:
    """Features in memory.

    Args:
        clips: the clips.
        arrays: (frames, mels) a clip.
        embeddings: (clips, values), for systems that have a use for them.
    """

    def __init__(
        self,
        clips: Sequence[Clip],
        arrays: Sequence[np.ndarray],
        embeddings: np.ndarray | None = None,
    ):
        self.clips = tuple(clips)
        self.embeddings = embeddings
        self._arrays = [np.asarray(array, np.float32) for array in arrays]
        self.n_frames = np.array([len(array) for array in self._arrays], np.int64)
        self.offsets = np.concatenate([[0], np.cumsum(self.n_frames)[:-1]]).astype(np.int64)

    def read_clips(self, indices: Sequence[int]) -> list[np.ndarray]:
        """(frames, mels) of each clip."""
        return [self._arrays[index] for index in indices]


def check_features(
    features: Sequence[np.ndarray], config: Config, view_length: int, fewest: int
) -> list[np.ndarray]:
    """Features as float32 arrays, of clips shorter than a view repeated to fill one.

    Args:
        features: (frames, mels) a clip.
        config: says how many bands there are.
        view_length: frames of a view.
        fewest: frames that a clip must have.

    Raises:
        UserError: what is wrong with which clip.
    """
    arrays = [np.asarray(clip, np.float32) for clip in features]
    n_mels = config.front_end.n_mels
    if not arrays:
        raise UserError("no clips: features is empty")
    for i, clip in enumerate(arrays):
        if clip.ndim != 2 or clip.shape[1] != n_mels:
            raise UserError(
                f"features[{i}] has shape {clip.shape}; a clip is (frames, {n_mels}) by "
                "front_end.n_mels of the configuration"
            )
        if len(clip) < fewest:
            raise UserError(
                f"features[{i}] has {len(clip)} frames; this system needs {fewest} or more"
            )
        if not np.isfinite(clip).all():
            raise UserError(f"features[{i}] has NaN or infinite values; leave that clip out")
    return [fill_view(clip, view_length) for clip in arrays]


def embedding_batch(features: Features, indices: Sequence[int]) -> np.ndarray | None:
    """(BATCH_CLIPS, values) embeddings of at most so many clips; None where there are none."""
    if features.embeddings is None:
        return None
    batch = np.zeros((BATCH_CLIPS, features.embeddings.shape[1]), np.float32)
    batch[: len(indices)] = features.embeddings[np.asarray(indices)]
    return batch


def log_mel_embeddings(features: Features) -> np.ndarray:
    """Mean and standard deviation of every clip's frames, band by band.

    Args:
        features: a table of clips; read in batches.

    Returns:
        (clips, 2 · mels) float32.
    """
    rows = []
    for first in range(0, len(features.clips), BATCH_CLIPS):
        last = min(first + BATCH_CLIPS, len(features.clips))
        for clip in features.read_clips(range(first, last)):
            rows.append(np.concatenate([clip.mean(0), clip.std(0)]))
    return np.array(rows, np.float32)


def clip_batches(
    features: Features, indices: Sequence[int], view_length: int, *, share: bool = False
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Clips in batches of one size, padded to few lengths.

    Args:
        features: a table of clips.
        indices: of the clips.
        view_length: what clips that only fill up a batch are said to have of frames, so
            that their scores, which nobody reads, are finite.
        share: whether several processes take some of the batches each.

    Yields:
        Position of the first clip in `indices`, (BATCH_CLIPS, frames, mels), (BATCH_CLIPS,) frames.
    """
    for first in range(0, len(indices), BATCH_CLIPS):
        if share and not distributed.is_own(first // BATCH_CLIPS):
            continue
        clips = features.read_clips(indices[first : first + BATCH_CLIPS])
        n_frames = np.full(BATCH_CLIPS, view_length, np.int32)
        n_frames[: len(clips)] = [len(clip) for clip in clips]
        longest = -(-int(n_frames.max()) // BATCH_FRAMES) * BATCH_FRAMES
        batch = np.zeros((BATCH_CLIPS, longest, clips[0].shape[1]), np.float32)
        for row, clip in zip(batch, clips, strict=False):
            row[: len(clip)] = clip
        yield first, batch, n_frames


def embedder_of(config: Config, cache_dir: os.PathLike | str | None = None) -> Embedder:
    """The pretrained network that the configuration names.

    Args:
        config: one whose embedding is `pretrained`.
        cache_dir: where a fetched file of weights is kept; as in `compute_features`.

    Raises:
        UserError: its weights are not there, or not its own.
    """
    wanted = config.embedding
    return load_embedder(
        wanted.kind,
        wanted.weights,
        wanted.sha256,
        size=wanted.size,
        hop=wanted.hop,
        cache_dir=cache_dir or default_cache_dir(),
    )


def embeddings_of(config: Config, features: Features) -> np.ndarray | None:
    """(clips, values) that the configuration asks for; None where it asks for none.

    Raises:
        UserError: they are a pretrained network's, which features do not tell, and are not there;
            or there are some of another form, or unasked.
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
    if given.ndim != 2 or len(given) != len(features.clips) or given.dtype.kind not in "fiu":
        raise UserError(
            f"embeddings are {given.dtype} {given.shape}; they must be numbers "
            f"({len(features.clips)} clips, values)"
        )
    if not np.isfinite(given).all():
        raise UserError("embeddings have NaN or infinite values; leave those clips out")
    return given.astype(np.float32)


def checked_waveforms(waveforms: np.ndarray, sample_rate: int, wanted: int) -> np.ndarray:
    """Recordings in memory as (clips, samples) float32 at the wanted rate.

    Args:
        waveforms: (clips, samples), or (samples,) of one clip; −1 to 1, or signed integers of
            any width.
        sample_rate: theirs, in Hz.
        wanted: that of the result, in Hz.

    Raises:
        UserError: waveforms of other shapes, or with samples that are no finite numbers.
    """
    try:
        waveforms = np.atleast_2d(np.asarray(waveforms))
    except ValueError as error:
        raise UserError(
            "waveforms of unequal lengths make no array; score them one at a time"
        ) from error
    if waveforms.ndim != 2 or not waveforms.size or waveforms.dtype.kind not in "if":
        raise UserError(
            f"waveforms are {waveforms.dtype} {waveforms.shape}; they must be (clips, "
            "samples), of floating-point numbers or signed integers"
        )
    if waveforms.dtype.kind == "i":
        waveforms = waveforms / -float(np.iinfo(waveforms.dtype).min)
    waveforms = waveforms.astype(np.float32)
    if not np.isfinite(waveforms).all():
        raise UserError("waveforms have NaN or infinite samples; leave those recordings out")
    if not (isinstance(sample_rate, int | np.integer) and sample_rate > 0):
        raise UserError(f"sample_rate is {sample_rate}; it must be a whole number of Hz")
    if sample_rate != wanted:
        waveforms = np.stack([resample(row, sample_rate, wanted) for row in waveforms])
    return waveforms
