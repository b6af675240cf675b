"""Rates of false alarms that thresholds have, beside those that they state.

    .venv/bin/python scripts/false_alarm_rates.py --config=spectral --clips=30 --machines=200

Each synthetic machine is fitted to normal clips, and its thresholds are tried on new normal ones;
with --sessions on clips of sessions that are not among those of the fit. In a session the machine's
speed is fixed, and all is recorded louder or fainter (deviation 2 dB). --together=8 fits eight
machines as sections of one, for networks that learn to tell sections apart. Printed is the mean
rate over the machines, in percent, its standard error, and the probability of so high a mean where
the rate is the stated one (one-sided test by the machines' rates).
"""

import dataclasses
import math
import sys
from typing import Any

import numpy as np
import scipy.stats
from absl import app, flags

import asd_jax
from asd_jax.config import Config, MembersConfig, load_config, override
from asd_jax.data.synthetic.machine_kinds import (
    FAMILIES,
    Condition,
    Individual,
    draw_condition,
    factory,
    individual,
    stream,
)
from asd_jax.data.synthetic.machine_sounds import render
from asd_jax.errors import UserError
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.thresholds import threshold_of
from asd_jax.runtime.progress import Reporter

_CONFIG = flags.DEFINE_string("config", "spectral", "configuration")
_SET = flags.DEFINE_multi_string("set", [], "setting of the configuration, as train.epochs=5")
_KINDS = flags.DEFINE_list("thresholds", ["conformal", "quantile", "gamma"], "kinds to try")
_RATES = flags.DEFINE_list("rates", ["0.05", "0.1", "0.2"], "stated rates of false alarms")
_CLIPS = flags.DEFINE_integer("clips", 30, "normal clips a machine", lower_bound=2)
_SESSIONS = flags.DEFINE_integer("sessions", 0, "groups of the clips; 0 for none", lower_bound=0)
_TESTS = flags.DEFINE_integer("tests", 20, "new normal clips a machine", lower_bound=1)
_MACHINES = flags.DEFINE_integer("machines", 100, "machines", lower_bound=2)
_TOGETHER = flags.DEFINE_integer("together", 1, "machines that a fit has", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 2.0, "of a clip", lower_bound=0.5)
_SEED = flags.DEFINE_integer("seed", 0, "of all machines")

_RATE = 16_000  # Hz
_SESSION_DB = 2.0


def recordings(machine: int, purpose: str, count: int, sessions: int) -> tuple[np.ndarray, list]:
    """Normal clips (clips, samples) of a machine, and the session of each."""
    seed, family = _SEED.value, [*FAMILIES][machine % len(FAMILIES)]
    specimen: Individual = individual(seed, f"{family}{machine}", family, "00")
    places = factory(seed)
    clips, of_sessions = [], []
    for i in range(count):
        rng = stream(seed, f"{machine}", purpose, f"{i}")
        session = i % sessions if sessions else i
        of_session = stream(seed, f"{machine}", purpose, f"session {session}")
        drawn = of_session if sessions else rng
        condition: Condition = draw_condition(drawn, family, "00", "source")
        sound, _ = render(
            specimen,
            condition,
            rng,
            samples=round(_SECONDS.value * _RATE),
            sample_rate=_RATE,
            factory=places,
        )
        gain = 10 ** (_SESSION_DB * of_session.normal() / 20) if sessions else 1.0
        clips.append(0.25 * gain * sound[:, 0])  # nothing is clipped
        of_sessions.append(f"{purpose} {session}")
    return np.stack(clips).astype(np.float32), of_sessions


def fitted_to(config: Config, machines: range) -> FittedDetector:
    """The system, fitted to the clips of machines, each of which is a section."""
    waveforms, sections, groups = [], [], []
    for machine in machines:
        normal, own = recordings(machine, "train", _CLIPS.value, _SESSIONS.value)
        waveforms += [*normal]
        sections += [f"{machine}"] * len(normal)
        groups += [f"{machine} {group}" for group in own]
    return asd_jax.fit(
        config,
        waveforms=waveforms,
        sample_rate=_RATE,
        sections=sections,
        groups=groups if _SESSIONS.value else None,
    )


def threshold_by(fitted: FittedDetector, section: str, kind: str, rate: float) -> float:
    """The threshold of a kind that states a rate, by the same scores of normal clips."""
    reference = fitted.group_reference(fitted.resolve(None, section), None)
    counts = np.isfinite(reference.scores)
    settings: Any = {"threshold": kind, "threshold_quantile": 1 - rate}
    config = dataclasses.replace(fitted.config, **settings)
    groups = reference.groups[counts] if kind == "conformal" else None
    return threshold_of(config, reference.scores[counts], groups).value


def main(_: list[str]) -> None:
    """Prints a line a kind and rate."""
    try:
        measure()
    except UserError as error:
        sys.exit(f"false_alarm_rates: {error}")


def measure() -> None:
    """Fits, scores and prints."""
    settings = dict(each.split("=", 1) for each in _SET.value)
    config = override(load_config(_CONFIG.value), settings)
    assert not isinstance(config, MembersConfig)
    stated = [float(rate) for rate in _RATES.value]
    rates = np.zeros((len(_KINDS.value), len(stated), _MACHINES.value))
    reporter = Reporter()
    reporter.start("machines", _MACHINES.value)
    for first in range(0, _MACHINES.value, _TOGETHER.value):
        machines = range(first, min(first + _TOGETHER.value, _MACHINES.value))
        fitted = fitted_to(config, machines)
        for machine in machines:
            sessions = _TESTS.value if _SESSIONS.value else 0
            new, _ = recordings(machine, "test", _TESTS.value, sessions)
            scores = fitted.score(new, _RATE, section=f"{machine}")
            for k, kind in enumerate(_KINDS.value):
                for r, rate in enumerate(stated):
                    threshold = threshold_by(fitted, f"{machine}", kind, rate)
                    rates[k, r, machine] = np.mean(scores > threshold)
        reporter.advance(machines.stop)
    reporter.stop()
    print(f"{_CONFIG.value}, {_CLIPS.value} clips a machine, {_SESSIONS.value or 'no'} sessions")
    for k, kind in enumerate(_KINDS.value):
        for r, rate in enumerate(stated):
            own = 100 * rates[k, r]
            error = own.std(ddof=1) / math.sqrt(len(own))
            test = scipy.stats.ttest_1samp(own, 100 * rate, alternative="greater")
            print(
                f"{kind:<9} states {100 * rate:4.1f} %: {own.mean():5.2f} ± {error:.2f} % "
                f"(p = {test.pvalue:.2g})"
            )


if __name__ == "__main__":
    app.run(main)
