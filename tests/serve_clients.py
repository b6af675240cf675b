"""A service that runs in a thread, its clients, and what they send."""

import asyncio
import contextlib
import http.client
import io
import json
import threading
import time

import numpy as np
import soundfile


def in_wav(samples, subtype="PCM_16", rate=16000, format="WAV"):
    """The content of a file."""
    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples), rate, subtype, format=format)
    return file.getvalue()


def form(files):
    """Body and content type of a form with files of these names and contents."""
    head = '--limit\r\nContent-Disposition: form-data; name="file"; filename="{}"\r\n\r\n'
    parts = [head.format(name).encode() + content + b"\r\n" for name, content in files]
    return b"".join([*parts, b"--limit--\r\n"]), "multipart/form-data; boundary=limit"


class Client:
    """Sends requests to a port of this machine.

    Args:
        port: the service's.
        service: the service itself, to look at.
        lines: of its log.
    """

    def __init__(self, port, service, lines):
        self.port, self.service, self.lines = port, service, lines

    def send(self, method, path, body=None, headers=(), **options):
        """Status, headers and content of an answer; JSON is read."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers), **options)
            answer = connection.getresponse()
            content = answer.read()
            if content and answer.headers["content-type"] == "application/json":
                content = json.loads(content)
            return answer.status, answer.headers, content

    def post(self, body, query="machine=fan", **options):
        """Status and content of what is answered to a recording."""
        status, _, content = self.send("POST", f"/v1/score?{query}", body, **options)
        return status, content

    def metric(self, name):
        """The value of a line of the metrics."""
        text = self.send("GET", "/metrics")[2].decode()
        (value,) = [line.split(" ")[-1] for line in text.split("\n") if line.startswith(name + " ")]
        return float(value)


@contextlib.contextmanager
def serving(fitted, folder, *, token=None, first=lambda: None, **limits):
    """A service of its own, which is stopped at the end."""
    from asd_jax.deploy.serve import server
    from asd_jax.deploy.serve.limits import Limits
    from asd_jax.deploy.serve.service import Service

    folder.mkdir(exist_ok=True)
    lines = []
    service = Service(fitted, "RUN", folder, Limits(**limits), lines.append)
    made = server.make_server(service, token)
    with server.listen("127.0.0.1", 0) as own:
        client = Client(own.getsockname()[1], service, lines)
        thread = threading.Thread(target=lambda: asyncio.run(made.serve(sockets=[own])))
        thread.start()
        service.start(first, lines.append)
        try:
            wait_for(lambda: client.send("GET", "/readyz")[0] == 200)
            yield client
        finally:
            service.stop()
            made.should_exit = True
            thread.join()
            assert service.close(60)
    assert not [*folder.iterdir()]  # no recording is left behind


def wait_for(condition, seconds=60.0):
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
