"""Progress in a log: lines now and then, within a long part, too."""

import io
import os

from asd_jax.runtime import progress


def test_a_part_that_takes_long_is_shown_three_times_as_seldom(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    stream = io.StringIO()
    reporter = progress.Reporter(stream, every=10)
    reporter.start("epoch", total=4, done=1)
    for seconds in (0, 20, 29, 31, 35, 60, 62):
        now[0] = 100.0 + seconds
        reporter.within(f"step {seconds}")
    reporter.advance(2, "loss 1")
    now[0] += 20
    reporter.within("step 82")
    assert stream.getvalue().splitlines() == [
        "epoch 2/4: step 31",
        "epoch 2/4: step 62",
    ]


def test_lines_end_with_the_pipe_that_took_them():
    read, write = os.pipe()
    with os.fdopen(write, "w") as stream:
        reporter = progress.Reporter(stream, every=0)
        reporter.line("one")
        os.close(read)
        reporter.start("epoch", total=9)
        for done in range(1, 10):
            reporter.advance(done)
        reporter.stop()
