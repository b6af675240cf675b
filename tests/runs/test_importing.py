"""Keras models as run directories: they score as in Keras, and a run goes on with them."""

import json
import re

import numpy as np
import pytest
from command_line import run_cli

import asd_jax
from asd_jax import UserError
from asd_jax.config import load_config
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.evaluation.results import read_scores_csv, read_training_csv
from asd_jax.runs.importing import import_keras

# A network that is small in all its widths, each of them another.
h5py = pytest.importorskip("h5py")
SETTINGS = {
    "detector.frames": "2",
    "detector.hidden": "7,6",
    "detector.latent": "3",
    "front_end.n_mels": "8",
}
WIDTHS = (7, 6, 3, 6, 7)
SMALL = [f"--config.{key}={value}" for key, value in SETTINGS.items()]


def autoencoder(keras, *, widths=WIDTHS, inputs=16, epsilon=1e-3, activation=None, last="linear"):
    """A Functional model as the challenge's programs build it, with statistics of its own."""
    x = start = keras.Input((inputs,))
    for width in widths:
        x = keras.layers.Dense(width)(x)
        x = keras.layers.BatchNormalization(epsilon=epsilon)(x)
        x = (activation or keras.layers.Activation("relu"))(x)
    model = keras.Model(start, keras.layers.Dense(inputs, activation=last)(x))
    rng = np.random.default_rng(0)
    model.set_weights([rng.uniform(0.2, 0.8, array.shape) for array in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def model(keras):
    return autoencoder(keras)


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model.h5"
    model.save(path)
    return path


def clips(n_mels, count=3):
    """Features in dB, of several lengths."""
    rng = np.random.default_rng(1)
    return [rng.normal(-30, 10, (12 + i, n_mels)).astype(np.float32) for i in range(count)]


def keras_scores(model, clips, frames):
    """Mean squared error over all vectors of each clip; frames laid end to end."""
    scores = []
    for clip in clips:
        windows = np.lib.stride_tricks.sliding_window_view(clip, frames, axis=0)
        vectors = windows.swapaxes(1, 2).reshape(len(windows), -1)
        output = model.predict(vectors, verbose=0)
        scores.append(np.mean((np.float64(vectors) - np.float64(output)) ** 2))
    return np.array(scores)


def import_arguments(saved, run_dir, *more):
    return [
        "import",
        f"--keras={saved}",
        "--config=dense_ae",
        f"--out_dir={run_dir}",
        *SMALL,
        *more,
    ]


def test_the_imported_run_scores_like_keras(model, saved, tmp_path, capsys):
    """To 1e-5 of each score: both are in float32, of sums in another order."""
    run_dir = tmp_path / "run"
    status, out, err = run_cli(capsys, *import_arguments(saved, run_dir, "--machine=fan"))
    assert status == 0, err
    assert "--config.seeds=0, " in out and "--config.detector.hidden=7,6 " in out
    fitted = asd_jax.load(run_dir)
    scores = fitted.score_features(clips(8))
    np.testing.assert_allclose(scores, keras_scores(model, clips(8), 2), rtol=1e-5)
    assert np.isnan(fitted.threshold())
    assert fitted.machines == ("fan",) and fitted.config.seeds == (0,)
    assert json.loads((run_dir / "config.json").read_text())["seeds"] == [0]
    assert json.loads((run_dir / "log.jsonl").read_text())["imported"] == str(saved)
    assert (run_dir / "environment.json").is_file()


def test_weights_alone_and_other_ways_to_say_the_same(keras, model, saved, tmp_path):
    """Weights without an architecture, a Sequential model, ReLU layers: the same arrays."""
    legacy = pytest.importorskip("keras.src.legacy.saving.legacy_h5_format")
    weights = tmp_path / "weights.h5"
    with h5py.File(weights, "w") as file:
        legacy.save_weights_to_hdf5_group(file, model)
    layers = [keras.Input((16,))]
    for width in WIDTHS:
        layers += [keras.layers.Dense(width), keras.layers.BatchNormalization()]
        layers += [keras.layers.ReLU()]
    sequential = keras.Sequential([*layers, keras.layers.Dense(16)])
    sequential.set_weights(model.get_weights())
    sequential.save(tmp_path / "sequential.h5")
    config = load_config("dense_ae", SETTINGS)
    expected = import_keras(config, saved).score_features(clips(8))
    for path in (weights, tmp_path / "sequential.h5"):
        found = import_keras(config, path).score_features(clips(8))
        np.testing.assert_array_equal(found, expected)


def test_a_run_goes_on_with_the_imported_model(model, saved, tmp_path, capsys):
    """Thresholds of the training clips, scores of the test clips, results; nothing is trained."""
    data, run_dir = tmp_path / "data", tmp_path / "run"
    synthesize(data, machines=["fan", "valve"], sections=1, clips=4, duration=2.0)
    assert run_cli(capsys, *import_arguments(saved, run_dir, "--machine=fan"))[0] == 0
    before = asd_jax.load(run_dir)
    wav = sorted(data.rglob("fan/test/*.wav"))[0]
    status, out, err = run_cli(capsys, "score", f"--run_dir={run_dir}", wav)
    assert status == 0, err
    assert "no threshold" in out and "normal" not in out.replace(str(wav), "")

    places = [f"--data_dir={data}", f"--cache_dir={tmp_path / 'cache'}", f"--out_dir={run_dir}"]
    command = ["run", "--config=dense_ae", *SMALL, "--config.seeds=0,", *places]
    status, out, err = run_cli(capsys, *command)
    assert status == 0, err
    assert "fan" in out and "valve" not in out
    after = asd_jax.load(run_dir)
    np.testing.assert_array_equal(
        after.weights["params"]["Dense_0"]["kernel"], before.weights["params"]["Dense_0"]["kernel"]
    )
    training = read_training_csv(run_dir / "training_scores.csv")
    assert {row.machine for row in training} == {"fan"}
    # Four scores are too few for a gamma distribution: their own quantile, 0.9 by default.
    expected = np.quantile([row.score for row in training], 0.9)
    np.testing.assert_allclose(after.threshold(), expected, rtol=1e-6)
    rows = read_scores_csv(run_dir / "scores.csv")
    assert {row.machine for row in rows} == {"fan"}
    assert {row.threshold for row in rows} == {after.threshold()}
    assert not (run_dir / "checkpoints").exists()
    status, _, err = run_cli(capsys, *command)
    assert status == 0 and "nothing to do" in err


def test_a_run_on_another_machine_says_so(saved, single, cache, tmp_path, capsys):
    run_dir = tmp_path / "run"
    assert run_cli(capsys, *import_arguments(saved, run_dir, "--machine=pump"))[0] == 0
    places = [f"--data_dir={single}", f"--cache_dir={cache}", f"--out_dir={run_dir}"]
    command = ["run", "--config=dense_ae", *SMALL, "--config.seeds=0,", *places]
    status, _, err = run_cli(capsys, *command)
    assert status == 2
    assert "the model is of pump, the training clips are of fan" in err


def test_a_folder_with_something_in_it_is_left_alone(saved, tmp_path, capsys):
    run_dir = tmp_path / "run"
    run_dir.mkdir()
    (run_dir / "notes.txt").write_text("mine")
    status, _, err = run_cli(capsys, *import_arguments(saved, run_dir))
    assert status == 2 and "holds other files (notes.txt)" in err
    (run_dir / "notes.txt").unlink()
    assert run_cli(capsys, *import_arguments(saved, run_dir))[0] == 0
    status, _, err = run_cli(capsys, *import_arguments(saved, run_dir))
    assert status == 2 and "holds a run already" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=ganomaly"], "is of ganomaly; models of Keras can be imported for dense_ae"),
        (["--config=giri2020_system1"], "is of an ensemble; models of Keras can"),
        (["--config.detector.score=mahalanobis"], "training clips are needed"),
        (["--config.detector.latent=4"], "layer dense.* where the configuration has .*6×4"),
        (["--config.detector.hidden=7,"], "detector.hidden"),
        (["--config.detector.hidden=7,6,6"], "set detector.hidden"),
        (["--config.detector.frames=3"], "16×7, 7 where the configuration has arrays of 24×7"),
        (["--keras=missing.h5"], "no such file"),
        (["--keras="], "needs --keras"),
    ],
)
def test_a_request_that_does_not_fit_makes_nothing(saved, tmp_path, capsys, arguments, message):
    run_dir = tmp_path / "run"
    command = import_arguments(saved, run_dir)
    if arguments[0].startswith("--config="):  # of another system, which lacks the settings
        command = [word for word in command if "--config" not in word]
    status, out, err = run_cli(capsys, *command, *arguments)
    assert status == 2 and not out
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert not run_dir.exists()


