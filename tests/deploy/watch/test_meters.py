import numpy as np
import pytest

from asd_jax.deploy.watch.meters import Latencies, Meter, Tally, resident_memory, tally_table


def test_percentiles_are_within_a_bin_of_numpys():
    """Bins are a tenth of a decade wide: their middle is within 10 ** 0.05, 12.2 %."""
    values = np.random.default_rng(0).lognormal(-1, 1.5, 10_000)
    latencies = Latencies()
    for part in np.array_split(values, 7):
        latencies.add(part)
    for share in (0.01, 0.5, 0.95, 0.99):
        wanted = np.quantile(values, share)
        assert latencies.percentile(share) == pytest.approx(wanted, rel=0.13)


def test_extremes_are_counted():
    latencies = Latencies()
    assert np.isnan(latencies.percentile(0.5))
    latencies.add(np.array([0.0, -1.0, 1e9]))
    assert latencies.counts.sum() == 3


def test_lines():
    meter = Meter()
    meter.add(20.0, np.array([0.1, 0.2]))
    assert (meter.windows, meter.sound) == (2, 20.0)
    line = meter.line()
    assert line.startswith("2 windows") and "x real time" in line and "MiB" in line
    assert meter.line().startswith("0 windows")  # since the last one
    assert resident_memory() > 2**20
    rows = tally_table({"fan_00": Tally(1000, 2, 1, 3)})
    assert rows[0].split()[:2] == ["stream", "windows"] and rows[2].split()[1] == "1,000"
