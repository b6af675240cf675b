"""Recordings written by another program than they are read by."""

import pytest
import scipy.io.wavfile
from recordings import RATE


@pytest.fixture
def wav(tmp_path):
    """Writes a wav by SciPy."""

    def write(name, samples, rate=RATE):
        scipy.io.wavfile.write(tmp_path / name, rate, samples)
        return tmp_path / name

    return write
