"""The command export, and its files in processes that cannot import this package."""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import doc_pages
import numpy as np
import pytest
from command_line import run_cli

import asd_jax
from asd_jax.deploy.export import stablehlo
from asd_jax.deploy.export.exporting import in_float32

RATE = 16_000
ALONE = "import sys\nsys.modules['asd_jax'] = None\n"  # an import of it fails
PACKAGES = {
    "stablehlo": ["jax", "flatbuffers"],
    "onnx": ["onnxruntime"],
    "tflite": ["ai-edge-litert"],
}


def runner(form):
    """The page's program for a format."""
    of_page = [block.text for block in doc_pages.blocks("docs/export.md")]
    return ALONE + next(text for text in of_page if f'"fan.{form}"' in text)


def ran(python, form, folder):
    """Scores and decisions that a program prints."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", runner(form)], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    score, decision = zip(*(line.split() for line in done.stdout.splitlines()), strict=True)
    return np.array(score, float), [word == "True" for word in decision]


def check(python, form, folder, run_dir, machine):
    """The page's program of a file beside the run in float32, to 1e-4 as is promised."""
    new = np.random.default_rng(7).normal(0, 0.1, (2, 2 * RATE)).astype(np.float32)
    np.save(folder / "waveforms.npy", new)
    scores, decisions = ran(python, form, folder)
    fitted = in_float32(asd_jax.load(run_dir))
    np.testing.assert_allclose(scores, fitted.score(new, RATE, machine=machine), rtol=1e-4)
    assert decisions == (scores > fitted.threshold(machine=machine)).tolist()


def test_stablehlo_runs_without_this_package(finished, tmp_path, capsys):
    path = tmp_path / "fan.stablehlo"
    arguments = [f"--run_dir={finished}", "--format=stablehlo", f"--out={path}"]
    status, out, err = run_cli(capsys, "export", *arguments)
    assert status == 0, err
    assert "multiply-adds" in out and "0.0001 is allowed" in out
    metadata = json.loads(Path(f"{path}.json").read_text())
    assert [own["name"] for own in metadata["machines"]] == ["fan", "valve"]
    assert metadata["sample_rate"] == RATE and metadata["shortest"] == 2048
    assert metadata["largest_relative_difference"] < 1e-4
    check(sys.executable, "stablehlo", tmp_path, finished, "fan")
    assert sorted(os.listdir(tmp_path)) == ["fan.stablehlo", "fan.stablehlo.json", "waveforms.npy"]


def test_scores_that_differ_are_not_written(finished, tmp_path, capsys, monkeypatch):
    class Wrong(stablehlo.Runner):
        def __call__(self, clip, machine):
            found = super().__call__(clip, machine)
            return {**found, "score": found["score"] * 1.001}

    monkeypatch.setattr(stablehlo, "Runner", Wrong)
    arguments = [f"--run_dir={finished}", "--format=stablehlo", "--machine=valve"]
    status, _, err = run_cli(capsys, "export", *arguments, f"--out={tmp_path / 'valve.shlo'}")
    assert status == 1 and "differ from those of the run by 0.001" in err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--format=stablehlo", "--machine=pump"], "machine 'pump' was not fitted"),
        (["--format=onnx"], "--format=onnx needs jax2onnx"),
        (["--format=coreml"], "format"),
        (["--format=stablehlo", "--seconds=0"], "seconds"),
        (["--format=stablehlo", "--seconds=0.1"], "this system needs 0.128 or more"),
    ],
)
def test_a_wrong_request_is_one_line(finished, tmp_path, capsys, flags, message):
    if "--format=onnx" in flags:
        try:
            import jax2onnx  # noqa: F401

            pytest.skip("jax2onnx is installed")
        except ImportError:
            pass
    arguments = [f"--run_dir={finished}", f"--out={tmp_path / 'file'}", *flags]
    status, _, err = run_cli(capsys, "export", *arguments)
    assert status == 2 and message in err
    assert not os.listdir(tmp_path)


FEATURES = np.random.default_rng(0).normal(-40, 10, (3, 12, 128)).astype(np.float32)


@pytest.fixture
def imported(shared, tmp_path, capsys):
    """The reference model of MLPerf Tiny, and its run by `asd-jax import`."""
    path, run_dir = shared / "weights/mlperf_tiny_ad01/model_ToyCar.hdf5", tmp_path / "run"
    if not path.is_file():
        pytest.skip(f"no {path}")
    arguments = [f"--keras={path}", "--config=dense_ae", f"--out_dir={run_dir}"]
    assert run_cli(capsys, "import", *arguments)[0] == 0
    return path, run_dir


