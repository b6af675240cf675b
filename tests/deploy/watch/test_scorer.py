"""Scores of windows beside those of `score` on the same windows, saved as files."""

import functools

import jax
import numpy as np
import pytest
import soundfile

import asd_jax
from asd_jax.config import load_config
from asd_jax.deploy.watch.scorer import Heard, WindowScorer
from asd_jax.deploy.watch.set_ups import SetUps
from asd_jax.deploy.watch.watching import sharing_hop
from asd_jax.deploy.watch.windows import Place
from asd_jax.fitting.ensemble import FittedChoice, FittedEnsemble
from asd_jax.fitting.recordings import score_files

RATE, SECONDS, CLIPS = 16000, 1.0, 8
GROUPS = [("fan", "00"), ("fan", "02"), ("pump", "00"), ("pump", "02")]
SMALL = {"front_end.n_mels": "16"}
TRAINED = {**SMALL, "train.epochs": "1", "train.batch_size": "64"}
DENSE = {**TRAINED, "detector.hidden": "8", "detector.latent": "2"}
SYSTEMS = {
    "spectral": SMALL,
    "dense_ae": {**DENSE, "seeds": "0,1"},
}
SLOW = {
    "twfr_gmm": SMALL,
    "mel_knn": SMALL,
    "spectrum_knn": {},
    "interpolation_ae": {**TRAINED, "detector.encoder": "8", "seeds": "1,0"},
    "mobilenet_v2_id": {
        **TRAINED,
        "front_end.n_mels": "32",
        "detector.frames": "32",
        "detector.width": "0.25",
        "detector.stages": "1",
    },
}


def clips(count=CLIPS, seed=0):
    """Noise whose spectrum differs by machine and section."""
    rng = np.random.default_rng(seed)
    sounds = {}
    for machine, section in GROUPS:
        tilt = 0.3 + 0.2 * (machine == "pump") + 0.1 * (section == "02")
        noise = rng.normal(0, 0.1, (count, round(SECONDS * RATE) + 1))
        sounds[machine, section] = np.diff(noise, axis=1) * tilt + noise[:, 1:] * (1 - tilt)
    return sounds


def fitted_to(name, settings):
    sounds = clips()
    waveforms = {
        machine: [clip for own, each in sounds.items() if own[0] == machine for clip in each]
        for machine in ("fan", "pump")
    }
    sections = {machine: ["00"] * CLIPS + ["02"] * CLIPS for machine in waveforms}
    config = load_config(name, settings)
    return asd_jax.fit(config, waveforms=waveforms, sample_rate=RATE, sections=sections)


def windows(rate=RATE, channels=1, seconds=SECONDS, count=2):
    rng = np.random.default_rng(5)
    made = []
    for group in [*GROUPS, *GROUPS[::-1]] * count:
        samples = rng.integers(-3000, 3000, (round(seconds * rate), channels))
        made.append(Heard(samples.astype(np.float32) / 2**15, rate, group))
    return made


def as_files(fitted, heard, folder):
    """Scores by the command `score` of each window, saved as a recording of 16 bits."""
    scores = []
    for number, window in enumerate(heard):
        path = folder / f"{number}.wav"
        soundfile.write(path, window.samples, window.sample_rate, subtype="PCM_16")
        machine, section = window.group
        (row,) = score_files(
            fitted, [path], machine=machine, section=section, report=lambda line: None
        )
        scores.append(row.score)
    return scores


def check(fitted, heard, folder):
    """Relative 1e-5: sums of float32, in other orders."""
    scorer = WindowScorer(fitted, GROUPS)
    groups = [fitted.resolve(*window.group) for window in heard]
    heard = [window._replace(group=group) for window, group in zip(heard, groups, strict=True)]
    found = scorer.score(heard)
    assert not any(found.problems)
    files = [
        window._replace(group=(own[0], own[1] or None))
        for window, own in zip(heard, groups, strict=True)
    ]
    wanted = as_files(fitted, files, folder)
    np.testing.assert_allclose(found.scores, wanted, rtol=1e-5)
    assert len(set(wanted)) == len(wanted)
    return scorer, heard, found


@pytest.fixture(scope="module")
def spectral():
    return fitted_to("spectral", SYSTEMS["spectral"])


@pytest.fixture(scope="module")
def dense_ae():
    return fitted_to("dense_ae", SYSTEMS["dense_ae"])


