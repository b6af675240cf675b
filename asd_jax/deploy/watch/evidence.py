"""The sound of alarms: kept to be listened to, and to be learned from where an alarm was false.

    STATE/alarms/ALARM/group.json, 000123.wav …         windows of an alarm that exceeded
    STATE/acknowledged/STREAM/ALARM/…                   of those that someone called false

Windows of one alarm do not overlap, and are one group for `adapt` (`GROUP_FILE`).
"""

import contextlib
import io
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.groups import GROUP_FILE
from asd_jax.deploy.watch.windows import Window
from asd_jax.errors import UserError
from asd_jax.runtime.files import atomic_write, fitting_name

_MOST_ALARMS = 200
_MOST_WINDOWS = 24  # of an alarm
MOST_WAITING = 64  # windows in memory that are to be written
_WINDOW = "{:09d}.wav"


class Heard(NamedTuple):
    """A window of an alarm, and its record.

    Attributes:
        window: with its samples.
        record: as in the lines of results.
    """

    window: Window
    record: Mapping[str, Any]


def of_alarms(windows: Sequence[Window], records: Sequence[Mapping[str, Any]]) -> list[Heard]:
    """The windows that raised an alarm, or exceeded during it."""
    return [
        Heard(window, record)
        for window, record in zip(windows, records, strict=True)
        if window.samples is not None
        and record["alarm_id"]
        and (record["exceeds"] or record["alarm"] == "raised")
    ]


class Evidence:
    """Keeps the sound of the last alarms of a watch; a disk that is full loses this alone.

    Args:
        folder: of the state.
        report: called with a line where nothing can be written.
    """

    def __init__(self, folder: os.PathLike | str, report: Callable[[str], None]):
        self._folder, self._report = Path(folder) / "alarms", report
        self._fails = False
        self._ends: dict[str, tuple[str, float]] = {}  # alarm and end of each stream's last window

    def keep(self, some: Sequence[Heard]) -> None:
        """Writes windows, at most 24 of an alarm, and forgets alarms before the last 200."""
        try:
            new = [self._keep(heard) for heard in some]
        except UserError as error:
            if not self._fails:
                self._report(f"the sound of alarms is not kept: {error}")
            self._fails = True
            return
        self._fails = False
        if any(new):
            for old in sorted(_alarms(self._folder), key=_age)[:-_MOST_ALARMS]:
                shutil.rmtree(old, ignore_errors=True)

    def _keep(self, heard: Heard) -> bool:
        """Writes one window; returns whether its alarm is new."""
        window, record = heard
        alarm = str(record["alarm_id"])
        before, end = self._ends.get(window.stream, ("", 0.0))
        if before == alarm and window.begin < end - 1e-6:
            return False  # some of it is kept already
        folder = self._folder / alarm
        is_new = not (folder / GROUP_FILE).is_file()
        if is_new:
            with atomic_write(folder / GROUP_FILE) as file:
                json.dump({"group": f"alarm {alarm}", **record}, file, indent=1)
        elif len(_windows(folder)) >= _MOST_WINDOWS:
            return False
        assert window.samples is not None
        with atomic_write(folder / _WINDOW.format(record["window"]), "wb") as file:
            file.write(_wav(window.samples, window.sample_rate))
        self._ends[window.stream] = (alarm, window.begin + window.seconds)
        return is_new


class Alarm(NamedTuple):
    """An alarm whose sound was kept.

    Attributes:
        number: its id.
        record: of the window that raised it.
        windows: paths of its windows.
    """

    number: str
    record: Mapping[str, Any]
    windows: list[Path]


def kept_alarms(state_dir: os.PathLike | str) -> list[Alarm]:
    """The alarms of a watch whose sound is kept, the oldest first."""
    found = []
    for folder in sorted(_alarms(Path(state_dir) / "alarms"), key=_age):
        with contextlib.suppress(OSError, ValueError):
            record = json.loads((folder / GROUP_FILE).read_text(encoding="utf-8"))
            if isinstance(record, dict):
                found.append(Alarm(folder.name, record, _windows(folder)))
    return found


def acknowledge(state_dir: os.PathLike | str, number: str) -> tuple[Alarm, Path]:
    """Calls an alarm false: its sound becomes that of a normal machine.

    Args:
        state_dir: of the watch, which may go on meanwhile.
        number: id of the alarm, or the beginning of one.

    Returns:
        The alarm, and the folder of all such sound of its stream, for `adapt`.

    Raises:
        UserError: there is no such alarm, or several.
    """
    known = kept_alarms(state_dir)
    found = [alarm for alarm in known if number and alarm.number.startswith(number)]
    if len(found) != 1:
        what = "no alarm" if not found else f"{len(found)} alarms"
        raise UserError(
            f"{what} of {state_dir} begin{'s' * (len(found) < 2)} with {number!r}; "
            "`asd-jax acknowledge RUN` lists them"
        )
    alarm = found[0]
    stream = str(alarm.record.get("stream", "stream")).replace("/", "_").replace("\\", "_")
    folder = Path(state_dir) / "acknowledged" / fitting_name(stream.lstrip(".") or "_", "")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(Path(state_dir) / "alarms" / alarm.number, folder / alarm.number)
    except OSError as error:
        raise UserError(
            f"cannot move the alarm to {folder}: {error.strerror}", exit_status=1
        ) from None
    return alarm, folder


def _alarms(folder: Path) -> list[Path]:
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir()]
    except OSError:
        return []


def _windows(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.wav"))


def _age(folder: Path) -> tuple[float, str]:
    try:
        return (folder / GROUP_FILE).stat().st_mtime, folder.name
    except OSError:
        return 0.0, folder.name


def _wav(samples: np.ndarray, sample_rate: int) -> bytes:
    """A WAV file of float32, which has every sample as it was."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples, sample_rate, format="WAV", subtype="FLOAT")
    return file.getvalue()
