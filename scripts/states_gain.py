"""What siblings, given states and learned off states are worth, on synthetic machines.

    .venv/bin/python scripts/states_gain.py --what=siblings --clips=2,3,5,10,40 --machines=24
    .venv/bin/python scripts/states_gain.py --what=given --clips=40 --machines=24
    .venv/bin/python scripts/states_gain.py --what=off --clips=40 --machines=24

Machines are of ten kinds, 2 s a clip, each in a hall of its own; faults are those of its kind,
added or of wear. "siblings": a machine with few clips is fitted beside four of its kind with 40
clips each. "given": the state of each clip is what its file name would say, as its speed. "off":
one in ten normal clips and ten test clips are of the hall alone. Printed is the mean AUC over the
machines without and with, and of their difference with its standard error; for "off" also how
many faulty, normal and empty test clips are answered "off" or "transient".
"""

import sys
from typing import Any, NamedTuple

import numpy as np
from absl import app, flags

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.synthetic import machine_kinds, machine_wear
from asd_jax.data.synthetic.machine_sounds import render
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features.frames import frames_in_memory
from asd_jax.fitting.judging import judge
from asd_jax.metrics import auc

_WHAT = flags.DEFINE_enum("what", "siblings", ["siblings", "given", "off"], "what is measured")
_CONFIG = flags.DEFINE_string("config", "spectral", "configuration")
_CLIPS = flags.DEFINE_list("clips", ["2", "3", "5", "10", "40"], "normal clips of a machine")
_MACHINES = flags.DEFINE_integer("machines", 24, "machines", lower_bound=2)
_TESTS = flags.DEFINE_integer("tests", 20, "normal test clips, and faulty ones", lower_bound=2)
_SEED = flags.DEFINE_integer("seed", 0, "of all machines")

_RATE, _SECONDS, _SIBLINGS, _KNOWN, _EMPTY = 16_000, 2.0, 4, 40, 10


class Sounds(NamedTuple):
    """Clips (clips, samples), and the state of each."""

    waveforms: np.ndarray
    states: list[Any]


def sounds(machine: int, individual: int, purpose: str, count: int, alone: Any = "") -> Sounds:
    """Clips of an individual of a machine's kind; faulty ones where the purpose is "faulty"."""
    family = [*machine_kinds.FAMILIES][machine % len(machine_kinds.FAMILIES)]
    name = f"{family}{machine} {individual}"
    specimen = machine_kinds.individual(_SEED.value, name, family, "00")
    causes = (*machine_kinds.FAMILIES[family].faults, *machine_wear.CHANGES[family])
    clips, states = [], []
    for i in range(count):
        rng = machine_kinds.stream(_SEED.value, name, purpose, f"{i}")
        condition = machine_kinds.draw_condition(rng, family, "00", "source")
        faulty = purpose == "faulty"
        sound, _ = render(
            specimen,
            condition,
            rng,
            samples=round(_SECONDS * _RATE),
            sample_rate=_RATE,
            cause=causes[i % len(causes)] if faulty else None,
            fault_rng=machine_kinds.stream(_SEED.value, name, purpose, f"{i}", "fault"),
            alone=alone,
        )
        clips.append(sound[:, 0].astype(np.float32))
        states.append(dict(condition.attributes))
    return Sounds(np.stack(clips), states)


def features(waveforms: np.ndarray) -> list[np.ndarray]:
    """Features of clips (clips, samples)."""
    detector = make_detector(load_config(_CONFIG.value))
    return frames_in_memory(waveforms, _RATE, detector.front_end, detector.views)


def measured(machine: int, clips: int) -> tuple[float, float, np.ndarray]:
    """AUC without and with, and counts of clips that are not scored by kind of clip."""
    own = sounds(machine, 0, "train", clips)
    waveforms, sections = [own.waveforms], ["0"] * clips
    settings, more = {}, {}
    if _WHAT.value == "siblings":
        for other in range(1, _SIBLINGS + 1):
            waveforms.append(sounds(machine, other, "train", _KNOWN).waveforms)
            sections += [f"{other}"] * _KNOWN
        settings = {"detector.siblings": "machine"}
    elif _WHAT.value == "given":
        more = {"states": own.states}
    else:
        settings = {"data.learn_off": "True"}
        empty = sounds(machine, 0, "empty", max(1, clips // 10), "noise").waveforms
        waveforms.append(empty)
        sections += ["0"] * len(empty)
    tests = [sounds(machine, 0, purpose, _TESTS.value) for purpose in ("normal", "faulty")]
    labels = np.repeat([0, 1], _TESTS.value)
    new = features(np.concatenate([each.waveforms for each in tests]))
    known = features(np.concatenate(waveforms))
    rates, answers = [], np.zeros(3)
    for with_it in (False, True):
        config = load_config(_CONFIG.value, settings if with_it else {})
        n = len(known) if with_it or _WHAT.value != "off" else clips
        fitted = asd_jax.fit(
            config,
            known[:n],
            sections=sections[:n],
            **(more if with_it else {}),
        )
        states = [state for each in tests for state in each.states] if with_it and more else None
        place = fitted.resolve(None, "0")
        scores = judge(fitted, place, new, states).scores
        if with_it and _WHAT.value == "off":
            quiet = features(sounds(machine, 0, "quiet", _EMPTY, "noise").waveforms)
            said = judge(fitted, place, [*new, *quiet]).verdicts
            unscored = [verdict in ("off", "transient") for verdict in said]
            answers = np.array(
                [np.sum(part) for part in np.split(unscored, [_TESTS.value, len(new)])]
            )
        kept = np.isfinite(scores)
        rates.append(float(auc(labels[kept], scores[kept])))
    return rates[0], rates[1], answers


def measure() -> None:
    """Prints a line a number of clips."""
    for clips in map(int, _CLIPS.value):
        found = [measured(machine, clips) for machine in range(_MACHINES.value)]
        without, with_it = (np.array([each[i] for each in found]) for i in range(2))
        gain = with_it - without
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        line = f"{_CONFIG.value}, {clips} clips: AUC {100 * without.mean():.1f} without, "
        line += f"{100 * with_it.mean():.1f} with {_WHAT.value}, "
        line += f"{100 * gain.mean():+.1f} ± {100 * error:.1f}"
        if _WHAT.value == "off":
            normal, faulty, empty = np.sum([each[2] for each in found], axis=0).astype(int).tolist()
            total = len(found) * _TESTS.value
            line += f"; not scored {normal} of {total} normal, {faulty} of {total} faulty and "
            line += f"{empty} of {len(found) * _EMPTY} empty clips"
        print(line, flush=True)


def main(_: list[str]) -> None:
    """Measures, or says in a line what is wrong."""
    try:
        measure()
    except UserError as error:
        sys.exit(f"states_gain: {error}")


if __name__ == "__main__":
    app.run(main)
