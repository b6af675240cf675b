"""Plans against what a run then does."""

import dataclasses

import jax
import numpy as np
import pytest
from command_line import run_cli

from asd_jax.config import load_config
from asd_jax.data.clips import Clip
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.detectors import make_detector
from asd_jax.features.table import ArrayFeatures
from asd_jax.fitting.layout import lay_out
from asd_jax.runs import plan as module
from asd_jax.training import FleetData, cost, fleet
from asd_jax.training.models import entropy_of, lay_out_views, model_keys
from asd_jax.training.windows import training_statistics

SETTINGS = {
    "train.batch_size": "64",
    "front_end.n_mels": "8",
    "detector.hidden": "16,",
    "detector.latent": "2",
}
CONFIG = load_config("dense_ae", SETTINGS)


def cost_of(config, clips, n_frames, **options):
    return module.cost_of(make_detector(config), clips, n_frames, **options)


def test_the_development_set_of_2020_has_its_20119_training_clips():
    clips, n_frames = module.dcase2020_clips(make_detector(load_config("dense_ae")))
    assert len(clips) == 20_119
    assert len({(clip.machine, clip.section) for clip in clips}) == 23
    assert sorted(set(n_frames.tolist())) == [313, 344]


def test_bytes_and_steps_are_those_of_the_fleet_itself():
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=(n, 8)).astype(np.float32) for n in rng.integers(20, 60, 12)]
    clips = [Clip("fan" if i < 8 else "pump", "00", "train", str(i), "") for i in range(12)]
    features = ArrayFeatures(clips, arrays)
    detector = make_detector(CONFIG)
    layout = lay_out(detector, clips, features.n_frames)
    clips_of_fleet, settings = layout.fleet, layout.settings
    keys = model_keys(*entropy_of(clips_of_fleet.models))
    statistics = training_statistics(features, clips_of_fleet)
    data = FleetData(keys, statistics, None, None)
    state = fleet.init_state(detector.task(), data, settings)
    # A small fleet's table has 4,096 rows, and its lists of views have 8 batches.
    views = [
        lay_out_views(clips_of_fleet, part, features.offsets, 8 * settings.batch_size)
        for part in (clips_of_fleet.training, clips_of_fleet.validation)
    ]
    found = cost_of(CONFIG, clips, features.n_frames)
    assert found.models == 6
    # Kernels and biases of 5 × 8 inputs to 16, 2, 16 and 5 × 8; a normalisation's four each.
    assert found.values == (
        (40 * 16 + 16 + 16 * 2 + 2) + (2 * 16 + 16 + 16 * 40 + 40) + 4 * (16 + 2 + 16)
    )
    assert found.frames_bytes == 4096 * CONFIG.front_end.n_mels * 4
    assert found.state_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    assert found.views_bytes == sum(leaf.nbytes for leaf in jax.tree.leaves(views))
    assert found.steps == int(np.ceil(views[0].count / settings.batch_size).sum())
    assert found.step_bytes > 0
    assert found.total_bytes > found.state_bytes + found.frames_bytes
    wider = dataclasses.replace(CONFIG, train=dataclasses.replace(CONFIG.train, driver="vmap"))
    assert cost_of(wider, clips, features.n_frames).step_bytes == 6 * found.step_bytes


def test_frames_beyond_the_memory_are_planned_as_windows():
    clips = [Clip("fan", "00", "train", str(i), "") for i in range(100)]
    config = dataclasses.replace(
        CONFIG, train=dataclasses.replace(CONFIG.train, table_mib=1, validation_split=0.1)
    )
    found = cost_of(config, clips, np.full(100, 1000))
    # 1000 frames of 8 bands in float32 are 32,000 bytes; 16 clips in half a MiB, and 100 of them
    # (in runs of at most so many that eight are in a window) in the fewest such windows.
    assert found.windows >= 7 and found.frames_bytes <= 2**20
    assert f"two of {found.windows} windows at a time" in module.describe(found)
    assert "windows" not in module.describe(cost_of(CONFIG, clips, np.full(100, 1000)))


