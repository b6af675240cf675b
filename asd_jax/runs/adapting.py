"""Adapts the system of a run to recordings of a normal machine, and back."""

import dataclasses
import datetime
import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.clip_paths import parse_clip
from asd_jax.data.clips import ANOMALY, NORMAL, OWN, Clip, ClipTable
from asd_jax.data.folders import is_recording, is_wav, walk
from asd_jax.data.groups import group_beside, with_groups
from asd_jax.data.identity import UNREADABLE, read_digest
from asd_jax.data.names import named_attributes, official_name
from asd_jax.errors import UserError
from asd_jax.evaluation.results import read_training_csv, write_training_csv
from asd_jax.features.embeddings import embedder_of
from asd_jax.features.table import Features, FeatureSet
from asd_jax.fitting.adapting import adapt_clips, not_known
from asd_jax.fitting.adapting_states import with_new_states
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.file_places import Place
from asd_jax.fitting.judging import check_states, given_states
from asd_jax.fitting.operating import with_given_states, with_states
from asd_jax.runs import versions
from asd_jax.runs.channels import check_channels
from asd_jax.runs.directory import RunDirectory, read_config
from asd_jax.runs.features import FeatureOptions, features_of_new
from asd_jax.runs.places import read_places
from asd_jax.runtime.arguments import check_path
from asd_jax.runtime.progress import Reporter

_MADE = ".adapting"  # a folder in the run, of files that are being made


class AdaptedRun(NamedTuple):
    """What `adapt_run` did.

    Attributes:
        version: that the run has now.
        n_new: clips that it was adapted to; 0 where all were known.
        lines: what was done, for people.
    """

    version: int
    n_new: int
    lines: list[str]


def adapt_run(
    run_dir: os.PathLike | str,
    normal: os.PathLike | str,
    *,
    machine: str | None = None,
    section: str | None = None,
    state: Any = None,
    max_bank: int | None = None,
    on_bad_clip: str = "stop",
    cache_dir: os.PathLike | str | None = None,
    reporter: Reporter | None = None,
) -> AdaptedRun:
    """Adapts a run to recordings of a normal machine; the version before can be had back.

    Results of the test clips are of the version before and leave the run with it: the command that
    made the run scores them again.

    Args:
        run_dir: of a run whose training has finished.
        normal: folder of recordings, or one recording.
        machine: their machine type; by default that of each file's place in a data set, else the
            only one that was fitted.
        section: their section; by default that of each file's name, else the only one.
        state: of the machine in all recordings, as of `Fitted.score`; by default what their names
            or side files say, where the run was fitted with states.
        max_bank: as of `asd_jax.fitting.arrays.adapt`.
        on_bad_clip: "stop" or "skip" at a recording that cannot be used.
        cache_dir: as in `asd_jax.run`.
        reporter: shows progress.

    Raises:
        UserError: no such run, one of an ensemble, or recordings that cannot be used; the run is
            then as it was.
    """
    check_path("the run directory", run_dir)
    check_path("normal", normal)
    reporter = reporter or Reporter()
    folder = _of_one_system(run_dir)
    with folder.lock(reporter.line):
        versions.settle(folder)
        if not (folder.model.is_file() and folder.training_csv.is_file()):
            raise UserError(
                f"{folder.path} has no scores of its training clips yet; continue with the command "
                "that began it"
            )
        fitted = FittedDetector.load(folder.model)
        fitted.detector.cache_dir = cache_dir
        rows = read_training_csv(folder.training_csv)
        number = versions.current_version(folder)
        clips = clips_of(
            fitted, normal, machine, section, on_bad_clip, reporter, known={*rows.values("clip")}
        )
        recordings = features_of_recordings(fitted, clips, on_bad_clip, cache_dir, reporter)
        count = len(recordings.clips)
        unknown = _new_ones(fitted, folder, recordings, reporter)
        n_known = count - len(unknown.clips)
        in_states, features = with_new_states(
            fitted, _with_states(fitted, unknown, state, reporter), reporter.line
        )
        n_new = len(features.clips)
        if not n_new:
            line = f"all {count} clips are known already"
            if n_known < count:
                line = f"none of {count - n_known} new clips is in a state to learn from"
            return AdaptedRun(number, 0, [f"{line}; {folder.path} stays as it is"])
        adapted, rows = adapt_clips(in_states, features, rows, reporter, max_bank=max_bank)
        made = folder.path / _MADE
        shutil.rmtree(made, ignore_errors=True)  # of a process that was killed
        try:
            adapted.save(made / folder.model.name)
            write_training_csv(made / folder.training_csv.name, rows)
            files = {path.name: path for path in made.iterdir()}
            number = versions.keep(
                folder,
                files,
                {
                    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
                    "normal": os.path.abspath(normal),
                    "new_clips": n_new,
                    "known_clips": n_known,
                },
            )
        finally:
            shutil.rmtree(made, ignore_errors=True)
    known = f", {n_known} known already and not counted again" if n_known else ""
    lines = [f"{folder.path} has version {number}: {n_new} new normal clips{known}"]
    lines += _threshold_lines(fitted, adapted, features)
    lines.append(
        "test clips have no scores by it; the command that made the run scores them, and "
        f"`asd-jax adapt --run_dir={folder.path} --rollback` has the version before back"
    )
    return AdaptedRun(number, n_new, lines)


