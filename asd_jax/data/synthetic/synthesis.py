"""Synthetic data sets of machine sounds in the challenge's layouts, of any size.

Every clip has a random stream of its own, keyed by seed, machine, section, split, domain, label
and number. So the bytes depend on the seed, not on the number of workers, the order, or the
choice of other machines; and the same call completes an interrupted synthesis.
"""

import concurrent.futures
import dataclasses
import difflib
import io
import json
import numbers
import os
import time
import wave
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from asd_jax.data.synthetic import machine_kinds, machine_sounds
from asd_jax.data.synthetic.listings import (
    write_anomalies,
    write_attributes,
    write_ground_truth,
)
from asd_jax.data.synthetic.takes import (
    BOTH,
    FAR_DB,
    KINDS,
    MIMII,
    Settings,
    Take,
    check_states,
    handful,
    machines_of,
    plan,
    sections_of,
    subsets_of,
    supplemental_clips,
)
from asd_jax.data.years import SETTINGS_FILE, YEARS
from asd_jax.errors import UserError
from asd_jax.runtime import files
from asd_jax.runtime.bounds import shown
from asd_jax.runtime.cores import usable_cores

DIFFICULTIES = {"easy": 6.0, "default": 0.0, "hard": -6.0}  # dB added to the faults' levels
HALLS = ("own", "factory", "loudspeaker")
FAULTS = ("added", "all")
SUBSETS = ("dev", "eval", BOTH)
ANOMALIES_FILE = "anomalies.csv"


@dataclasses.dataclass(frozen=True)
class Summary:
    """The result of a synthesis.

    Attributes:
        out_dir: root of the data set.
        machines: its machine types.
        clips: number of its recordings.
        anomalies: number of anomalous ones among them.
        written: number of recordings written by this call; the others existed already.
        seconds: time taken.
    """

    out_dir: Path
    machines: tuple[str, ...]
    clips: int
    anomalies: int
    written: int
    seconds: float


