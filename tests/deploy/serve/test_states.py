"""Operating states of posted recordings."""

import numpy as np
import pytest
import soundfile
from serve_clients import in_wav, serving

import asd_jax
from asd_jax.config import load_config
from asd_jax.fitting.recordings import score_files
from asd_jax.fitting.score_records import score_record

RATE = 16_000


def sound(speed, seed):
    rng = np.random.default_rng(seed)
    return (0.01 * speed * rng.normal(0, 1, RATE)).astype(np.float32)


@pytest.fixture(scope="module")
def by_speed():
    """Of a machine at two speeds."""
    speeds = [1, 2] * 8
    return asd_jax.fit(
        load_config("mel_mahalanobis", {"front_end.n_mels": "16"}),
        waveforms=[sound(speed, seed) for seed, speed in enumerate(speeds)],
        sample_rate=RATE,
        machine="pump",
        states=[{"speed": speed} for speed in speeds],
    )


def test_answers_are_by_the_state_that_is_said(by_speed, tmp_path):
    path = tmp_path / "new.wav"
    soundfile.write(path, sound(1, 99), RATE, subtype="FLOAT")
    # What a name leads to on the machine of the service says nothing.
    (tmp_path / "new.csv").write_text("s,speed\n0,2\n")
    body = path.read_bytes()
    with serving(by_speed, tmp_path / "received") as client:
        for state in ("speed=1", "speed=2", "speed=3", "off", "transient"):
            status, found = client.post(body, f"state={state}&name=new.wav")
            (row,) = score_files(by_speed, [path], report=str, state=state)
            (record,), wanted = found["recordings"], score_record(row._replace(file="new.wav"))
            assert (status, found["remarks"]) == (200, [])
            assert {**record, "score": 0} == {**wanted, "score": 0}
            if wanted["score"] is None:
                assert record["score"] is record["decision"] is None
            else:
                np.testing.assert_allclose(record["score"], wanted["score"], rtol=1e-5)
        assert record["verdict"] == "transient"
        status, found = client.post(body, f"name={path}")
        assert status == 200 and found["recordings"][0]["state"] == ""
        assert "no state is known" in found["remarks"][0]
        status, found = client.post(body, "state=load=1")
        assert status == 400 and "the state 'load=1' has 'load'" in found["error"]
        status, found = client.post(body, "state=fast")
        assert status == 400 and "write name=value" in found["error"]


def test_a_system_without_states_refuses_one(client):
    status, found = client.post(in_wav(np.zeros(RATE)), "machine=fan&state=speed=1")
    assert status == 400 and "fitted without states" in found["error"]
