"""Distance of a clip's mean magnitude spectrum from the nearest normal clip; no training.

Source: the raw spectra of Wilkinghoff et al., Keeping the balance (ICASSP 2025), and Local
density-based anomaly score normalization (arXiv 2509.10951): the mean over time of the magnitudes
of a transform of 1024 samples, Euclidean distances, and each divided by the density of the clip
that it is from. It is `mel_knn` with other defaults.

Decided here:
    A band is one frequency of the transform: a linear scale of 511 triangles without overlap. The
    lowest, 0 Hz, and the highest, half the sample rate, are missing.
    Their distances are a quarter of ours: a ratio of distances is the same.
    What `mel_knn` decides.
"""

import dataclasses
from typing import ClassVar, Literal

from asd_jax.detectors.mel_knn import MelKnn, MelKnnConfig


@dataclasses.dataclass(frozen=True)
class SpectrumKnnConfig(MelKnnConfig):
    """Settings of the distance from the nearest mean spectrum; those of `mel_knn`."""

    name: ClassVar[str] = "spectrum_knn"
    metric: Literal["cosine", "euclidean"] = "euclidean"
    normalisation: Literal["none", "ldn", "varmin", "ldn_varmin", "domain"] = "ldn"
    oversampling: Literal["none", "smote", "memmixup"] = "none"


class SpectrumKnn(MelKnn):
    """How far a clip's mean spectrum is from that of the nearest normal clip."""

    Config = SpectrumKnnConfig
    title = "nearest mean magnitude spectrum, by local density"
    paper = "Wilkinghoff et al., ICASSP 2025 and arXiv 2509.10951"
