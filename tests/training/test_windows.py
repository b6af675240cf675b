"""Windows of frames: each view once an epoch, in bounded memory, the same after a resume."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest
from work import Counted

from asd_jax.audio import ViewSpec
from asd_jax.audio.views import view_starts
from asd_jax.config import TrainConfig
from asd_jax.errors import UserError
from asd_jax.training import FleetModel, Interrupted, Task, fleet, fleet_clips, train, trainer
from asd_jax.training.checkpoints import Checkpoints
from asd_jax.training.models import lay_out_views
from asd_jax.training.windows import (
    Window,
    first_rows,
    read_rows,
    schedule,
    training_statistics,
)

MELS = 4
MODELS = [FleetModel("fan", "", 0), FleetModel("fan", "", 1), FleetModel("pump", "", 0)]
OWN = [np.arange(60), np.arange(60), np.arange(60, 90)]


class Frames:
    """90 clips of unequal lengths; the first band of a frame is its row among all."""

    width, dtype = MELS, np.dtype(np.float32)

    def __init__(self):
        rng = np.random.default_rng(0)
        self.n_frames = rng.integers(3, 9, 90)
        self.table = rng.normal(size=(self.n_frames.sum(), MELS)).astype(np.float32)
        self.table[:, 0] = np.arange(len(self.table))
        self.starts = np.cumsum(self.n_frames) - self.n_frames

    def read_clips(self, indices):
        return [self.table[self.starts[i] :][: self.n_frames[i]] for i in indices]


FRAMES = Frames()


def clips_of(config, view_length=1):
    return fleet_clips(
        MODELS,
        [(own, np.zeros(len(own), np.int32)) for own in OWN],
        FRAMES.n_frames,
        view_length=view_length,
        view_hop=1,
        config=config,
    )


CONFIG = TrainConfig(epochs=3, batch_size=8, validation_split=0.2)


def test_windows_share_out_every_clip_within_the_memory():
    clips = clips_of(CONFIG)
    plan = schedule(clips, 4 * MELS, 2 * 100 * 4 * MELS)
    assert not plan.resident and plan.n_training > 3 and plan.rows <= 100
    n_views = clips.n_views()
    of_epochs = []
    for epoch in (0, 1, 0):
        windows = list(plan.windows(epoch))
        assert [w.training for w in windows] == [True] * plan.n_training + (
            [False] * plan.n_validation
        )
        for kind, parts, width in (
            (True, clips.training, plan.training_width),
            (False, clips.validation, plan.validation_width),
        ):
            chosen = [w.clips for w in windows if w.training == kind]
            used = np.unique(np.concatenate([part.clips for part in parts]))
            np.testing.assert_array_equal(np.sort(np.concatenate(chosen)), used)
            for window in chosen:
                assert FRAMES.n_frames[window].sum() <= plan.rows
                for part in parts:
                    assert n_views[np.intersect1d(window, part.clips)].sum() <= width
        of_epochs.append([w.clips.tolist() for w in windows])
    assert of_epochs[0] == of_epochs[2] != of_epochs[1]
    training = of_epochs[0][: plan.n_training]
    fans = [sum(clip < 60 for clip in window) for window in training]
    assert max(fans) - min(fans) <= 3, "each window has its share of each machine"


def test_all_in_one_window_where_it_fits():
    plan = schedule(clips_of(CONFIG), 4 * MELS, FRAMES.table.nbytes)
    (window,) = plan.windows(5)
    assert plan.resident and window.training
    np.testing.assert_array_equal(window.clips, np.arange(90))


def test_fleets_of_nearly_one_size_share_programs():
    """Their arrays are as large, and no larger than the memory allows."""
    sizes = set()
    for n_clips in (12, 90):
        clips = fleet_clips(
            [FleetModel("fan", "", 0)],
            [(np.arange(n_clips), np.zeros(n_clips, np.int32))],
            FRAMES.n_frames[:n_clips],
            view_length=3,
            view_hop=1,
            config=dataclasses.replace(CONFIG, batch_size=64),
        )
        plan = schedule(clips, 4 * MELS, 2**30)
        sizes.add((plan.rows, plan.training_width, plan.validation_width))
        assert schedule(clips, 4 * MELS, FRAMES.table.nbytes).rows <= len(FRAMES.table)
    assert sizes == {(4096, 512, 512)}
    clips = fleet_clips(
        [FleetModel("fan", "", 0)],
        [(np.arange(1000), np.zeros(1000, np.int32))],
        np.full(1000, 301),
        view_length=5,
        view_hop=1,
        config=TrainConfig(validation_split=0.0),
    )
    plan = schedule(clips, 4 * MELS, 2**30)
    assert 301_000 <= plan.rows < 301_000 * 9 / 8
    assert 297_000 <= plan.training_width < 297_000 * 9 / 8 and not plan.training_width % 512


def test_memory_for_less_than_a_clip_of_each_machine_is_refused():
    with pytest.raises(
        UserError,
        match="train.table_mib leaves 0.000275 MiB for frames; one clip of",
    ):
        schedule(clips_of(CONFIG), 4 * MELS, 2 * 9 * 4 * MELS)


def test_rows_of_a_window_are_its_clips_end_to_end_then_zeros():
    window = Window(True, np.array([3, 4, 70]), 0)
    expected = np.concatenate([*FRAMES.read_clips(window.clips), np.zeros((5, MELS))])
    found = read_rows(FRAMES, window, 0, len(expected))
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(read_rows(FRAMES, window, 2, 9), expected[2:9])
    rows = first_rows(window, FRAMES.n_frames)
    for clip in window.clips:
        np.testing.assert_array_equal(found[rows[clip], 0], FRAMES.starts[clip])
    assert sorted(set(range(90)) - set(np.flatnonzero(rows < 0))) == [3, 4, 70]


def test_statistics_are_those_of_the_training_frames():
    """A clip that is there twice counts twice; float32 of sums in float64."""
    clips = clips_of(CONFIG)
    doubled = clips.training[2]._replace(
        clips=np.append(clips.training[2].clips, clips.training[2].clips[:1]),
        labels=np.append(clips.training[2].labels, 6),
    )
    clips = clips._replace(training=[*clips.training[:2], doubled])
    found = training_statistics(FRAMES, clips)
    for m, (own, _) in enumerate(clips.training):
        frames = np.concatenate(FRAMES.read_clips(own)).astype(np.float64)
        np.testing.assert_allclose(found.mean[m], frames.mean(0), rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(found.std[m], frames.std(0), rtol=1e-6)
        np.testing.assert_array_equal(found.minimum[m], frames.min(0).astype(np.float32))
        np.testing.assert_array_equal(found.maximum[m], frames.max(0).astype(np.float32))
    np.testing.assert_array_equal(found.n_labels, [1, 1, 7])


def counting_task():
    """A model that counts how often it has seen each frame; its loss is the frame's number."""

    def init(key, statistics):
        return {"params": jnp.zeros(len(FRAMES.table)), "model_state": {}}

    def loss(learner, batch):
        return batch.mean(batch.views[:, 0, 0])

    def step(learner, batch, key):
        rows = batch.views[:, 0, 0].astype(jnp.int32)
        params = learner["params"].at[rows].add(batch.mask)
        return {"params": params, "model_state": {}}, loss(learner, batch)

    return Task(init, step, loss, 1)


