"""Thresholds of a fitted system and of an ensemble, where training clips are not what they seem."""

import shutil

import numpy as np
import pytest
from command_line import run_cli
from reporters import Lines
from shared_runs import rows_of

import asd_jax
from asd_jax.errors import UserError
from asd_jax.evaluation.results import TrainingRow, read_training_csv, write_training_csv
from asd_jax.fitting.thresholds import with_thresholds
from asd_jax.runtime.progress import Silent


def training_rows(scores):
    """Rows of one machine's section from scores (seeds, clips)."""
    return [
        TrainingRow("fan", "00", "source", seed, f"{i}.wav", score)
        for seed, of_seed in enumerate(scores)
        for i, score in enumerate(of_seed)
    ]


@pytest.mark.parametrize("outlier", [-1e6, 3e5])
def test_one_dead_or_loud_clip_moves_no_threshold_and_is_said(finished, outlier):
    """Of the seed that has it, and of the mean of the seeds."""
    scores = np.random.default_rng(0).normal(44, 3, (2, 50))
    scores[1, 7] = outlier
    fitted, said = asd_jax.load(finished), Lines()
    fitted = with_thresholds(fitted, training_rows(scores), said)
    thresholds = [fitted.threshold(machine="fan", section="00", seed=seed) for seed in (0, 1)]
    shares = [np.mean(own > threshold) for own, threshold in zip(scores, thresholds, strict=True)]
    assert 1 / 30 <= min(shares) <= max(shares) <= 0.3
    assert 40 < thresholds[1] < 55
    mean = fitted.threshold(machine="fan", section="00")
    assert mean == np.quantile(np.float32(scores).mean(axis=0), 0.9)
    assert [line.partition(": threshold ")[0] for line in said.lines] == [
        "fan seed 1",
        "fan mean of the seeds",
    ]
    assert all("the gamma fit's quantile" in line for line in said.lines)


def test_scores_that_do_not_count_move_no_threshold(finished):
    scores = np.random.default_rng(0).normal(44, 3, (2, 50))
    rows = training_rows(scores)
    known = [row._replace(score=row.score - 40, sets_threshold=0) for row in rows]
    of_rows = [
        with_thresholds(asd_jax.load(finished), some, Silent()) for some in (rows, [*rows, *known])
    ]
    for seed in (None, 0, 1):
        first, second = (one.threshold(machine="fan", section="00", seed=seed) for one in of_rows)
        assert first == second


def test_a_threshold_of_few_clips_held_out_is_said(finished):
    rows = training_rows(np.random.default_rng(0).normal(44, 3, (2, 50)))
    held_out = [row._replace(sets_threshold=int(row.clip in ("3.wav", "4.wav"))) for row in rows]
    fitted, said = asd_jax.load(finished), Lines()
    with_thresholds(fitted, rows, said)
    assert not said.lines
    with_thresholds(fitted, held_out, said)
    assert said.lines[-1].startswith("fan: fewer than 10 clips were held out for the threshold; ")


def test_an_ensemble_counts_what_counts_in_all_members(finished, tmp_path, capsys):
    """A third of the clips of one member, all of another; that two share none is said."""
    for name in ("one", "two", "three"):
        run = shutil.copytree(finished, tmp_path / name)
        rows = read_training_csv(run / "training_scores.csv")
        clips = sorted({row.clip for row in rows})
        chosen = {"one": clips[::3], "two": clips, "three": clips[1::3]}[name]
        marked = [row._replace(sets_threshold=int(row.clip in chosen)) for row in rows]
        if name == "one":  # of clips that do not count, scores that would be seen
            marked = [row if row.sets_threshold else row._replace(score=1e6) for row in marked]
        write_training_csv(run / "training_scores.csv", marked)
    flags = [f"--run_dir={tmp_path / name}" for name in ("one", "two")]
    status, _, said = run_cli(capsys, "ensemble", *flags, f"--out_dir={tmp_path / 'both'}")
    assert status == 0, said
    assert "held out" not in said
    training = read_training_csv(tmp_path / "both/training_scores.csv")
    counted = [row for row in training if row.sets_threshold]
    assert {row.clip for row in counted} == {*clips[::3]}
    of_test = rows_of(tmp_path / "both/scores.csv")
    for machine, section in {(row.machine, row.section) for row in counted}:
        for seed in (0, 1):
            key = machine, section, seed
            own = [row.score for row in counted if (row.machine, row.section, row.seed) == key]
            (threshold,) = {
                float(row["threshold"])
                for row in of_test
                if (row["machine"], row["section"], row["seed"]) == (machine, section, str(seed))
            }
            assert min(own) < threshold < max(own) < 100
    flags = [f"--run_dir={tmp_path / name}" for name in ("one", "three")]
    status, _, said = run_cli(capsys, "ensemble", *flags, f"--out_dir={tmp_path / 'none'}")
    assert status == 0, said
    assert "no clip was held out by all members, so all training clips set" in said


def test_files_of_before_are_read_with_all_scores_counting(finished, tmp_path):
    """They lack the last four columns, or three of them."""
    path = tmp_path / "training_scores.csv"
    rows = read_training_csv(finished / "training_scores.csv")
    lines = (finished / "training_scores.csv").read_text().splitlines()
    rows = tuple(row._replace(unseen=0, group="", by_section=0) for row in rows)
    for lacking in (3, 4, 5):
        path.write_text("\n".join(line.rsplit(",", lacking)[0] for line in lines) + "\n")
        if lacking < 5:
            assert read_training_csv(path) == rows
    with pytest.raises(UserError, match="its first line is not machine,section"):
        read_training_csv(path)


def test_an_ensemble_says_so_as_well(finished, tmp_path, capsys):
    for name in ("one", "two"):
        run = shutil.copytree(finished, tmp_path / name)
        rows = read_training_csv(run / "training_scores.csv")
        loud = rows[0]._replace(score=1e6)
        write_training_csv(run / "training_scores.csv", [loud, *rows[1:]])
    flags = [f"--run_dir={tmp_path / name}" for name in ("one", "two")]
    status, _, said = run_cli(capsys, "ensemble", *flags, f"--out_dir={tmp_path / 'both'}")
    assert status == 0, said
    training = rows_of(tmp_path / "both/training_scores.csv")
    of_test = rows_of(tmp_path / "both/scores.csv")
    key = (loud.machine, loud.section, str(loud.seed))
    own = [float(r["score"]) for r in training if (r["machine"], r["section"], r["seed"]) == key]
    (threshold,) = {
        float(r["threshold"]) for r in of_test if (r["machine"], r["section"], r["seed"]) == key
    }
    assert 1 / 30 <= np.mean(np.array(own) > threshold) <= 0.3
    assert f"{loud.machine} {loud.section} seed {loud.seed}: threshold" in said
    for name in ("one", "two"):
        widened = f"member {name}, {loud.machine} {loud.section}: outlying training clips make the"
        (line,) = [line for line in said.splitlines() if line.startswith(widened)]
        assert f"first {loud.clip}: score 1e+06, where half of all are from" in line
