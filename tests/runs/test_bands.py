"""Mel bands into which no bin falls are said, by a run and by its plan."""

import warnings

import pytest
from command_line import run_cli

from asd_jax.audio import FrontEnd
from asd_jax.config import Config, load_config, shipped_configs
from asd_jax.runs.bands import empty_band_lines


@pytest.mark.parametrize(
    ("n_fft", "n_mels", "scale", "empty", "remedy"),
    [
        (
            256,
            128,
            "slaney",
            13,
            "raise --config.front_end.n_fft to 512 or lower",
        ),
        (512, 128, "htk", 1, "raise --config.front_end.n_fft to 1024 or lower"),
        (512, 128, "slaney", 0, ""),
        (1024, 128, "slaney", 0, ""),
    ],
)
def test_they_are_those_of_librosa(n_fft, n_mels, scale, empty, remedy):
    import librosa

    def theirs(n_fft, n_mels):
        with warnings.catch_warnings(action="ignore"):  # it warns of them
            options = {"sr": 16000, "n_fft": n_fft, "n_mels": n_mels, "htk": scale == "htk"}
            return int((librosa.filters.mel(**options).max(axis=1) == 0).sum())

    lines = empty_band_lines(FrontEnd(n_fft=n_fft, n_mels=n_mels, scale=scale))
    assert theirs(n_fft, n_mels) == empty
    if not empty:
        assert lines == []
        return
    (line,) = lines
    assert line.startswith(f"{empty} of the {n_mels} mel bands are empty") and remedy in line
    fewer = int(line.rsplit(" ", 1)[1])
    assert theirs(n_fft, fewer) == 0 < theirs(n_fft, fewer + 1)
    assert theirs(2 * n_fft, n_mels) == 0


def test_no_shipped_configuration_has_some():
    def front_ends(config):
        if isinstance(config, Config):
            return [config.front_end]
        return [each for member in config.members.values() for each in front_ends(member)]

    for name in shipped_configs():
        for front_end in front_ends(load_config(name)):
            assert empty_band_lines(front_end) == [], name


def test_a_run_and_its_plan_say_so_once(single, cache, tmp_path, capsys, no_pictures):
    command = ("run", "--config=mel_knn", "--config.front_end.n_mels=16")
    command = (*command, "--config.front_end.n_fft=32")
    places = (f"--data_dir={single}", f"--cache_dir={cache}", f"--out_dir={tmp_path / 'run'}")
    said = "2 of the 16 mel bands are empty, as no frequency of a transform of 32 samples falls"
    status, _, err = run_cli(capsys, *command, *places)
    assert (status, err.count(said)) == (0, 1)
    for data in ((), (f"--data_dir={single}",)):
        status, out, _ = run_cli(capsys, *command, "--dry_run", *data)
        assert (status, out.count(said)) == (0, 1)
