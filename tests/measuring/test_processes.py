"""Work in processes of their own, states of the project, and programs that others fetch."""

import dataclasses
import importlib

import numpy as np
import pytest


@pytest.fixture
def processes():
    return importlib.import_module("benchmarks.processes")


@pytest.fixture
def frontend():
    return importlib.import_module("benchmarks.frontend")


def test_log_mels_of_a_process_are_those_of_this_one(frontend):
    clips = frontend.make_clips(2)
    ours = frontend.LogMels(clips, {"precision": "float64"}, 1)
    try:
        levels = np.asarray(ours.run())
    finally:
        ours.close()
    # The same program in another process; devices may split the batch: rounding of float32.
    expected = dataclasses.replace(frontend.FRONT_END, precision="float64")(clips)
    np.testing.assert_allclose(levels, expected, atol=1e-4)


def test_a_process_uses_the_package_that_it_is_told_to(processes, harness, tmp_path):
    with pytest.raises(harness.WrongAnswer, match=r"uses the package in|ended with"):
        processes.Worker(1, tmp_path)


def test_an_error_in_a_process_is_that_of_the_way(processes, harness, tmp_path):
    worker = processes.Worker(1)
    try:
        with pytest.raises(harness.WrongAnswer, match=r"log_mels: FileNotFoundError"):
            worker.ask("log_mels", waveforms=str(tmp_path / "none.npy"), settings={}, batches=1)
    finally:
        worker.close()


def test_a_state_is_a_folder_or_a_commit(tmp_path):
    against = importlib.import_module("benchmarks.against")
    errors = importlib.import_module("asd_jax.errors")
    package = tmp_path / "before" / "asd_jax"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    with against.earlier(str(tmp_path / "before")) as (folder, label):
        assert (folder, label) == (tmp_path / "before", "before")
    refused = pytest.raises(
        errors.UserError, match="neither a folder with asd_jax in it nor a comm"
    )
    with refused, against.earlier("no-such-commit"):
        pass


def test_programs_that_are_not_there_are_skipped_with_a_line(monkeypatch, tmp_path):
    baselines = importlib.import_module("benchmarks.baselines")
    monkeypatch.delenv("ASD_JAX_ASDKIT", raising=False)
    assert "ASD_JAX_ASDKIT does not name the folder" in baselines.fetched("ASDKit")
    monkeypatch.setenv("ASD_JAX_DCASE_BASELINE", str(tmp_path))
    assert baselines.fetched("official baseline").endswith("has no train.py")
    (tmp_path / "train.py").touch()
    assert baselines.fetched("official baseline") == ""


def test_a_gpu_is_needed_for_its_benchmarks(main, capsys):
    import jax

    if jax.default_backend() == "gpu":
        pytest.skip("there is one")
    assert main(["--gpu"]) == 2
    assert "--gpu needs an NVIDIA GPU" in capsys.readouterr().err


def test_what_a_gpu_is_measured_by_are_benchmarks():
    module = importlib.import_module("benchmarks.__main__")
    known = [each for group in module._GROUPS for each in group.COMPARISONS]
    chosen = [each.name for name in module._ON_GPU for each in module.choose(known, [name])]
    assert len(set(chosen)) == len(chosen)


def test_peers_statistics_are_those_of_spectral():
    """level, change and peak of a ramp of 2 dB a frame: by hand."""
    pytest.importorskip("librosa")
    spectral = importlib.import_module("benchmarks.peers.spectral")
    levels = np.repeat(2.0 * np.arange(5)[:, None], 3, axis=1) - 60
    change = 20 * np.log10(2 + 1e-3)
    expected = np.repeat([[-56.0], [change], [-52.0]], 3, axis=1)
    # Sums of five small numbers.
    np.testing.assert_allclose(spectral.statistics(levels), expected, rtol=1e-12)
