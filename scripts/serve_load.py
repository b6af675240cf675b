"""The service under load on loopback: throughput, waiting times, bad requests, memory.

    .venv/bin/python scripts/serve_load.py --seconds=120

A small run is fitted to synthetic machines and served by `asd-jax serve`. Rounds of one client and
of several alternate, so that both see the same state of this machine; then the clients go on with a
share of requests that are oversized, malformed, no sound or cut off, while one more client sends
byte by byte. Every good request must be answered with the score that `asd-jax score` has for its
file; anything else, and a bad request that is not answered as documented, ends with status 1.
Waiting times are given as multiples of the median that one client waits.
"""

import collections
import contextlib
import http.client
import json
import platform
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags

import asd_jax
from asd_jax.data import synthetic
from asd_jax.fitting.recordings import score_files
from asd_jax.runtime.progress import Silent

_CONFIG = flags.DEFINE_string("config", "spectral", "configuration of the run")
_SET = flags.DEFINE_multi_string("set", [], "setting of the configuration, as train.epochs=5")
_SECONDS = flags.DEFINE_float("seconds", 60.0, "of each of the three parts", lower_bound=1)
_CLIENTS = flags.DEFINE_integer("clients", 8, "clients at a time", lower_bound=2)
_ROUNDS = flags.DEFINE_integer("rounds", 4, "rounds of one client and of several", lower_bound=1)
_BAD = flags.DEFINE_float("bad", 0.2, "share of bad requests in the last part")
_CLIP = flags.DEFINE_float("clip", 10.0, "seconds of a recording")
_SEED = flags.DEFINE_integer("seed", 0, "of recordings and requests")

_MACHINES, _SECTIONS = ("fan", "valve"), 2
_MAX_MIB, _TIMEOUT_S = 2, 5
_TOLERANCE = 1e-5  # relative; batches of other sizes are computed by other kernels
# What is answered to each kind of bad request; 0 where nobody waits for an answer.
_ANSWERS = {"oversized": 413, "no sound": 422, "malformed": 400, "cut off": 0, "slow": 408}


