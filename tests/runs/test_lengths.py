"""Recordings that are too short for a system: one cause, whichever command meets it."""

import gc
import shutil
import threading

import numpy as np
import pytest
import soundfile
from command_line import run_cli

import asd_jax
from asd_jax.audio import FrontEnd
from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.pipeline import dry_run
from asd_jax.runs.lengths import too_short

pytestmark = pytest.mark.usefixtures("no_pictures")

# Two seconds: 1 + 32000 // 512 frames; 64 frames begin with sample 63 * 512.
TWO_SECONDS = (
    "63 frames (2 s) where 64 are needed (2.016 s at front_end.hop_length=512 and 16000 Hz)"
)


def clip_of(folder, n_samples, name="normal_id_00_00000000.wav", rate=16000, split="train"):
    path = folder / "fan" / split / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, n_samples), rate)
    return Clip("fan", name[-15:-13], split, name, str(path))


@pytest.mark.parametrize(
    ("config", "member", "name"),
    [
        ("mobilenet_v2_id", "", "mobilenet_v2_id"),
        ("giri2020_system2", "members.mobilenet_v2_id_mix.", "mobilenet_v2_id_mix"),
    ],
)
def test_all_commands_name_one_cause(data, cache, tmp_path, capsys, config, member, name):
    common = (f"--config={config}", f"--data_dir={data}")
    run = ("run", *common, f"--out_dir={tmp_path / 'run'}", f"--cache_dir={cache}")
    lines = set()
    for command in (
        run,
        (*run, "--on_bad_clip=skip"),
        ("run", "--dry_run", *common),
        ("run", "--dry_run", "--on_bad_clip=skip", *common),
        ("index", *common),
    ):
        status, _, err = run_cli(capsys, *command)
        assert status == 2
        lines.add(err.splitlines()[-1])
    clips = sorted(data.glob("**/*.wav"))
    every = f"{len(clips)} of {len(clips)} recordings"
    assert lines == {
        f"asd-jax: {every} are too short for {name}: {TWO_SECONDS}, first {clips[0]}; "
        f"set --config.{member}detector.frames=63, or give longer recordings"
    }


def test_a_run_of_some_that_are_too_short(data, cache, tmp_path, capsys):
    """They stop the run or are left out, as the plan and the index say."""
    mixed = shutil.copytree(data, tmp_path / "mixed")
    long = [path for path in sorted(mixed.glob("**/*.wav")) if "_00000000" not in path.name]
    for path in long:
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, np.tile(samples, 2), rate)
    short = sorted(mixed.glob("**/*_00000000.wav"))
    total = len(long) + len(short)
    small = ("--config.detector.frames=64", "--config.detector.hidden=4,")
    common = ("--config=dense_ae", f"--data_dir={mixed}", *small, "--config.front_end.n_mels=16")
    cause = f"{len(short)} of {total} recordings are too short for dense_ae: {TWO_SECONDS}"
    for more in (("--dry_run",), (f"--out_dir={tmp_path / 'run'}", f"--cache_dir={cache}")):
        status, _, err = run_cli(capsys, "run", *common, *more)
        assert status == 2
        assert err.splitlines()[-1] == (
            f"asd-jax: {cause}, first {short[0]}; set --config.detector.frames=63, or give longer "
            "recordings, or leave them out by --on_bad_clip=skip"
        )
    status, out, _ = run_cli(capsys, "run", *common, "--dry_run", "--on_bad_clip=skip")
    assert status == 0 and cause in out
    status, out, err = run_cli(capsys, "index", *common)
    assert status == 0 and f"{len(short)} × too short for dense_ae: {TWO_SECONDS}: " in out


def test_a_run_that_stops_ends_the_threads_that_read_ahead(data, cache, tmp_path):
    """Also while its error is held, as a notebook does."""
    gc.collect()
    reading = [thread for thread in threading.enumerate() if thread.name.startswith("read_audio")]
    with pytest.raises(UserError, match="too short") as stopped:
        asd_jax.run(load_config("ganomaly"), data, tmp_path / "run", cache_dir=cache)
    assert stopped.value.__cause__ is not None
    left = [thread for thread in threading.enumerate() if thread.name.startswith("read_audio")]
    assert not set(left) - set(reading)


