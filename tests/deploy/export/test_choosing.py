"""What cannot be exported is one line, before anything is converted."""

import dataclasses

import numpy as np
import pytest

import asd_jax
from asd_jax.config import load_config
from asd_jax.deploy.export.choosing import check_exportable, clip_shape, targets_of
from asd_jax.deploy.export.program import Program
from asd_jax.deploy.export.tflite import signatures_of
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.fitting.ensemble import FittedChoice


def like(finished, config, **settings):
    """The finished run as if it had another configuration."""
    fitted = asd_jax.load(finished)
    config = load_config(config, {key.replace("__", "."): text for key, text in settings.items()})
    return dataclasses.replace(fitted, detector=make_detector(config))


@pytest.mark.parametrize(
    ("config", "settings", "form", "kind", "message"),
    [
        ("dense_ae", {"front_end__canceller": "True"}, "stablehlo", "waveform", "canceller takes"),
        ("iaeo3", {}, "onnx", "waveform", "embeddings of whole clips"),
        ("dense_ae", {"precision": "bfloat16"}, "onnx", "waveform", "computes in bfloat16"),
        ("multibranch", {}, "tflite", "waveform", "export it as stablehlo or onnx"),
        ("multibranch", {}, "onnx", "features", "hears waveforms and has no features"),
        ("twfr_gmm", {}, "stablehlo", "waveform", "add --seconds=10"),
        ("dense_ae", {"front_end__n_fft": "2902"}, "onnx", "waveform", "the prime factor 1451"),
    ],
)
def test_refusals(finished, config, settings, form, kind, message):
    with pytest.raises(UserError, match=message):
        check_exportable(like(finished, config, **settings), form, kind, None)


def test_bfloat16_goes_to_stablehlo(finished):
    check_exportable(
        like(finished, "dense_ae", precision="bfloat16"), "stablehlo", "waveform", None
    )


def test_an_ensemble_is_refused(finished):
    fitted = asd_jax.load(finished)
    choice = FittedChoice({"one": fitted}, fitted.seeds, {"fan": "one"})
    with pytest.raises(UserError, match="export the run of each member"):
        check_exportable(choice, "stablehlo", "waveform", None)


def test_machines_and_sections_by_name(finished):
    fitted = asd_jax.load(finished)
    assert [own.group for own in targets_of(fitted, ["valve"])] == [("valve", "")]
    with pytest.raises(UserError, match="'fun' was not fitted; did you mean fan"):
        targets_of(fitted, ["fun"])
    by_section = like(finished, "interpolation_ae")
    names = [own.name for own in _targets(by_section, ["fan", "valve/02", "fan/00"])]
    assert names == ["fan/00", "fan/02", "valve/02"]
    assert signatures_of(_targets(by_section, [])) == ["fan_00", "fan_02", "valve_00", "valve_02"]


def _targets(fitted, names):
    models = tuple(
        dataclasses.replace(fitted.models[0], machine=machine, section=section, seed=seed)
        for machine in fitted.machines
        for section in fitted.sections[machine]
        for seed in fitted.seeds
    )
    thresholds = {f"{own.machine}/{own.section}": 1.0 for own in models}
    own = dataclasses.replace(
        fitted, models=models, thresholds=np.ones(len(models)), group_thresholds=thresholds
    )
    return targets_of(own, names)


def test_too_few_seconds(finished):
    fitted = asd_jax.load(finished)
    program = Program(fitted, targets_of(fitted))
    assert clip_shape(program, 2.0) == (32_000,)
    with pytest.raises(UserError, match=r"--seconds is 0.1; this system needs 0.128 or more"):
        clip_shape(program, 0.1)
    assert clip_shape(Program(fitted, targets_of(fitted), "features"), 0.128) == (5, 16)


@pytest.mark.parametrize("name", ["spectral", "mel_knn"])
def test_systems_whose_scores_are_by_state_are_refused(name):
    """Of one state alone, nothing is by it."""
    rng = np.random.default_rng(0)
    clips = [rng.normal(-50, 2, (20, 8)) for _ in range(8)]
    config = load_config(name, {"front_end.n_mels": "8"})
    fitted = asd_jax.fit(config, clips, states=[{"speed": i % 2} for i in range(8)])
    with pytest.raises(UserError, match="fit it without data.state"):
        check_exportable(fitted, "stablehlo", "waveform", None)
    if name == "mel_knn":
        one = asd_jax.fit(config, clips, states=[{"speed": 1}] * 8)
        check_exportable(one, "stablehlo", "waveform", None)
