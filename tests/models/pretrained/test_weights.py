"""Files of weights: paths, URLs, checksums."""

import functools
import hashlib
import http.server
import threading

import pytest

from asd_jax.errors import UserError
from asd_jax.models.pretrained.weights import weights_file

CONTENT = b"weights"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def site(tmp_path):
    """A local server of one file, and the requests it got."""
    folder, got = tmp_path / "site", []
    folder.mkdir()
    (folder / "net.npz").write_bytes(CONTENT)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            got.append(self.path)

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Handler, directory=folder)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_a_path_is_taken_as_it_is(tmp_path):
    path = tmp_path / "net.npz"
    path.write_bytes(CONTENT)
    assert weights_file(str(path), cache_dir=tmp_path) == path
    assert weights_file(str(path), SHA256.upper(), cache_dir=tmp_path) == path
    with pytest.raises(UserError, match="SHA-256 is not 00"):
        weights_file(str(path), "00", cache_dir=tmp_path)
    with pytest.raises(UserError, match="no such file"):
        weights_file(str(tmp_path / "none.npz"), cache_dir=tmp_path)


def test_a_url_is_fetched_once_and_checked(site, tmp_path):
    url, got = site
    for _ in range(2):
        found = weights_file(f"{url}/net.npz", SHA256, cache_dir=tmp_path / "cache")
        assert found.read_bytes() == CONTENT
    assert got == ["/net.npz"]
    with pytest.raises(UserError, match="give the file's SHA-256"):
        weights_file(f"{url}/net.npz", cache_dir=tmp_path)


@pytest.mark.parametrize(
    ("name", "checksum", "message"),
    [("net.npz", "0" * 64, "is not the file with SHA-256 0000"), ("none", SHA256, "404")],
)
def test_what_cannot_be_had_is_one_line_and_leaves_nothing(site, tmp_path, name, checksum, message):
    url, _ = site
    with pytest.raises(UserError, match=message) as error:
        weights_file(f"{url}/{name}", checksum, cache_dir=tmp_path / "cache")
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "cache").rglob("*net.npz"))
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]


def test_a_server_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be fetched") as error:
        weights_file("http://127.0.0.1:9/net.npz", SHA256, cache_dir=tmp_path)
    assert "\n" not in str(error.value)