def _two_machines():
    """Clips of 24 frames, so of 20 views: 10 of one machine, 4 of another, and their frames."""
    clips = [Clip("fan" if i < 10 else "pump", "00", "train", str(i), "") for i in range(14)]
    return clips, np.full(14, 24)


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        # A tenth is held out, one clip at least: 9 and 3 clips of 20 views train in batches of
        # 64, so 3 and 1 steps; one step validates. Three seeds, 100 epochs.
        ("map", 100 * 3 * ((3 + 1) * 2.0 + (1 + 1) * 0.5)),
        ("loop", 100 * 3 * ((3 + 1) * 2.0 + (1 + 1) * 0.5)),
        # Together, as many steps as the model with the most has.
        ("vmap", 100 * (3 * 2.0 + 1 * 0.5)),
    ],
)
def test_seconds_are_those_of_all_steps_and_epochs(monkeypatch, driver, expected):
    monkeypatch.setattr(cost, "_seconds_of_steps", lambda *arguments: (2.0, 0.5))
    train = dataclasses.replace(CONFIG.train, driver=driver)
    config = dataclasses.replace(CONFIG, train=train)
    found = cost_of(config, *_two_machines(), timed=True)
    assert found.seconds == expected
    assert found.steps == 3 * (3 + 1)
    assert cost_of(config, *_two_machines()) == found._replace(seconds=None)


@pytest.mark.parametrize("driver", ["map", "vmap"])
def test_steps_are_timed(driver):
    """Of the made-up weights and views of one model, or of all together."""
    train = dataclasses.replace(CONFIG.train, driver=driver, epochs=1)
    found = cost_of(dataclasses.replace(CONFIG, train=train), *_two_machines(), timed=True)
    assert 0 < found.seconds < 60
    assert "training" in module.describe(found) and "extrapolated" in module.describe(found)
    assert "extrapolated" not in module.describe(found._replace(seconds=None))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.034, "about 0.034 seconds"),
        (89, "about 89 seconds"),
        (91, "about 1.5 minutes"),
        (5399, "about 90 minutes"),
        (5401, "about 1.5 hours"),
        (40 * 3600, "about 1.7 days"),
    ],
)
def test_times_for_people(seconds, text):
    assert module.about(seconds) == text


def test_frames_of_headers_are_those_of_the_features(tmp_path):
    import soundfile

    synthesize(tmp_path / "set", machines=["fan"], sections=1, clips=3, duration=2.0)
    wavs = sorted((tmp_path / "set").rglob("train/*.wav"))
    soundfile.write(wavs[1], np.zeros((9000, 2)), 44100)
    wavs[2].write_bytes(b"")
    clips = [Clip("fan", "00", "train", wav.name, str(wav)) for wav in wavs]
    kept, n_frames = module.frames_of(make_detector(load_config("dense_ae")), clips)
    assert [clip.name for clip in kept] == [wavs[0].name, wavs[1].name]
    assert n_frames.tolist() == [1 + 32000 // 512, 1 + int(np.ceil(9000 * 16000 / 44100)) // 512]


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    synthesize(tmp_path / "set", machines=["fan"], sections=2, clips=4, duration=2.0)
    status, out, err = run_cli(
        capsys,
        "run",
        "--config=interpolation_ae",
        "--dry_run",
        f"--data_dir={tmp_path / 'set'}",
        f"--out_dir={tmp_path / 'run'}",
    )
    assert (status, err) == (0, "")
    assert "models" in out and "6, by" in out and "250,912" in out
    assert not (tmp_path / "run").exists()


def test_without_data_it_plans_for_dcase_2020(capsys):
    status, out, _ = run_cli(capsys, "run", "--config=interpolation_ae", "--dry_run")
    assert status == 0
    assert "69, by" in out and "20,119" in out
    status, _, err = run_cli(
        capsys, "run", "--config=dense_ae", "--dry_run", "--config.data.machines=tractor"
    )
    assert status == 2 and "DCASE 2020 has ToyCar" in err
    assert run_cli(capsys, "run", "--dry_run")[0] == 2


@pytest.mark.parametrize("text", ["", "[]"])
def test_no_usable_clip_is_one_line(tmp_path, capsys, text):
    folder = tmp_path / "set" / "fan" / "train"
    folder.mkdir(parents=True)
    path = folder / "normal_id_00_00000000.wav"
    path.write_text(text)
    flags = ["--config=dense_ae", "--dry_run", f"--data_dir={folder.parents[1]}"]
    status, _, err = run_cli(capsys, "run", *flags)
    assert status == 2 and err.startswith(f"asd-jax: {path}: ") and err.count("\n") == 1
    status, _, err = run_cli(capsys, "run", *flags, "--on_bad_clip=skip")
    assert status == 2 and "no training clip can be used" in err