def synthesize(
    out_dir: os.PathLike | str,
    *,
    year: int = 2020,
    subset: str = "dev",
    machines: Iterable[str] | None = None,
    sections: int | None = None,
    clips: int = 40,
    seed: int = 0,
    duration: float = 10.0,
    sample_rate: int = 16_000,
    difficulty: str = "default",
    hall: str = "own",
    far_db: float = FAR_DB,
    faults: str = "added",
    supplemental: int | None = None,
    states: int = 1,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Summary:
    """Writes a labelled data set of machine sounds to disk.

    A section (or id) has `clips` normal training clips; in years with domains, 1 % of them (0.3 %
    in 2021), but at least three, are target clips. Its test set has half as many normal clips, at
    least 8 and at most 100, and as many anomalous ones; half of each are in the target domain.
    In 2025 each machine has supplemental clips of the machine without noise or of the noise alone.
    `anomalies.csv` in `out_dir` lists the cause and level of every anomalous clip, including the
    unlabelled test clips of an evaluation set. Changes of a machine's own sound have no level.
    `ground_truth` in `out_dir` has the labels of an evaluation set, in the form in which the
    organisers publish theirs.

    Args:
        out_dir: root of the data set; new, empty, or of an interrupted synthesis.
        year: challenge year of the layout, 2020 to 2026; 0 for raw 8-channel MIMII.
        subset: "dev", "eval", or "both".
        machines: machine types of that year and set; None for three of different kinds, of each
            set.
        sections: number of ids or sections of each machine; None for all of the set.
        clips: training clips of each section.
        seed: whole number from 0.
        duration: length of a clip in seconds, 2 to 86400; for some machines 0.6 to 1.2 times it.
        sample_rate: in Hz, at least 8000.
        difficulty: "easy": faults 6 dB louder than by "default"; "hard": 6 dB fainter. Changes of
            a machine's own sound are doubled or halved.
        hall: background. "own": a hall for each id, some 1 to 12 dB quieter than the machine,
            with a steady hum that identifies the id. "factory": the same few places for all clips
            of all machines, as in data sets with separately recorded factory noise: noise up to
            6 dB quieter or louder than the machine, and other machines that start and stop.
            "loudspeaker": as "own", from one place, so that all microphones hear the same sound
            by paths of their own; for layouts with several.
        far_db: in 2026's layout, level of the machine at the far microphone re the near one.
        faults: "added": sounds added to an unchanged recording. "all": also wear and wrong
            operation that change the machine's own sound, see `machine_wear`.
        supplemental: supplemental clips of each machine, in 2025's layout; None for a tenth of the
            training clips.
        states: operating states, each a speed of its own, as `spd` in the names of 2022 and later;
            by default the three speeds are within a tenth of each other.
        workers: threads; None for one for each core.
        progress: called with (clips done, clips in total).

    Returns:
        A summary of the data set.

    Raises:
        UserError: a setting is wrong, `out_dir` holds something else, or the disk is full.

    Examples:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     summary = synthesize(folder, machines=["fan"], sections=1, clips=2, duration=2.0)
        >>> summary.machines, summary.clips, summary.anomalies
        (('fan',), 18, 8)
    """
    started = time.monotonic()
    workers = usable_cores() if workers is None else workers
    _check_whole("workers", workers, 1)
    unchecked: dict[str, Any] = {"machines": machines, "sections": sections}
    unchecked["supplemental"] = supplemental
    settings = _checked(
        Settings(
            year=year,
            subset=subset,
            **unchecked,
            clips=clips,
            seed=seed,
            duration=duration,
            sample_rate=sample_rate,
            difficulty=difficulty,
            hall=hall,
            far_db=far_db,
            faults=faults,
            states=states,
        )
    )
    root = Path(out_dir)
    _claim(root, settings)

    takes = plan(settings)
    anomalies_file = root / ANOMALIES_FILE
    listed = anomalies_file.is_file()
    todo = [
        take
        for take in takes
        if (take.cause and not listed) or not _is_complete(root / take.path, settings, take)
    ]
    results = _make_all(root, settings, todo, workers, progress)
    if not listed:
        fault_of = {take.path: fault for take, (_, fault) in zip(todo, results, strict=True)}
        write_anomalies(anomalies_file, takes, fault_of)
    write_attributes(root, settings, takes)
    write_ground_truth(root, settings, takes)
    return Summary(
        out_dir=root,
        machines=settings.machines,
        clips=len(takes),
        anomalies=sum(take.cause is not None for take in takes),
        written=sum(written for written, _ in results),
        seconds=time.monotonic() - started,
    )


def _check_whole(name: str, value: object, least: int) -> None:
    if not isinstance(value, numbers.Integral) or not least <= int(value) < 2**32:
        raise UserError(f"{name}={value}: give a whole number, at least {least} and below 2^32")


def _checked(settings: Settings) -> Settings:
    """Checks settings, converts their types, and fills in the defaults.

    Args:
        settings: the caller's; machines may be any iterable, one name or None, and sections None.

    Raises:
        UserError: a setting is wrong.
    """
    year, subset = settings.year, settings.subset
    if year not in (MIMII, *YEARS):
        raise UserError(f"year={year}: give one of {_listed(YEARS)}, or {MIMII} for raw MIMII")
    if subset not in SUBSETS[: 1 if year == MIMII else None]:
        given = "dev" if year == MIMII else _listed(SUBSETS)
        raise UserError(f"subset={subset}: give {'' if year == MIMII else 'one of '}{given}")
    sets = [machines_of(year, name) for name in subsets_of(subset)]
    known = tuple(dict.fromkeys(machine for inside in sets for machine in inside))
    for name, choices in (("difficulty", DIFFICULTIES), ("hall", HALLS), ("faults", FAULTS)):
        if getattr(settings, name) not in choices:
            raise UserError(f"{name}={getattr(settings, name)}: give one of {_listed(choices)}")
    if settings.supplemental is not None:
        _check_whole("supplemental", settings.supplemental, 0)
        if settings.supplemental and year != 2025:
            raise UserError(
                f"supplemental={settings.supplemental} has no effect: only year=2025 has such clips"
            )
    if settings.far_db != FAR_DB and year != 2026:
        raise UserError(f"far_db={settings.far_db} has no effect: only year=2026 has two channels")
    if not (isinstance(settings.far_db, numbers.Real) and -200 <= settings.far_db <= 0):
        raise UserError(f"far_db={settings.far_db}: give dB, at most 0 and at least -200")
    if settings.hall == "loudspeaker" and len(settings.microphones_db) == 1:
        raise UserError(
            f"hall=loudspeaker is what several microphones hear, and year {year} has one: give "
            "year=2026"
        )
    for name, least in (
        ("clips", 1),
        ("seed", 0),
        ("sample_rate", 8000),
        ("sections", 1),
        ("states", 1),
    ):
        if name != "sections" or settings.sections is not None:
            _check_whole(name, getattr(settings, name), least)
    duration = settings.duration
    if not (isinstance(duration, numbers.Real) and 2 <= duration <= 86400):
        raise UserError(f"duration={shown(duration)}: give seconds, at least 2 and at most 86400")

    machines, sections = settings.machines, settings.sections
    if isinstance(machines, str):
        machines = [machines]
    if machines is None:
        machines = [machine for inside in sets for machine in handful(inside)]
    chosen = tuple(dict.fromkeys(machines))
    if not chosen:
        raise UserError(f"machines is empty: give some of {_listed(known)}")
    check_states(settings, chosen)
    longest = 0
    for machine in chosen:
        if machine not in known:
            by_lower = {name.lower(): name for name in known}
            near = difflib.get_close_matches(str(machine).lower(), by_lower, n=3)
            hint = f"did you mean {_listed([by_lower[name] for name in near])}? " if near else ""
            which = "sets" if subset == BOTH else f"{subset} set"
            where = f"the {year} {which}" if year else "MIMII"
            raise UserError(f"no machine {machine!r} in {where}: {hint}it has {_listed(known)}")
        most = max(
            len(sections_of(year, name, machine))
            for name, inside in zip(subsets_of(subset), sets, strict=True)
            if machine in inside
        )
        longest = max(longest, most)
        if sections is not None and sections > most:
            raise UserError(f"sections={sections}: {machine} has {most} in year {year}, {subset}")
    return dataclasses.replace(
        settings,
        year=int(year),
        machines=chosen,
        sections=longest if sections is None else int(sections),
        clips=int(settings.clips),
        states=int(settings.states),
        seed=int(settings.seed),
        duration=float(duration),
        far_db=float(settings.far_db),
        supplemental=(
            supplemental_clips(year, int(settings.clips))
            if settings.supplemental is None
            else int(settings.supplemental)
        ),
        sample_rate=int(settings.sample_rate),
    )


def _listed(names: Iterable) -> str:
    return ", ".join(map(str, names))


def _claim(root: Path, settings: Settings) -> None:
    """Writes the settings to a new folder, or checks that it holds a part of the same data set."""
    wanted = {**dataclasses.asdict(settings), "machines": list(settings.machines)}
    path = root / SETTINGS_FILE
    if path.is_file():
        try:
            # Older files lack these settings; their sets have the first choices.
            earlier = {"hall": HALLS[0], "faults": FAULTS[0], "far_db": FAR_DB}
            earlier["states"] = 1
            earlier["supplemental"] = supplemental_clips(settings.year, settings.clips)
            existing = {**earlier, **json.loads(path.read_text(encoding="utf-8"))}
            different = [name for name in wanted if existing.get(name) != wanted[name]]
        except (ValueError, TypeError) as error:
            raise UserError(f"{path} cannot be read: give another folder") from error
        if different:
            name = different[0]
            raise UserError(
                f"{root} holds a synthetic data set with {name}={existing.get(name)}, not "
                f"{wanted[name]}: give another folder, or the same settings to complete it"
            )
        return
    with files.disk_errors(root):
        if root.is_dir() and any(not entry.name.startswith(".") for entry in root.iterdir()):
            raise UserError(f"{root} is not empty: give a new folder for the data set")
        root.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as file:
        file.write(json.dumps(wanted, indent=2) + "\n")


def _make_all(root, settings, takes, workers, progress) -> list[tuple[bool, object]]:
    """The results of `_make` for all takes, in their order, by several threads."""
    # Threads, not processes: NumPy and SciPy work outside the interpreter's lock here, and no
    # child has to import the caller's program.
    results = []
    executor = concurrent.futures.ThreadPoolExecutor(workers)
    try:
        for result in executor.map(lambda take: _make(root, settings, take), takes):
            results.append(result)
            if progress:
                progress(len(results), len(takes))
    finally:
        executor.shutdown(cancel_futures=True)
    return results


def _make(root: Path, settings: Settings, take: Take):
    """Renders a recording and writes it unless it exists; returns if it was written, and its fault.

    A recording that exists is rendered for its fault alone, see `synthesize`.
    """
    key = (settings.seed, take.machine, take.section, take.key)
    family = KINDS[take.machine][0]
    audio, fault = machine_sounds.render(
        machine_kinds.individual(settings.seed, take.machine, family, take.section),
        take.condition,
        machine_kinds.stream(*key, "sound"),
        samples=settings.samples(take.machine),
        sample_rate=settings.sample_rate,
        microphones_db=settings.microphones_db,
        cause=take.cause,
        fault_rng=machine_kinds.stream(*key, "fault"),
        level_offset_db=DIFFICULTIES[settings.difficulty],
        factory=machine_kinds.factory(settings.seed) if settings.hall == "factory" else (),
        one_source=settings.hall == "loudspeaker",
        alone=take.alone,
    )
    path = root / take.path
    if _is_complete(path, settings, take):
        return False, fault
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(audio.shape[1])
        file.setsampwidth(2)
        file.setframerate(settings.sample_rate)
        file.writeframes(np.round(audio * 32767).astype("<i2").tobytes())
    # A fixed name, so that the next call replaces the rest of an interrupted one.
    temporary = path.with_name(f".{path.name}.part")
    with files.disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_bytes(buffer.getbuffer())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    return True, fault


def _is_complete(path: Path, settings: Settings, take: Take) -> bool:
    """True if the recording exists with its full size."""
    header = 44
    size = header + 2 * settings.samples(take.machine) * len(settings.microphones_db)
    return path.is_file() and path.stat().st_size == size
