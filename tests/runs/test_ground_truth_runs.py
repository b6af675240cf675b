"""Evaluation sets evaluated by a ground truth, and both sets of a year in one run."""

import csv
import json
import shutil

import pytest
from command_line import run_cli
from shared_runs import rows_of

import asd_jax
from asd_jax.config import load_config
from asd_jax.data.layouts import find_clips
from asd_jax.data.synthetic import synthesize
from asd_jax.errors import UserError

SETTINGS = {"front_end.n_mels": "16"}
FLAGS = ["--config=spectral", "--config.front_end.n_mels=16"]


@pytest.fixture(autouse=True)
def quick(no_pictures):
    """As its name says."""


@pytest.fixture(scope="module")
def root(both_sets):
    return both_sets


def run(data, out_dir, subset, **options):
    config = load_config("spectral", SETTINGS | {"data.subset": subset})
    return asd_jax.run(config, data, out_dir, **options)


@pytest.fixture(scope="module")
def unlabelled(root, tmp_path_factory):
    path = tmp_path_factory.mktemp("eval") / "run"
    run(root, path, "eval")
    return path


@pytest.fixture
def copied(unlabelled, tmp_path):
    return shutil.copytree(unlabelled, tmp_path / "run")


def test_scores_get_the_labels_that_the_generator_knows(root, copied, capsys):
    before = rows_of(copied / "scores.csv")
    assert {row["label"] for row in before} == {"-1"}
    status, out, err = run_cli(capsys, "report", copied, f"--ground_truth={root / 'ground_truth'}")
    assert status == 0 and "official score of 2023" in out and "nan" not in out
    assert f"Labels are those of {root / 'ground_truth'}." in out
    with (root / "anomalies.csv").open(newline="") as file:
        faulty = {
            (row["machine"], row["path"].rpartition("/")[2]): row["domain"]
            for row in csv.DictReader(file)
        }
    after = rows_of(copied / "scores.csv")
    for old, new in zip(before, after, strict=True):
        key = new["machine"], new["clip"]
        assert new["label"] == str(int(key in faulty))
        assert new["domain"] == faulty.get(key, new["domain"]) != ""
        assert [old[k] for k in ("clip", "score", "decision")] == [
            new[k] for k in ("clip", "score", "decision")
        ]
    for place in (copied / "results.md", copied / "analysis.md", copied / "report.html"):
        assert "ToyDrone" in place.read_text()
    assert json.loads((copied / "ground_truth.json").read_text())["source"].startswith(str(root))


def test_at_the_run_and_afterwards_are_alike(root, copied, tmp_path):
    run(root, tmp_path / "at_once", "eval", ground_truth=root / "ground_truth")
    again = run(root, copied, "eval", ground_truth=root / "ground_truth" / "ground_truth_data")
    assert "official score" in again.table
    for name in ("scores.csv", "results.csv", "training_scores.csv"):
        assert (copied / name).read_bytes() == (tmp_path / "at_once" / name).read_bytes()
    # Without one, a finished run is as it is.
    assert run(root, copied, "eval").table == again.table


def test_a_second_ground_truth_replaces_the_first(root, copied, tmp_path, capsys):
    """As where the first was wrong; clips of another year are refused as of an unlabelled run."""
    assert run_cli(capsys, "report", copied, f"--ground_truth={root / 'ground_truth'}")[0] == 0
    before = {(row["clip"], row["machine"]): row["label"] for row in rows_of(copied / "scores.csv")}
    flipped = shutil.copytree(root / "ground_truth" / "ground_truth_data", tmp_path / "flipped")
    for path in flipped.iterdir():
        lines = [line.split(",") for line in path.read_text().splitlines()]
        path.write_text("".join(f"{name},{1 - int(label)}\n" for name, label in lines))
    assert run_cli(capsys, "report", copied, f"--ground_truth={flipped}")[0] == 0
    after = {(row["clip"], row["machine"]): row["label"] for row in rows_of(copied / "scores.csv")}
    assert after == {key: str(1 - int(label)) for key, label in before.items()}
    other = changed(root, tmp_path, lambda lines: [x.replace("_00_0", "_00_1") for x in lines])
    status, _, err = run_cli(capsys, "report", copied, f"--ground_truth={other}")
    assert status == 2 and "lacks 16 of the 16 test clips of ToyDrone 00" in err


