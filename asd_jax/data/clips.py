"""The table of clips: one row a recording, the same for every challenge year."""

import dataclasses

NORMAL, ANOMALY, UNLABELLED = 0, 1, -1


@dataclasses.dataclass(frozen=True, order=True)
class Clip:
    """One recording.

    Attributes:
        machine: machine type, for example "fan".
        section: machine id (2020, MIMII) or section (2021 and later), for example "00".
        split: "train" or "test"; "other" for training clips of a machine that is not itself
            modelled, but that another one's model learns from; "perturbed" for changed copies
            of training clips.
        name: how result files name the clip; unique within a machine's split.
        path: where the file is.
        year: challenge year, 2020 to 2026; 0 for raw MIMII.
        subset: "dev" or "eval".
        domain: "source", "target", or "" where the year has no domains or hides them.
        label: NORMAL, ANOMALY or UNLABELLED.
        attributes: (name, value) pairs of the file name.
        perturbation: how the recording is changed once read, as `audio.perturbation` writes it.
    """

    machine: str
    section: str
    split: str
    name: str
    path: str
    year: int = 0
    subset: str = "dev"
    domain: str = ""
    label: int = UNLABELLED
    attributes: tuple[tuple[str, str], ...] = ()
    perturbation: str = ""
