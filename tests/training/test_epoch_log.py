"""What the log says of an epoch, and trainings that a reporter ends."""

import dataclasses
import datetime

import jax.numpy as jnp
import numpy as np
import optax
import pytest

import asd_jax
from asd_jax.config import TrainConfig
from asd_jax.runtime.progress import Reporter, check_reporter
from asd_jax.training import FleetModel, Interrupted, fleet_clips, gradient_task, train
from asd_jax.training.checkpoints import Checkpoints

# Two models of 9 and 4 clips, all of 7 frames; a view is a frame.
MODELS = [FleetModel("fan", "", 0), FleetModel("pump", "", 0)]
OWN = [np.arange(9), np.arange(9, 13)]
FRAMES = 7
CONFIG = TrainConfig(
    epochs=3,
    batch_size=8,
    validation_split=0.0,
    checkpoint_every=1,
    driver="map",
    learning_rate=0.5,
)


class Frames:
    """Thirteen clips of one band."""

    width, dtype = 1, np.dtype(np.float32)
    n_frames = np.full(13, FRAMES)

    def read_clips(self, indices):
        return [np.full((FRAMES, 1), i, np.float32) for i in indices]


def task():
    """Learns the mean of its views, by a rate that is halved after each epoch."""

    def loss(variables, batch, key, train):
        errors = (batch.views - variables["params"]["w"]) ** 2
        return batch.mean(errors.mean((1, 2))), {}

    return gradient_task(
        lambda key, statistics: {"params": {"w": jnp.zeros(())}},
        *(loss, optax.sgd(0.1)),
        view_length=1,
        schedule=lambda epoch: 0.5**epoch,
    )


def trained(config=CONFIG, **options):
    """Weights and the log."""
    log = []
    clips = fleet_clips(
        MODELS,
        [(own, np.zeros(len(own), np.int32)) for own in OWN],
        Frames.n_frames,
        view_length=1,
        view_hop=1,
        config=config,
    )
    weights = train(task(), clips, Frames(), config, log=log.append, **options)
    return weights["params"]["w"], log


def by_hand(log):
    """Steps are 63 and 28 views in eights: 8 and 4 an epoch."""
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    assert [entry["steps"] for entry in log] == [12, 24, 36]


def test_an_entry_has_the_time_the_steps_and_the_speed():
    begin = datetime.datetime.now(datetime.UTC)
    _, log = trained()
    end = datetime.datetime.now(datetime.UTC)
    by_hand(log)
    assert [entry["learning_rate"] for entry in log] == [0.5, 0.25, 0.125]
    # Of whole milliseconds, which are cut off.
    millisecond = datetime.timedelta(milliseconds=1)
    times = [datetime.datetime.fromisoformat(entry["time"]) for entry in log]
    assert begin - millisecond <= times[0] <= times[1] <= times[2] <= end
    assert sum(entry["seconds"] for entry in log) <= (end - begin).total_seconds()
    for entry in log:
        # Printed with four digits; seconds are of whole microseconds.
        printed = 1e-3 + 1e-6 / entry["seconds"]
        assert entry["steps_per_second"] == pytest.approx(12 / entry["seconds"], rel=printed)
        assert entry["views_per_second"] == pytest.approx(91 / entry["seconds"], rel=printed)
        assert set(entry["loss"]) == {"fan seed 0", "pump seed 0"}


def test_a_windowed_epoch_counts_a_last_short_step_of_each_window():
    # Two windows of at most 28 of the 91 frames at a time: four of them, by whole clips.
    config = dataclasses.replace(CONFIG, table_mib=4 * 56 / 2**20)
    seen = []

    class Watching(Reporter):
        def line(self, text):
            seen.append(text)

    _, log = trained(config, reporter=Watching())
    assert any("streamed" in line for line in seen)
    steps = np.diff([0] + [entry["steps"] for entry in log])
    # At least as many as without windows, at most one more of each model and window.
    windows = int(seen[0].split(": ")[1].split()[0])
    assert ((steps >= 12) & (steps <= 12 + 2 * windows)).all() and steps.max() > 12


def test_steps_go_on_after_a_continuation(tmp_path):
    entries = []
    checkpoints = Checkpoints(tmp_path)
    options = {"checkpoints": checkpoints, "reporter": Collecting(entries)}
    with pytest.raises(Interrupted):
        trained(should_stop=iter([False, True]).__next__, **options)
    trained(**options)
    checkpoints.close()
    by_hand(entries)


class Collecting(Reporter):
    """Keeps the entries; ends the training after an epoch."""

    def __init__(self, entries, last=None):
        super().__init__()
        self.entries, self.last = entries, last

    def line(self, text):
        pass

    def epoch(self, entry):
        self.entries.append(entry)
        return entry["epoch"] == self.last


def test_a_reporter_ends_the_training_as_if_this_were_the_last_epoch(tmp_path):
    shorter, _ = trained(dataclasses.replace(CONFIG, epochs=2))
    entries = []
    checkpoints = Checkpoints(tmp_path)
    weights, log = trained(checkpoints=checkpoints, reporter=Collecting(entries, last=2))
    np.testing.assert_array_equal(weights, shorter)
    assert log == [*entries, {"event": "ended by the reporter", "epoch": 2}]
    # Given again, it stays so.
    again, log = trained(checkpoints=checkpoints, reporter=Collecting([]))
    np.testing.assert_array_equal(again, shorter)
    assert not log
    checkpoints.close()


@pytest.mark.parametrize("reporter", ["yes", Reporter, object()])
def test_what_is_no_reporter_is_one_line(reporter):
    with pytest.raises(asd_jax.UserError, match="^reporter is .*; give an asd_jax.Reporter") as one:
        check_reporter(reporter)
    assert "\n" not in str(one.value)
    with pytest.raises(asd_jax.UserError, match="^reporter is"):
        asd_jax.fit("mel_mahalanobis", [np.zeros((9, 128))], reporter=reporter)
    with pytest.raises(asd_jax.UserError, match="^reporter is"):
        asd_jax.run(asd_jax.load_config("mel_mahalanobis"), "x", "y", reporter=reporter)
