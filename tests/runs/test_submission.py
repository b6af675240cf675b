"""Submissions to the challenge, made of runs of synthetic evaluation sets."""

import csv
import json
import shutil

import jax
import numpy as np
import pytest
import yaml
from command_line import run_cli
from ensemble_runs import given, write_run
from shared_runs import rows_of, without_pictures

import asd_jax
from asd_jax.config import ChoiceConfig, DataConfig, load_config
from asd_jax.data.synthetic import synthesize
from asd_jax.errors import UserError
from asd_jax.features.table import ClipInput
from asd_jax.runs.complexity import complexity_of
from asd_jax.runs.submission import make_submission

LABEL = "Smith_ABC_task2_1"
SMALL = {"front_end.n_mels": "16"}
TRAINED = SMALL | {"train.epochs": "1", "seeds": "0,1", "detector.hidden": "8,"}


@pytest.fixture(autouse=True)
def quick(no_pictures):
    """As its name says."""


@pytest.fixture(scope="module")
def root(both_sets):
    return both_sets


def run(name, settings, root, path, subset="both"):
    with without_pictures():
        config = load_config(name, settings | {"data.subset": subset})
        asd_jax.run(config, root, path)
    return path


@pytest.fixture(scope="module")
def untrained(root, tmp_path_factory):
    return run("spectral", SMALL, root, tmp_path_factory.mktemp("spectral") / "run")


@pytest.fixture(scope="module")
def trained(root, tmp_path_factory):
    return run("dense_ae", TRAINED, root, tmp_path_factory.mktemp("dense_ae") / "run")


def columns(path):
    with path.open(newline="") as file:
        return dict(csv.reader(file))


def meta_of(folder):
    return yaml.safe_load((folder / f"{folder.name}.meta.yaml").read_text(encoding="utf-8"))


def test_of_both_sets(untrained, tmp_path, capsys):
    """The files are the run's own, and results are those of its development set."""
    status, out, err = run_cli(
        capsys, "submission", untrained, f"--out_dir={tmp_path}", f"--label={LABEL}"
    )
    assert status == 0 and not err
    assert "has the scores of 32 clips" in out and "it would not be accepted yet: 1 fault" in out
    assert "warning: the recordings lack ToyNscale 00, ToyTank 00" in out
    assert "ToyDrone 00 16 of 200, shaker 00 16 of 200" in out
    folder = tmp_path / LABEL
    names = {
        f"{kind}_{machine}_section_00_test.csv"
        for kind in ("anomaly_score", "decision_result")
        for machine in ("ToyDrone", "shaker")
    }
    assert {path.name for path in folder.iterdir()} == names | {f"{LABEL}.meta.yaml"}
    assert [path.name for path in tmp_path.iterdir()] == [LABEL]
    for name in names:
        assert (folder / name).read_bytes() == (untrained / "eval/scores" / name).read_bytes()
    meta = meta_of(folder)
    assert meta["submission"]["authors"][0]["lastname"] == "Smith"
    assert meta["system"]["complexity"] == {
        "total_parameters": 0,
        "MACS": "none, as there is no network",
    }
    assert meta["system"]["train_datasets"] == ["DCASE 2023 Task 2 additional training dataset"]
    found = meta["results"]["development_dataset"]
    assert [*found] == ["fan", "valve", "harmonic_mean"]
    for row in rows_of(untrained / "dev/results.csv"):
        name, metric = {
            "source": ("auc_source", "auc"),
            "target": ("auc_target", "auc"),
            "all": ("pauc", "pauc_mcclish"),
        }[row["domain"]]
        assert found[row["machine"]][name] == round(100 * float(row[metric]), 2)
    values = [found[machine][key] for machine in ("fan", "valve") for key in found[machine]]
    # Of percents with two decimals, so to half of the last one.
    mean = len(values) / sum(1 / value for value in values)
    assert found["harmonic_mean"]["official_score"] == pytest.approx(mean, abs=0.011)


def test_filled_in_it_is_accepted(root, untrained, tmp_path, capsys):
    folder = make_submission(untrained, tmp_path, label=LABEL).folder
    path = folder / f"{LABEL}.meta.yaml"
    text = path.read_text(encoding="utf-8")
    meta = json.loads(json.dumps(yaml.safe_load(text)).replace("FILL IN", "Some"))
    meta["submission"]["abbreviation"] = "SP"
    path.write_text(yaml.safe_dump(meta), encoding="utf-8")
    status, out, _ = run_cli(capsys, "submission", f"--check={folder}", f"--data_dir={root}")
    assert status == 0 and "would be accepted in 2023: 32 clips" in out
    # The folder alone does not say that the recordings are a part of the set.
    status, out, _ = run_cli(capsys, "submission", f"--check={folder}")
    assert status == 2 and "fault: the files lack ToyNscale 00" in out
    (folder / "anomaly_score_shaker_section_00_test.csv").unlink()
    scores = folder / "anomaly_score_ToyDrone_section_00_test.csv"
    scores.write_text(scores.read_text().replace("_0003.wav", "_0099.wav"))
    status, out, _ = run_cli(capsys, "submission", f"--check={folder}", f"--data_dir={root}")
    assert status == 2
    where = "fault: ToyDrone_section_00_test: the files"
    assert f"{where} lack clips of the recordings (1): section_00_0003.wav" in out
    assert f"{where} have clips that are no recordings (1): section_00_0099.wav" in out


