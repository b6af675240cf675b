"""A simulated day of many streams through the engine of `asd-jax watch`, as fast as it goes.

    .venv/bin/python scripts/watch_day.py --out_dir=DAY --hours=24 --streams=200 --hop=120

Synthetic machines are fitted once; each stream plays a machine's normal sound, a minute of it over
and over from a place of its own, and now and then for some minutes the sound of another machine.
The sound is in memory; all behind it is what the command runs: queue, batches, one program, alarm
rule, transactions, lines in a file, a command for alarms. The watch is a process of its own, which
--kills ends by SIGKILL at random moments; then it is started again.

Printed are, along the day, windows a second, times real time and resident memory; at the end
percentiles of the latency, from a window's sound being there to its line being written; and
checks: each window has one line, the alarms are those of the rule on the scores of the lines, each
was delivered, and the scores of some windows are those of `score` on the same sound.
"""

import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import soundfile
from absl import app, flags, logging

import asd_jax
from asd_jax.config import load_config, override
from asd_jax.data.synthetic.machine_kinds import (
    FAMILIES,
    draw_condition,
    factory,
    individual,
    stream,
)
from asd_jax.data.synthetic.machine_sounds import render
from asd_jax.deploy.watch.meters import resident_memory
from asd_jax.deploy.watch.state import StreamState
from asd_jax.deploy.watch.streams import Stream
from asd_jax.deploy.watch.watching import WatchSettings, watching
from asd_jax.deploy.watch.windows import Place, Window
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.recordings import score_files
from asd_jax.runtime.cores import claim
from asd_jax.runtime.interruption import stop_signals
from asd_jax.runtime.text_tables import aligned
from asd_jax.scoring.alarms import AlarmRule, alarms_of

_OUT = flags.DEFINE_string("out_dir", None, "folder to be made", required=True)
_CONFIG = flags.DEFINE_string("config", "spectral", "configuration")
_SET = flags.DEFINE_multi_string("set", [], "setting of the configuration, as train.epochs=5")
_HOURS = flags.DEFINE_float("hours", 24.0, "of each stream", lower_bound=0.01)
_STREAMS = flags.DEFINE_integer("streams", 200, "streams", lower_bound=1)
_MACHINES = flags.DEFINE_integer("machines", 20, "machines, each with models", lower_bound=2)
_CLIPS = flags.DEFINE_integer("clips", 40, "normal clips a machine", lower_bound=10)
_WINDOW = flags.DEFINE_float("window", 10.0, "seconds of a window", lower_bound=0.1)
_HOP = flags.DEFINE_float("hop", 60.0, "seconds from one window to the next", lower_bound=0.1)
_KILLS = flags.DEFINE_integer("kills", 0, "kills at random moments", lower_bound=0)
_SEED = flags.DEFINE_integer("seed", 0, "of sounds and kills")
_CHILD = flags.DEFINE_bool("child", False, "be the watch; the script starts itself so")

_RATE = 16_000  # Hz
_MINUTE = 60 * _RATE
_RULE = AlarmRule(need=3, among=5, clear_after=5, stays=5)
_FAULTY = 0.03  # probability of a fault in a period
_PERIOD = 600 * _RATE  # samples
_CHECKED = 40  # windows whose scores are compared


def sound(machine: int, name: str, seconds: float) -> np.ndarray:
    """(samples,) of a machine's normal sound."""
    family = [*FAMILIES][machine % len(FAMILIES)]
    rng = stream(_SEED.value, f"{machine}", name)
    waveform, _ = render(
        individual(_SEED.value, f"{family}{machine}", family, "00"),
        draw_condition(rng, family, "00", "source"),
        rng,
        samples=round(seconds * _RATE),
        sample_rate=_RATE,
        factory=factory(_SEED.value),
    )
    return (0.25 * waveform[:, 0]).astype(np.float32)  # nothing is clipped


class DaySource:
    """Windows of a stream, each known from its number alone."""

    def __init__(self, number: int, place: Stream, known: StreamState | None, sounds: np.ndarray):
        self.name, self.ended = place.name, False
        self._next = 0 if known is None else known.position
        self._count = int(_HOURS.value * 3600 / _HOP.value)
        self._number, self._sounds = number, sounds

    def poll(self, room: int) -> Iterator[Window]:
        """The next windows."""
        for _ in range(room):
            if self._next >= self._count:
                self.ended = True
                return
            number = self._next
            self._next += 1
            begin = number * round(_HOP.value * _RATE)
            yield Window(
                self.name,
                samples_of(self._sounds, self._number, begin),
                _RATE,
                begin / _RATE,
                _WINDOW.value,
                wall_end=begin / _RATE + _WINDOW.value,
                arrived=time.monotonic(),
                position=self._next,
                place=Place(self.name, 0, begin),
            )

    def take_forgotten(self) -> list[int]:
        """None."""
        return []

    def close(self) -> None:
        """Nothing is open."""


