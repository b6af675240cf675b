"""A server of published archives on this machine, which can misbehave."""

import contextlib
import hashlib
import io
import json
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

URL = "/record/3678171/files/dev_data_fan.zip"


def archive(members):
    """A zip of incompressible members, so that cutting it anywhere is felt."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return stream.getvalue()


def archive_of(folder, machine, parts=("train", "test")):
    """A zip of a machine's folder, or of parts of it, as the challenges publish them."""
    files = [path for part in parts for path in sorted((folder / machine / part).rglob("*.wav"))]
    return archive({str(path.relative_to(folder)): path.read_bytes() for path in files})


class Site:
    """A record server: what it serves, how it misbehaves, what it was asked."""

    def __init__(self):
        self.files = {}
        self.checksums = {}
        self.ranges = True
        self.cut_after = None
        self.asked = []

    def publish(self, content, url=URL):
        self.files[url] = content
        self.checksums[url] = hashlib.md5(content).hexdigest()

    def record(self, path):
        prefix = f"/record/{path.rpartition('/')[2]}/files/"
        return {
            "files": [
                {
                    "key": url.removeprefix(prefix),
                    "checksum": f"md5:{md5}",
                    "size": len(self.files.get(url, b"")),
                }
                for url, md5 in self.checksums.items()
                if url.startswith(prefix)
            ]
        }


@contextlib.contextmanager
def serving():
    """A site that answers on this machine until the block ends."""
    site = Site()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            wanted = self.headers.get("Range")
            site.asked.append((self.path, wanted))
            if self.path.startswith("/api/records/") and site.checksums:
                return self.send(200, json.dumps(site.record(self.path)).encode())
            content = site.files.get(self.path)
            if content is None:
                return self.send(404, b"")
            if not (wanted and site.ranges):
                return self.send(200, content)
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if first >= len(content):
                return self.send(416, b"", f"bytes */{len(content)}")
            span = f"bytes {first}-{len(content) - 1}/{len(content)}"
            return self.send(206, content[first:], span)

        def send(self, status, body, span=None):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            if span:
                self.send_header("Content-Range", span)
            self.end_headers()
            if site.cut_after is not None and self.path in site.files:
                body = body[: site.cut_after]
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
