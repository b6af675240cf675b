"""Choice of the recordings that a run trains on and scores."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from asd_jax.config import nearest
from asd_jax.data import layouts
from asd_jax.data.clips import ANOMALY, HELD_OUT, Clip, ClipTable
from asd_jax.data.groups import with_groups
from asd_jax.data.hidden_attributes import with_hidden_attributes
from asd_jax.data.layouts import DataSource, Scanner, listed_clips
from asd_jax.data.manifest import Manifest
from asd_jax.data.own_folders import OwnFolders
from asd_jax.data.states import StateSource
from asd_jax.data.supplemental import SPLIT, supplemental_clips
from asd_jax.data.years import SETTINGS_FILE
from asd_jax.detectors import Detector
from asd_jax.errors import UserError
from asd_jax.evaluation.challenge import file_suffix
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import Features, FeatureSet
from asd_jax.fitting.layout import check_clips, with_held_out, with_perturbed


def choose_clips(
    detector: Detector, clips: Sequence[Clip], report: Callable[[str], None]
) -> ClipTable:
    """Chooses the clips that a configuration asks for.

    Args:
        detector: the system, with the run's configuration.
        clips: all clips of the data set.
        report: called with a line about clips that are left out unasked.

    Raises:
        UserError: a machine or subset that the data set lacks, test clips without a place in
            the year's result files, or training clips that the system cannot learn from.
    """
    config, clips = detector.config, ClipTable.of(clips)
    there = clips.distinct("machine")
    for machine in config.data.machines:
        if machine not in there:
            raise UserError(
                f"data.machines: there is no {machine} in the data{nearest(machine, there)}; "
                f"there are {', '.join(there)}"
            )
    everything, clips = clips, of_subset(config.data.subset, clips, report)
    trainable = clips[clips.where(split="train")].distinct("machine")
    wanted = config.data.machines or there
    others = {machine: detector.other_machine(machine, trainable) for machine in wanted}
    for machine, other in others.items():
        if other is not None:
            report(f"{machine}: normal clips of {other} serve as outliers")
    outliers = clips[clips.where(machine=set(others.values()) - set(wanted), split="train")]
    chosen = clips[clips.where(machine={*wanted})] + outliers.replace(split="other")
    if detector.both_sets:
        machines: Sequence[str] | None = config.data.machines or None
        if not detector.joint:  # each machine's models learn from its own clips
            machines = chosen[chosen.where(split="train")].distinct("machine")
        chosen = chosen + _of_other_set(everything, clips, machines, report)
    test = chosen.where(split="test")
    faulty = chosen.where(label=ANOMALY) & ~test
    for (machine,), rows in chosen.groups("machine", rows=faulty).items():
        report(
            f"{machine}: {len(rows)} training clips are named anomalous; models learn from normal "
            "sound only, so they are left out"
        )
    for places in chosen.groups("machine", "section", "domain", "year", rows=test):
        file_suffix(*places)  # raises UserError where result files have no place
    chosen = with_groups(chosen[~faulty], config.data.group)
    chosen = with_perturbed(detector, with_held_out(detector, chosen))
    check_clips(detector, chosen)
    return chosen


def _of_other_set(
    everything: ClipTable,
    clips: ClipTable,
    machines: Sequence[str] | None,
    report: Callable[[str], None],
) -> ClipTable:
    """Normal training clips of the set of the same year that is not run, as "other" clips.

    Of some machines; None for all.
    """
    learned = everything.where(split="train") & ~everything.where(label=ANOMALY)
    learned &= everything.where(year=clips.distinct("year"))
    if machines is not None:
        learned &= everything.where(machine=[*machines])
    more = everything[learned & ~everything.where(subset=clips.distinct("subset"))]
    if len(more):
        report(
            f"{len(more)} training clips of the {more[0].subset} set are learned from as well; "
            "--config.detector.both_sets=false leaves them out"
        )
    return more.replace(split="other")


def find_chosen(
    detector: Detector,
    data_dir: DataSource,
    report: Callable[[str], None],
    on_bad_clip: str,
    scan: Scanner | None = None,
) -> ClipTable:
    """Finds the clips under a folder and chooses those of a configuration.

    Args:
        detector: as in `choose_clips`.
        data_dir: as in `find_clips`.
        report: as in `find_clips` and `choose_clips`.
        on_bad_clip: "stop" at a recording among the clips that fits no layout, as at one that
            cannot be read; "skip" leaves it out.
        scan: lists what is there; `layouts.scan` by default.

    Raises:
        UserError: as `find_clips` and `choose_clips`, or a recording fits no layout.
    """
    data = detector.config.data
    if isinstance(data_dir, Manifest) and not data.state_log:
        columns = tuple(name for name in data.state if name not in data_dir.columns)
        data_dir = dataclasses.replace(data_dir, columns=data_dir.columns + columns)
    scanned = (scan or layouts.scan)(data_dir, data.year or None)
    clips = listed_clips(scanned, data_dir, report)
    if data.hidden_attributes:
        clips = with_hidden_attributes(clips, data.hidden_attributes, report)
    if detector.supplemental:
        clips = clips + supplemental_clips(scanned.supplemental, clips)
    if data.state:
        StateSource(data.state, data.state_log).check(clips[~clips.where(split=SPLIT)])
    clips = choose_clips(detector, clips, report)
    # A machine all of whose recordings are lost is not among those of the clips.
    wanted = {*data.machines, *clips.distinct("machine")} if data.machines else None
    subsets = set(clips[~clips.where(split="other")].distinct("subset"))
    lost = [
        recording
        for recording in scanned.lost
        if recording.subset in subsets and (wanted is None or recording.machine in wanted)
    ]
    if lost and on_bad_clip == "stop":
        machines = ", ".join(dict.fromkeys(recording.machine for recording in lost))
        raise UserError(
            f"{len(lost)} recordings among the clips of {machines} fit no layout and cannot be "
            f"used, first {lost[0].path}; name them as their neighbours, move them out of the "
            "folder, or leave them out by --on_bad_clip=skip"
        )
    return clips


def of_subset(subset: str, clips: Sequence[Clip], report: Callable[[str], None]) -> ClipTable:
    """Chooses the clips of the development or the evaluation set.

    Args:
        subset: as in `DataConfig`.
        clips: as in `choose_clips`.
        report: as in `choose_clips`.

    Raises:
        UserError: the data set lacks it.
    """
    clips = ClipTable.of(clips)
    subsets = clips.distinct("subset")
    if subset == "auto":
        subset = "dev" if "dev" in subsets else "eval"
        if len(subsets) > 1:
            report(
                "the data has a development and an evaluation set; the first is used, "
                "--config.data.subset=eval takes the other, and =both takes both"
            )
    if subset == "both":
        return clips
    if subset not in subsets:
        raise UserError(f"data.subset is {subset}, but the data has {', '.join(subsets)}")
    return clips[clips.where(subset=subset)]


def describe_data(
    data_dir: DataSource, training: Features, test: Features, front_end: ClipFrontEnd
) -> dict:
    """Describes the data of a run: its training clips must be the same when it is continued.

    Args:
        data_dir: of the recordings.
        training: features of the training clips.
        test: features of the test clips.
        front_end: what made the features.

    Returns:
        `year`; `synthetic`, whether the recordings are made by `asd-jax synth`; `n_clips`;
        `clip_seconds`, the usual length of a training clip; and digests of names and contents:
        `training`, `test`, `held_out` of the names of clips that no model is fitted to, and
        `fingerprint` of both tables.

    Raises:
        UserError: the clips are of several years.
    """
    if isinstance(data_dir, OwnFolders):
        data_dir = data_dir.normal
    folder = Path(data_dir.path if isinstance(data_dir, Manifest) else data_dir).resolve()
    synthetic = any((place / SETTINGS_FILE).is_file() for place in (folder, *folder.parents[:2]))
    years = sorted({*training.clips.distinct("year"), *test.clips.distinct("year")})
    if len(years) > 1:
        raise UserError(
            f"the data is of several years ({', '.join(map(str, years))}); give the folder of "
            "one, or set data.year"
        )
    digests = [_content_digest(table) for table in (training, test)]
    frame_seconds = front_end.hop_length / front_end.sample_rate
    return {
        "year": years[0],
        "synthetic": synthetic,
        "n_clips": len(training.clips) + len(test.clips),
        "clip_seconds": round(float(np.median(training.n_frames)) * frame_seconds, 1),
        "fingerprint": hashlib.sha256("".join(digests).encode()).hexdigest(),
        "training": digests[0],
        "test": digests[1],
        "held_out": _names_digest(training.clips[training.clips.where(split=HELD_OUT)]),
    }


def _names_digest(clips: ClipTable) -> str:
    """Digest of the names of clips; "" of none."""
    names = sorted((clip.machine, clip.section, clip.name) for clip in clips)
    return hashlib.sha256(f"{names}".encode()).hexdigest() if names else ""


def _content_digest(table: Features) -> str:
    """Digest of the names and contents of a table's recordings."""
    digest = hashlib.sha256()
    contents = table.digests if isinstance(table, FeatureSet) else ()
    for clip, content in zip(table.clips, contents, strict=True):
        # Clips that are held out are training clips of the data, of the same content.
        split = "train" if clip.split == HELD_OUT else clip.split
        facts: tuple = (clip.machine, clip.section, split, clip.name, content.tobytes().hex())
        if clip.state:
            facts += (clip.state,)
        digest.update(f"{facts}\n".encode())
    return digest.hexdigest()


def status_fingerprint(clips: Sequence[Clip]) -> str:
    """The fingerprint in `data.json` of runs that do not know their recordings' contents."""
    digest = hashlib.sha256()
    for clip in clips:
        file = os.stat(clip.path)
        facts = (clip.machine, clip.section, clip.split, clip.name, file.st_size, file.st_mtime_ns)
        digest.update(f"{facts}\n".encode())
    return digest.hexdigest()
