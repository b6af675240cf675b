"""From download to table in one command, from a server of synthetic recordings on this machine."""

import re

import pytest
from command_line import run_cli
from record_site import archive_of, serving
from shared_runs import rows_of

from asd_jax.data import download_plan
from asd_jax.data.download import select
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic import synthesize
from asd_jax.papers.layouts import PAPERS
from asd_jax.papers.recordings import archives_of
from asd_jax.training import cost

TINY = ["--config.train.epochs=1", "--config.seeds=0,", "--config.front_end.n_mels=8"]
SLIDERS = ("slider", "valve")
OF_2020 = {"ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"}
OF_2021 = {"ToyCar", "ToyTrain", "fan", "gearbox", "pump", "slider", "valve"}
OF_2022 = {"ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"}


def publish(site, folder, year, machines):
    """Archives of recordings with the challenge's names, all that a set has, at its addresses."""
    for made in select(year, machines):
        url = made.url.removeprefix("https://zenodo.org")
        parts = ("train", "test") if made.subset == "dev" else ("train",)
        if made.subset == "dev" or "train" in url.rpartition("/")[2]:
            subset = folder / f"{made.subset}_data"
            site.publish(archive_of(subset, made.machine, parts), url)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Fans of 2020, and sliders and valves of 2022: development and additional training set."""
    folder = tmp_path_factory.mktemp("published")
    options = {"subset": "both", "sections": 2, "clips": 3, "duration": 2.0}
    with serving() as site:
        for year, machines in ((2020, ["fan"]), (2022, ["slider", "valve"])):
            synthesize(folder / str(year), year=year, machines=machines, **options)
            publish(site, folder / str(year), year, machines)
        yield site


@pytest.fixture(autouse=True)
def not_timed(monkeypatch):
    """Plans take these seconds of a step."""
    monkeypatch.setattr(cost, "_seconds_of_steps", lambda *arguments: (2.0, 0.5))


def command(site, place, paper, *more):
    return [
        *("reproduce", f"--paper={paper}", "--download", f"--mirror={site.url}"),
        *(f"--data_dir={place / 'data'}", f"--out_dir={place / 'tables'}"),
        *(f"--cache_dir={place / 'cache'}", *more),
    ]


def fans(site, place, *more):
    dense = ["--config.detector.hidden=8,", "--config.lstm_ae.detector.encoder=2,"]
    machine = "--config.data.machines=fan"
    return command(site, place, "jalali2020", *TINY, *dense, machine, *more)


@pytest.mark.parametrize(
    ("paper", "machines"),
    [
        ("jalali2020", OF_2020),
        ("grollmisch2020", OF_2020),
        ("giri2020", OF_2020),
        ("hassankhani2021", OF_2021),
        ("kazakova2022", OF_2022),
    ],
)
def test_what_a_report_needs(paper, machines):
    """The development set of its year; Giri et al. also the training clips of the other one."""
    archives = archives_of(paper, {})
    assert {archive.year for archive in archives} == {PAPERS[paper].year}
    dev = [archive for archive in archives if archive.subset == "dev"]
    assert {archive.machine for archive in dev} == machines and len(dev) == len(machines)
    rest = [archive for archive in archives if archive.subset == "eval"]
    assert {archive.machine for archive in rest} == (machines if paper == "giri2020" else set())
    assert all("eval_data_train_" in archive.url for archive in rest)


def test_what_settings_make_of_it():
    fan = {"data.machines": "fan"}
    assert [each.subset for each in archives_of("giri2020", fan)] == ["dev", "eval"]
    # Of ensembles and single systems.
    alone = {**fan, "detector.both_sets": "false"}
    assert [each.subset for each in archives_of("giri2020", alone)] == ["dev"]
    outliers = {each.machine for each in archives_of("kazakova2022", {"data.machines": "valve"})}
    assert outliers == {"slider", "valve"}


def test_from_download_to_table(site, tmp_path, capsys):
    site.asked.clear()
    status, out, err = run_cli(capsys, *fans(site, tmp_path, "--dry_run"))
    assert status == 0 and not list(tmp_path.glob("data")) and "as if on the development" in out
    assert out.startswith("dev_data_fan.zip: ")
    assert "1 archives to fetch into" in out and "of disk are needed" in out
    # The description alone was asked for.
    assert [path for path, _ in site.asked] == ["/api/records/3678171"]
    status, out, err = run_cli(capsys, *fans(site, tmp_path))
    assert status == 0, err
    assert err.index("1 archives to fetch into") < err.index("dev_data_fan.zip: fetching")
    assert err.index("dev_data_fan.zip: fetching") < err.index("run 1 of 2: dense_ae")
    lines = rows_of(tmp_path / "tables" / "tables.csv")
    filled = {(row["system"], row["row"]) for row in lines if row["ours_mean"]}
    assert {("dense_ae", "00"), ("lstm_ae", "02")} <= filled
    clips = find_clips(tmp_path / "data")
    assert {(clip.year, clip.subset, clip.machine) for clip in clips} == {(2020, "dev", "fan")}

    # Again: nothing is fetched or trained, and the plan is by these recordings.
    fetched = len(site.asked)
    status, again, err = run_cli(capsys, *fans(site, tmp_path))
    assert status == 0 and again == out and len(site.asked) == fetched
    assert "all 1 archives are in" in err and err.count("nothing to do") == 2


def test_an_interrupted_download_goes_on(site, tmp_path, capsys):
    site.cut_after = 600_000
    try:
        status, _, err = run_cli(capsys, *fans(site, tmp_path))
    finally:
        site.cut_after = None
    assert status == 1 and "the download stopped" in err.splitlines()[-1]
    assert not (tmp_path / "tables").exists()
    status, out, err = run_cli(capsys, *fans(site, tmp_path, "--dry_run"))
    assert status == 0 and re.search(r", of which 0\.[56] MB are there; at most about", out)
    status, _, err = run_cli(capsys, *fans(site, tmp_path))
    assert status == 0 and "resuming at" in err


def test_other_recordings_are_not_mixed_with_a_download(site, tmp_path, capsys):
    (tmp_path / "data" / "fan" / "train").mkdir(parents=True)
    status, out, err = run_cli(capsys, *fans(site, tmp_path))
    assert (status, out) == (2, "") and err.count("\n") == 1
    assert "holds other files (fan) than those of a download" in err


def test_without_a_network_it_is_one_line(tmp_path, capsys):
    class Nowhere:
        url = "http://127.0.0.1:9"  # nothing listens there

    for more in ([], ["--dry_run"]):
        status, out, err = run_cli(capsys, *fans(Nowhere, tmp_path, *more))
        assert (status, out) == (1, "") and err.count("\n") == 1
        assert err.startswith("asd-jax: 127.0.0.1:9 cannot be reached (")
    assert list(tmp_path.glob("*/*")) == []


def test_a_disk_without_room_is_seen_before(site, tmp_path, capsys, monkeypatch):
    usage = download_plan.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(download_plan.shutil, "disk_usage", lambda _: usage._replace(free=999))
    status, out, err = run_cli(capsys, *fans(site, tmp_path))
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert "are free; make room, or choose another folder" in err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--paper=asdkit2025", "--data_dir=x", "--out_dir=y", "--download"], "is of several"),
        (["--paper=jalali2020", "--dry_run", "--download"], "--download needs --data_dir="),
        (["--paper=jalali2020", "--dry_run", "--mirror=http://x"], "no effect without --download"),
        (["--paper=jalali2020", "--data_dir=x", "--out_dir=y", "--download",
          "--config.data.machines=tractor"], "has none of the machines"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(more, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run_cli(capsys, "reproduce", *more)
    assert (status, out) == (2, "") and message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_plan_of_another_year_is_of_the_download(site, tmp_path, capsys):
    arguments = command(
        site, tmp_path, "kazakova2022", "--config.data.machines=slider", "--dry_run"
    )
    status, out, _ = run_cli(capsys, *arguments)
    assert status == 0 and out.endswith("once these are there; nothing was started\n")
    assert "dev_slider.zip: " in out and "dev_valve.zip: " in out and "2 archives to fetch" in out
    arguments[-2] = "--config.data.machines=bearing"
    status, out, _ = run_cli(capsys, *arguments)
    # Its record here has neither bearings nor what they are exposed to.
    assert status == 0 and "2 archives to fetch into" in out and "not all sizes are known" in out


@pytest.mark.slow
def test_all_systems_of_giri_et_al_with_both_sets(site, tmp_path, capsys):
    small = [
        "--config.detector.hidden=8,",
        "--config.group_made.detector.hidden=8,",
        "--config.group_made.detector.components=2",
        "--config.detector.frames=16",
        "--config.detector.stages=1",
        "--config.data.machines=fan",
    ]
    status, out, err = run_cli(capsys, *command(site, tmp_path, "giri2020", *TINY, *small))
    assert status == 0, err
    assert "6 training clips of the eval set are learned from as well" in err
    lines = rows_of(tmp_path / "tables" / "tables.csv")
    filled = {row["row"] for row in lines if row["ours_mean"] and row["machine"] == "fan"}
    assert len(filled) == 8  # the baseline, three systems in two ways, and Group MADE
    learned = rows_of(tmp_path / "tables" / "runs" / "group_made" / "training_scores.csv")
    assert {row["section"] for row in learned} == {"00", "02"}


@pytest.mark.slow
def test_kazakova_et_al_from_download_to_table(site, tmp_path, capsys):
    small = [
        "--config.detector.hidden=8,",
        "--config.data.machines=slider,valve",
        "--config.picture_mobilenet.detector.from_scratch=true",
        "--config.picture_mobilenet.detector.size=32",
        "--config.picture_mobilenet.detector.stages=1",
        "--config.picture_mobilenet.detector.frames=8",
        "--config.picture_mobilenet.detector.copies=0",
    ]
    status, _, err = run_cli(capsys, *command(site, tmp_path, "kazakova2022", *TINY, *small))
    assert status == 0, err
    lines = rows_of(tmp_path / "tables" / "tables.csv")
    filled = {(row["table"], row["row"]) for row in lines if row["ours_mean"]}
    assert filled == {(table, name) for table in ("Table 2", "Table 3") for name in SLIDERS}
