"""Operating states of recordings: what columns and side files say of speed, load, on and off.

A state is a text, as "speed=6 load=2"; "on" where nothing but that is known, `OFF`, `TRANSIENT`, or
"" where it is not known. Numbers that change within a clip by more than a twentieth make it
transient, as does another value of a column that is no number.

A side file is a table of times and values: a line holds from its time until the next one's. It lies
beside the recording under its name, "monday.csv" for "monday.wav":

    s,speed,on
    0,1480,1
    600,0,0

or one file says it of all recordings, a line for each stretch:

    path,begin,end,speed,on
    monday.wav,0,600,1480,1
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asd_jax.data.clips import Clip, ClipTable
from asd_jax.data.csv_lines import csv_lines
from asd_jax.errors import UserError

OFF, TRANSIENT, ON = "off", "transient", "on"
BESIDE = "beside"
# Numbers are of one state if they differ by at most such a share of the larger.
SAME = 0.05
_NOT_ON = {"0", "0.0", "off", "false", "no"}
_SPAN = ("path", "begin", "end")
_TIME = "s"
# A log may end so long before its recording, or a stretch so far beyond it, in seconds.
_SLACK = 0.5


def number_of(text: str) -> float | None:
    """The finite number that a text is; None of any other text.

    Examples:
        >>> number_of("6.0"), number_of("fast"), number_of("nan")
        (6.0, None, None)
    """
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def alike(one: float, other: float) -> bool:
    """Whether two numbers are of one state.

    Examples:
        >>> alike(1480, 1500), alike(1000, 1500), alike(0, 0)
        (True, False, True)
    """
    return abs(one - other) <= SAME * max(abs(one), abs(other))


def state_text(values: Mapping[str, object], names: Sequence[str]) -> str:
    """The state of some values.

    Args:
        values: by name; "on" says whether the machine runs.
        names: of the values that make the state, in their order.

    Examples:
        >>> state_text({"speed": 6.0, "load": "high"}, ("speed", "load"))
        'speed=6 load=high'
        >>> state_text({"speed": 6, "on": 0}, ("speed", "on")), state_text({}, ("speed",))
        ('off', '')
    """
    texts = {name: _plain(values.get(name)) for name in names}
    if texts.get(ON, "1").lower() in _NOT_ON or OFF in map(str.lower, texts.values()):
        return OFF
    if "" in texts.values():
        return ""
    return " ".join(f"{name}={text}" for name, text in texts.items() if name != ON) or ON


def _plain(value: object) -> str:
    """The text of a value, numbers in their shortest form, without spaces."""
    text = "" if value is None else "_".join(str(value).split())
    number = number_of(text)
    return text if number is None else f"{number:.6g}"


def pairs_of(state: str) -> dict[str, str]:
    """Values of a state by name; none of "on", off, transient or unknown ones.

    Raises:
        UserError: the text is no state.

    Examples:
        >>> pairs_of("speed=6 load=2"), pairs_of("on")
        ({'speed': '6', 'load': '2'}, {})
    """
    if state in ("", ON, OFF, TRANSIENT):
        return {}
    pairs = [part.split("=", 1) for part in state.replace(",", " ").split()]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise UserError(
            f"the state is {state!r}; write name=value, as in speed=6 or speed=6,load=2, or "
            f"{OFF} or {TRANSIENT}"
        )
    return {name: _plain(value) for name, value in pairs}


class Stretches(NamedTuple):
    """What a side file says of one recording.

    Attributes:
        begin: (n,) seconds, ascending.
        end: (n,) seconds; a stretch ends where the next begins, or before.
        values: (n,) texts by name.
        where: of each stretch, for messages.
    """

    begin: np.ndarray
    end: np.ndarray
    values: Sequence[Mapping[str, str]]
    where: str

    def state(self, start: float, stop: float, names: Sequence[str]) -> str:
        """The state of a clip from `start` to `stop`, in seconds.

        A twentieth at each end does not count, as clips begin and end with a frame.
        """
        edge = SAME * (stop - start)
        start, stop = start + edge, stop - edge
        overlap = np.minimum(self.end, stop) - np.maximum(self.begin, start)
        inside = np.flatnonzero(overlap > 0)
        if not len(inside) or overlap[inside].sum() < stop - start - _SLACK:
            return ""
        own, weights = [self.values[i] for i in inside.tolist()], overlap[inside]
        texts = [state_text(values, names) for values in own]
        if texts[0] == OFF or OFF in texts:
            return OFF if set(texts) == {OFF} else TRANSIENT
        if "" in texts:
            return ""
        found: dict[str, object] = {}
        for name in names:
            numbers = [number_of(values[name]) for values in own]
            known = [number for number in numbers if number is not None]
            if len(known) < len(numbers):
                if len({values[name] for values in own}) > 1:
                    return TRANSIENT
                found[name] = own[0][name]
            else:
                if not alike(min(known), max(known)):
                    return TRANSIENT
                found[name] = float(np.average(known, weights=weights))
        return state_text(found, names)


def read_log(path: Path, names: Sequence[str]) -> Stretches:
    """Reads the side file of one recording.

    Args:
        path: of the file.
        names: of the columns that make the state.

    Raises:
        UserError: the file has other columns, or times that do not ascend.
    """
    begin: list[float] = []
    values: list[Mapping[str, str]] = []
    for line, row in _rows(path, (_TIME,), names):
        time = number_of(row[_TIME])
        if time is None or time < 0:
            raise UserError(f"{path}, line {line}: the time is {row[_TIME]!r}; give seconds from 0")
        if begin and time <= begin[-1]:
            raise UserError(f"{path}, line {line}: {time:g} s is not after {begin[-1]:g} s")
        begin.append(time)
        values.append(row)
    return Stretches(np.array(begin), np.array([*begin[1:], np.inf]), values, str(path))


def read_logs(path: Path, names: Sequence[str]) -> dict[str, Stretches]:
    """Reads the side file of all recordings; by their paths.

    Args:
        path: of the file; paths in it are as they are, or from its folder on.
        names: of the columns that make the state.

    Raises:
        UserError: the file has other columns, or stretches that overlap.
    """
    stretches: dict[str, list[tuple[float, float, int, Mapping[str, str]]]] = {}
    for line, row in _rows(path, _SPAN, names):
        begin, end = number_of(row["begin"]), number_of(row["end"])
        if begin is None or end is None or not 0 <= begin < end:
            raise UserError(
                f"{path}, line {line}: from {row['begin']!r} to {row['end']!r} is no stretch; give "
                "seconds, the end after the beginning"
            )
        place = str((path.parent / row["path"]).resolve())
        stretches.setdefault(place, []).append((begin, end, line, row))
    found = {}
    for place, own in stretches.items():
        own.sort(key=lambda each: each[:3])
        for (_, end, line, _), (begin, _, other, _) in zip(own, own[1:], strict=False):
            if begin < end:
                raise UserError(
                    f"{path}: lines {line} and {other} overlap from {begin:g} s on; a recording is "
                    "in one state at a time"
                )
        found[place] = Stretches(
            np.array([each[0] for each in own]),
            np.array([each[1] for each in own]),
            [each[3] for each in own],
            f"{path}, line {own[-1][2]}",
        )
    return found


def _rows(
    path: Path, needed: Sequence[str], names: Sequence[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Lines by number, with the columns that are needed; others are left out."""
    wanted = (*needed, *names)

    def check(columns: Sequence[str]) -> None:
        if lacking := [name for name in wanted if name not in columns]:
            raise UserError(
                f"{path} has no column {lacking[0]!r}; it needs {','.join(wanted)} and has "
                f"{','.join(columns) or 'none'}"
            )

    empty = True
    for line, row in csv_lines(path, check):
        empty = False
        yield line, {name: row[name] for name in wanted}
    if empty:
        raise UserError(f"{path} has no line below its first")