class Load:
    """What clients sent and what came back.

    Args:
        port: the service's.
        files: (query, content, expected score) of each recording.
    """

    def __init__(self, port: int, files: list[tuple[str, bytes, float]]):
        self.port, self.files = port, files
        self.waits: list[float] = []
        self.statuses: collections.Counter = collections.Counter()
        self.problems: list[str] = []

    def run(self, clients: int, seconds: float, bad: float, seed: int) -> float:
        """Requests a second that were answered by a score."""
        before, end = len(self.waits), time.monotonic() + seconds
        work: list[Callable[[], None]] = [
            lambda i=i: self._client(end, bad, seed * 1000 + i) for i in range(clients)
        ]
        if bad:
            work.append(lambda: self._slow_client(end))
        threads = [threading.Thread(target=each) for each in work]
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return (len(self.waits) - before) / (time.monotonic() - begin)

    def _client(self, end: float, bad: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        kinds = [kind for kind in _ANSWERS if kind != "slow"]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        while time.monotonic() < end:
            try:
                if rng.random() < bad:
                    kind = kinds[rng.integers(len(kinds))]
                    self._note(kind, self._send_bad(kind, rng))
                else:
                    self._send_good(connection, *self.files[rng.integers(len(self.files))])
            except Exception as error:
                self.problems.append(f"{type(error).__name__}: {error}")
                connection.close()
        connection.close()

    def _send_good(self, connection: Any, query: str, content: bytes, score: float) -> None:
        begin = time.perf_counter()
        connection.request("POST", f"/v1/score?{query}", content)
        answer = connection.getresponse()
        found = json.loads(answer.read())
        self.waits.append(time.perf_counter() - begin)
        self.statuses[answer.status] += 1
        if answer.status != 200:
            self.problems.append(f"{answer.status}: {found}")
        elif not np.isclose(found["recordings"][0]["score"], score, rtol=_TOLERANCE):
            self.problems.append(f"{found} where {score} is right")

    def _send_bad(self, kind: str, rng: np.random.Generator) -> int:
        """The status of the answer."""
        query, content, _ = self.files[0]
        if kind == "no sound":
            return self._post(query, rng.bytes(20_000))
        if kind == "oversized":
            large = bytes((_MAX_MIB << 20) + 1)
            if rng.random() < 0.5:
                return self._post(query, large)
            return self._post(query, (large[i : i + 2**16] for i in range(0, len(large), 2**16)))
        with self._connected() as connection:
            if kind == "malformed":
                connection.sendall(b"POST without sense\r\n\r\n")
                return _status(connection)
            connection.sendall(_head(query, len(content)) + content[: int(rng.integers(5000))])
        return 0  # cut off

    def _post(self, query: str, body: Any) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            chunked = not isinstance(body, bytes)
            connection.request("POST", f"/v1/score?{query}", body, encode_chunked=chunked)
            answer = connection.getresponse()
            answer.read()
            return answer.status

    def _slow_client(self, end: float) -> None:
        query, content, _ = self.files[0]
        while time.monotonic() + 2 * _TIMEOUT_S < end:
            with self._connected() as connection:
                connection.sendall(_head(query, len(content)))
                connection.settimeout(0.2)
                for byte in content[: 20 * _TIMEOUT_S]:
                    try:
                        connection.sendall(bytes([byte]))
                        self._note("slow", _status(connection))
                        break
                    except TimeoutError:  # no answer yet
                        continue

    def _note(self, kind: str, status: int) -> None:
        self.statuses[status or kind] += 1
        if status != _ANSWERS[kind]:
            self.problems.append(f"{kind}: answered with {status}")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=60) as connection:
            yield connection

    def metric(self, name: str) -> float:
        """A value of the service's metrics."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        return float(re.findall(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)[0])


def _head(query: str, length: int) -> bytes:
    head = f"POST /v1/score?{query} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n"
    return head.encode()


def _status(connection: socket.socket) -> int:
    return int(connection.recv(2**16).split(b" ")[1])


def _fitted(folder: Path) -> tuple[Path, list[tuple[str, bytes, float]]]:
    """A run, and recordings with their queries and scores."""
    synthetic.synthesize(
        folder / "data",
        machines=_MACHINES,
        sections=_SECTIONS,
        clips=10,
        duration=_CLIP.value,
        seed=_SEED.value,
    )
    settings = dict(each.split("=", 1) for each in _SET.value)
    config = asd_jax.load_config(_CONFIG.value, settings)
    result = asd_jax.run(config, folder / "data", folder / "run", reporter=Silent())
    paths = sorted((folder / "data").rglob("test/*.wav"))
    rows = score_files(asd_jax.load(result.path), paths, report=str)
    files = []
    for path, row in zip(paths, rows, strict=True):
        section = re.findall(r"_id_(\d+)_", path.name)[0]
        query = f"machine={row.machine}&section={section}"
        files.append((query, path.read_bytes(), row.score))
    return result.path, files


@contextlib.contextmanager
def _served(run_dir: Path) -> Iterator[int]:
    """The port of a service, which must end as it says."""
    limits = (f"--max_mib={_MAX_MIB}", f"--timeout_s={_TIMEOUT_S}", "--noaccess_log")
    command = [sys.executable, "-m", "asd_jax", "serve", str(run_dir), "--port=0", *limits]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            first = process.stderr.readline()
            found = re.search(r":(\d+); compiling", first)
            if found is None:
                raise RuntimeError(f"the service did not start: {first}")
            while not process.stderr.readline().startswith("ready"):
                if process.poll() is not None:
                    raise RuntimeError("the service ended before it was ready")
            rest: list[str] = []
            reader = threading.Thread(target=lambda: rest.extend(process.stderr))
            reader.start()
            yield int(found[1])
        finally:
            process.terminate()
            process.wait()
    reader.join()
    for line in rest:
        print(f"log: {line}", end="")
    if process.returncode:
        raise RuntimeError(f"the service ended with status {process.returncode}")


def main(_: list[str]) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        run_dir, files = _fitted(Path(folder))
        with _served(run_dir) as port:
            problems = _measure(port, files)
    print(f"lost or wrong: {len(problems)}", *problems[:5], sep="\n")
    sys.exit(bool(problems))


def _measure(port: int, files: list[tuple[str, bytes, float]]) -> list[str]:
    clients, each = _CLIENTS.value, _SECONDS.value / _ROUNDS.value
    Load(port, files).run(clients, min(5.0, each), 0.0, seed=9)  # not counted
    one, many, mixed = (Load(port, files) for _ in range(3))
    rates = [
        (one.run(1, each, 0.0, seed=2 * i), many.run(clients, each, 0.0, seed=2 * i + 1))
        for i in range(_ROUNDS.value)
    ]
    batches = one.metric("asd_jax_batch_recordings_count")
    recordings = one.metric("asd_jax_batch_recordings_sum")
    resident = "process_resident_memory_bytes"
    mixed.run(clients, _SECONDS.value / 4, _BAD.value, seed=99)
    begin = mixed.metric(resident)
    rate = mixed.run(clients, _SECONDS.value, _BAD.value, seed=100)
    end = mixed.metric(resident)
    median = float(np.median(one.waits))
    ratios = [several / alone for alone, several in rates]
    print(
        f"{platform.processor() or platform.machine()}, {_CONFIG.value}, {_CLIP.value:g} s a clip"
    )
    print("part                 requests/s  median   99 %     statuses")
    parts = [
        ("1 client", np.mean([alone for alone, _ in rates]), one),
        (f"{clients} clients", np.mean([several for _, several in rates]), many),
        (f"{clients}, {_BAD.value:.0%} bad", rate, mixed),
    ]
    for name, per_second, load in parts:
        half, most = np.quantile(load.waits, [0.5, 0.99]) / median
        statuses = ", ".join(
            f"{key}: {count}" for key, count in sorted(load.statuses.items(), key=str)
        )
        print(f"{name:<20} {per_second:10.1f}  {half:6.2f}×  {most:6.2f}×  {statuses}")
    print(f"one client waits {1000 * median:.1f} ms (median)")
    print(
        f"throughput of {clients} clients over one's: {np.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds); "
        f"{recordings / batches:.2f} recordings a batch"
    )
    print(f"resident memory: {begin / 2**20:.0f} MiB, at the end {end / 2**20:.0f} MiB")
    return [*one.problems, *many.problems, *mixed.problems]


if __name__ == "__main__":
    app.run(main)
