"""Choosing among finished runs from the command line, without labels."""

import csv
import io
import json
import shutil

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from shared_runs import rows_of

import asd_jax
from asd_jax.audio.pseudo_anomalies import CHOOSING, KINDS, STRENGTHS
from asd_jax.data.synthetic import synthesize
from asd_jax.errors import UserError
from asd_jax.runs.places import read_places
from asd_jax.runs.select import judge, select
from asd_jax.runtime.progress import Reporter, Silent

NETWORK = {
    "front_end.n_mels": "16",
    "detector.hidden": "8,",
    "train.epochs": "1",
    "train.batch_size": "64",
    "seeds": "0,",
}


def run(data, place, config, settings=None, **options):
    asd_jax.run(
        asd_jax.load_config(config, settings or {}), data, place,
        cache_dir=place.parent / "cache", reporter=Silent(), **options,
    )  # fmt: skip
    return place


@pytest.fixture(autouse=True)
def quick(no_pictures):
    """As its name says."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two machines of one id each, which is less to score than the data of other tests."""
    folder = tmp_path_factory.mktemp("data") / "two"
    synthesize(folder, machines=["fan", "valve"], sections=1, clips=12, duration=2.0)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("select")


@pytest.fixture(scope="module")
def runs(data, place):
    """A good run and a poor one: nearest clips by two bands alone."""
    from shared_runs import without_pictures

    with without_pictures():
        good = run(data, place / "good", "mel_mahalanobis")
        poor = run(data, place / "poor run ä", "mel_knn", {"front_end.n_mels": "2"})
        network = run(
            data, place / "network", "dense_ae", {**NETWORK, "train.threshold_split": "0.4"}
        )
        learned = run(data, place / "learned", "dense_ae", NETWORK)
        asd_jax.ensemble([good, network], place / "both", reporter=Silent())
    return {
        "good": good, "poor": poor, "network": network, "learned": learned, "both": place / "both",
    }  # fmt: skip


def test_a_table_ranks_the_candidates(runs, capsys):
    status, out, err = run_cli(capsys, "select", runs["poor"], runs["good"], "--clips=12")
    assert status == 0
    assert "2/2" in err
    lines = out.splitlines()
    assert lines[0].split() == ["run", "pseudo-AUC", "lead", "best", "regret", "fan", "valve"]
    assert lines[2].startswith("good ") and lines[3].startswith("poor run ä ")
    assert lines[-1].startswith("chosen: good, the best of these by a probability of ")
    table = [line.split() for line in lines[5:9]]
    assert table[0] == ["machine", "run", "best"]
    assert [row[0] for row in table[2:]] == ["fan", "valve"]


def test_records_have_what_the_function_returns(runs, capsys):
    given = [runs["poor"], runs["good"]]
    found = asd_jax.select(given, clips=12, seed=3, reporter=Silent())
    assert found.names == ("good", "poor run ä") and found.chosen == "good"
    assert found.machines == ("fan", "valve") and found.notes == ()
    command = ["select", *given, "--clips=12", "--seed=3"]
    status, out, _ = run_cli(capsys, *command, "--format=csv")
    assert status == 0
    rows = [*csv.DictReader(io.StringIO(out))]
    assert len(rows) == 2 * (1 + 2)
    assert [row["takes"] for row in rows if row["machine"] == "all machines"] == ["true", "false"]
    assert [float(row["pseudo_auc"]) for row in rows[:2]] == found.auc.tolist()
    assert [float(row["best"]) for row in rows[:2]] == found.sureness.tolist()
    assert [float(row["pseudo_auc"]) for row in rows[2:]] == found.of_machine.T.ravel().tolist()
    assert float(rows[1]["lead"]) == found.auc[0] - found.auc[1]
    assert rows[2]["lead"] == "" and rows[2]["takes"] in ("true", "false")
    status, out, _ = run_cli(capsys, *command, "--format=json")
    document = json.loads(out)
    assert status == 0 and document["chosen"] == "good" and document["undecided"] is None
    assert [each["candidate"] for each in document["candidates"]] == [*found.names]
    assert [each["machine"] for each in document["machines"]] == ["fan", "valve"]
    assert [*document["machines"][0]["strengths"]] == [*CHOOSING]
    assert document["machines"][1]["takes"] == found.by_machine["valve"]


