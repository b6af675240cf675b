"""The cache of features on disk: damage, full disks, places, several processes."""

import errno
import json
import multiprocessing
import subprocess

import numpy as np
import pytest
import tensorstore
from recordings import FRONT_END, rows

from asd_jax.errors import UserError
from asd_jax.features import cache as feature_cache
from asd_jax.features.cache import Index, default_cache_dir, folder_of
from asd_jax.features.compute import compute_features


def delete(path):
    path.unlink()


def empty(path):
    path.write_bytes(b"")


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def garble(path):
    path.write_bytes(b"\xff{garbage")


def lie(path):
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"n_frames": [-1] * len(index["n_frames"])}))


@pytest.mark.parametrize(
    "name, damage",
    [
        ("index.json", delete),
        ("index.json", empty),
        ("index.json", halve),
        ("index.json", garble),
        ("index.json", lie),
        ("table/zarr.json", delete),
        ("table/zarr.json", garble),
        ("table/c/1/0", delete),
    ],
)
def test_damage_seen_at_once_is_repaired(clips, compute, tmp_path, monkeypatch, name, damage):
    monkeypatch.setattr(feature_cache, "_CHUNK_FRAMES", 100)
    table = rows(compute(clips))
    (path,) = (tmp_path / "cache").glob(f"*/{name}")
    damage(path)
    np.testing.assert_array_equal(rows(compute(clips)), table)
    assert compute.read == 5
    if (name, damage) != ("index.json", delete):
        (line,) = compute.lines
        assert "damaged; they are computed anew" in line


@pytest.mark.parametrize("damage", [delete, empty, halve, flip])
def test_damage_seen_on_reading_is_one_line(clips, compute, tmp_path, monkeypatch, damage):
    monkeypatch.setattr(feature_cache, "_CHUNK_FRAMES", 100)
    found = compute(clips)
    table = rows(found)
    (path,) = (tmp_path / "cache").glob("*/table/c/1/0")
    damage(path)
    np.testing.assert_array_equal(found.read(0, 100), table[:100])
    with pytest.raises(UserError, match="damaged and were discarded; run the same command again"):
        rows(found)
    np.testing.assert_array_equal(rows(compute(clips)), table)
    assert compute.read == 5


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(clips, compute, monkeypatch):
    message = f"RESOURCE_EXHAUSTED: Error [os_error_code='{errno.ENOSPC}']"

    class FullDisk:
        def __getitem__(self, rows):
            return self

        def write(self, chunk):
            return self

        def result(self):
            raise ValueError(message)

    with monkeypatch.context() as patch:
        patch.setattr(feature_cache.Entry, "open", lambda self, create=False: FullDisk())
        with pytest.raises(UserError, match="no space left on the disk") as caught:
            compute(clips)
        assert caught.value.exit_status == 1
    compute(clips)
    assert compute.read == 5


def test_a_really_full_disk(clips, compute, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        with pytest.raises(UserError, match="no space left on the disk"):
            compute(clips, cache_dir=disk)
        assert not list(disk.glob("*/index.json"))
        resize = ["mount", "-o", "remount,size=10m", str(disk)]
        subprocess.run(resize, check=True, capture_output=True)
        assert np.isfinite(rows(compute(clips, cache_dir=disk))).all()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_place_that_cannot_be_is_one_line(clips, compute, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="a part of the path is a file"):
        compute(clips, cache_dir=tmp_path / "file")
    with pytest.raises(UserError, match="the cache cannot be nonsense://bucket"):
        compute(clips, cache_dir="nonsense://bucket")


def test_a_url_is_a_place(clips, compute, tmp_path):
    url = f"file://{tmp_path}/by_url"
    compute(clips, cache_dir=url)
    compute(clips, cache_dir=tmp_path / "by_url")
    assert compute.read == 0


def test_the_cache_is_plain_zarr(clips, compute, tmp_path):
    table = rows(compute(clips))
    (place,) = (tmp_path / "cache").glob("*/table")
    store = tensorstore.open(
        {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{place}/"}}
    ).result()
    np.testing.assert_array_equal(store[: len(table)].read().result(), table)
    assert np.isnan(store[len(table) : len(table) + 9].read().result()).all()


def test_where_the_cache_is(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("ASD_JAX_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_cache_dir() == "/home/someone/.cache/asd_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    assert default_cache_dir() == "/scratch/asd_jax"
    monkeypatch.setenv("ASD_JAX_CACHE", "gs://bucket/features")
    assert default_cache_dir() == "gs://bucket/features"


@pytest.mark.parametrize("place", ["http://host/x", "https://host/x", "memory://x", "foo://x"])
def test_urls_that_cannot_be_a_cache_are_refused_at_once(clips, place):
    with pytest.raises(UserError, match=f"the cache cannot be {place}: give a folder, or a bucket"):
        compute_features(clips, FRONT_END, cache_dir=place)


def test_a_bucket_that_does_not_answer_is_given_up(clips, monkeypatch):
    class Silent:
        def result(self, timeout):
            raise TimeoutError

    monkeypatch.setattr(feature_cache.ts.KvStore, "open", lambda spec: Silent())
    with pytest.raises(UserError, match="gs://bucket/x does not answer within 60 s; correct") as e:
        compute_features(clips, FRONT_END, cache_dir="gs://bucket/x")
    assert e.value.exit_status == 1


def test_a_cache_that_cannot_be_written_is_a_short_line(clips):
    with pytest.raises(UserError) as caught:
        compute_features(clips, FRONT_END, cache_dir="/proc/nothing/cache")
    assert len(str(caught.value)) < 250 and "No such file or directory" in str(caught.value)


def test_fetched_files_of_a_bucket_are_in_the_users_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/scratch")
    monkeypatch.setenv("ASD_JAX_CACHE", "gs://bucket/features")
    assert folder_of(None) == folder_of("s3://other") == "/scratch/asd_jax"
    assert folder_of("here") == "here"


def compute_in_process(clips, cache_dir, barrier, results):
    barrier.wait()
    results.put(rows(compute_features(clips, FRONT_END, cache_dir=cache_dir)).sum())


@pytest.mark.slow
def test_two_processes_compute_one_entry(clips, tmp_path, compute):
    spawn = multiprocessing.get_context("spawn")
    barrier, results = spawn.Barrier(2), spawn.Queue()
    arguments = (clips, str(tmp_path / "cache"), barrier, results)
    processes = [spawn.Process(target=compute_in_process, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    sums = [results.get(timeout=120) for _ in processes]
    for process in processes:
        process.join()
    found = compute(clips)
    assert compute.read == 0
    assert sums == [rows(found).sum()] * 2


@pytest.mark.parametrize(
    "changes",
    [
        {"n_frames": [3]},
        {"more": 1},
        {"table": "../elsewhere"},
        {"n_frames": [3, -1]},
        {"n_frames": [3, 4.0]},
        {"lines": [7]},
    ],
)
def test_an_index_of_another_form_is_none(changes):
    """Whatever wrote it; its entry is computed again."""
    fields = {"table": "0" * 32, "n_frames": [3, 4], "lines": ["a line"]}
    assert Index.parse(json.dumps(fields).encode(), 2) == Index(**fields)
    with pytest.raises(ValueError):
        Index.parse(json.dumps(fields | changes).encode(), 2)
