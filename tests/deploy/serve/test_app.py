"""The service as its clients see it: scores, errors, descriptions, metrics."""

import concurrent.futures
import io
import json

import numpy as np
import pytest
import soundfile
from serve_clients import form, in_wav

from asd_jax.commands.output import print_json
from asd_jax.fitting.recordings import score_files
from asd_jax.fitting.score_records import score_record

# Rows of a product are computed by other kernels in batches of other sizes; float32.
TOLERANCE = 1e-5


def expected(fitted, path, **options):
    """The record that `asd-jax score` has."""
    (row,) = score_files(fitted, [path], report=str, **options)
    return score_record(row._replace(file=path.name))


def test_a_recording_has_the_record_of_score(client, fitted, wavs, capsys):
    path = wavs["fan"][0]
    status, found = client.post(path.read_bytes(), f"machine=fan&name={path.name}")
    wanted = {"run": "RUN", "recordings": [expected(fitted, path)], "remarks": [], "left_out": []}
    assert (status, found) == (200, wanted)
    print_json(wanted)
    assert json.loads(capsys.readouterr().out) == found


def test_recordings_of_many_clients_have_their_own_scores(client, fitted, wavs):
    """Of both machines, together in batches, bad ones among them."""
    files = [*wavs["fan"][:8], *wavs["valve"][:8]]
    wanted = {path: expected(fitted, path) for path in files}

    def post(path):
        if path is None:
            return path, client.post(b"no sound")
        machine = "fan" if path in wavs["fan"] else "valve"
        return path, client.post(path.read_bytes(), f"machine={machine}&name={path.name}")

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = [*pool.map(post, [*files, None, None] * 3)]
    for path, (status, found) in answers:
        if path is None:
            assert (status, "not audio" in found["error"]) == (422, True)
            continue
        (record,) = found["recordings"]
        assert (status, {**record, "score": 0}) == (200, {**wanted[path], "score": 0})
        np.testing.assert_allclose(record["score"], wanted[path]["score"], rtol=TOLERANCE)
    assert client.metric("asd_jax_batch_recordings_sum") >= 48
    batches = client.metric("asd_jax_batch_recordings_count")
    assert batches < client.metric("asd_jax_batch_recordings_sum")  # some had several


def test_a_form_has_several_recordings_and_names_bad_ones(client, fitted, wavs):
    paths = wavs["valve"][:2]
    files = [(path.name, path.read_bytes()) for path in paths]
    body, kind = form([*files, ("../x/broken.wav", b"RIFF")])
    status, found = client.post(body, "machine=valve", headers={"Content-Type": kind})
    assert status == 200 and [each["file"] for each in found["recordings"]] == [
        path.name for path in paths
    ]
    for record, path in zip(found["recordings"], paths, strict=True):
        np.testing.assert_allclose(record["score"], expected(fitted, path)["score"], rtol=TOLERANCE)
    (left,) = found["left_out"]
    assert left["file"] == "broken.wav" and left["error"].startswith("broken.wav: ")
    body, kind = form([("a.wav", b"RIFF")])
    assert client.post(body, headers={"Content-Type": kind})[0] == 422


def test_other_rates_and_formats_are_read_as_score_reads_them(client, fitted, tmp_path):
    noise = 0.1 * np.random.default_rng(0).standard_normal((9000, 2))
    for name in ("a.flac", "a.ogg", "a.aiff"):
        soundfile.write(tmp_path / name, noise, 8000)
        lines = []
        (row,) = score_files(fitted, [tmp_path / name], machine="fan", report=lines.append)
        body = (tmp_path / name).read_bytes()
        status, found = client.post(body, f"machine=fan&name={name}")
        assert status == 200 and found["recordings"] == [score_record(row._replace(file=name))]
        assert found["remarks"][0] == lines[0].replace(str(tmp_path / name), name)
        assert "resampled to 16000 Hz" in found["remarks"][0]


@pytest.mark.parametrize(
    ("query", "line"),
    [
        ("machine=fam", "machine 'fam' was not fitted; did you mean fan?"),
        ("", "several machines were fitted; choose one"),
        ("machin=fan", "no parameter 'machin'; did you mean machine?"),
        ("machine=fan&machine=fan", "parameter machine is given twice"),
        ("machine=fan&false_alarms=nan", "false_alarms must be a number, above 0, below 1"),
        ("machine=fan&false_alarms=0.01", "no rate of false alarms"),
        ("machine=fan&explain=perhaps", "explain must be true or false"),
        ("machine=fan&name=", "name must have 1 to 255 characters"),
    ],
)
def test_a_wrong_query_is_one_line(client, wavs, query, line):
    status, found = client.post(wavs["fan"][0].read_bytes(), query)
    assert status == 400 and line in found["error"] and "\n" not in found["error"]


