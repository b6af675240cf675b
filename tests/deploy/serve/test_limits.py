"""Clients that are slow, many, broken or gone, a service that fails, and its end."""

import concurrent.futures
import contextlib
import socket
import threading

import jax
import numpy as np
import pytest
from serve_clients import form, in_wav, serving, wait_for

from asd_jax.fitting.ensemble import FittedEnsemble
from asd_jax.fitting.recordings import score_files


@pytest.fixture
def serve(fitted, tmp_path):
    """Starts a service, which is stopped at the end; `with` of it."""
    return lambda **limits: serving(fitted, tmp_path / "received", **limits)


class Gate:
    """Holds scoring until it is opened."""

    def __init__(self, monkeypatch):
        from asd_jax.deploy.serve import service

        self.batches, self._open, own = [], threading.Event(), service.score_posted

        def score(fitted, posted):
            self.batches.append([each.name for each in posted])
            assert self._open.wait(60)
            return own(fitted, posted)

        monkeypatch.setattr(service, "score_posted", score)

    def open(self):
        self._open.set()


@pytest.fixture
def gate(monkeypatch):
    made = Gate(monkeypatch)
    yield made
    made.open()


def connected(client):
    return contextlib.closing(socket.create_connection(("127.0.0.1", client.port), timeout=30))


def head(client, length, path="/v1/score?machine=fan"):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


def all_of(connection):
    """What comes until the connection is closed."""
    parts = []
    while part := connection.recv(2**16):
        parts.append(part)
    return b"".join(parts)


def test_slow_requests_are_let_go(serve, wavs):
    content = wavs["fan"][0].read_bytes()
    with serve(timeout_s=0.5) as client, contextlib.ExitStack() as stack:
        silent, slow_head, slow_body = (stack.enter_context(connected(client)) for _ in range(3))
        slow_head.sendall(b"POST /v1/sc")
        slow_body.sendall(head(client, len(content)) + content[:1000])
        for connection in (slow_head, slow_body):
            answer = all_of(connection)
            assert answer.startswith(b"HTTP/1.1 408 ") and b"within 0.5 s" in answer
        assert all_of(silent) == b""
        wait_for(lambda: client.post(content)[0] == 200)  # 503 while it compiles
        assert client.metric('asd_jax_requests_total{path="other",status="408"}') == 1
        assert client.metric('asd_jax_requests_total{path="/v1/score",status="408"}') == 1
        assert client.metric("asd_jax_held_recordings") == 0


def test_what_is_no_request_and_what_is_cut_off(serve, wavs):
    content = wavs["fan"][0].read_bytes()
    with serve() as client:
        with connected(client) as malformed:
            malformed.sendall(b"NO SENSE\r\n\r\n")
            answer = all_of(malformed)
            assert answer.startswith(b"HTTP/1.1 400 ") and b'{"error": "not a request' in answer
        with connected(client) as cut_off:
            cut_off.sendall(head(client, len(content)) + content[:1000])
            wait_for(lambda: client.metric("asd_jax_held_recordings") == 1)
        name = 'asd_jax_requests_total{path="/v1/score",status="499"}'
        wait_for(lambda: name.encode() in client.send("GET", "/metrics")[2])
        assert client.metric("asd_jax_held_recordings") == 0
        assert any("499" in line and "the client went away" in line for line in client.lines)


def test_a_refused_body_leaves_its_connection_to_the_next_request(serve, wavs):
    """The client sends all of it before it reads."""
    content = wavs["fan"][0].read_bytes()
    with serve(max_bytes=len(content)) as client, connected(client) as connection:
        connection.sendall(head(client, 2**22) + bytes(2**22))
        assert connection.recv(2**16).startswith(b"HTTP/1.1 413 ")
        connection.sendall(head(client, len(content)) + content)
        assert connection.recv(2**16).startswith(b"HTTP/1.1 200 ")


def test_the_queue_is_bounded_and_batches_are_what_waits(serve, wavs, gate):
    content = wavs["fan"][0].read_bytes()
    with (
        serve(max_queue=4, max_batch=2) as client,
        concurrent.futures.ThreadPoolExecutor(4) as pool,
    ):
        first = pool.submit(client.post, content)
        wait_for(lambda: gate.batches)
        others = [pool.submit(client.post, content) for _ in range(3)]
        wait_for(lambda: client.metric("asd_jax_queue_recordings") == 3)
        status, headers, found = client.send("POST", "/v1/score?machine=fan", content)
        assert (status, headers["retry-after"]) == (503, "1")
        assert found["error"].startswith("4 recordings are here already")
        gate.open()
        assert [each.result()[0] for each in (first, *others)] == [200] * 4
        assert [*map(len, gate.batches)] == [1, 2, 1]


def test_a_form_needs_room_for_all_its_recordings(serve, wavs, gate):
    files = [(path.name, path.read_bytes()) for path in wavs["fan"][:4]]
    with serve(max_queue=3) as client, concurrent.futures.ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, files[0][1])
        wait_for(lambda: gate.batches)
        body, kind = form(files[:3])
        assert client.post(body, headers={"Content-Type": kind})[0] == 503
        assert client.metric("asd_jax_held_recordings") == 1
        gate.open()
        assert first.result()[0] == 200
        status, found = client.post(body, headers={"Content-Type": kind})
        assert (status, len(found["recordings"])) == (200, 3)
        body, kind = form(files)
        assert client.post(body, headers={"Content-Type": kind})[0] == 400


