import http.server
import json
import threading
import time

import pytest

from asd_jax.deploy.watch import delivery
from asd_jax.deploy.watch.delivery import Deliverer, NotDeliveredError, to_command, to_url
from asd_jax.deploy.watch.state import Message
from asd_jax.errors import UserError

MESSAGES = [Message(f"id{i}", "url", json.dumps({"id": f"id{i}"})) for i in range(3)]


def waited_for(condition, seconds=10.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def test_a_command_gets_the_message(tmp_path):
    to_command(f"cat > {tmp_path / 'told'}", 10.0)(MESSAGES[0])
    assert json.loads((tmp_path / "told").read_text()) == {"id": "id0"}
    with pytest.raises(NotDeliveredError, match="status 3: no bell"):
        to_command("echo no bell >&2; exit 3", 10.0)(MESSAGES[0])
    begun = time.monotonic()
    with pytest.raises(NotDeliveredError, match="longer than 0.2 s"):
        to_command("sleep 60 | cat", 0.2)(MESSAGES[0])  # with all its processes
    assert time.monotonic() - begun < 30
    to_command("true", 10.0)(MESSAGES[0])  # which does not read its input


@pytest.fixture
def server():
    """Answers 503 twice, then takes what is posted."""

    class Handler(http.server.BaseHTTPRequestHandler):
        answers, posted = [503, 503], []

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = self.answers.pop() if self.answers else 204
            if status == 204:
                self.posted.append((self.headers["Idempotency-Key"], json.loads(body)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server, Handler
        server.shutdown()


def test_a_url_is_tried_again_until_all_has_arrived(server, monkeypatch):
    monkeypatch.setattr(delivery, "_FIRST_PAUSE", 0.01)
    server, handler = server
    said = []
    send = to_url(f"http://127.0.0.1:{server.server_port}/alarms", 5.0)
    deliverer = Deliverer("url", send, said.append)
    for message in MESSAGES:
        deliverer.add(message)
    waited_for(lambda: len(handler.posted) == 3)
    waited_for(lambda: deliverer.waiting == 0)
    assert sorted(handler.posted) == [(f"id{i}", {"id": f"id{i}"}) for i in range(3)]
    assert sorted(deliverer.take_delivered()) == MESSAGES and not deliverer.take_delivered()
    assert "HTTP status 503" in said[0] and said[-1] == "the alarm's url works again"
    deliverer.close(1.0)


def test_nobody_answers():
    with http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler) as server:
        port = server.server_port
    with pytest.raises(NotDeliveredError, match="refused"):
        to_url(f"http://127.0.0.1:{port}/", 5.0)(MESSAGES[0])
    for url in ("ftp://host/", "host", "http://"):
        with pytest.raises(UserError, match="is no URL"):
            to_url(url, 5.0)


def test_a_slow_target_delays_nobody():
    begun = threading.Event()
    let_go = threading.Event()

    def send(message):
        begun.set()
        let_go.wait(20)

    deliverer = Deliverer("command", send, print)
    deliverer.add(MESSAGES[0])
    assert begun.wait(5)
    before = time.monotonic()
    deliverer.add(MESSAGES[1])
    assert deliverer.waiting == 2 and time.monotonic() - before < 1
    let_go.set()
    waited_for(lambda: deliverer.waiting == 0)
    deliverer.close(1.0)
