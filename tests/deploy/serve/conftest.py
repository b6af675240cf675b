"""A service that the tests of a file use, where its packages are installed."""

import pytest
from serve_clients import serving

import asd_jax

for package in ("starlette", "uvicorn", "prometheus_client", "python_multipart"):
    pytest.importorskip(package)


@pytest.fixture(scope="session")
def fitted(finished):
    """The run `finished`: two machines of two ids, scored alike; two seeds."""
    return asd_jax.load(finished)


@pytest.fixture(scope="session")
def wavs(data):
    """Test recordings of the machines."""
    return {machine: sorted(data.rglob(f"{machine}/test/*.wav")) for machine in ("fan", "valve")}


@pytest.fixture(scope="module")
def client(fitted, tmp_path_factory):
    """A service with small limits, which all tests of a file use."""
    limits = {"max_bytes": 2**18, "max_seconds": 20.0, "max_queue": 16, "max_batch": 4}
    with serving(fitted, tmp_path_factory.mktemp("received"), **limits) as client:
        yield client