def test_who_waits_too_long_or_goes_leaves_the_queue(serve, wavs, gate):
    content = wavs["fan"][0].read_bytes()
    with serve(timeout_s=1.0) as client, concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.post, content, "machine=fan&name=first")
        wait_for(lambda: gate.batches)
        with connected(client) as gone:
            gone.sendall(head(client, len(content)) + content)
            wait_for(lambda: client.metric("asd_jax_queue_recordings") == 1)
        wait_for(lambda: client.metric("asd_jax_queue_recordings") == 0)
        status, found = client.post(content, "machine=fan&name=second")
        assert (status, "not scored within 1 s" in found["error"]) == (503, True)
        assert first.result()[0] == 503  # though it is being scored
        assert client.metric("asd_jax_held_recordings") == 1
        gate.open()
        wait_for(lambda: client.metric("asd_jax_held_recordings") == 0)
        assert client.post(content, "machine=fan&name=third")[0] == 200
        assert gate.batches == [["first"], ["third"]]


def test_an_error_of_the_service_is_the_recordings_own(serve, wavs, monkeypatch):
    """One that no check foresees fails alone, without a traceback; its neighbours are scored."""
    from asd_jax.deploy.serve import scoring

    own = scoring.score_request

    def score(fitted, request, wanted, rates):
        if any(request.files[index] == "cursed" for index in wanted):
            raise RuntimeError("no luck")
        return own(fitted, request, wanted, rates)

    monkeypatch.setattr(scoring, "score_request", score)
    content = wavs["fan"][0].read_bytes()
    body, kind = form([("a.wav", content), ("cursed", content), ("b.wav", content)])
    with serve() as client:
        status, found = client.post(body, headers={"Content-Type": kind})
        assert (status, [each["file"] for each in found["recordings"]]) == (200, ["a.wav", "b.wav"])
        status, found = client.post(content, "machine=fan&name=cursed")
        assert (status, "no luck" in found["error"]) == (500, False)
        assert "cursed: RuntimeError: no luck" in client.lines


def test_a_stop_answers_what_was_received_and_refuses_the_rest(serve, wavs, gate):
    content = wavs["fan"][0].read_bytes()
    with serve() as client, concurrent.futures.ThreadPoolExecutor(3) as pool:
        answers = [pool.submit(client.post, content)]
        wait_for(lambda: gate.batches)
        answers += [pool.submit(client.post, content) for _ in range(2)]
        wait_for(lambda: client.metric("asd_jax_queue_recordings") == 2)
        client.service.stop()
        status, _, found = client.send("GET", "/readyz")
        assert (status, found) == (503, {"status": "stopping"})
        assert client.post(content) == (503, {"error": "the service is stopping; try again"})
        threading.Timer(0.3, gate.open).start()
    assert [each.result()[0] for each in answers] == [200] * 3


def test_a_token_is_needed_but_for_health(serve, wavs):
    content = wavs["fan"][0].read_bytes()
    with serve(token="0123456789abcdef") as client:
        for given in (None, "Bearer 0123456789abcdee", "Basic 0123456789abcdef", "Bearer é"):
            headers = {} if given is None else {"Authorization": given}
            status, answer, _ = client.send("POST", "/v1/score?machine=fan", content, headers)
            assert (status, answer["www-authenticate"]) == (401, "Bearer")
        for path in ("/", "/metrics", "/v1/machines", "/openapi.json", "/nothing"):
            assert client.send("GET", path)[0] == 401
        good = {"Authorization": "bearer 0123456789abcdef"}
        assert client.send("POST", "/v1/score?machine=fan", content, good)[0] == 200
        assert client.send("GET", "/openapi.json", headers=good)[2]["security"] == [{"token": []}]


def test_an_ensemble_is_served(fitted, wavs, tmp_path):
    """Each member reads and scores the recordings; the scores are those of `score`."""
    numbers = {"mean": [[1.0, 2.0]] * 2, "deviation": [[3.0, 4.0]] * 2, "thresholds": [0.0, 0.0]}
    scales = [
        {"machine": machine, "section": section, "threshold": 0.0, **numbers}
        for machine in ("fan", "valve")
        for section in ("00", "02")
    ]
    ensemble = FittedEnsemble({"a": fitted, "b": fitted}, (0, 1), "mean", scales)
    path = wavs["valve"][0]
    options = {"machine": "valve", "section": "02", "report": str}
    (row,) = score_files(ensemble, [path], **options)
    with serving(ensemble, tmp_path / "received") as client:
        content = path.read_bytes()
        status, found = client.post(content, "machine=valve&section=02")
        assert status == 200 and found["recordings"][0]["score"] == row.score
        assert client.post(content, "machine=valve&section=02&explain=true")[0] == 400
        assert client.post(content, "machine=valve")[0] == 400
        _, _, found = client.send("GET", "/v1/machines")
        assert found["machines"][1]["thresholds"] == {"00": 0.0, "02": 0.0}


@pytest.mark.slow
def test_nothing_is_compiled_after_the_warm_up(fitted, wavs, tmp_path):
    """Whatever the lengths of recordings, and how many come together."""
    from asd_jax.deploy.serve.warm_up import warm_up

    jax.clear_caches()
    compiled = []

    def listen(event, seconds, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(threading.current_thread().name)

    def first():
        jax.monitoring.register_event_duration_secs_listener(listen)
        warm_up(fitted)

    noise = (1000 * np.random.default_rng(0).standard_normal(16000 * 60)).astype(np.int16)
    lengths = np.random.default_rng(1).integers(4000, len(noise), 20)
    try:
        with serving(fitted, tmp_path / "received", first=first) as client:
            before = len(compiled)
            assert before > 5
            for n_samples in lengths:
                assert client.post(in_wav(noise[:n_samples]))[0] == 200
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                bodies = [in_wav(noise[:n_samples]) for n_samples in lengths // 4]
                assert {status for status, _ in pool.map(client.post, bodies)} == {200}
            assert compiled[before:] == []
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
