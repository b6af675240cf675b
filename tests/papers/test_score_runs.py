"""A table of official scores from synthetic recordings of several years."""

import shutil
import statistics

import pytest
from command_line import run_cli
from shared_runs import rows_of

from asd_jax import load_config, pipeline
from asd_jax.data.synthetic.synthesis import synthesize
from asd_jax.data.synthetic.takes import machines_of, sections_of
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ResultRow, write_results_csv
from asd_jax.metrics import domains_of
from asd_jax.papers import score_runs as module
from asd_jax.papers import scores
from asd_jax.papers.score_runs import FoundSet, find_sets, reproduce_scores
from asd_jax.runs.directory import RunDirectory
from asd_jax.runtime.progress import Silent

SYSTEMS = (
    "mel_knn",
    "dense_ae",
    "dis_spec_adacos_fixed_wo_mixup",
    "dis_spec_scac_trainable",
    "multibranch",
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("scores")


@pytest.fixture(scope="module")
def data(place):
    """Of 2020 and 2023 a part of the development sets, of 2021 an evaluation set without labels."""
    settings = {"machines": ["fan"], "clips": 4, "duration": 2.0}
    synthesize(place / "data/dcase2020", sections=2, **settings)
    synthesize(place / "data/dcase2021", year=2021, subset="eval", sections=1, **settings)
    synthesize(place / "data/2023", year=2023, **settings)
    return place / "data"


def results_of(year, subset, auc):
    """Results of a whole set."""
    return [
        ResultRow(machine, section, domain, seed, 5, 5, auc, auc, auc, 0.5, 0.5, 0.5)
        for machine in machines_of(year, subset)
        for section in sections_of(year, subset, machine)
        for domain in domains_of(year)
        for seed in (0, 1)
    ]


@pytest.fixture
def faked(monkeypatch):
    """Runs that only write results, of whole sets; `ends` makes one end with an error."""
    done, ends = {}, {}

    def run(config, data_dir, out_dir, ground_truth=None, **options):
        done[out_dir.name] = config, data_dir, ground_truth
        if out_dir.name in ends:
            raise ends[out_dir.name]
        _, year, subset = out_dir.name.rsplit("-", 2)
        auc = 0.6 + 0.01 * (int(year) - 2020) + 0.005 * (subset == "eval")
        RunDirectory(out_dir).claim(
            config, {"year": int(year), "synthetic": True, "n_clips": 1, "fingerprint": ""}
        )
        write_results_csv(out_dir / "results.csv", results_of(int(year), subset, auc))

    monkeypatch.setattr(module.pipeline, "run", run)
    return done, ends


@pytest.fixture
def every_set(monkeypatch, tmp_path):
    """As if all sets of the table were there, by these folders."""
    found = {
        (year, subset): FoundSet(tmp_path / f"{year}", subset)
        for year in range(2020, 2025)
        for subset in ("dev", "eval")
    }
    monkeypatch.setattr(module, "find_sets", lambda data_dir, year=0: dict(found))
    return found


def test_sets_are_found_by_machines_and_sections(data, tmp_path):
    found = find_sets(data)
    assert {key: (one.folder.name, one.called) for key, one in found.items()} == {
        (2020, "dev"): ("dcase2020", "dev"),
        (2021, "eval"): ("dcase2021", "eval"),
        (2023, "dev"): ("2023", "dev"),
    }
    assert [key for key, one in found.items() if one.hidden] == [(2021, "eval")]
    assert not any(one.problem for one in found.values())
    # A machine's folder alone, without one that says which set it is.
    shutil.copytree(data / "dcase2021/eval_data/fan", tmp_path / "dcase2021/fan")
    assert find_sets(tmp_path)[2021, "eval"].called == "dev"
    # The same set a second time.
    shutil.copytree(data / "dcase2021", tmp_path / "copy/dcase2021")
    problem = find_sets(tmp_path)[2021, "eval"].problem
    assert f"it is in {tmp_path}/" in problem and "give a folder with one" in problem


def test_a_table_and_again(place, data, capsys, monkeypatch):
    """Of the system without training; the others are left out here, as if not there yet."""
    known = {"mel_knn": scores.shipped_configs()["mel_knn"]}
    monkeypatch.setattr(scores, "shipped_configs", lambda: known)
    arguments = [
        "reproduce",
        "--paper=asdkit2025",
        f"--data_dir={data}",
        f"--out_dir={place / 'out'}",
        f"--cache_dir={place / 'cache'}",
        "--config.front_end.n_mels=8",
    ]
    status, text, err = run_cli(capsys, *arguments)
    assert status == 0 and "run 1 of 2: mel_knn-2020-dev" in err
    out = place / "out"
    lines = {(line["row"], line["column"]): line for line in rows_of(out / "tables.csv")}
    assert len(lines) == 15 * 12
    results = rows_of(out / "runs/mel_knn-2020-dev/results.csv")
    mean = statistics.mean(float(r[key]) for r in results for key in ("auc", "pauc_mcclish"))
    line = lines["raw_spec", "2020 dev"]
    assert float(line["ours_mean"]) == pytest.approx(100 * mean)
    assert (line["published"], line["difference"]) == ("64.81", "")
    assert line["note"].startswith("ours on 2020 dev is over 2 of the 23 sections")
    assert lines["raw_spec", "2023 dev"]["ours_mean"] != ""
    assert lines["raw_spec", "2021 eval"]["ours_mean"] == ""
    assert lines["raw_spec", "2020-2024 harmonic mean"]["ours_mean"] == ""
    for part in (
        "without DCASE 2021 (eval): it has no labelled test clips; give --ground_truth=",
        "without DCASE 2020 (eval), DCASE 2021 (dev), DCASE 2022 (dev, eval), DCASE 2023 (eval), "
        "DCASE 2024 (dev, eval): no recordings of them",
        "multibranch: not available, as this version has no configuration multibranch",
        "The data is synthetic; published numbers are of the challenge's recordings.",
        "Ours is with --config.front_end.n_mels=8.",
    ):
        assert part in text and part in (out / "tables.md").read_text(), part
    status, again, err = run_cli(capsys, *arguments)
    assert (status, again) == (0, text) and err.count("is finished; nothing to do") == 2
    status, _, err = run_cli(capsys, *arguments, "--config.front_end.n_mels=9")
    assert status == 2 and "holds a run of another configuration" in err and "run 1" not in err


def test_means_over_whole_sets_and_the_order_of_runs(tmp_path, faked, every_set):
    done, _ = faked
    outcome = reproduce_scores(
        "asdkit2025", tmp_path, tmp_path, overrides={"train.epochs": "2"}, reporter=Silent()
    )
    assert outcome.failed == ()
    assert list(done)[:3] == ["mel_knn-2020-dev", "mel_knn-2020-eval", "mel_knn-2021-dev"]
    assert [name[: -len("-2020-dev")] for name in list(done)[::10]] == [*SYSTEMS]
    config, folder, _ = done["dis_spec_scac_trainable-2022-eval"]
    assert (config.data.subset, folder.name, config.train.epochs) == ("eval", "2022", 2)
    assert config.detector.n_ffts == (1024,) and config.detector.learned_centres
    assert not done["dis_spec_adacos_fixed_wo_mixup-2020-dev"][0].detector.learned_centres
    # The published networks learn from all clips; thresholds are no part of the table.
    shares = {name: config.train.threshold_split for name, (config, *_) in done.items()}
    assert shares["dis_spec_scac_trainable-2022-eval"] == 0
    assert load_config("multibranch").train.threshold_split > 0
    assert "--config.train.threshold_split=0" in outcome.text
    values = [0.6 + 0.01 * i + 0.005 * j for i in range(5) for j in range(2)]
    lines = {
        (line["row"], line["column"]): line
        for line in rows_of(tmp_path / "tables.csv")
        if line["ours_mean"]
    }
    assert len(lines) == 5 * 12
    line = lines["ae", "2021 eval"]
    assert float(line["ours_mean"]) == pytest.approx(61.5) and line["n_seeds"] == "2"
    assert float(line["difference"]) == pytest.approx(61.5 - 54.89)
    for column, mean in (
        ("2020-2024 arithmetic mean", statistics.mean(values)),
        ("2020-2024 harmonic mean", statistics.harmonic_mean(values)),
    ):
        assert float(lines["raw_spec", column]["ours_mean"]) == pytest.approx(100 * mean)


def test_sets_without_labels_need_a_ground_truth(tmp_path, faked, every_set):
    done, _ = faked
    for year, subset in [*every_set]:
        hidden = subset == "eval"
        every_set[year, subset] = every_set[year, subset]._replace(hidden=hidden)
    options = {"overrides": {"train.epochs": "2"}, "reporter": Silent()}
    outcome = reproduce_scores("asdkit2025", tmp_path, tmp_path / "a", **options)
    assert "without DCASE 2024 (eval): it has no labelled test clips" in outcome.text
    assert not any(name.endswith("eval") for name in done)
    reproduce_scores("asdkit2025", tmp_path, tmp_path / "b", ground_truth="lists", **options)
    assert {name[-4:]: truth for name, (*_, truth) in done.items()} == {
        "-dev": None,
        "eval": "lists",
    }


def test_a_run_that_fails_is_named_and_the_others_go_on(tmp_path, faked, every_set):
    done, ends = faked
    ends["mel_knn-2021-dev"] = UserError("a recording is bad; see --config.data.channel")
    outcome = reproduce_scores("asdkit2025", tmp_path, tmp_path, reporter=Silent())
    assert outcome.failed == ("mel_knn-2021-dev",)
    # The key that the line names is the one that the command takes.
    why = "mel_knn-2021-dev could not be run: a recording is bad; see --config.mel_knn.data.channel"
    assert why in outcome.text and why in (tmp_path / "tables.md").read_text()
    settings = {"mel_knn.data.channel": "1"}
    other = tmp_path / "other"
    reproduce_scores("asdkit2025", tmp_path, other, overrides=settings, reporter=Silent())
    assert done["mel_knn-2020-dev"][0].data.channel == 1
    assert done["dense_ae-2020-dev"][0].data.channel == 0
    lines = {(line["row"], line["column"]): line for line in rows_of(tmp_path / "tables.csv")}
    assert lines["raw_spec", "2020-2024 harmonic mean"]["ours_mean"] == ""
    assert lines["ae", "2020-2024 harmonic mean"]["ours_mean"] != ""
    ends["dense_ae-2020-dev"] = UserError("stopped by SIGTERM", exit_status=143)
    with pytest.raises(UserError, match="SIGTERM"):
        reproduce_scores("asdkit2025", tmp_path, tmp_path, reporter=Silent())


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--config.data.subset=dev"], "no run of asdkit2025 has that key"),
        (
            ["--config.dis_spec_scac_trainable.detector.n_ffts=64,"],
            "the run is the one with 1024,; leave it as it is",
        ),
        (["--config.mel_knn.train.epochs=1"], "no run of asdkit2025 has that key"),
        (["--config.train.epochs=x"], "train.epochs=x: must be a whole number"),
        (["--data_dir=/no/where"], "/no/where"),
        (["--paper=asdkit"], "no such report; did you mean asdkit2025?"),
        (["--paper=rdp2026", "--data_dir={2021}"], "rdp2026 is about DCASE 2020 (dev, eval), "),
    ],
)
def test_what_is_wrong_is_one_line_before_any_work(data, tmp_path, capsys, more, message):
    more = [flag.replace("{2021}", str(data / "dcase2021")) for flag in more]
    status, out, err = run_cli(
        capsys,
        "reproduce",
        "--paper=asdkit2025",
        f"--data_dir={data}",
        f"--out_dir={tmp_path}",
        *more,
    )
    assert (status, out) == (2, "")
    assert message in err.splitlines()[-1] and "run 1 of" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_starts_nothing(data, capsys, monkeypatch):
    """Plans are another test's."""
    monkeypatch.setattr(pipeline, "dry_run", lambda config, *_, **__: f"plan of {config.name}")
    arguments = ["reproduce", "--paper=asdkit2025", "--dry_run"]
    status, text, _ = run_cli(capsys, *arguments, f"--data_dir={data}")
    assert status == 0
    assert "mel_knn-2020-dev\n  plan of mel_knn\n  likewise mel_knn-2023-dev\n" in text
    assert text.count("plan of multibranch") == 3
    assert text.endswith("10 runs; nothing was started.\n")
    status, _, err = run_cli(capsys, *arguments)
    assert status == 2 and "asdkit2025 needs --data_dir= and --out_dir=" in err
