"""The queue and its thread."""

import threading

import pytest

from asd_jax.deploy.serve.scoring import Posted
from asd_jax.deploy.serve.worker import Worker


def posted(name):
    return Posted(name, None, {})


def test_what_waits_is_one_batch_of_the_largest_size_at_most():
    batches = []
    worker = Worker(lambda batch: [[each.name] for each in batch], 3, batches.append)
    futures = [worker.submit(posted(str(i))) for i in range(7)]
    assert worker.waiting == 7
    worker.start()
    assert [future.result(10) for future in futures] == [[str(i)] for i in range(7)]
    assert worker.close(10) and batches == [3, 3, 1]


def test_closing_scores_what_waits():
    opened = threading.Event()
    worker = Worker(lambda batch: [[each.name] for each in batch], 2)
    futures = [worker.submit(posted("a"))]
    worker.start(opened.wait)
    futures += [worker.submit(posted(name)) for name in "bc"]
    assert not worker.close(0.01)
    opened.set()
    assert [future.result(10) for future in futures] == [["a"], ["b"], ["c"]]
    assert worker.close(10)


def test_what_is_cancelled_is_not_kept():
    seen = []
    worker = Worker(lambda batch: seen.append(len(batch)) or [[]] * len(batch), 8)
    futures = [worker.submit(posted(name)) for name in "abc"]
    assert futures[1].cancel() and worker.waiting == 2
    worker.start()
    assert worker.close(10) and seen == [2]


def test_an_error_is_the_result_of_its_batch():
    worker = Worker(lambda batch: 1 / 0, 2)
    worker.start()
    assert isinstance(worker.submit(posted("a")).result(10), ZeroDivisionError)
    assert isinstance(worker.submit(posted("b")).result(10), ZeroDivisionError)
    assert worker.close(10)


@pytest.mark.parametrize("count", [0, 1])
def test_a_worker_that_never_started_closes(count):
    worker = Worker(lambda batch: [[]] * len(batch), 1)
    futures = [worker.submit(posted("a")) for _ in range(count)]
    assert worker.close(0.1) and not any(future.done() for future in futures)
