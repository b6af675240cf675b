"""A report's tables from synthetic recordings of its year."""

import json
import statistics

import pytest
from command_line import run_cli
from shared_runs import rows_of

from asd_jax.config import load_config, to_dict
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ResultRow, write_results_csv
from asd_jax.papers import reproduce as module
from asd_jax.papers import tables
from asd_jax.papers.reproduce import reproduce
from asd_jax.runs.directory import RunDirectory
from asd_jax.runs.ensemble import member_runs
from asd_jax.runtime.progress import Silent
from asd_jax.training import cost

SMALL = [
    "--config.train.epochs=1",
    "--config.seeds=0,1",
    "--config.front_end.n_mels=8",
    "--config.detector.hidden=8,",  # of the dense autoencoder alone
    "--config.lstm_ae.detector.encoder=2,",
    "--config.lstm_ae.seeds=3,",  # wins over that of all runs
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("reproduce")


@pytest.fixture(scope="module")
def data(place):
    """Of 2020: one machine with two of its four ids."""
    synthesize(place / "data", machines=["fan"], sections=2, clips=4, duration=2.0)
    return place / "data"


@pytest.fixture(scope="module")
def later(place):
    """Of 2022, with a machine whose outliers are there, and one whose are not."""
    synthesize(
        place / "later",
        year=2022,
        machines=["fan", "gearbox", "valve"],
        sections=2,
        clips=4,
        duration=2.0,
    )
    return place / "later"


def arguments(place, data, *more, paper="jalali2020"):
    return [
        "reproduce",
        f"--paper={paper}",
        f"--data_dir={data}",
        f"--out_dir={place / paper}",
        f"--cache_dir={place / 'cache'}",
        *more,
    ]


def test_tables_of_a_report_and_again(place, data, capsys):
    status, text, err = run_cli(capsys, *arguments(place, data, *SMALL))
    assert status == 0
    assert err.index("run 1 of 2: dense_ae") < err.index("run 2 of 2: lstm_ae")
    out = place / "jalali2020"
    lines = {
        (line["table"], line["row"], line["column"]): line for line in rows_of(out / "tables.csv")
    }
    assert len(lines) == 2 * 2 * 29 + 2 * 2 * 3 + 2 * 12
    for system, heading in (("dense_ae", "Dense-autoencoder"), ("lstm_ae", "LSTM-autoencoder")):
        results = rows_of(out / "runs" / system / "results.csv")
        aucs = {s: [float(r["auc"]) for r in results if r["section"] == s] for s in ("00", "02")}
        line = lines["Table 3", "02", f"{heading} AUC"]
        assert line["n_seeds"] == str(len(aucs["02"]))
        assert float(line["ours_mean"]) == pytest.approx(100 * statistics.mean(aucs["02"]))
        line = lines["Table 3", "Average", f"{heading} AUC"]
        mean = statistics.mean(aucs["00"] + aucs["02"])
        assert float(line["ours_mean"]) == pytest.approx(100 * mean)
        assert "2 of the 4 sections of fan" in line["note"]
        assert lines["Table 1", "01", f"{heading} AUC"]["ours_mean"] == ""
        scores = rows_of(out / "runs" / system / "scores.csv")
        called = [int(row["decision"]) for row in scores if row["label"] == "0"]
        line = lines["Section 3", "fan fpr", heading]
        assert float(line["ours_mean"]) == pytest.approx(100 * statistics.mean(called))
        assert line["note"] == "ours is of 2 of the 4 sections of fan" and line["difference"] == ""
        line = lines["Section 4", "MIMII", f"{heading} AUC"]
        assert float(line["ours_mean"]) == pytest.approx(100 * mean) and line["difference"] == ""
    assert "without ToyCar, ToyConveyor, pump, slider, valve" in text
    assert "The data is synthetic" in text
    # The networks are small: nothing is compared with the report's.
    assert {line["difference"] for line in lines.values()} == {""}
    assert "dense_ae: Published numbers of dense_ae are of another score: detector.hidden" in text
    assert "\nOurs is with --config.train.epochs=1 --config.seeds=0,1 " in text
    assert (out / "tables.md").read_text().startswith("# Jalali et al. 2020\n")
    configs = {
        name: json.loads((out / "runs" / name / "config.json").read_text())
        for name in ("dense_ae", "lstm_ae")
    }
    assert configs["dense_ae"]["detector"]["hidden"] == [8]
    assert configs["dense_ae"]["threshold"] == configs["lstm_ae"]["threshold"] == "mean"
    assert configs["lstm_ae"]["detector"]["encoder"] == [2]
    assert (configs["dense_ae"]["seeds"], configs["lstm_ae"]["seeds"]) == ([0, 1], [3])
    assert configs["dense_ae"]["data"]["machines"] == ["fan"]

    files = [*out.glob("runs/*/model.npz"), *out.glob("runs/*/results.csv")]
    before = [(path.stat().st_mtime_ns, path.read_bytes()) for path in files]
    status, again, err = run_cli(capsys, *arguments(place, data, *SMALL))
    assert (status, again) == (0, text)
    assert err.count("is finished; nothing to do") == 2
    assert [(path.stat().st_mtime_ns, path.read_bytes()) for path in files] == before

    # Other settings need another folder, which is said before any work.
    written = (out / "tables.csv").read_bytes()
    status, _, err = run_cli(capsys, *arguments(place, data, *SMALL, "--config.train.epochs=2"))
    assert status == 2 and "holds a run of another configuration" in err and "run 1" not in err
    assert (out / "tables.csv").read_bytes() == written


def test_decisions_at_other_thresholds_are_not_compared():
    stored = to_dict(load_config("lstm_ae"))
    assert tables.decided_otherwise("jalali2020", "lstm_ae", stored) == ""
    stored = to_dict(load_config("lstm_ae", {"threshold": "gamma"}))
    assert tables.decided_otherwise("jalali2020", "lstm_ae", stored) == (
        "threshold is gamma in this run and mean there"
    )
    stored = to_dict(load_config("dense_ae"))
    assert tables.decided_otherwise("jalali2020", "dense_ae", stored).startswith("threshold is gam")


@pytest.fixture
def not_timed(monkeypatch):
    """Plans take these seconds of a step; that steps are timed is another test's."""
    monkeypatch.setattr(cost, "_seconds_of_steps", lambda *arguments: (2.0, 0.5))


def test_a_dry_run_starts_nothing(place, data, tmp_path, capsys, not_timed):
    status, text, err = run_cli(capsys, *arguments(tmp_path, data, *SMALL, "--dry_run"))
    assert (status, err) == (0, "")
    assert text.index("dense_ae (fan)") < text.index("lstm_ae (fan)")
    assert text.count("training clips  ") == 2 and text.count("extrapolated from timed steps") == 2
    assert "2 trainings, by the headers of the recordings; nothing was started." in text
    assert "In all at most about" in text and "MiB." in text
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_without_data_is_on_dcase_2020(capsys, not_timed):
    small = [*SMALL, "--config.data.machines=valve"]
    status, text, _ = run_cli(capsys, "reproduce", "--paper=jalali2020", "--dry_run", *small)
    assert status == 0
    assert "lstm_ae (valve)" in text and "as if on the development set of DCASE 2020" in text
    assert text.count(f"{891 + 608 + 900 + 892:,}") == 2
    status, _, err = run_cli(capsys, "reproduce", "--paper=kazakova2022", "--dry_run")
    assert status == 2 and "kazakova2022 needs --data_dir=" in err
    status, _, err = run_cli(capsys, "reproduce", "--dry_run")
    assert status == 2 and "reproduce needs --paper=" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--paper=jalali"], "no such report; did you mean jalali2020?"),
        (["--paper=hassankhani2021"], "recordings of DCASE 2021"),
        (["--config.train.epoch=1"], "no run of jalali2020 has that key; did you mean train.epoch"),
        (
            ["--config.lstm.seeds=1"],
            "no run of jalali2020 has that key; did you mean lstm_ae.seeds?",
        ),
        (["--config.lstm_ae.train.epoch=1"], "has that key; did you mean lstm_ae.train.epochs?"),
        (["--config.train.epochs=x"], "train.epochs=x: must be a whole number"),
        (["--config.train=x"], "train is a group"),
        (["--config.dense_ae.detector.encoder=4"], "no run of jalali2020 has that key"),
        (["--config.data.machines=tractor"], "none of the runs of jalali2020 could be done"),
        (["--data_dir=/no/where"], "/no/where"),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(data, tmp_path, capsys, more, message):
    status, out, err = run_cli(capsys, *arguments(tmp_path, data, *more))
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1]
    assert "run 1 of" not in err
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def faked(monkeypatch):
    """Runs that only write results; `ends` makes one end with an error."""
    done, ends = {}, {}

    def run(config, data_dir, out_dir, **options):
        done[out_dir.name] = config, options
        if out_dir.name in ends:
            raise ends[out_dir.name]
        rows = [
            ResultRow(machine, section, "all", 0, 5, 5, 0.5, 0.5, 0.6, 0.5, 0.5, 0.5)
            for machine in config.data.machines
            for section in ("00", "01", "02")
        ]
        write_results_csv(out_dir / "results.csv", rows)
        data = {"year": 0, "synthetic": False, "n_clips": 1, "fingerprint": ""}
        RunDirectory(out_dir).claim(config, data)

    monkeypatch.setattr(module.pipeline, "run", run)
    return done, ends