def test_the_mean_is_decided_as_the_fitted_detector_decides(root, trained, tmp_path, capsys):
    """Scores, thresholds and decisions of `asd-jax score` on the same recordings."""
    made = make_submission(trained, tmp_path, label=LABEL)
    assert made.lines[0].startswith("scores are the mean over the seeds 0, 1")
    for machine in ("ToyDrone", "shaker"):
        status, out, _ = run_cli(
            capsys, "score", trained / "eval", root / f"eval_data/{machine}/test", "--format=csv"
        )
        assert status == 0
        scored = {row["file"].rpartition("/")[2]: row for row in csv.DictReader(out.splitlines())}
        scores = columns(made.folder / f"anomaly_score_{machine}_section_00_test.csv")
        decisions = columns(made.folder / f"decision_result_{machine}_section_00_test.csv")
        assert scores.keys() == decisions.keys() == scored.keys()
        for clip, row in scored.items():
            # In other batches, sums of float32 are rounded differently.
            assert float(scores[clip]) == pytest.approx(float(row["score"]), rel=1e-5)
            assert decisions[clip] == row["decision"]
        own = [row for row in rows_of(trained / "eval/scores.csv") if row["machine"] == machine]
        for clip, score in scores.items():
            of_seeds = [np.float32(row["score"]) for row in own if row["clip"] == clip]
            assert np.float32(score) == np.mean(of_seeds, dtype=np.float32)


