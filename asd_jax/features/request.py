"""Dependencies of an entry of the feature cache: recordings, a front end, settings."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

from asd_jax.data.clips import ClipTable
from asd_jax.data.identity import Status

_FORMAT = 3


class ClipFrontEnd(Protocol):
    """Computes features of waveforms: an `asd_jax.audio.FrontEnd`, or anything that acts like one.

    A frozen dataclass whose fields, of JSON's types, are all that the features depend on. A frame
    sees `n_fft` samples, the next one begins `hop_length` later. Waveforms are padded with zeros,
    or reflected where the front end has a `pad_mode` of "reflect", cut into pieces of some frames,
    and the pieces go through `of_padded`.
    """

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def sample_rate(self) -> int:
        """Sample rate of the waveforms, in Hz."""
        ...

    @property
    def n_fft(self) -> int:
        """Samples that a frame is computed from."""
        ...

    @property
    def hop_length(self) -> int:
        """Samples from one frame's start to the next one's."""
        ...

    @property
    def width(self) -> int:
        """Values of a frame."""
        ...

    @property
    def dtype(self) -> str:
        """Type of the values, by NumPy's name."""
        ...

    def frames(self, n_samples: int) -> int:
        """Frames of a waveform; UserError for one that has none."""
        ...

    @property
    def frames_at_once(self) -> int:
        """Frames in one call of `of_padded` on a CPU, which bounds its memory."""
        ...

    def padding(self, n_samples: int) -> tuple[int, int]:
        """Samples to be added before and behind a waveform of so many."""
        ...

    def of_padded(self, waveforms: Any) -> Any:
        """Computes (rows, samples) → (rows, frames, width), an array on the device.

        Without padding: as many frames as are whole within the samples.
        """
        ...


@runtime_checkable
class WithArrays(Protocol):
    """A front end that computes with arrays beside its settings, such as a network's weights."""

    @property
    def arrays(self) -> Any:
        """The arrays."""
        ...

    def with_arrays(self, arrays: Any) -> ClipFrontEnd:
        """The same front end with other arrays."""
        ...


class FeatureSettings(NamedTuple):
    """Settings that features depend on, beside the recordings.

    Attributes:
        front_end: computes the features.
        channel: of recordings with several, as of `asd_jax.data.read`.
        min_frames: frames that a clip must have.
        fill_frames: frames up to which a shorter clip is repeated.
    """

    front_end: ClipFrontEnd
    channel: int | str | None
    min_frames: int
    fill_frames: int


@dataclasses.dataclass(frozen=True)
class Request:
    """Everything that the values of a piece's entry depend on.

    Attributes:
        paths: absolute paths of the recordings.
        perturbations: change of each recording after it is read; "" for none.
        settings: the other dependencies of features.
    """

    paths: list[str]
    perturbations: list[str]
    settings: FeatureSettings

    @classmethod
    def of(cls, clips: ClipTable, settings: FeatureSettings) -> "Request":
        """The request of some clips."""
        rows = [*clips]
        paths = [os.path.abspath(clip.path) for clip in rows]
        return cls(paths, [clip.perturbation for clip in rows], settings)

    def digest(self, contents: Sequence[bytes]) -> str:
        """Name of the entry of recordings with these contents, from `identity.digest_of`."""
        return self._digest([content.hex() for content in contents])

    def table(self) -> str:
        """Name of the table that is written before the contents are known: by files' statuses."""
        return self._digest([[path, Status.of(path)] for path in self.paths])

    def _digest(self, files: list) -> str:
        """Digest of all that the features depend on, with what stands for the recordings."""
        front_end, channel, min_frames, fill_frames = self.settings
        channel = "mean" if channel is None else channel
        fields = dataclasses.asdict(front_end)
        fields.pop("canceller", None)  # the channel says it
        if fields.get("pad_mode") == "constant":  # as of entries from before it was a setting
            del fields["pad_mode"]
        depends_on: list[Any] = [_FORMAT, fields, channel, min_frames, files]
        if any(self.perturbations):
            depends_on.append(self.perturbations)
        if fill_frames > min_frames:
            depends_on.append(fill_frames)
        text = json.dumps(depends_on, sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]