@pytest.mark.parametrize("name", SYSTEMS)
def test_as_the_command_score(name, tmp_path, request):
    check(request.getfixturevalue(name), windows(), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_as_the_command_score_of_further_systems(name, tmp_path):
    check(fitted_to(name, SLOW[name]), windows(count=1), tmp_path)


def test_other_rates_channels_and_lengths(spectral, tmp_path):
    check(spectral, windows(rate=22050, channels=2, count=1), tmp_path)
    short = [window._replace(usual=False) for window in windows(seconds=0.7, count=1)]
    check(spectral, short, tmp_path)


def test_windows_that_overlap(spectral, tmp_path):
    """Of two streams in turn, a second every 15 frames, which share what is computed."""
    sound = np.random.default_rng(7).integers(-3000, 3000, (5 * RATE, 1)).astype(np.float32)
    heard = [
        Heard(sound[begin : begin + RATE] / 2**15, RATE, group, place=Place(stream, 0, begin))
        for begin in range(0, 4 * RATE, 15 * 512)
        for stream, group in (("a", GROUPS[0]), ("b", GROUPS[2]))
    ]
    check(spectral, heard, tmp_path)


def test_hops_with_which_windows_share_frames(spectral):
    """Whole hops of 32 ms, and nothing where windows do not overlap."""
    hop = functools.partial(sharing_hop, spectral)
    assert (hop(10.0, 5.0), hop(10.0, 4.992), hop(2.0, 1.0)) == (4.992, 4.992, 0.992)
    assert (hop(10.0, 10.0), hop(0.1, 0.05), hop(0.02, 0.01)) == (10.0, 0.05, 0.01)
    other = fitted_to("spectral", {**SMALL, "front_end.hop_length": "400"})  # 25 ms
    members = FittedChoice({"one": spectral, "two": other}, (0,), {"fan": "one", "pump": "two"})
    assert sharing_hop(members, 10.0, 5.0) == 4.8  # 150 and 192 hops


def test_ensembles_and_choices(spectral, dense_ae, tmp_path):
    scales = [
        {
            "machine": machine,
            "section": section,
            "mean": [[1.0, 2.0], [300.0, 310.0]],
            "deviation": [[0.5, 0.7], [20.0, 30.0]],
            "thresholds": [1.0, 1.0],
            "threshold": 1.0,
        }
        for machine, section in GROUPS
    ]
    members = {"one": spectral, "two": dense_ae}
    check(FittedEnsemble(members, (0, 1), "mean", scales), windows(count=1), tmp_path)
    check(FittedEnsemble(members, (0, 1), "max", scales), windows(count=1), tmp_path)
    choice = FittedChoice(members, (0, 1), {"fan": "one", "pump": "two"})
    check(choice, windows(count=1), tmp_path)


def test_nothing_is_compiled_again(spectral, dense_ae):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    )
    for fitted in (spectral, dense_ae):
        heard = [w._replace(group=fitted.resolve(*w.group)) for w in windows(count=10)]
        scorer = WindowScorer(fitted, GROUPS)
        first = scorer.score(heard[:3]).scores
        compiled.clear()
        for last in (1, 3, 7, 80):
            found = scorer.score(heard[:last]).scores
            np.testing.assert_allclose(found[:3], first[:last], rtol=1e-6)
        assert not compiled


def test_a_window_that_cannot_be_scored(spectral):
    (first, second, third, *_) = windows()
    broken = first.samples.copy()
    broken[7] = np.nan
    heard = [
        first._replace(samples=broken),
        second,
        third._replace(samples=100 * np.ones_like(third.samples)),
        first._replace(samples=first.samples[:10]),
    ]
    found = WindowScorer(spectral, GROUPS).score(heard)
    assert [bool(problem) for problem in found.problems] == [True, False, True, True]
    assert np.isnan(found.scores).tolist() == [True, False, True, True]
    assert "NaN" in found.problems[0] and "full scale" in found.problems[2]
    assert "too short" in found.problems[3]


def test_windows_that_cannot_be_of_the_set_up_are_named(spectral):
    """Twenty decibels beyond all normal clips; and those of training, which none is."""
    sounds = clips()
    usual = [
        Heard(sound[0][:, None].astype(np.float32), RATE, own) for own, sound in sounds.items()
    ]
    quiet = [window._replace(samples=window.samples / 100) for window in usual]
    found = WindowScorer(spectral, GROUPS).score([*usual, *quiet])
    assert found.set_ups[: len(usual)] == [""] * len(usual)
    assert all("dB quieter than usual" in each for each in found.set_ups[len(usual) :])
    lines = []
    set_ups = SetUps(lines.append)
    for _ in range(2):
        records = [{"stream": "fan", "set_up": own or None, "begin": "t"} for own in found.set_ups]
        set_ups.hear(records)
    assert len(lines) == 1 and "fan: from t on" in lines[0]
    set_ups.hear([{"stream": "fan", "set_up": None, "begin": "t"}] * 100)
    set_ups.hear(records)
    assert len(lines) == 2