def test_decisions_by_a_threshold_that_is_between_those_of_the_seeds(trained, tmp_path):
    """Where the mean lies above its threshold, which is neither seed's."""
    path = shutil.copytree(trained / "eval", tmp_path / "run")
    fitted = asd_jax.load(path)
    threshold = fitted.threshold(machine="shaker")
    rows = rows_of(path / "scores.csv")
    first = [row for row in rows if row["machine"] == "shaker"][0]["clip"]
    for row in rows:
        if row["machine"] == "shaker":
            apart = 0.5 if row["seed"] == "0" else -0.5
            above = 1.01 if row["clip"] == first else 0.99
            row["score"] = repr(float(np.float32(threshold * (above + apart))))
    with (path / "scores.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    made = make_submission(path, tmp_path, label=LABEL)
    decisions = columns(made.folder / "decision_result_shaker_section_00_test.csv")
    assert decisions == {clip: str(int(clip == first)) for clip in decisions}


def test_one_seed(trained, tmp_path):
    made = make_submission(trained, tmp_path, label=LABEL, seed=1)
    for kind in ("anomaly_score", "decision_result"):
        name = f"{kind}_shaker_section_00_test.csv"
        assert (made.folder / name).read_bytes() == (
            trained / "eval/scores/seed_1" / name
        ).read_bytes()
    description = meta_of(made.folder)["system"]["description"]
    assert description["ensemble_method_subsystem_count"] is None
    found = meta_of(made.folder)["results"]["development_dataset"]
    for row in rows_of(trained / "dev/results.csv"):
        if row["seed"] == "1" and row["domain"] == "all":
            assert found[row["machine"]]["pauc"] == round(100 * float(row["pauc_mcclish"]), 2)
    with pytest.raises(UserError, match="--seed=2: .* has the seeds 0, 1"):
        make_submission(trained, tmp_path, label="Smith_ABC_task2_2", seed=2)


def test_parameters_and_macs_by_hand(trained):
    """Of a network 80-8-bottleneck-8-80 on the 59 views of a clip of 63 frames of 16 bands."""
    fitted = asd_jax.load(trained / "eval")
    params = fitted.weights["params"]
    kernels = [
        leaf.shape[1:]
        for layer in params.values()
        for name, leaf in layer.items()
        if name == "kernel"
    ]
    products = sum(inputs * outputs for inputs, outputs in kernels)
    assert (80, 8) in kernels and (8, 80) in kernels
    one = complexity_of(fitted, 2.0, 1)
    assert one.subsystems == 1
    # Normalisation and the squared error multiply elements, too; XLA counts other operations on
    # elements as well, of which this small network has many.
    weights = jax.tree.map(lambda leaf: leaf[0], fitted.weights)
    score = jax.jit(fitted.detector.score).lower(weights, {}, ClipInput(np.zeros((63, 16)), 63))
    assert 59 * products < one.macs
    assert one.macs == pytest.approx(score.cost_analysis()["flops"] / 2, rel=0.15)
    both = complexity_of(fitted, 2.0, 2)
    assert (both.subsystems, both.parameters, both.macs) == (2, 2 * one.parameters, 2 * one.macs)
    assert one.parameters == sum(
        int(np.prod(leaf.shape[1:]))
        for part in ("params", "batch_stats")
        for layer in fitted.weights.get(part, {}).values()
        for leaf in layer.values()
    )


def test_of_an_ensemble(untrained, trained, tmp_path):
    for subset in ("dev", "eval"):
        members = [shutil.copytree(path / subset, tmp_path / subset / path.parent.name)
                   for path in (untrained, trained)]  # fmt: skip
        asd_jax.ensemble(members, tmp_path / f"both_{subset}")
    made = make_submission(
        tmp_path / "both_eval", tmp_path, label=LABEL, dev_run=tmp_path / "both_dev"
    )
    fitted = asd_jax.load(tmp_path / "both_eval")
    rows = rows_of(tmp_path / "both_eval/scores.csv")
    for machine in ("ToyDrone", "shaker"):
        scores = columns(made.folder / f"anomaly_score_{machine}_section_00_test.csv")
        decisions = columns(made.folder / f"decision_result_{machine}_section_00_test.csv")
        for clip, score in scores.items():
            own = [row for row in rows if (row["machine"], row["clip"]) == (machine, clip)]
            of_seeds = [float(row["score"]) for row in own]
            assert len(of_seeds) == 2 and float(score) == np.mean(of_seeds)
            above = np.mean(of_seeds) > fitted.threshold(machine=machine)
            assert decisions[clip] == str(int(above))
    system = meta_of(made.folder)["system"]
    description = system["description"]
    assert description["ensemble_method_subsystem_count"] == 3
    assert description["decision_making"].startswith("mean of the members' standardised scores")
    assert "Gaussian" in description["machine_learning_method"]
    assert "dense autoencoder" in description["machine_learning_method"]
    alone = complexity_of(asd_jax.load(trained / "eval"), 2.0, 2)
    assert system["complexity"] == {"total_parameters": alone.parameters, "MACS": alone.macs}
    with pytest.raises(UserError, match=r"--dev_run=.* is of spectral, and .* of ensemble"):
        make_submission(
            tmp_path / "both_eval", tmp_path / "o", label=LABEL, dev_run=untrained / "dev"
        )
    shutil.rmtree(tmp_path / "eval")
    with pytest.raises(UserError, match="no run directory"):
        make_submission(tmp_path / "both_eval", tmp_path / "o", label=LABEL)


@pytest.mark.parametrize(
    ("year", "machine", "names"),
    [
        (2020, "fan", ["anomaly_score_fan_id_01.csv"]),
        (
            2021,
            "fan",
            [
                f"{kind}_fan_section_03_{domain}_test.csv"
                for kind in ("anomaly_score", "decision_result")
                for domain in ("source", "target")
            ],
        ),
        (
            2026,
            "Sander",
            [
                "anomaly_score_Sander_section_00_test.csv",
                "decision_result_Sander_section_00_test.csv",
            ],
        ),
    ],
)
def test_names_of_other_years(tmp_path, year, machine, names):
    synthesize(
        tmp_path / "data", year=year, subset="eval", machines=[machine], sections=1, clips=8,
        duration=2.0,
    )  # fmt: skip
    path = run("spectral", SMALL, tmp_path / "data", tmp_path / "run", "eval")
    made = make_submission(path, tmp_path / "out", label=LABEL)
    assert sorted(path.name for path in made.folder.glob("*.csv")) == names
    assert made.check.year == year and len(made.check.faults) == 1
    assert "results.development_dataset" in made.check.faults[0]
    assert "results of the development set are left out; --dev_run=RUN gives them" in made.lines


def test_runs_that_are_no_submission(untrained, tmp_path, capsys):
    of_2020 = write_run(tmp_path / "of_2020", [given([1.0], [1.0, 2.0])])

    def refused(run_dir, *flags):
        status, _, err = run_cli(
            capsys, "submission", run_dir, f"--out_dir={tmp_path / 'out'}", *flags
        )
        assert status == 2 and len(err.splitlines()) == 1 and not (tmp_path / "out").exists()
        return err

    assert "is of the development set of 2023, and a submission is of" in refused(untrained / "dev")
    assert "is of the development set of 2020" in refused(of_2020)
    assert "is not of the form" in refused(untrained, "--label=Smith_task2_1")
    assert "is not of the development set" in refused(
        untrained / "eval", f"--dev_run={untrained / 'eval'}"
    )
    assert f"--dev_run={of_2020} is of 2020, and" in refused(untrained, f"--dev_run={of_2020}")
    assert "is no run directory" in refused(tmp_path / "nothing")
    unfinished = shutil.copytree(untrained / "eval", tmp_path / "unfinished")
    (unfinished / "results.md").unlink()
    assert "has no results yet" in refused(unfinished)
    (tmp_path / "dev_alone").mkdir()
    (tmp_path / "dev_alone" / "sets.json").write_text('{"sets": ["dev"]}')
    assert "has no run of the evaluation set" in refused(tmp_path / "dev_alone")


@pytest.mark.parametrize(
    ("group", "year", "message"),
    [
        ({"machine": "fan"}, -1, "is of recordings of your own"),
        ({"machine": "fan"}, 0, "is of MIMII"),
        ({"machine": "blender"}, 2023, "has scores of blender 00, not of 2023's evaluation set"),
    ],
)
def test_recordings_that_are_no_evaluation_set(tmp_path, group, year, message):
    path = write_run(tmp_path / "run", [given([1.0], [1.0, 2.0], **group)], year=year)
    with pytest.raises(UserError, match=message):
        make_submission(path, tmp_path / "out", label=LABEL)


def changed_scores(untrained, tmp_path, change):
    path = shutil.copytree(untrained / "eval", tmp_path / "run")
    lines = (path / "scores.csv").read_text().splitlines()
    header = lines[0].split(",")
    row = dict(zip(header, lines[1].split(","), strict=True))
    lines[1] = ",".join({**row, **change}.values())
    (path / "scores.csv").write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("score", ["nan", "inf"])
def test_scores_that_are_no_numbers(untrained, tmp_path, score):
    path = changed_scores(untrained, tmp_path, {"score": score})
    with pytest.raises(UserError, match=f"1 scores that are no finite numbers, first {score} of"):
        make_submission(path, tmp_path / "out", label=LABEL)
    assert not (tmp_path / "out").exists()


def test_renamed_clips(untrained, tmp_path):
    name = "section_00_source_test_normal_0000_vel_1.wav"
    path = changed_scores(untrained, tmp_path, {"clip": name})
    with pytest.raises(UserError, match="test clips that were renamed, as section_00_source_test_"):
        make_submission(path, tmp_path / "out", label=LABEL)


def test_what_is_there_stays(untrained, tmp_path):
    folder = tmp_path / LABEL
    folder.mkdir()
    make_submission(untrained, tmp_path, label=LABEL)  # an empty folder is free
    form = folder / f"{LABEL}.meta.yaml"
    form.write_text("mine")
    with pytest.raises(UserError, match="is there already; choose another --label or --out_dir"):
        make_submission(untrained, tmp_path, label=LABEL)
    assert form.read_text() == "mine"
    # Another system of the same authors lies beside it.
    other = make_submission(untrained, tmp_path, label="Smith_ABC_task2_2")
    assert other.folder.parent == folder.parent


def test_flags_that_do_not_go_together(untrained, tmp_path, capsys):
    for flags, message in (
        ([untrained], "needs --out_dir"),
        ([], "needs --run_dir=… or --check=…"),
        (["--check=x", "--seed=0"], "--check and --seed do not go together"),
        ([untrained, "--out_dir=x", "--year=2023"], "--year has no effect without --check"),
        (["--check=x", "--year=1999"], "the challenge years are 2020 to 2026"),
        ([untrained, untrained, "--out_dir=x"], "takes one run, not"),
    ):
        status, _, err = run_cli(capsys, "submission", *flags)
        assert status == 2 and message in err and len(err.splitlines()) == 1


def test_a_choice_has_the_scores_of_each_machines_member(untrained, root, tmp_path):
    members = {name: load_config(name, SMALL) for name in ("spectral", "mel_mahalanobis")}
    config = ChoiceConfig(
        members, data=DataConfig(subset="eval"), seeds=(0,), choices=("shaker:mel_mahalanobis",),
        default="spectral", name="choice",
    )  # fmt: skip
    asd_jax.run(config, root, tmp_path / "run")
    made = make_submission(tmp_path / "run", tmp_path, label=LABEL)
    for row in rows_of(tmp_path / "run/scores.csv"):
        suffix = f"{row['machine']}_section_00_test.csv"
        assert columns(made.folder / f"decision_result_{suffix}")[row["clip"]] == row["decision"]
    for kind in ("anomaly_score", "decision_result"):
        name = f"{kind}_ToyDrone_section_00_test.csv"
        assert (made.folder / name).read_bytes() == (untrained / "eval/scores" / name).read_bytes()
    description = meta_of(made.folder)["system"]["description"]
    assert "shaker by mel_mahalanobis" in description["decision_making"]
    assert description["ensemble_method_subsystem_count"] is None