def test_a_bad_recording_has_the_line_of_score(client, fitted, tmp_path):
    silent_nan = np.array([0.1, np.nan] * 4000, np.float32)
    for content in (b"", b"no sound", in_wav(np.zeros(8)), in_wav(silent_nan, "FLOAT")):
        path = tmp_path / "x.wav"
        path.write_bytes(content)
        lines = []
        score_files(fitted, [path], machine="fan", on_bad_clip="skip", report=lines.append)
        status, found = client.post(content, "machine=fan&name=x.wav")
        (line,) = [each for each in lines if each.startswith("left out: ")]
        line = line.removeprefix("left out: ").replace(str(path), "x.wav")
        assert (status, found) == (422, {"error": line})


def test_what_is_too_large_or_too_long_is_refused(client):
    assert client.post(bytes(2**18 + 1))[0] == 413
    chunks = (bytes(2**14) for _ in range(17))  # without a length
    status, found = client.post(chunks, encode_chunked=True)
    assert (status, "more than 0.25 MiB" in found["error"]) == (413, True)
    hour = in_wav(np.zeros(3600 * 16000, np.int16), format="FLAC")
    assert len(hour) < 2**18
    status, found = client.post(hour)
    assert (status, found["error"]) == (
        413,
        "recording: too long: 3,600 s where 20 s are taken; cut it",
    )


def test_a_flac_without_a_length_is_not_unpacked_to_its_end(client, monkeypatch):
    """Its head says 0 samples: unknown."""
    monkeypatch.setattr("asd_jax.deploy.serve.reading.MOST_VALUES", 2**21)
    content = bytearray(in_wav(np.zeros(3600 * 16000, np.int16), format="FLAC"))
    content[8 + 13] &= 0xF0  # the low 36 bits of STREAMINFO's byte 13 to 17
    content[8 + 14 : 8 + 18] = bytes(4)
    status, found = client.post(bytes(content))
    assert (status, "unpacks to more than 2,097,152 samples" in found["error"]) == (413, True)


def test_descriptions_and_health(client, fitted):
    assert client.send("GET", "/healthz")[::2] == (200, {"status": "alive"})
    assert client.send("GET", "/readyz")[::2] == (200, {"status": "ready"})
    status, _, found = client.send("GET", "/v1/machines")
    assert status == 200 and found["run"] == "RUN"
    assert found["machines"][0] == {
        "machine": "fan",
        "sections": None,
        "threshold": fitted.threshold(machine="fan"),
        "thresholds": None,
        "sample_rate": 16000,
    }
    for path in ("/", "/docs"):
        _, headers, page = client.send("GET", path)
        assert headers["content-security-policy"].startswith("default-src 'none'")
        assert b"/v1/score" in page and b"src=" not in page and b"<link" not in page
    assert client.send("GET", "/nothing")[0] == 404
    assert client.send("GET", "/v1/score")[0] == 405
    assert client.send("HEAD", "/healthz")[0] == 200


def test_the_description_is_openapi_and_has_all_paths(client):
    document = client.send("GET", "/openapi.json")[2]
    assert set(document["paths"]) == {
        *("/v1/score", "/v1/machines", "/healthz", "/readyz", "/metrics", "/openapi.json"),
        *("/", "/docs"),
    }
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(document, cls=validator.OpenAPIV31SpecValidator)


def test_metrics_have_decisions_and_few_labels(client, wavs):
    name = 'asd_jax_requests_total{path="/v1/score",status="200"}'
    client.post(wavs["fan"][0].read_bytes())
    before = client.metric(name)
    client.post(wavs["fan"][0].read_bytes())
    assert client.metric(name) == before + 1
    decided = [
        client.metric(f'asd_jax_recordings_total{{decision="{each}",machine="fan"}}')
        for each in ("normal", "anomalous")
    ]
    assert sum(decided) == client.metric('asd_jax_score_count{machine="fan"}') > 0
    lines = client.send("GET", "/metrics")[2].count(b"\n")
    for number in range(20):
        client.send("GET", f"/odd/{number}")
        client.post(b"", f"machine=odd{number}")
    assert client.metric('asd_jax_requests_total{path="other",status="404"}') >= 20
    assert client.send("GET", "/metrics")[2].count(b"\n") < lines + 30
    assert client.metric("asd_jax_ready") == 1


def test_the_log_has_a_line_a_request_without_control_characters(client):
    client.post(b"no sound", "machine=fan&name=%1b[31m%0aforged")
    assert client.lines[-1].startswith("127.0.0.1 POST /v1/score 422 ")
    from asd_jax.deploy.serve.server import log_line

    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stderr", stream)
        log_line(client.lines[-1])
    assert stream.getvalue().count("\n") == 1 and "\x1b" not in stream.getvalue()
    assert "\\x1b[31m forged: not audio" in stream.getvalue()
