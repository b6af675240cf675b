"""Downloads from a server on this machine: resumed, refused, damaged, interrupted."""

import errno
import hashlib
import io
import stat
import sys
import zipfile

import pytest
from command_line import run_cli
from record_site import archive, serving

from asd_jax.data import download as module
from asd_jax.data.download import download, select
from asd_jax.data.layouts import find_clips
from asd_jax.errors import UserError

NAME = "dev_data_fan.zip"
URL = f"/record/3678171/files/{NAME}"
CLIP = "fan/train/normal_id_00_00000000.wav"


def noise(n_bytes, seed=0):
    block = hashlib.shake_256(bytes([seed]))
    return block.digest(n_bytes)


@pytest.fixture
def site():
    with serving() as site:
        yield site


@pytest.fixture
def get(site, tmp_path):
    """Fetches the fan of 2020 and returns the lines said."""

    def run(machines=("fan",), subset="dev", year=2020):
        said = []
        download(year, machines, subset, tmp_path / "data", site.url, said.append)
        return said

    return run


def files_under(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_fetches_unpacks_and_is_done(site, get, tmp_path):
    content = noise(700_000)
    site.publish(archive({"fan/": b"", CLIP: content, "__MACOSX/fan/._x.wav": b"x"}))
    said = get()
    assert said[-1].startswith(f"{NAME}: 1 files in ")
    assert files_under(tmp_path / "data") == [f"dev_data/fan/.{NAME}.done", f"dev_data/{CLIP}"]
    assert (tmp_path / "data/dev_data" / CLIP).read_bytes() == content
    (clip,) = find_clips(tmp_path / "data")
    assert (clip.year, clip.subset, clip.machine) == (2020, "dev", "fan")
    assert not (tmp_path / "data/downloads").exists()

    asked = len(site.asked)
    assert get() == [f"{NAME}: here already"]
    assert len(site.asked) == asked


def test_interrupted_download_goes_on(site, get, tmp_path):
    whole = archive({CLIP: noise(900_000)})
    site.publish(whole)
    site.cut_after = 300_000
    with pytest.raises(UserError, match=f"{NAME}: the download stopped.*same command again") as at:
        get()
    assert at.value.exit_status == 1
    part = tmp_path / f"data/downloads/{NAME}.part"
    have = part.stat().st_size
    assert 0 < have <= 300_000
    assert part.read_bytes() == whole[:have]
    assert files_under(tmp_path / "data") == [f"downloads/{NAME}.part"]

    site.cut_after = None
    said = get()
    assert site.asked[-1] == (URL, f"bytes={have}-")
    assert any("resuming at 0.3 MB of 0.9 MB" in line for line in said)
    assert (tmp_path / "data/dev_data" / CLIP).read_bytes() == noise(900_000)


def test_server_that_cannot_resume(site, get, tmp_path):
    site.publish(archive({CLIP: noise(900_000)}))
    site.cut_after = 300_000
    with pytest.raises(UserError):
        get()
    site.cut_after, site.ranges = None, False
    assert f"{NAME}: the server cannot resume, so this begins again" in get()
    assert (tmp_path / "data/dev_data" / CLIP).read_bytes() == noise(900_000)


@pytest.mark.parametrize("surplus", [b"", b"left over from a longer file"])
def test_part_that_is_as_long_as_the_file_or_longer(site, get, tmp_path, surplus):
    site.publish(archive({CLIP: noise(1000)}))
    (tmp_path / "data/downloads").mkdir(parents=True)
    (tmp_path / f"data/downloads/{NAME}.part").write_bytes(site.files[URL] + surplus)
    get()
    assert (tmp_path / "data/dev_data" / CLIP).read_bytes() == noise(1000)
    n_fetched = [asked for asked in site.asked if asked == (URL, None)]
    assert len(n_fetched) == bool(surplus)


def test_wrong_checksum(site, get, tmp_path):
    site.publish(archive({CLIP: noise(1000)}))
    site.checksums[URL] = "0" * 32
    with pytest.raises(UserError, match=f"{NAME}: MD5 .* instead of the published 0+; .*removed"):
        get()
    assert files_under(tmp_path / "data") == []
    site.publish(site.files[URL])
    get()
    assert (tmp_path / "data/dev_data" / CLIP).exists()


def test_no_published_checksums(site, get):
    site.publish(archive({CLIP: noise(1000)}))
    site.checksums.clear()
    said = get()
    assert said[0].startswith("the published checksums cannot be had from")
    assert "404" in said[0]
    assert said[-1].startswith(f"{NAME}: 1 files in ")


def test_damaged_archive_without_a_checksum(site, get, tmp_path):
    whole = bytearray(archive({CLIP: noise(100_000)}))
    whole[50_000] ^= 0xFF
    site.files[URL] = bytes(whole)
    with pytest.raises(UserError, match=f"{NAME} is damaged .*removed"):
        get()
    assert [
        f for f in files_under(tmp_path / "data") if f.endswith((".wav", ".zip", ".done"))
    ] == []
    site.publish(archive({CLIP: noise(100_000)}))
    get()
    assert files_under(tmp_path / "data") == [f"dev_data/fan/.{NAME}.done", f"dev_data/{CLIP}"]


def test_a_page_in_place_of_the_archive(site, get):
    site.files[URL] = b"<html>try again later</html>"
    with pytest.raises(UserError, match="is damaged"):
        get()


@pytest.mark.parametrize(
    "path", ["../outside.wav", "/outside.wav", "fan/../../outside.wav", "..\\outside", "C:\\x.wav"]
)
def test_paths_that_lead_out(site, get, tmp_path, path):
    site.publish(archive({CLIP: b"x", path: b"x"}))
    with pytest.raises(UserError, match="leads out of its folder; nothing was unpacked"):
        get()
    assert files_under(tmp_path) == [f"data/downloads/{NAME}"]


def test_links_in_an_archive(site, get):
    link = zipfile.ZipInfo("fan/train")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    site.publish(archive({link: "/etc"}))
    with pytest.raises(UserError, match="leads out of its folder"):
        get()


@pytest.mark.parametrize("prefix", ["", "fan/", "dev_data/fan/", "dev_data/raw/fan/"])
def test_archives_with_more_or_fewer_folders(site, get, tmp_path, prefix):
    site.publish(archive({f"{prefix}train/normal_id_00_00000000.wav": b"x"}))
    get()
    assert (tmp_path / "data/dev_data" / CLIP).exists()


def test_train_and_test_archives_meet_in_one_folder(site, get, tmp_path):
    train, test = (a.url.removeprefix("https://zenodo.org") for a in select(2020, ["fan"], "eval"))
    site.publish(archive({"fan/train/normal_id_01_00000000.wav": b"x"}), train)
    site.publish(archive({"fan/test/id_01_00000000.wav": b"x"}), test)
    get(subset="eval")
    clips = find_clips(tmp_path / "data")
    assert [(c.subset, c.split) for c in clips] == [("eval", "test"), ("eval", "train")]


def test_one_year_a_folder(site, get):
    site.publish(archive({CLIP: b"x"}))
    get()
    with pytest.raises(UserError, match="holds data of 2020; give 2021 a folder of its own"):
        get(year=2021)


def test_full_disk_is_seen_before_unpacking(site, get, tmp_path, monkeypatch):
    site.publish(archive({CLIP: noise(1000)}))
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage._replace(free=999))
    with pytest.raises(UserError, match="needs 0.0 GB and has 0.0 GB free"):
        get()
    monkeypatch.undo()
    fetched = len(site.asked)
    get()
    assert (URL, None) not in site.asked[fetched:]