CONFIG = load_config("dense_ae", SETTINGS)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda keras: {"epsilon": 1e-5}, "BatchNormalization with epsilon 1e-05, where"),
        (
            lambda keras: {"activation": keras.layers.Activation("tanh")},
            "Activation with activation tanh, where ReLU",
        ),
        (lambda keras: {"activation": keras.layers.ReLU(6.0)}, "ReLU with max_value 6.0"),
        (lambda keras: {"activation": keras.layers.Dropout(0.1)}, "is Dropout, where ReLU"),
        (lambda keras: {"last": "sigmoid"}, "Dense with activation sigmoid, where Dense"),
    ],
)
def test_layers_of_another_kind_are_refused(keras, tmp_path, change, message):
    """One block only: a layer object that serves several is listed once."""
    path = tmp_path / "model.h5"
    autoencoder(keras, widths=(3,), **change(keras)).save(path)
    with pytest.raises(UserError, match=message):
        import_keras(CONFIG, path)


def test_another_epsilon_is_read_where_the_configuration_has_it(keras, tmp_path):
    path = tmp_path / "model.h5"
    model = autoencoder(keras, epsilon=1e-5)
    model.save(path)
    changed = load_config("dense_ae", {**SETTINGS, "detector.epsilon": "1e-5"})
    assert import_keras(changed, path).detector.module.epsilon == 1e-5
    autoencoder(keras).save(path)
    with pytest.raises(UserError, match="with epsilon 0.001, .* detector.epsilon, 1e-05, and"):
        import_keras(changed, path)


