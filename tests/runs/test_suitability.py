"""Which configurations run on a data set: the reasons of a dry run, and every file read once."""

import dataclasses
import shutil

import pytest

from asd_jax import pipeline
from asd_jax.config import load_config
from asd_jax.data import index, layouts
from asd_jax.errors import UserError
from asd_jax.runs import suitability as module
from asd_jax.runs.suitability import KnownRecordings, suitability


def reason_of_dry_run(config, data):
    try:
        pipeline.dry_run(config, data)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    "name",
    ["spectral", "mobilenet_v2_id", "kazakova2022_system3", "giri2020_system2"],
)
def test_the_reason_is_that_of_a_dry_run(name, single):
    config = load_config(name)
    found = suitability(config, KnownRecordings(single))
    assert found.reason == reason_of_dry_run(config, single)
    assert found.runs == (found.reason == "")


def test_every_file_is_looked_at_once(data, monkeypatch):
    counts = {"scans": 0, "headers": []}
    scan, read = layouts.scan, module.read_headers

    def counted_scan(*arguments):
        counts["scans"] += 1
        return scan(*arguments)

    def counted_headers(paths, *arguments, **named):
        paths = [*paths]
        counts["headers"] += paths
        return read(paths, *arguments, **named)

    monkeypatch.setattr(layouts, "scan", counted_scan)
    for place in (module, index):
        monkeypatch.setattr(place, "read_headers", counted_headers)
    known = KnownRecordings(data)
    for name in ("spectral", "dense_ae", "kazakova2022_system3", "iaeo3_opt", "multibranch"):
        suitability(load_config(name), known)
    assert counts["scans"] == 1
    assert sorted(counts["headers"]) == sorted(map(str, data.rglob("*.wav")))


def test_a_year_that_is_asked_for_is_walked_apart(data):
    known = KnownRecordings(data)
    config = load_config("spectral")
    other = dataclasses.replace(config, data=dataclasses.replace(config.data, year=2021))
    assert suitability(config, known).runs
    found = suitability(other, known)
    assert "result files of 2021" in found.reason == reason_of_dry_run(other, data)


def test_what_stops_a_run_by_its_recordings(data, tmp_path):
    spoiled = shutil.copytree(data, tmp_path / "data")
    shutil.copy(next(spoiled.glob("**/fan/train/*.wav")), spoiled / "dev_data/fan/train/new.wav")
    config = load_config("spectral")
    found = suitability(config, KnownRecordings(spoiled))
    assert not found.runs and "fit no layout" in found.reason
    found = suitability(config, KnownRecordings(spoiled), "skip")
    assert found.runs and any("fit no layout" in line for line in found.remarks)
    for path in spoiled.rglob("train/*.wav"):
        path.unlink()
    found = suitability(config, KnownRecordings(spoiled), "skip")
    assert not found.runs and "training" in found.reason
