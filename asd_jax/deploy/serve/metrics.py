"""Metrics of the service for Prometheus; no label has more values than the run has machines."""

import math
from collections.abc import Callable, Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    Summary,
    generate_latest,
)

from asd_jax.fitting.recordings import FileScore

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_TOGETHER = (1, 2, 4, 8, 16, 32, 64)
CUT_OFF = 499  # stands for the status of a request whose client went away


class Metrics:
    """Counts of one service.

    Args:
        machines: machine types of the run.
        waiting: how many recordings wait.
    """

    def __init__(self, machines: Iterable[str], waiting: Callable[[], int]):
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)  # resident memory, open files, seconds of the processor
        self._requests = Counter(
            "asd_jax_requests", "Requests answered.", ["path", "status"], registry=own
        )
        self._seconds = Histogram(
            "asd_jax_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ["path"],
            buckets=_SECONDS,
            registry=own,
        )
        self._batches = Histogram(
            "asd_jax_batch_recordings",
            "Recordings that were scored together.",
            buckets=_TOGETHER,
            registry=own,
        )
        self._decisions = Counter(
            "asd_jax_recordings",
            "Recordings scored, by decision: anomalous, normal or none.",
            ["machine", "decision"],
            registry=own,
        )
        self._scores = Summary("asd_jax_score", "Scores.", ["machine"], registry=own)
        self._bad = Counter(
            "asd_jax_bad_recordings", "Recordings that could not be scored.", registry=own
        )
        queue = Gauge("asd_jax_queue_recordings", "Recordings that wait.", registry=own)
        queue.set_function(waiting)
        self._held = Gauge(
            "asd_jax_held_recordings",
            "Recordings that are received, wait or are scored.",
            registry=own,
        )
        self._ready = Gauge("asd_jax_ready", "1 when recordings are taken, else 0.", registry=own)
        for machine in machines:  # which are there before the first recording
            self._scores.labels(machine)
            for decision in ("anomalous", "normal"):
                self._decisions.labels(machine, decision)

    def text(self) -> bytes:
        """All metrics in Prometheus's text format."""
        return generate_latest(self._registry)

    def request(self, path: str, status: int, seconds: float) -> None:
        """Counts a request; `path` is one of the service's, or "other"."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def batch(self, count: int) -> None:
        """Counts a batch of so many recordings."""
        self._batches.observe(count)

    def scored(self, rows: Iterable[FileScore]) -> None:
        """Counts the scores of a recording's clips."""
        for row in rows:
            decided = not (math.isnan(row.score) or math.isnan(row.threshold))
            decision = ("normal", "anomalous")[row.decision] if decided else "none"
            self._decisions.labels(row.machine, decision).inc()
            if math.isfinite(row.score):  # a NaN would stay in the sum
                self._scores.labels(row.machine).observe(row.score)

    def bad(self) -> None:
        """Counts a recording that could not be scored."""
        self._bad.inc()

    def held(self, count: int) -> None:
        """Notes how many recordings are received, wait or are scored."""
        self._held.set(count)

    def ready(self, ready: bool) -> None:
        """Notes whether recordings are taken."""
        self._ready.set(ready)