def roll_back(run_dir: os.PathLike | str, number: int | None = None) -> AdaptedRun:
    """Gives a run a version that it had, bit for bit, with the results that it had then.

    Args:
        run_dir: the run.
        number: of the version; by default the one that the run's was adapted from.

    Raises:
        UserError: there is no such version.
    """
    folder = _of_one_system(run_dir)
    with folder.lock():
        versions.settle(folder)
        there = [version.number for version in versions.versions(folder)]
        wanted = versions.version_before(folder) if number is None else number
        if wanted not in there:
            have = f"it has {', '.join(map(str, there))}" if there else "it was never adapted"
            raise UserError(f"{folder.path} has no version {wanted}; {have}")
        if wanted == versions.current_version(folder):
            return AdaptedRun(wanted, 0, [f"{folder.path} has version {wanted} already"])
        versions.switch(folder, wanted)
        results = "with its results" if folder.finished else "without results of test clips"
    return AdaptedRun(wanted, 0, [f"{folder.path} has version {wanted} again, {results}"])


def version_records(run_dir: os.PathLike | str) -> list[dict[str, Any]]:
    """The versions of a run, ascending, as records: number, whether it is the run's, and why."""
    folder = _of_one_system(run_dir)
    names = ("time", "from", "new_clips", "known_clips", "normal")
    return [
        {
            "version": version.number,
            "current": version.is_current,
            **{name: version.why.get(name) for name in names},
        }
        for version in versions.versions(folder)
    ]


def _of_one_system(run_dir: os.PathLike | str) -> RunDirectory:
    folder = RunDirectory(run_dir)
    stored = read_config(folder.config)
    if "members" in stored or folder.ensemble.is_file():
        raise UserError(
            f"{folder.path} combines other runs; adapt these one by one, then combine them again"
        )
    return folder


def clips_of(
    fitted: FittedDetector,
    folder: os.PathLike | str,
    machine: str | None,
    section: str | None,
    on_bad_clip: str,
    reporter: Reporter,
    known: Collection[str] = (),
    *,
    flag: str = "normal",
) -> ClipTable:
    """The recordings of a folder as clips of machines that were fitted.

    Args:
        fitted: the system.
        folder: the folder, or one recording.
        machine: as in `adapt_run`.
        section: as in `adapt_run`.
        on_bad_clip: as in `adapt_run`.
        reporter: shows what was assumed, and what is left out.
        known: names of other clips, which none of these is to have.
        flag: what named the folder.

    Raises:
        UserError: there are none, or one is named anomalous or of no machine that was fitted.
    """
    clips, said = [], set()
    for path, inside in _recordings(folder, flag):
        place = Place.of(fitted, path, machine, section)
        parsed = parse_clip(path)
        try:
            named = parsed or official_name(os.path.splitext(os.path.basename(path))[0])
            if named is not None and named.label == ANOMALY and flag == "normal":
                raise UserError("its name says that it is anomalous; give normal recordings")
            own_machine, own_section = fitted.resolve(place.machine, place.section)
        except UserError as error:
            line = f"{path}: {error}{place.hint}"
            if on_bad_clip == "stop":
                raise UserError(line) from None
            reporter.line(f"left out: {line}")
            continue
        if place.assumed and place.assumed not in said:
            said.add(place.assumed)
            reporter.line(f"{place.assumed.replace('scored', 'taken')}, first {path}")
        trained = fitted.sections.get(own_machine, ())
        own_section = own_section or place.section or (trained[0] if trained else "00")
        name = parsed.name if parsed is not None else f"{flag}/{inside}"
        while name in known:
            name = f"adapted/{name}"
        clip = Clip(own_machine, own_section, "train", name, path, year=OWN, label=NORMAL)
        clip = dataclasses.replace(clip, attributes=named_attributes(path))
        if parsed is not None:
            clip = dataclasses.replace(clip, domain=parsed.domain, year=parsed.year)
        clips.append(dataclasses.replace(clip, group=group_beside(path)))
    if not clips:
        raise UserError(f"--{flag}={folder}: no recording can be used")
    of_group = [clip for clip in clips if clip.group]
    alone = with_groups(
        ClipTable.of(clip for clip in clips if not clip.group), fitted.config.data.group
    )
    return ClipTable.of([*alone, *of_group])


