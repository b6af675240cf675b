"""Event files, read by TensorBoard's own reader."""

import json

import numpy as np
import pytest
from command_line import run_cli
from shared_runs import rows_of, run_arguments


@pytest.fixture
def reader():
    pytest.importorskip("tensorboardX")
    return pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(reader, folder):
    """Step and value by the tag."""
    files = reader.EventAccumulator(str(folder))
    files.Reload()
    found = {tag: files.Scalars(tag) for tag in files.Tags()["scalars"]}
    return {tag: [(e.step, e.value) for e in events] for tag, events in found.items()}


def is_of_log(found, run_dir):
    log = [json.loads(line) for line in (run_dir / "log.jsonl").read_text().splitlines()]
    for name in ("loss", "validation_loss"):
        for model in log[0][name]:
            expected = [(entry["epoch"], np.float32(entry[name][model])) for entry in log]
            assert found[f"{name}/{model.replace(' ', '_')}"] == expected
    rates = [(entry["epoch"], np.float32(entry["learning_rate"])) for entry in log]
    assert found["learning_rate"] == rates
    aucs = [float(r["auc"]) for r in rows_of(run_dir / "results.csv")]
    assert found["official/AUC"] == [(log[-1]["epoch"], pytest.approx(np.mean(aucs), rel=1e-6))]


def test_a_finished_run(reader, copied, capsys):
    status, _, err = run_cli(capsys, "report", copied, "--tensorboard")
    assert status == 0 and f"{copied / 'tensorboard'} has event files" in err
    is_of_log(scalars(reader, copied / "tensorboard"), copied)
    run_cli(capsys, "report", copied, "--tensorboard")
    is_of_log(scalars(reader, copied / "tensorboard"), copied)


def test_variants_while_they_are_trained(reader, data, cache, tmp_path, capsys, no_pictures):
    lists = "--config.train.learning_rate=1e-3,1e-2"
    arguments = run_arguments(data, cache, tmp_path / "s", lists, "--tensorboard")
    assert run_cli(capsys, *arguments, "--config.train.epochs=2")[0] == 0
    for run in (tmp_path / "s").glob("train.*"):
        is_of_log(scalars(reader, run / "tensorboard"), run)


def test_without_the_extra_a_line_names_it(copied, tmp_path, data, cache, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for command in (
        ["report", copied, "--tensorboard"],
        [*run_arguments(data, cache, tmp_path / "new"), "--tensorboard"],
    ):
        status, _, err = run_cli(capsys, *command)
        assert status == 2 and "pip install 'asd-jax[tensorboard]'" in err.splitlines()[-1]
    assert not (tmp_path / "new").exists()