@pytest.mark.slow  # judges twice
def test_all_candidates_score_the_same_clips(runs):
    judged = judge([runs["good"], runs["poor"]], clips=12, seed=0, reporter=Silent())
    turned = judge([runs["poor"], runs["good"]], clips=12, seed=0, reporter=Silent())
    for machine, sections in judged.sections.items():
        for one, two in zip(sections, turned.sections[machine], strict=True):
            assert one.pseudo.shape == (2, STRENGTHS, 12)
            assert one.normal.shape == (2, 12)  # all training clips, in five folds
            np.testing.assert_array_equal(one.pseudo, two.pseudo[::-1])  # nor does their order
            np.testing.assert_array_equal(one.kind, [KINDS.index(kind) for kind in CHOOSING] * 3)


def test_networks_are_judged_by_the_clips_they_held_out(runs):
    given = [runs["good"], runs["network"], runs["both"]]
    judged = judge(given, clips=12, seed=0, reporter=Silent())
    assert judged.notes == ()
    rows = rows_of(runs["network"] / "training_scores.csv")
    held_out = [row for row in rows if row["unseen"] == "1"]
    by_group = {}
    for row in held_out:
        by_group.setdefault(row["machine"], {}).setdefault(row["section"], []).append(row)
    for machine, sections in judged.sections.items():
        for own, kept in zip(sections, by_group[machine].values(), strict=True):
            # Their scores are those of the run's file, up to the rounding of other batches.
            np.testing.assert_allclose(
                sorted(own.normal[1]), sorted(float(row["score"]) for row in kept), rtol=1e-4
            )
            # Another fit that never heard them gives these scores.
            group = machine, kept[0]["section"]
            training, _ = read_places(runs["good"] / "recordings.csv")
            sounds = {
                name: soundfile.read(path, dtype="float32")[0]
                for (*place, name), path in training.items()
                if tuple(place) == group
            }
            names = {row["clip"] for row in kept}
            fitted = asd_jax.fit(
                "mel_mahalanobis",
                waveforms=[sound for name, sound in sounds.items() if name not in names],
                sample_rate=16_000,
            )
            expected = fitted.score(np.stack([sounds[name] for name in names]), 16_000)
            np.testing.assert_allclose(sorted(own.normal[0]), sorted(expected), rtol=1e-4)


def test_who_learned_from_the_clips_is_named(runs, capsys):
    status, _, err = run_cli(
        capsys, "select", runs["learned"], runs["network"], "--clips=12", "--least=0"
    )
    assert status == 0
    assert "fan 00: learned learned from the normal clips that it is judged by" in err
    assert "network learned" not in err
    judged = judge([runs["learned"], runs["good"]], clips=12, seed=0, reporter=Silent())
    assert len(judged.notes) == 2 and judged.sections["fan"][0].normal.shape == (2, 12)


def test_it_is_undecided_with_a_reason(runs, capsys):
    status, out, _ = run_cli(
        capsys, "select", runs["good"], runs["both"], "--clips=12", "--least=1"
    )
    assert status == 0
    assert out.splitlines()[-1].startswith("undecided: ")
    assert out.splitlines()[-1].endswith("only, less than 100 %")
    command = ["select", runs["good"], runs["both"], "--clips=12", "--least=1", "--format=json"]
    _, out, _ = run_cli(capsys, *command)
    document = json.loads(out)
    assert document["chosen"] is None and document["undecided"].endswith("less than 100 %")


@pytest.mark.slow  # `undecided` itself is tested above, and saturation in test_selection.py
def test_it_is_undecided_where_every_change_is_heard(tmp_path, capsys):
    """A machine's clips are the same noise, but for one of 100 dB less: no change is missed."""
    rng = np.random.default_rng(0)
    for machine in ("fan ü", "pump"):
        (tmp_path / "normal" / machine).mkdir(parents=True)
        noise = rng.normal(0, 0.1, 32_000)
        for i in range(12):
            sound = noise + rng.normal(0, 1e-6, noise.size)
            path = tmp_path / "normal" / machine / f"{i} ö.wav"
            soundfile.write(path, sound, 16_000, subtype="FLOAT")
    source = asd_jax.data.own_folders.OwnFolders(tmp_path / "normal", machine_folders=True)
    both = [run(source, tmp_path / name, name) for name in ("mel_mahalanobis", "mel_knn")]
    status, out, _ = run_cli(capsys, "select", *both, "--clips=12", "--least=0")
    assert status == 0
    assert "undecided: all candidates find the pseudo-anomalies, or all miss them" in out
    status, out, _ = run_cli(capsys, "select", *both, "--clips=12", "--format=csv")
    assert status == 0 and {row["best"] for row in csv.DictReader(io.StringIO(out))} == {"nan"}


