"""Programs of a run that are compiled ahead, and whose traces are kept."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import shared_runs

from asd_jax.config import load_config
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.detectors import make_detector
from asd_jax.detectors.dense_ae import DenseAutoencoderDetector
from asd_jax.runs import ahead

LAYOUT = SimpleNamespace(settings=load_config("dense_ae").train, n_labels=1)


class OfAnotherPackage(DenseAutoencoderDetector):
    """A system of a plug-in."""


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    """A folder for traces."""
    monkeypatch.setattr("asd_jax.runtime.traces.traces_folder", lambda: tmp_path)


def origin_of(name, **overrides):
    detector = make_detector(load_config(name, {k: str(v) for k, v in overrides.items()}))
    traces = ahead._traces(detector, LAYOUT)
    return traces and traces.origin


def test_a_systems_programs_are_known_by_its_configuration():
    assert origin_of("dense_ae") == origin_of("dense_ae")
    learning = {"train.learning_rate": 0.5}
    assert origin_of("dense_ae") != origin_of("dense_ae", **learning)


def test_another_packages_source_is_not_known():
    detector = OfAnotherPackage(load_config("dense_ae"))
    assert ahead._traces(detector, LAYOUT) is None


def test_weights_of_a_file_may_change():
    weights = {"detector.weights": "weights.npz"}
    assert origin_of("picture_mobilenet", **weights) is None
    assert origin_of("mobilenet_v2_id")


@pytest.mark.slow
def test_a_second_run_traces_no_training(tmp_path):
    synthesize(tmp_path / "data", year=2020, machines=("fan",), sections=1, clips=8, duration=2.0)
    said = []
    for name in ("one", "two"):
        command = shared_runs.run_arguments(
            tmp_path / "data", tmp_path / "cache", tmp_path / name, "--config.train.epochs=1"
        )
        done = subprocess.run(
            [sys.executable, "-m", "asd_jax", *map(str, command)],
            env={k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION")}
            | {"JAX_LOG_COMPILES": "1"},
            capture_output=True,
            text=True,
            check=True,
        )
        said.append(done.stderr)
    traced = [text.count("Finished tracing flat for jit") for text in said]
    assert traced == [2, 0]
    scores = [(tmp_path / name / "scores.csv").read_bytes() for name in ("one", "two")]
    assert scores[0] == scores[1]