def changed(root, tmp_path, change):
    """The ground truth with other lines of the fan-like machine."""
    folder = shutil.copytree(root / "ground_truth", tmp_path / "truth")
    for path in folder.rglob("*ToyDrone*"):
        lines = change(path.read_text().splitlines())
        path.write_text("\n".join(lines) + "\n")
    return folder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: lines[1:], r"lacks 1 of the 16 test clips of ToyDrone 00: section_00_0000"),
        (
            lambda lines: [*lines, lines[0].replace("_0000", "_0099", 1)],
            r"has 1 clips of ToyDrone 00 that are not scored: section_00_0099.wav",
        ),
        (
            lambda lines: [line.replace("section_00", "section_03") for line in lines],
            "lacks 16 of the 16 test clips",
        ),
    ],
)
def test_a_ground_truth_of_other_clips_is_refused(root, copied, tmp_path, capsys, change, message):
    """By name, and nothing is changed; before a run begins as well."""
    folder = changed(root, tmp_path, change)
    before = {path.name: path.read_bytes() for path in copied.glob("*.*")}
    with pytest.raises(UserError, match=message):
        run(root, tmp_path / "new", "eval", ground_truth=folder)
    assert not (tmp_path / "new").exists()
    capsys.readouterr()
    status, _, err = run_cli(capsys, "report", copied, f"--ground_truth={folder}")
    assert status == 2 and len(err.splitlines()) == 1
    assert {path.name: path.read_bytes() for path in copied.glob("*.*")} == before


def test_of_other_machines_or_no_challenge(root, copied, tmp_path, data):
    other = tmp_path / "ground_truth_pump_section_00_test.csv"
    other.write_text("section_00_0000.wav,1\n")
    with pytest.raises(UserError, match="of other data: it has pump 00, and the test clips are of"):
        run(root, copied, "eval", ground_truth=tmp_path)
    other.rename(tmp_path / "ground_truth_shaker_section_00_test.csv")
    with pytest.raises(UserError, match="lacks ToyDrone 00, of which there are 16 clips without"):
        run(root, copied, "eval", ground_truth=tmp_path)
    own = asd_jax.data.OwnFolders(root / "dev_data/fan/train", root / "dev_data/fan/test")
    with pytest.raises(UserError, match="these recordings are no such set; leave it out"):
        asd_jax.run(load_config("spectral"), own, tmp_path / "own", ground_truth=root)