@pytest.mark.slow  # scores all kinds
def test_one_machine_of_one_section(single, place, capsys):
    one = run(single, place / "one", "mel_mahalanobis")
    two = run(single, place / "two", "mel_knn")
    judged = judge([one, two], clips=12, seed=0, reporter=Silent(), kinds=KINDS)
    (own,) = judged.sections["fan"]
    # There is no other class and no other condition to mix in.
    assert {KINDS[kind] for kind in own.kind} == {*KINDS} - {"class", "condition"}
    status, out, _ = run_cli(capsys, "select", one, two, "--clips=12")
    assert status == 0 and out.splitlines()[0].split()[-1] == "regret"


def refused(capsys, *arguments):
    status, out, err = run_cli(capsys, "select", *arguments)
    assert status == 2 and out == ""
    (line,) = [line for line in err.splitlines() if line.startswith("asd-jax: ")]
    return line


def test_requests_that_cannot_be_are_refused(runs, capsys, tmp_path):
    assert "select needs --run_dir" in refused(capsys)
    assert "needs two runs or more, not 1" in refused(capsys, runs["good"])
    assert "is named twice" in refused(capsys, runs["good"], runs["good"])
    assert "no run directory" in refused(capsys, runs["good"], tmp_path / "nothing")
    both = runs["good"], runs["poor"]
    assert "there are 4 kinds" in refused(capsys, *both, "--clips=3")
    assert "seed" in refused(capsys, *both, "--seed=-1")
    assert "least" in refused(capsys, *both, "--least=1.5")
    unfinished = shutil.copytree(runs["good"], tmp_path / "unfinished")
    (unfinished / "results.md").unlink()
    assert "has no results yet" in refused(capsys, runs["good"], unfinished)
    with pytest.raises(UserError, match="paths is 'A'.*a list of run directories"):
        select("A")


def test_runs_on_other_data_are_refused(runs, data, single, place, capsys, tmp_path):
    fan = run(data, place / "fan", "mel_knn", {"data.machines": "fan,"})
    line = refused(capsys, runs["good"], fan)
    assert "fan has no clips of valve 00, which good has" in line
    assert "fan has no clips of valve 00" in refused(capsys, fan, runs["good"])
    # The same names, and other sounds.
    other = tmp_path / "other"
    synthesize(other, machines=["fan"], sections=1, clips=10, duration=2.0, seed=1)
    one, two = (
        run(place_, tmp_path / f"r{i}", "mel_knn") for i, place_ in ((0, single), (1, other))
    )
    line = refused(capsys, one, two)
    assert "r0 learned from" in line and "choose among runs on the same data" in line
    # The same sounds in another folder.
    moved = shutil.copytree(single, tmp_path / "moved")
    three = run(moved, tmp_path / "r3", "mel_mahalanobis")
    assert select([one, three], clips=12, reporter=Silent()).machines == ("fan",)
    shutil.rmtree(moved)
    line = refused(capsys, three, one)
    assert "missing: no such file" in line
    (tmp_path / "r3" / "recordings.csv").unlink()
    assert "r3 does not say where" in refused(capsys, three, one)


def test_too_few_clips_are_refused(runs, data, place, capsys):
    few = run(data, place / "few", "dense_ae", {**NETWORK, "train.threshold_split": "0.05"})
    line = refused(capsys, few, runs["good"])
    assert "fan 00: 1 normal clip that the candidates do not know is too few" in line


def test_what_it_says_goes_to_the_reporter(runs):
    said = io.StringIO()
    select([runs["learned"], runs["good"]], clips=12, reporter=Reporter(said))
    assert "learned from the normal clips" in said.getvalue()
