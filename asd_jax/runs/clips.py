"""Which recordings of a data set a run trains on and scores."""

import dataclasses
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from asd_jax.config import nearest
from asd_jax.data.clips import ANOMALY, Clip
from asd_jax.data.synthetic.takes import SETTINGS_FILE
from asd_jax.detectors import Detector
from asd_jax.errors import UserError
from asd_jax.evaluation.challenge import file_suffix
from asd_jax.fitting.layout import check_clips, with_perturbed


def choose_clips(
    detector: Detector, clips: Sequence[Clip], report: Callable[[str], None]
) -> list[Clip]:
    """The clips that a configuration asks for.

    Args:
        detector: the system, with the run's configuration.
        clips: all there are.
        report: called with a line about clips that are left out unasked.

    Raises:
        UserError: a machine or subset that the data set does not have, test clips that the
            year's result files have no place for, or training clips that the system cannot
            learn from.
    """
    config = detector.config
    there = sorted({clip.machine for clip in clips})
    for machine in config.data.machines:
        if machine not in there:
            raise UserError(
                f"data.machines: there is no {machine} in the data{nearest(machine, there)}; "
                f"there are {', '.join(there)}"
            )
    clips = of_subset(config.data.subset, clips, report)
    trainable = sorted({clip.machine for clip in clips if clip.split == "train"})
    wanted = config.data.machines or there
    others = {detector.other_machine(machine, trainable) for machine in wanted} - set(wanted)
    chosen = [clip for clip in clips if clip.machine in wanted] + [
        dataclasses.replace(clip, split="other")
        for clip in clips
        if clip.machine in others and clip.split == "train"
    ]
    faulty = Counter(c.machine for c in chosen if c.split != "test" and c.label == ANOMALY)
    for machine, count in faulty.items():
        report(
            f"{machine}: {count} training clips are named anomalous; models learn from normal "
            "sound only, so they are left out"
        )
    chosen = [clip for clip in chosen if clip.split == "test" or clip.label != ANOMALY]
    for clip in chosen:
        if clip.split == "test":
            file_suffix(clip.machine, clip.section, clip.domain, clip.year)
    chosen = with_perturbed(detector, chosen)
    check_clips(detector, chosen)
    return chosen


def of_subset(subset: str, clips: Sequence[Clip], report: Callable[[str], None]) -> list[Clip]:
    """The clips of the development or the evaluation set.

    Args:
        subset: as in `DataConfig`.
        clips: as in `choose_clips`.
        report: as in `choose_clips`.

    Raises:
        UserError: the data set does not have it.
    """
    subsets = {clip.subset for clip in clips}
    if subset == "auto":
        subset = "dev" if "dev" in subsets else "eval"
        if len(subsets) > 1:
            report(
                "the data has a development and an evaluation set; the first is used, "
                "--config.data.subset=eval takes the other"
            )
    if subset not in subsets:
        raise UserError(f"data.subset is {subset}, but the data has {', '.join(sorted(subsets))}")
    return [clip for clip in clips if clip.subset == subset]


def describe_data(data_dir: os.PathLike | str, clips: Sequence[Clip]) -> dict:
    """What must be the same when a run goes on.

    Args:
        data_dir: the folder of recordings.
        clips: those that the run uses.

    Raises:
        UserError: they are of several years.
    """
    folder = Path(data_dir).resolve()
    synthetic = any((place / SETTINGS_FILE).is_file() for place in (folder, *folder.parents[:2]))
    years = sorted({clip.year for clip in clips})
    if len(years) > 1:
        raise UserError(
            f"the data is of several years ({', '.join(map(str, years))}); give the folder of "
            "one, or set data.year"
        )
    digest = hashlib.sha256()
    for clip in clips:
        file = os.stat(clip.path)
        facts = (clip.machine, clip.section, clip.split, clip.name, file.st_size, file.st_mtime_ns)
        digest.update(f"{facts}\n".encode())
    return {
        "year": years[0],
        "synthetic": synthetic,
        "n_clips": len(clips),
        "fingerprint": digest.hexdigest(),
    }