def test_a_run_that_cannot_be_done_is_named_and_the_others_go_on(later, tmp_path, faked, capsys):
    done, _ = faked
    status, text, err = run_cli(capsys, *arguments(tmp_path, later, paper="kazakova2022"))
    assert status == 1
    assert "without picture_mobilenet, as said above" in err.splitlines()[-1]
    # The key that the line names is the one that this command takes.
    assert "--config.picture_mobilenet.detector.weights=FILE" in text
    found = {
        name: (config.data.machines, getattr(config.detector, "outliers", ()))
        for name, (config, _) in done.items()
    }
    # valve is without its outliers, slider; the other types that fan is exposed to are not there.
    assert found["outlier_exposure_ae_clear"][0] == ("fan",)
    assert done["outlier_exposure_ae_clear"][0].detector.outlier_weight == 0
    assert found["outlier_exposure_ae-fan-gearbox"] == (("fan",), ("fan:gearbox",))
    assert found["outlier_exposure_ae"][0] == ("gearbox",)
    assert "gearbox:fan" in found["outlier_exposure_ae"][1]
    assert found["outlier_exposure_ae-fan-valve"] == (("fan",), ("fan:valve",))
    assert len(found) == 4
    assert "outlier_exposure_ae: without ToyCar, ToyTrain, bearing, fan (needs slider)" in text
    assert "outlier_exposure_ae-fan-ToyCar is not run" in text
    lines = rows_of(tmp_path / "kazakova2022" / "tables.csv")
    ours = {(line["table"], line["row"]) for line in lines if line["ours_mean"]}
    exposed = {("Table 1", f"OE ({name})") for name in ("Gearbox", "Valve")}
    assert ours == exposed | {("Table 1", "clear AE"), ("Table 2", "gearbox")}