def _recordings(folder: os.PathLike | str, flag: str) -> Iterable[tuple[str, str]]:
    """Absolute paths of recordings, and their places in the folder."""
    root = Path(os.path.abspath(folder))
    if root.is_file():
        return [(str(root), root.name)]
    if not root.is_dir():
        raise UserError(f"--{flag}={folder} does not exist; give a folder of recordings")
    found = [path for path in walk(root, []) if not path.name.startswith(".")]
    found = [path for path in found if is_wav(path) or is_recording(path)]
    if not found:
        raise UserError(f"--{flag}={folder} is a folder without recordings")
    return [(str(path), path.relative_to(root).as_posix()) for path in found]


def features_of_recordings(
    fitted: FittedDetector,
    clips: ClipTable,
    on_bad_clip: str,
    cache_dir: os.PathLike | str | None,
    reporter: Reporter,
) -> FeatureSet:
    """Features of recordings, as the run computed those of its own."""
    config = fitted.config
    check_channels(config, clips, on_bad_clip)
    embedder = embedder_of(config, cache_dir) if config.embedding.pretrained else None
    options = FeatureOptions(embedder, cache_dir, on_bad_clip, False, reporter)
    features = features_of_new(fitted.detector, clips, "these", options)
    assert isinstance(features, FeatureSet)  # as there are clips
    return features


def _with_states(
    fitted: FittedDetector, features: Features, state: Any, reporter: Reporter
) -> Features:
    """The clips with the state that is given for all, or with those of names or side files."""
    if state is None:
        return with_given_states(fitted.detector, features, reporter.line)
    (text,) = given_states(state, 1)
    for machine, section in features.clips.groups("machine", "section"):
        by_section = fitted.sections_of(machine) is not None
        check_states(fitted, fitted.resolve(machine, section if by_section else None), [text])
    return with_states(features, [text] * len(features.clips))


def _new_ones(
    fitted: FittedDetector, run_dir: RunDirectory, features: FeatureSet, reporter: Reporter
) -> FeatureSet:
    """The clips that the system does not know; says which are test clips of the run."""
    rows = not_known(fitted, features)
    if not len(rows):
        return features.take(rows)
    trained, tested = read_places(run_dir.recordings_csv)
    sizes = {os.path.getsize(features.clips.path(row)) for row in rows.tolist()}
    if _has_unknown(fitted):
        if not any(map(os.path.isfile, trained.values())):
            reporter.line(
                f"{run_dir.path} is of a version that did not keep what its recordings hold, and "
                "they are not where they were; training recordings among these count twice"
            )
        known = _digests(trained.values(), sizes)
        rows = np.array([r for r in rows if features.digests[r].tobytes() not in known], int)
    known = _digests(tested.values(), sizes)
    both = [r for r in rows.tolist() if features.digests[r].tobytes() in known]
    if both:
        reporter.line(
            f"{len(both)} of these recordings are test recordings of the run, first "
            f"{features.clips.path(both[0])}; scored by a system that knows them, they say nothing "
            "about others"
        )
    return features.take(rows)


def _has_unknown(fitted: FittedDetector) -> bool:
    """Whether a system does not know what some of its clips hold, as of earlier versions."""
    if fitted.history is None:
        return True
    known = fitted.history.known.values()
    return any(clip.content == UNREADABLE for own in known for clip in own.clips)


def _digests(paths: Iterable[str], sizes: Collection[int]) -> set[bytes]:
    """Digests of those files that are there and have one of some sizes."""
    found = set()
    for path in paths:
        if os.path.isfile(path) and os.path.getsize(path) in sizes:
            found.add(read_digest(path))
    return found - {UNREADABLE}


def _threshold_lines(
    before: FittedDetector, after: FittedDetector, features: Features
) -> list[str]:
    """The thresholds of the machines that have new clips, before and after."""
    lines = []
    for name, old in before.group_thresholds.items():
        machine, _, section = name.partition("/")
        places = features.clips.groups("machine", "section")
        own = [rows for (m, s), rows in places.items() if m == machine and section in ("", s)]
        if own:
            new = after.group_thresholds[name]
            place = " ".join(filter(None, [machine, section]))
            lines.append(
                f"{place}: {sum(map(len, own))} new clips, threshold {old:.6g} → {new:.6g}"
            )
    return lines