def test_both_sets_in_one_run(root, unlabelled, tmp_path, capsys):
    both = tmp_path / "both"
    result = run(root, both, "both", ground_truth=root / "ground_truth")
    first, second = result.table.split("evaluation set")
    assert first.startswith("development set")
    assert "fan" in first and "ToyDrone" not in first and "ToyDrone" in second
    assert {*result.scores["machine"]} == {"fan", "valve", "ToyDrone", "shaker"}
    alone = {row["clip"]: row["score"] for row in rows_of(unlabelled / "scores.csv")}
    both_rows = rows_of(both / "eval" / "scores.csv")
    assert {row["clip"]: row["score"] for row in both_rows} == alone
    assert {row["label"] for row in both_rows} == {"0", "1"}
    for subset, machines in (("dev", ("fan", "valve")), ("eval", ("ToyDrone", "shaker"))):
        for machine in machines:
            for kind in ("anomaly_score", "decision_result"):
                path = both / subset / "scores" / f"{kind}_{machine}_section_00_test.csv"
                assert path.is_file()
    status, out, _ = run_cli(capsys, "report", both)
    assert status == 0 and out.count("official score of 2023") == 2
    status, _, err = run_cli(capsys, "score", both, root / "eval_data/shaker/test")
    assert status == 2 and f"name {both / 'dev'} or {both / 'eval'}" in err
    status, out, _ = run_cli(capsys, "report", both, tmp_path / "both", "--format=markdown")
    assert status == 0 and "## evaluation set" in out
    # The organisers' baselines by machine type; means and scores are of the whole set.
    plain = out.replace("**", "")
    assert "| challenge baseline (MSE) | AUC (source) | 79.68 | 69.43 |" in plain
    assert "| challenge baseline (Mahalanobis) | AUC (source) | 81.30 | 84.77 |" in plain
    assert "61.05" not in plain
    status, out, _ = run_cli(capsys, "report", both, "--format=latex")
    assert status == 0 and out.startswith("% development set\n\n% In percent; harmonic means")
    assert out.count(r"\begin{tabular}{llrrr}") == 2 and r"both & AUC (source) & " in out
    status, _, err = run_cli(capsys, "report", both / "dev", "--format=latex", "--false_alarms=0.1")
    assert status == 2 and "--false_alarms changes decisions" in err
    # Again, it is finished; with two of them, one report a set.
    again = run(root, both, "both")
    assert again.table == result.table
    status, out, _ = run_cli(capsys, "report", both, both, "--format=csv")
    assert status == 0 and "ToyDrone" in out and "valve" in out


def test_both_sets_of_some_machines(root, tmp_path):
    config = load_config("spectral", SETTINGS | {"data.subset": "both", "data.machines": "shaker"})
    result = asd_jax.run(config, root, tmp_path / "one")
    assert {*result.scores["machine"]} == {"shaker"}
    assert not (tmp_path / "one" / "dev").exists()


def test_where_there_is_one_set_alone(root, tmp_path, capsys):
    with pytest.raises(UserError, match="data.subset is both, and .* has no evaluation set"):
        run(root / "dev_data", tmp_path / "new", "both")
    assert not (tmp_path / "new").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "notes.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        run(root, tmp_path / "used", "both")


def test_a_plan_of_both_sets(root, capsys):
    status, out, _ = run_cli(
        capsys, "run", *FLAGS, "--config.data.subset=both", "--dry_run", f"--data_dir={root}",
        f"--ground_truth={root / 'ground_truth'}",
    )  # fmt: skip
    assert status == 0 and out.index("development set") < out.index("evaluation set")


@pytest.mark.parametrize("year", [2020, 2021, 2022, 2024, 2025, 2026])
def test_ground_truth_of_every_year(tmp_path, year):
    """As the generator writes it, which is as the organisers do."""
    machines = {2020: "fan", 2021: "fan", 2022: "fan", 2024: "Scanner", 2025: "ToyPet"}
    machine = machines.get(year, "Sander")
    synthesize(
        tmp_path / "data", year=year, subset="eval", machines=[machine], sections=1, clips=8,
        duration=2.0,
    )  # fmt: skip
    result = run(
        tmp_path / "data", tmp_path / "run", "eval", ground_truth=tmp_path / "data/ground_truth"
    )
    assert {*result.scores["label"].tolist()} == {0, 1}
    domains = {*result.scores["domain"].tolist()}
    assert domains == ({""} if year == 2020 else {"source", "target"})
    auc = result.results["auc"]
    assert len(auc) and (auc == auc).all()


def test_names_with_and_without_attributes(tmp_path):
    folder = tmp_path / "eval_data" / "Sander" / "train"
    folder.mkdir(parents=True)
    for i, end in enumerate(("", "_", "_noAttribute", "_noAttributes", "_vel_3")):
        (folder / f"section_00_source_train_normal_{i:04d}{end}.wav").write_bytes(b"RIFF")
    clips = find_clips(tmp_path)
    assert [clip.attributes for clip in clips] == [()] * 4 + [(("vel", "3"),)]
