"""How the library's face is used, as a type checker sees it; mypy reads this file, nobody runs it.

A line with `type: ignore` is a mistake that the checker must report: where it does not, mypy calls
the comment unused, and fails.
"""

from typing import assert_type

import jax
import numpy as np

import asd_jax
from asd_jax.config import Config, MembersConfig
from asd_jax.fitting.detector import FittedDetector
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.runs.outcome import RunResult


def names_have_their_own_types(clips: list[np.ndarray], waveforms: jax.Array) -> None:
    config = asd_jax.load_config("dense_ae")
    assert_type(config, Config | MembersConfig)
    assert_type(asd_jax.fit("dense_ae", clips), FittedDetector)
    assert_type(asd_jax.load("run"), FittedDetector | FittedEnsemble | FittedChoice)
    assert_type(asd_jax.run(config, "data", "run"), RunResult)
    assert_type(asd_jax.ensemble(["one", "other"], "both"), RunResult)
    assert_type(asd_jax.ensemble(["one", "other"], "both").scores["score"], np.ndarray)
    assert_type(asd_jax.list_detectors(), tuple[str, ...])
    assert_type(asd_jax.audio.log_mel(waveforms, n_mels=64), jax.Array)
    assert_type(asd_jax.audio.FrontEnd(n_mels=64).frames(16000), int)
    assert_type(asd_jax.UserError("a line").exit_status, int)
    assert_type(asd_jax.__version__, str)


def what_is_fitted_has_types(fitted: FittedDetector, waveforms: np.ndarray) -> None:
    assert_type(fitted.score(waveforms, 16000, machine="fan", section=0), np.ndarray)
    assert_type(fitted.threshold(machine="fan"), float)
    assert_type(fitted.config, Config)


def mistakes_are_reported(clips: list[np.ndarray], fitted: FittedDetector) -> None:
    asd_jax.fit(5, clips)  # type: ignore[arg-type]  # neither a configuration nor a name
    asd_jax.fit("dense_ae", clips, section="00")  # type: ignore[call-arg]  # it is `sections`
    asd_jax.ensemble(["one", "other"], "both", combine="sum")  # type: ignore[arg-type]  # no such
    asd_jax.fits()  # type: ignore[attr-defined]  # no such name
    fitted.score(clips[0])  # type: ignore[call-arg]  # of which rate?
    Config(detector=None, precision="float16")  # type: ignore[arg-type]  # no such precision