class StateSource:
    """Says the states of clips, by their attributes or by side files.

    Args:
        names: `DataConfig.state`.
        log: `DataConfig.state_log`.

    Raises:
        UserError: a side file is wrong.
    """

    def __init__(self, names: Sequence[str], log: str):
        self._names, self._log = names, log
        self._logs = read_logs(Path(log), names) if log not in ("", BESIDE) else {}
        self._beside: dict[str, Stretches | None] = {}

    def check(self, clips: Sequence[Clip]) -> None:
        """Raises UserError where no clip has a state by any of the names, or a file is wrong."""
        table, names = ClipTable.of(clips), self._names
        if self._log:
            if not any(self._stretches(path) for path in dict.fromkeys(c.path for c in table)):
                raise UserError(
                    f"data.state_log is {self._log}, and no recording has a side file: "
                    + ("NAME.csv beside NAME.wav" if self._log == BESIDE else "other paths")
                )
            return
        known = {name for pairs in table.distinct("attributes") for name, _ in pairs}
        for name in names:
            if name not in known:
                raise UserError(
                    f"data.state names {name!r}, which no recording has; their attributes are "
                    f"{', '.join(sorted(known)) or 'none'} (a side file: data.state_log)"
                )

    def states(
        self,
        clips: Sequence[Clip],
        seconds: Sequence[float] | np.ndarray,
        report: Callable[[str], None],
    ) -> list[str]:
        """The state of each clip.

        Args:
            clips: the clips; one that is cut from a recording has its `start`.
            seconds: (clips,) their lengths.
            report: called with a line about side files that say more, or less, than there is.
        """
        if not self._log:
            return [state_text(dict(clip.attributes), self._names) for clip in clips]
        states: list[str] = []
        last: dict[str, float] = {}
        for clip, length in zip(clips, np.asarray(seconds).tolist(), strict=True):
            own = self._stretches(clip.path)
            last[clip.path] = max(last.get(clip.path, 0.0), clip.start + length)
            stop = clip.start + length
            states.append("" if own is None else own.state(clip.start, stop, self._names))
        for path, end in last.items():
            own = self._stretches(path)
            if own is not None and (own.begin[-1] if self._log == BESIDE else own.end[-1]) > end + (
                _SLACK
            ):
                report(
                    f"{own.where}: it goes on to {max(own.begin[-1], 0):g} s and the recording "
                    f"ends at {end:.1f} s; what is beyond is left out"
                )
        return states

    def _stretches(self, path: str) -> Stretches | None:
        """What a side file says of a recording; None without one."""
        if self._log != BESIDE:
            return self._logs.get(str(Path(path).resolve()))
        if path not in self._beside:
            file = Path(path).with_suffix(".csv")
            self._beside[path] = read_log(file, self._names) if file.is_file() else None
        return self._beside[path]