@pytest.mark.parametrize("driver", ["map", pytest.param("vmap", marks=pytest.mark.slow), "loop"])
def test_every_view_is_seen_once_an_epoch(driver, monkeypatch):
    """And losses are means over all views of all windows."""
    monkeypatch.setattr(trainer, "table_bytes", lambda config: 2 * 100 * 4 * MELS)
    config = TrainConfig(epochs=2, batch_size=8, validation_split=0.2, driver=driver)
    clips, log = clips_of(config), []
    weights = train(counting_task(), clips, FRAMES, config, log=log.append)
    for m, (part, held) in enumerate(zip(clips.training, clips.validation, strict=True)):
        rows, held_rows = (
            np.concatenate(FRAMES.read_clips(own.clips))[:, 0].astype(int) for own in (part, held)
        )
        expected = np.zeros(len(FRAMES.table))
        expected[rows] = 2
        np.testing.assert_array_equal(weights["params"][m], expected)
        for entry in log:
            name = MODELS[m].name
            np.testing.assert_allclose(entry["loss"][name], rows.mean(), rtol=1e-6)
            np.testing.assert_allclose(entry["validation_loss"][name], held_rows.mean(), rtol=1e-6)


def test_a_resumed_training_sees_what_it_would_have_seen(monkeypatch, tmp_path):
    """To the bit: the first band weighed by the step in which a frame was seen."""

    def init(key, statistics):
        return {"params": {"seen": jnp.zeros(len(FRAMES.table)), "step": jnp.zeros(())}}

    def step(learner, batch, key):
        params = learner["params"]
        rows = batch.views[:, 0, 0].astype(jnp.int32)
        seen = params["seen"].at[rows].add(batch.mask * params["step"])
        params = {"seen": seen, "step": params["step"] + 1}
        return {"params": params, "model_state": {}}, jnp.float32(0)

    task = Task(
        lambda *start: init(*start) | {"model_state": {}}, step, lambda *_: jnp.float32(0), 1
    )
    monkeypatch.setattr(trainer, "table_bytes", lambda config: 2 * 100 * 4 * MELS)
    # All three trainings are the same programs.
    monkeypatch.setattr(fleet, "make_windowed_epoch", functools.cache(fleet.make_windowed_epoch))
    clips = clips_of(CONFIG)
    whole = train(task, clips, FRAMES, CONFIG)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(Interrupted):
        train(task, clips, FRAMES, CONFIG, checkpoints=checkpoints, should_stop=lambda: True)
    again = train(task, clips, FRAMES, CONFIG, checkpoints=checkpoints)
    checkpoints.close()
    np.testing.assert_array_equal(again["params"]["seen"], whole["params"]["seen"])
    assert len(np.unique(whole["params"]["seen"][0])) > 10


