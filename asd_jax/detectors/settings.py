"""The base of the systems' settings."""

import dataclasses
from typing import ClassVar

from asd_jax.runtime.bounds import check_numbers


@dataclasses.dataclass(frozen=True)
class DetectorConfig:
    """Base of the systems' configurations.

    Attributes:
        name: of the system.
        uses_embedding: whether the system reads a pretrained network's embedding of a clip
            (`Config.embedding`) from `ClipInput.embedding`.
        trains: whether it has a network to train; see `asd_jax.detectors.untrained`.
        hears_waveforms: whether its network computes spectra itself, from the recordings' samples;
            of the settings in `Config.front_end` it then uses the sample rate only.
        own_score: settings of its own score alone, without effect by another `Config.backend`.
        varied: its settings that may be arrays in the step of its task, as `train.learning_rate`
            may; models that differ in them are trained as one fleet.
    """

    name: ClassVar[str] = ""
    uses_embedding: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    hears_waveforms: ClassVar[bool] = False
    own_score: ClassVar[tuple[str, ...]] = ()
    varied: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Checks the numbers by their ranges; those that check more call it first."""
        check_numbers("detector", self)