def test_errors_of_a_run(later, tmp_path, faked):
    _, ends = faked
    name = "outlier_exposure_ae_clear"
    settings = {"picture_mobilenet.detector.from_scratch": "true"}

    def again():
        return reproduce("kazakova2022", later, tmp_path, overrides=settings, reporter=Silent())

    assert again().failed == ()
    ends[name] = UserError("a recording is bad; see --config.data.channel")
    outcome = again()
    assert outcome.failed == (name,)
    assert f"{name} could not be run: a recording is bad; see --config.{name}.data.channel" in (
        outcome.text
    )
    assert "60.00" in outcome.text  # the others are there
    ends["picture_mobilenet"] = UserError("the weights are of another network")
    assert again().failed == (name, "picture_mobilenet")
    assert "of another network" in (tmp_path / "tables.md").read_text()
    ends[name] = UserError("stopped by SIGTERM", exit_status=143)
    with pytest.raises(UserError, match="SIGTERM") as raised:
        again()
    assert raised.value.exit_status == 143


def test_what_makes_a_run_cannot_be_changed(later, tmp_path, faked):
    key = "detector.outliers"
    with pytest.raises(UserError, match="no run of kazakova2022 has that key"):
        reproduce("kazakova2022", later, tmp_path, overrides={key: "fan:valve"})
    name = "outlier_exposure_ae-fan-gearbox"
    with pytest.raises(UserError, match="leave it as it is"):
        reproduce("kazakova2022", later, tmp_path, overrides={f"{name}.{key}": "fan:valve"})
    assert not (tmp_path / "tables.csv").exists()