def samples_of(sounds: np.ndarray, number: int, begin: int) -> np.ndarray:
    """(samples, 1) of a window of a stream, from a sample of the stream on."""
    end = begin + round(_WINDOW.value * _RATE)
    pieces = []
    while begin < end:
        machine = (number + is_faulty(number, begin // _PERIOD)) % len(sounds)
        place = (begin + 7919 * number) % _MINUTE
        count = min(end - begin, _PERIOD - begin % _PERIOD, _MINUTE - place)
        pieces.append(sounds[machine, place : place + count])
        begin += count
    return np.concatenate(pieces)[:, None]


@functools.lru_cache(maxsize=4096)
def is_faulty(number: int, period: int) -> bool:
    """Whether a stream plays another machine in one of its periods."""
    return random.Random(f"{_SEED.value} {number} {period}").random() < _FAULTY


def fit(folder: Path) -> None:
    """Fits the system and keeps it, beside the minute of sound of each machine."""
    config = override(load_config(_CONFIG.value), dict(each.split("=", 1) for each in _SET.value))
    seconds, clips = _WINDOW.value, {}
    sounds = np.stack([sound(i, "day", 60.0) for i in range(_MACHINES.value)])
    rng = np.random.default_rng(_SEED.value)
    for i, own in enumerate(sounds):
        begins = rng.integers(0, _MINUTE - round(seconds * _RATE), _CLIPS.value)
        clips[f"m{i:03}"] = [own[begin : begin + round(seconds * _RATE)] for begin in begins]
    fitted = asd_jax.fit(config, waveforms=clips, sample_rate=_RATE)
    fitted.save(folder / "model.npz")
    np.save(folder / "sounds.npy", sounds)


def streams() -> list[Stream]:
    """The streams, machine after machine."""
    fitted = FittedDetector.load(Path(_OUT.value, "model.npz"))
    groups = [
        fitted.resolve(f"m{number % _MACHINES.value:03}", None) for number in range(_STREAMS.value)
    ]
    return [Stream(f"s{number:03}", f"s{number:03}", group) for number, group in enumerate(groups)]


def child() -> None:
    """Watches; prints a line of JSON for each hour of the day, and one at the end."""
    folder = Path(_OUT.value)
    claim()  # as a command
    fitted = FittedDetector.load(folder / "model.npz")
    sounds = np.load(folder / "sounds.npy")
    places = streams()
    numbers = {place.name: number for number, place in enumerate(places)}
    settings = WatchSettings(
        _WINDOW.value, _HOP.value, rule=_RULE, on_alarm=f"cat >> {folder / 'told.jsonl'}"
    )
    made = watching(
        fitted,
        places,
        settings,
        folder / "state",
        out=folder / "lines.jsonl",
        sources=lambda place, known: DaySource(numbers[place.name], place, known, sounds),
        report=lambda line: print(line, file=sys.stderr),
    )
    every = max(1, int(3600 / _HOP.value) * len(places))
    with stop_signals() as received, made as watch:
        hours = 0

        def look() -> bool:
            nonlocal hours
            if watch.meter.windows >= (hours + 1) * every:
                hours = watch.meter.windows // every
                say(hours, watch.meter)
            return bool(received)

        watch.run(look)
        say(watch.meter.windows / every, watch.meter)


def say(hours: float, meter: Any) -> None:
    """Prints how far and how fast it is."""
    facts = {
        "hours": hours,
        "windows": meter.windows,
        "seconds": meter.sound / max(1e-9, meter.rate()),
        "cpu": time.process_time(),
        "rate": meter.rate(),
        "memory": resident_memory() / 2**20,
        "latency": [meter.latencies.percentile(share) for share in (0.5, 0.95, 0.99)],
    }
    print(json.dumps(facts), flush=True)


def main(arguments: list[str]) -> None:
    """Simulates the day, or is the watch in it."""
    logging.set_verbosity(logging.WARNING)
    folder = Path(_OUT.value)
    if _CHILD.value:
        child()
        return
    if (folder / "state").exists():
        sys.exit(f"watch_day: {folder} has a day already; give another --out_dir")
    folder.mkdir(parents=True, exist_ok=True)
    fit(folder)
    lines = folder / "lines.jsonl"
    command = [sys.executable, __file__, *sys.argv[1:], "--child"]
    draws = random.Random(_SEED.value)
    total = _STREAMS.value * int(_HOURS.value * 3600 / _HOP.value)
    begun = time.monotonic()
    facts: list[dict[str, Any]] = []
    for kill in range(_KILLS.value):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        # At about equal parts of the day; not before it has gone on.
        goal = lines_in(lines) + int(total / (_KILLS.value + 1) * draws.uniform(0.5, 1.0))
        while process.poll() is None and lines_in(lines) < goal:
            time.sleep(0.05)
        time.sleep(draws.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        print(f"kill {kill + 1} after {lines_in(lines):,} of {total:,} windows", flush=True)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        facts = [json.loads(line) for line in process.stdout]
    if process.returncode:
        sys.exit(f"watch_day: the watch ended with status {process.returncode}")
    print_day(facts, time.monotonic() - begun)
    check(folder, total)


def lines_in(path: Path) -> int:
    """About how many lines a file has, by its size and its first line."""
    if not path.exists() or not path.stat().st_size:
        return 0
    with open(path, "rb") as file:
        return path.stat().st_size // len(file.readline())


def print_day(facts: list[dict[str, Any]], elapsed: float) -> None:
    """The table of the last start's hours, and a line on all."""
    rows = [["hours", "windows", "windows/s", "x real time", "CPU s", "MiB"]]
    for before, each in zip([{"windows": 0, "seconds": 0.0}, *facts], facts, strict=False):
        count = each["windows"] - before["windows"]
        speed = count / max(1e-9, each["seconds"] - before["seconds"])
        numbers = (f"{each['hours']:.1f}", f"{each['windows']:,}", f"{speed:,.0f}")
        rest = (f"{each['rate']:,.0f}", f"{each['cpu']:,.0f}", f"{each['memory']:,.0f}")
        rows.append([*numbers, *rest])
    print(*aligned(rows, right=range(6)), sep="\n")
    half, most, nearly = facts[-1]["latency"]
    print(
        f"{_STREAMS.value} streams of {_MACHINES.value} machines, {_HOURS.value:g} h, windows of "
        f"{_WINDOW.value:g} s every {_HOP.value:g} s at {_RATE} Hz, {_CONFIG.value}: "
        f"{elapsed:,.0f} s in all; latency {half:.2g} s, 95 % {most:.2g} s, 99 % {nearly:.2g} s; "
        f"{os.cpu_count()} cores, jax {jax.__version__}, {jax.default_backend()}"
    )


def check(folder: Path, total: int) -> None:
    """Compares the lines with what they must be; ends with status 1 where they differ."""
    of_streams: dict[str, list[tuple[int, float, str, str | None, float]]] = {}
    with open(folder / "lines.jsonl") as file:
        for line in file:
            record = json.loads(line)
            keys = ("window", "score", "alarm", "alarm_id", "threshold")
            of_streams.setdefault(record["stream"], []).append(tuple(record[k] for k in keys))
    count = sum(map(len, of_streams.values()))
    wrong = [f"{count:,} lines of {total:,} windows"] if count != total else []
    events = set()
    for name, rows in of_streams.items():
        numbers, scores, alarms, ids, thresholds = zip(*rows, strict=True)
        if numbers != tuple(range(1, len(rows) + 1)):
            wrong.append(f"{name}: windows are missing or repeated")
        wanted = alarms_of(_RULE, scores, thresholds[0])
        begins = [i for i, alarm in enumerate(alarms) if alarm == "raised"]
        ends = [i for i, alarm in enumerate(alarms) if alarm == "cleared"]
        if begins != [b for b, _ in wanted] or ends != [e for _, e in wanted if e is not None]:
            wrong.append(f"{name}: other alarms than the rule's")
        events |= {f"{ids[i]}-{alarms[i]}" for i in [*begins, *ends]}
    messages = (folder / "told.jsonl").read_text().splitlines() if events else []
    told = [json.loads(message)["id"] for message in messages]
    if set(told) != events:
        wrong.append(f"{len(events - set(told))} messages of {len(events)} were not delivered")
    worst = compared(folder, of_streams)
    print(
        f"{count:,} lines; {len(events):,} messages of alarms, delivered in {len(told):,} calls; "
        f"scores of {_CHECKED} windows differ from those of `score` by at most {worst:.1e}"
    )
    if worst > 1e-4:
        wrong.append("scores differ")
    sys.exit("\n".join(wrong) if wrong else 0)


def compared(folder: Path, of_streams: dict[str, list[tuple]]) -> float:
    """The largest relative difference from the scores of windows that are saved as recordings."""
    fitted = FittedDetector.load(folder / "model.npz")
    sounds = np.load(folder / "sounds.npy", mmap_mode="r")
    draws, worst = random.Random(_SEED.value), 0.0
    for place in draws.choices(streams(), k=_CHECKED):
        window = draws.randrange(len(of_streams[place.name]))
        begin = window * round(_HOP.value * _RATE)
        samples = samples_of(sounds, int(place.name[1:]), begin)
        soundfile.write(folder / "window.wav", samples, _RATE, subtype="FLOAT")
        machine, section = place.group
        (row,) = score_files(
            fitted,
            [folder / "window.wav"],
            machine=machine,
            section=section or None,
            report=lambda line: None,
        )
        worst = max(worst, abs(of_streams[place.name][window][1] / row.score - 1))
    return worst


if __name__ == "__main__":
    app.run(main)