@pytest.mark.parametrize(("length", "hop"), [(1, 1), (4, 2), (5, 3)])
def test_views_are_those_of_every_clip_in_turn(length, hop):
    """Clips shorter than a view have none."""
    clips = clips_of(CONFIG)._replace(views=ViewSpec(length, hop))
    window = Window(True, np.arange(0, 90, 2), 0)
    rows = first_rows(window, FRAMES.n_frames)
    found = lay_out_views(clips, clips.training, rows)
    for m, (own, _) in enumerate(clips.training):
        expected = [
            rows[clip] + start
            for clip in own
            if rows[clip] >= 0
            for start in view_starts(FRAMES.n_frames[clip], length, hop)
        ]
        assert found.count[m] == len(expected)
        np.testing.assert_array_equal(found.starts[m, : len(expected)], expected)
        assert not found.starts[m, len(expected) :].any()
    assert found.starts.shape[1] % CONFIG.batch_size == 0


def test_work_of_laying_out_windows_grows_as_the_clips_and_not_as_the_models():
    def work(machines, each):
        n_clips = machines * each
        models = [FleetModel(f"machine {i}", "", 0) for i in range(machines)]
        own = [(rows, np.zeros(each, np.int32)) for rows in np.split(np.arange(n_clips), machines)]
        clips = fleet_clips(
            models, own, Counted.of(np.full(n_clips, 9)), view_length=1, view_hop=1, config=CONFIG
        )
        # A sixteenth of the frames at once, or one clip of each machine.
        plan = schedule(clips, 4 * MELS, 4 * MELS * max(n_clips * 9 // 16, 4 * machines * 9))
        assert not plan.resident
        return Counted.elements

    assert work(64, 20) <= 1.5 * work(4, 320)