def test_no_bias_and_a_missing_last_layer_are_refused(keras, tmp_path):
    path = tmp_path / "model.h5"
    start = keras.Input((16,))
    keras.Model(start, keras.layers.Dense(3, use_bias=False)(start)).save(path)
    with pytest.raises(UserError, match="Dense with use_bias False, where Dense"):
        import_keras(CONFIG, path)
    dense = keras.layers.Dense(3)(start)
    keras.Model(start, keras.layers.BatchNormalization()(dense)).save(path)
    with pytest.raises(UserError, match="its last layer is BatchNormalization"):
        import_keras(CONFIG, path)


def test_an_architecture_that_is_no_list_of_layers_is_refused(saved):
    with h5py.File(saved, "r+") as file:
        file.attrs["model_config"] = json.dumps({"class_name": "Model", "config": {"layers": 3}})
    with pytest.raises(UserError, match="its model_config is not one of a Sequential"):
        import_keras(CONFIG, saved)


def test_a_threshold_of_zero_needs_no_clips(saved):
    config = load_config("dense_ae", {**SETTINGS, "threshold": "zero"})
    assert import_keras(config, saved).threshold() == 0


def test_the_model_of_mlperf_tiny_scores_like_keras(keras, shared, tmp_path, capsys):
    """To 1e-5 of each score, as above; the vectors are decibels as they are."""
    path = shared / "weights/mlperf_tiny_ad01/model_ToyCar.hdf5"
    run_dir = tmp_path / "run"
    arguments = [f"--keras={path}", "--config=dense_ae", f"--out_dir={run_dir}"]
    status, _, err = run_cli(capsys, "import", *arguments, "--machine=ToyCar")
    assert status == 0, err
    model = keras.models.load_model(path, compile=False)
    assert model.count_params() == 269_992
    scores = asd_jax.load(run_dir).score_features(clips(128))
    np.testing.assert_allclose(scores, keras_scores(model, clips(128), 5), rtol=1e-5)


def test_weights_that_end_too_early_are_refused(saved):
    with h5py.File(saved, "r+") as file:
        del file.attrs["model_config"]
        weights = file["model_weights"]
        weights.attrs["layer_names"] = weights.attrs["layer_names"][:-1]
    with pytest.raises(UserError, match="there are no more layers where the configuration has"):
        import_keras(CONFIG, saved)