def check_keras(keras, path, found):
    """Reconstructions to 1e-4 of the largest value, and scores to 1e-4; without a threshold."""
    vectors = np.lib.stride_tricks.sliding_window_view(FEATURES, 5, axis=1)
    vectors = np.swapaxes(vectors, 2, 3).reshape(3, 8, 640)
    model = keras.models.load_model(path, compile=False)
    expected = np.asarray(model(vectors.reshape(-1, 640))).reshape(3, 8, 640)
    largest = np.abs(expected).max()
    np.testing.assert_allclose(found["reconstruction"], expected, atol=1e-4 * largest, rtol=0)
    scores = np.mean((vectors - expected) ** 2, axis=(1, 2))
    np.testing.assert_allclose(found["score"], scores, rtol=1e-4)
    assert np.isnan(found["threshold"]).all()


def test_the_model_of_mlperf_tiny_gives_keras_outputs(keras, imported, tmp_path, capsys):
    path, run_dir = imported
    out = tmp_path / "toycar.stablehlo"
    arguments = [f"--run_dir={run_dir}", "--format=stablehlo", f"--out={out}", "--input=features"]
    status, _, err = run_cli(capsys, "export", *arguments)
    assert status == 0, err
    assert "machine has no threshold: NaN in the file" in err
    assert json.loads(Path(f"{out}.json").read_text())["machines"][0]["threshold"] is None
    from jax import export

    found = export.deserialize(bytearray(out.read_bytes())).call(FEATURES)
    check_keras(keras, path, found)


def exported(form, run_dir, out, *flags):
    """Writes a file by the environment of scripts/export.sh; skips where that is missing."""
    root = Path(__file__).resolve().parents[3]
    folder = Path(os.environ.get("ASD_JAX_EXPORT", root / "build/export"))
    python = folder / form / "bin/python"
    if not python.is_file():
        pytest.skip(f"no {python}; scripts/export.sh {form} makes it")
    command = [python, "-m", "asd_jax", "export", f"--run_dir={run_dir}", f"--format={form}"]
    done = subprocess.run(
        [*command, f"--out={out}", *flags],
        cwd=root, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """The interpreter of an environment that has a format's runtime alone."""
    known = {}

    def of(form):
        if form not in known:
            folder = tmp_path_factory.mktemp(form)
            venv.create(folder, with_pip=True)
            python = folder / "bin/python"
            install = [python, "-m", "pip", "install", "--quiet", *PACKAGES[form], "numpy"]
            if subprocess.run(install, capture_output=True).returncode:
                pytest.skip(f"{', '.join(PACKAGES[form])} cannot be installed here")
            known[form] = python
        return known[form]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("form", ["stablehlo", "onnx", "tflite"])
def test_files_run_in_a_fresh_environment(form, finished, tmp_path, fresh, capsys):
    """Of StableHLO exported here; of others by the environment of scripts/export.sh."""
    out = tmp_path / f"fan.{form}"
    if form == "stablehlo":
        arguments = [f"--run_dir={finished}", f"--format={form}", f"--out={out}"]
        assert run_cli(capsys, "export", *arguments)[0] == 0
    else:
        exported(form, finished, out, "--seconds=2")
    check(fresh(form), form, tmp_path, finished, "fan")


# What runs a file of features there, clip by clip, and writes its outputs.
RUN_FEATURES = {
    "onnx": """
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession("toycar.onnx")
names = [output.name for output in session.get_outputs()]
def run(features):
    return dict(zip(names, session.run(None, {"features": features[None]})))
""",
    "tflite": """
import json, numpy as np
from ai_edge_litert.interpreter import Interpreter
name = json.load(open("toycar.tflite.json"))["machines"][0]["signature"]
interpreter = Interpreter("toycar.tflite")
signature = interpreter.get_signature_runner(name)
def run(features):
    return signature(features=features[None])
""",
}
SAVE = """
found = [{k: np.array(v) for k, v in run(own).items()} for own in np.load("features.npy")]
found = {name: np.stack([np.atleast_1d(own[name])[0] for own in found]) for name in found[0]}
np.savez("found.npz", **found)
"""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["onnx", "tflite"])
def test_mlperf_tiny_in_other_formats(form, keras, imported, tmp_path, fresh):
    """Of twelve frames of features, by ONNX Runtime and LiteRT without this package."""
    path, run_dir = imported
    out = tmp_path / f"toycar.{form}"
    # 12 frames of the front end, which centres its windows.
    exported(form, run_dir, out, "--input=features", f"--seconds={11 * 512 / RATE}")
    np.save(tmp_path / "features.npy", FEATURES)
    program = ALONE + RUN_FEATURES[form] + SAVE
    done = subprocess.run(
        [fresh(form), "-c", program], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    check_keras(keras, path, np.load(tmp_path / "found.npz"))