def test_server_out_of_reach(tmp_path):
    said = []
    with pytest.raises(UserError, match="the download stopped.*same command again") as at:
        # Port 9 of this machine: nothing listens there.
        download(2020, ["fan"], "dev", tmp_path, "http://127.0.0.1:9", said.append)
    assert at.value.exit_status == 1
    assert len(said) == 1
    assert "\n" not in str(at.value)


def test_missing_archive(site, get):
    with pytest.raises(UserError, match="404"):
        get()


def test_progress_away_from_a_terminal():
    said = []
    pieces = [bytes(50), bytes(50), bytes(450), bytes(350)]
    assert list(module._shown(pieces, "a.zip", 100, 1000, said.append)) == pieces
    assert said == ["a.zip: 20 %", "a.zip: 60 %", "a.zip: 100 %"]
    assert list(module._shown(pieces, "a.zip", 0, None, said.append)) == pieces
    assert len(said) == 3


def test_progress_on_a_terminal(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    said, terminal = [], Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    list(module._shown([bytes(1_000_000)] * 2, "a.zip", 0, 2_000_000, said.append))
    assert said == []
    assert "a.zip" in terminal.getvalue()
    assert "2.0/2.0 MB" in terminal.getvalue()


def test_full_disk_while_downloading(site, get, tmp_path, monkeypatch):
    site.publish(archive({CLIP: noise(1000)}))

    def full(self, mode="r", **_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.Path, "open", full)
    with pytest.raises(UserError, match=f"{NAME}.part: no space left .*same command again"):
        get()
    monkeypatch.undo()
    get()
    assert (tmp_path / "data/dev_data" / CLIP).exists()


def test_select():
    fan = select(2020, ["fan"])
    assert [a.subset for a in fan] == ["dev", "eval", "eval"]
    assert len(select(2020)) == 18
    assert {a.machine for a in select(2023, subset="eval")} == {
        *("bandsaw", "grinder", "shaker", "ToyDrone", "ToyNscale", "ToyTank", "Vacuum")
    }
    of_2026 = select(2026, ["Sander"])
    assert [a.url.rpartition("_")[2] for a in of_2026] == ["train.zip", "test.zip"]
    with pytest.raises(UserError, match="year 2019: .* 2020 to 2026"):
        select(2019)
    with pytest.raises(UserError, match="no machine 'Fan' in 2020; did you mean fan"):
        select(2020, ["Fan"])
    with pytest.raises(UserError, match="no machine 'fan' in 2023 eval"):
        select(2023, ["fan"], "eval")
    with pytest.raises(UserError, match="subset 'test'"):
        select(2020, subset="test")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--yeer=2020"], "did you mean --year"),
        (["--year=first"], "--year=first"),
        (["--year=2020"], "download needs --out_dir=…"),
        (["--out_dir=x"], "download needs --year=…"),
        (["--year=2020", "--out_dir=x", "--subset=test"], "--subset"),
        (["--year=2020", "--out_dir=x", "--machines=fan,pumps"], "did you mean pump"),
        (["--year=2020", "--out_dir=x", "--mirror=nowhere"], "must begin with http:// or https://"),
        (["--year=2020", "--out_dir=x", "fan"], "takes flags only, not 'fan'"),
    ],
)
def test_wrong_command_line(arguments, line, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, error = run_cli(capsys, "download", *arguments)
    assert status == 2 and line in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_command_line_downloads(site, tmp_path, capsys):
    site.publish(archive({CLIP: b"x"}))
    command = ["download", "--year=2020", "--machines=fan", "--subset=dev", f"--out_dir={tmp_path}"]
    command.append(f"--mirror={site.url}/")
    status, out, _ = run_cli(capsys, *command)
    assert status == 0 and "1 files in" in out
    assert (tmp_path / "dev_data" / CLIP).exists()
    site.files.clear()
    (tmp_path / f"dev_data/fan/.{NAME}.done").unlink()
    status, _, err = run_cli(capsys, *command)
    assert status == 1 and err.startswith(f"asd-jax: {NAME}: the download stopped")