def test_ensembles_share_the_runs_of_their_members(data, tmp_path, faked):
    done, _ = faked
    settings = {
        "group_made.train.epochs": "2",  # the run's and that of the member of its name
        "train.epochs": "3",
        "seeds": "0,",
        "threshold_quantile": "0.8",
        "giri2020_system1_max.detector.momentum": "0.5",
    }
    with pytest.raises(UserError, match="mobilenet_v2_id_mix is a run of its own and of giri2020"):
        reproduce("giri2020", data, tmp_path, overrides=settings, reporter=Silent())
    assert done == {}
    settings["detector.momentum"] = "0.5"
    outcome = reproduce("giri2020", data, tmp_path, overrides=settings, reporter=Silent())
    assert outcome.failed == ()
    assert list(done)[:2] == ["dense_ae", "group_made"]
    assert len(done) == 2 + 6
    own, _ = done["group_made"]
    assert (own.train.epochs, own.seeds, own.threshold_quantile) == (2, (0,), 0.8)
    for system in (1, 2, 3):
        for by in ("mean", "max"):
            config, options = done[f"giri2020_system{system}_{by}"]
            assert config.combine == by and options["members_dir"] == tmp_path / "runs"
            members = config.member_configs()
            assert members["group_made"] == own
            assert members["mobilenet_v2_id_mix"].train.epochs == 3
            assert members["mobilenet_v2_id_mix"].detector.momentum == 0.5
            assert config.data.machines == ("fan",)
    with pytest.raises(UserError, match="combine: the run is the one with mean"):
        overrides = {"giri2020_system1_mean.combine": "max"}
        reproduce("giri2020", data, tmp_path / "other", overrides=overrides, reporter=Silent())


def test_an_embedding_is_set_where_there_is_one(data, tmp_path, faked):
    done, _ = faked
    settings = {"embedding": "edgel3", "iaeo3_opt.embedding.weights": "file"}
    reproduce("grollmisch2020", data, tmp_path, overrides=settings, reporter=Silent())
    assert done["dense_ae"][0].embedding.kind == "none"
    assert done["iaeo3"][0].embedding.kind == "edgel3"
    assert done["iaeo3"][0].embedding.weights == ""
    members = done["iaeo3_opt"][0].member_configs()
    found = {name: (m.embedding.kind, m.embedding.weights) for name, m in members.items()}
    # For valves there is the autoencoder alone.
    assert found.pop("iaeo3_valve") == ("none", "")
    assert len(found) == 4 and set(found.values()) == {("edgel3", "file")}


def test_what_an_ensemble_that_chooses_trains_is_what_the_pipeline_runs(later, tmp_path):
    machines = {"data.machines": "fan,gearbox,valve"}
    config = load_config("kazakova2022_system3", machines)
    trainings = module._trainings("system", config, None, {})
    runs = member_runs(config, later, tmp_path, print)
    found = {name: training.config for name, training in trainings.items()}
    assert found == {path.name: member for path, member in runs.values()}
    assert len(found) == 2
    # A run of a member on all machines serves as well.
    whole = load_config("outlier_exposure_ae", machines)
    RunDirectory(tmp_path / whole.name).claim(whole, {})
    earlier = {whole.name: module._Training(whole, None)}
    trainings = module._trainings("system", config, None, earlier)
    runs = member_runs(config, later, tmp_path, print)
    assert trainings[whole.name].config == whole
    assert trainings.keys() == {path.name for path, _ in runs.values()}


@pytest.mark.slow
def test_source_and_target_tables_of_2021(place, capsys):
    synthesize(
        place / "2021", year=2021, machines=["fan", "slider"], sections=2, clips=6, duration=2.0
    )
    small = [
        *SMALL[:2],
        "--config.front_end.n_mels=16",
        "--config.ganomaly.detector.width=4",
        "--config.ganomaly.detector.frames=16",
        "--config.mobilenet_v2_baseline.detector.frames=16",
        "--config.mobilenet_v2_baseline.detector.stages=1",
    ]
    status, _, err = run_cli(
        capsys, *arguments(place, place / "2021", *small, paper="hassankhani2021")
    )
    assert status == 0, err
    lines = rows_of(place / "hassankhani2021" / "tables.csv")
    ours = [line for line in lines if line["ours_mean"]]
    # Two machines, two sections, three systems, two domains.
    assert len(ours) == 2 * 2 * 3 * 2
    for line in ours:
        run = place / "hassankhani2021" / "runs" / line["system"] / "results.csv"
        aucs = [
            float(row["auc"])
            for row in rows_of(run)
            if all(row[key] == line[key] for key in ("machine", "section", "domain"))
        ]
        assert float(line["ours_mean"]) == pytest.approx(100 * statistics.mean(aucs))