def test_index_without_a_configuration_takes_no_keys_of_one(data, capsys):
    status, _, err = run_cli(capsys, "index", f"--data_dir={data}", "--config.detector.frames=3")
    assert status == 2 and "--config.detector.frames needs --config=" in err


def test_the_summary_comes_before_what_the_configuration_lacks(data, capsys):
    asked = (f"--data_dir={data}", "--config=dense_ae", "--config.data.machines=pump,")
    status, out, err = run_cli(capsys, "index", *asked)
    assert status == 2 and out.rstrip().endswith("Nothing is wrong.")
    assert "data.machines: there is no pump in the data" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("config", "hint"),
    [
        ("mobilenet_v2_id", "set --config.detector.frames=4,"),
        ("lstm_ae", "set --config.detector.frames=4,"),
        ("dense_ae", "set --config.detector.frames=4,"),
        ("interpolation_ae", "set --config.detector.frames=3,"),  # odd
        ("ganomaly", "set --config.detector.frames=16,"),  # a multiple of 8, of which a quarter
        ("group_made", "name fewer frames in --config.detector.order,"),
    ],
)
def test_the_setting_that_helps(tmp_path, config, hint):
    """Four frames; what is said takes them, and the next larger value does not."""
    detector = make_detector(load_config(config))
    clip = clip_of(tmp_path, 3 * 512)
    assert too_short(detector, [clip]).hint == f"{hint} or give longer recordings"
    if "frames=" in hint:
        frames = hint.split("=")[1].rstrip(",")
        settings = {"detector.frames": frames}
        assert too_short(make_detector(load_config(config, settings)), [clip]) is None


def test_what_no_setting_helps(tmp_path):
    """One frame is no neighbour of another."""
    detector = make_detector(load_config("interpolation_ae"))
    assert too_short(detector, [clip_of(tmp_path, 10)]).hint == "give longer recordings"


def test_lengths_at_other_rates_and_without_padding(tmp_path):
    """Resampling doubles the samples; without padding, 1 + (n - 1024) // 512 frames fit."""
    settings = {"front_end.center": "false"}
    detector = make_detector(load_config("dense_ae", settings))
    clips = [
        clip_of(tmp_path, 1400, rate=8000),  # 2800 samples, 4 frames
        clip_of(tmp_path, 500, "normal_id_00_00000001.wav"),  # less than a frame
        clip_of(tmp_path, 1536, "normal_id_00_00000002.wav", rate=8000),  # 3072 samples, 5 frames
        clip_of(tmp_path, 900, "normal_id_00_00000003.wav", split="test"),
    ]
    assert FrontEnd(center=False).frames(3072) == 5 and FrontEnd(center=False).frames(3071) == 4
    short = too_short(detector, clips)
    assert short.paths == tuple(clips[i].path for i in (0, 1, 3))
    assert short.what == (
        "too short for dense_ae: 0 to 4 frames (0.03125 to 0.175 s) where 5 are needed (0.192 s at "
        "front_end.hop_length=512 and 16000 Hz)"
    )
    assert (short.total, short.none_left) == (4, True)  # no test clip is left
    assert not too_short(detector, clips[:3]).none_left
    assert too_short(detector, clips[2:3]) is None


def test_a_plan_stops_at_an_unusable_recording_as_the_run_does(tmp_path):
    synthesize(tmp_path, machines=["fan"], sections=1, clips=3, duration=2.0)
    (broken,) = tmp_path.glob("dev_data/fan/train/*0001.wav")
    broken.write_bytes(b"<html>")
    config = load_config("mel_mahalanobis")
    with pytest.raises(UserError, match=f"^{broken}: not audio: .*; restore the file or remove it"):
        dry_run(config, tmp_path)
    lines = dry_run(config, tmp_path, on_bad_clip="skip").splitlines()
    assert [line for line in lines if line.startswith(f"left out: {broken}: not audio")]
