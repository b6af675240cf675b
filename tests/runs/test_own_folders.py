"""From two folders to a decision by the command line."""

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from shared_runs import rows_of

import asd_jax
from asd_jax.errors import UserError
from asd_jax.scoring.alarm_promises import Cadence
from asd_jax.scoring.alarms import AlarmRule

RATE = 44_100


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A machine's hum in noise, stereo FLAC; five doubtful recordings, of which two whine."""
    root = tmp_path_factory.mktemp("own")
    time = np.arange(2 * RATE) / RATE
    for folder, count in (("gesund, alle", 16), ("zweifelhaft", 5)):
        (root / folder / "Tag 1").mkdir(parents=True)
        for i in range(count):
            sound = np.random.default_rng([count, i]).normal(0, 0.05, len(time))
            sound += 0.05 * np.sin(2 * np.pi * 120 * time)
            if count == 5 and i in (1, 3):
                sound += 0.05 * np.sin(2 * np.pi * 3100 * time)
            path = root / folder / "Tag 1" / f"Größe {i}.flac"
            soundfile.write(path, np.stack([sound, sound], axis=1), RATE)
    return root


def test_two_folders_are_enough(folders, tmp_path, capsys):
    arguments = [
        "run",
        f"--normal={folders / 'gesund, alle'}",
        f"--test={folders / 'zweifelhaft'}",
        "--machine=Pumpe",
        f"--cache_dir={tmp_path / 'cache'}",
    ]
    status, out, err = run_cli(capsys, *arguments, "--dry_run")
    assert status == 0, err
    assert "Pumpe: 16 normal to learn from, 5 unknown to score" in out
    run = tmp_path / "run"
    status, out, err = run_cli(capsys, *arguments, f"--out_dir={run}")
    assert status == 0, err
    assert "Pumpe: 16 normal to learn from, 5 unknown to score" in err
    first, second = out.splitlines()[4:6]
    assert {line.split("Größe ")[1][0] for line in (first, second)} == {"1", "3"}
    assert " yes " in first and " yes " in second and "of 5 recordings are called" in out
    assert "AUC" not in out
    rows = {row["clip"]: row for row in rows_of(run / "scores.csv")}
    assert rows["test/Tag 1/Größe 1.flac"]["decision"] == "1"
    assert "Größe 1.flac" in (run / "results.md").read_text(encoding="utf-8")
    status, again, err = run_cli(capsys, *arguments, f"--out_dir={run}")
    assert (status, again) == (0, out) and "is finished; nothing to do" in err
    # The same numbers for a recording of its own.
    wav = folders / "zweifelhaft/Tag 1/Größe 3.flac"
    status, out, _ = run_cli(capsys, "score", run, wav)
    assert status == 0 and f"{float(rows['test/Tag 1/Größe 3.flac']['score']):.6g}" in out


def test_figures_come_with_recordings_that_are_known(folders, tmp_path, capsys):
    status, out, err = run_cli(
        capsys,
        "run",
        f"--normal={folders / 'gesund, alle'}",
        f"--anomalous={folders / 'zweifelhaft'}",
        f"--out_dir={tmp_path / 'run'}",
    )
    assert status == 0, err
    assert "machine  00       all     5/5" in out and "anomalous/Tag 1/Größe 1.flac" in out
    status, out, _ = run_cli(
        capsys, "run", f"--normal={folders / 'gesund, alle'}", f"--out_dir={tmp_path / 'alone'}"
    )
    assert status == 0 and out.startswith("there was nothing to score; `asd-jax score ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config=spectral", "--data_dir=X", "--test=X"], "--test needs --normal=…"),
        (["--data_dir=X", "--normal=X"], "--data_dir and --normal both say where the recordings"),
        (["--data_dir=X"], "run needs --config=… or --normal=…"),
        (["--config=spectral"], "run needs --data_dir=… or --normal=…"),
        (["--normal=/nowhere"], "--normal=/nowhere does not exist"),
    ],
)
def test_what_is_missing_is_a_line(tmp_path, capsys, arguments, message):
    status, _, err = run_cli(capsys, "run", *arguments, f"--out_dir={tmp_path / 'run'}")
    assert status == 2 and message in err and err.count("\n") == 1
    assert not (tmp_path / "run" / "config.json").exists()


def test_long_recordings_are_cut_into_clips_with_a_score_each(folders, tmp_path, capsys):
    """The same clips and scores from a run and from `score`, which explains each."""
    normal, doubtful = tmp_path / "normal", tmp_path / "doubtful"
    for folder, source in ((normal, "gesund, alle"), (doubtful, "zweifelhaft")):
        folder.mkdir()
        files = sorted((folders / source / "Tag 1").iterdir())
        for i in range(0, len(files) - 3, 4):
            sounds = [soundfile.read(file)[0] for file in files[i : i + 4]]
            soundfile.write(folder / f"lang {i}.flac", np.concatenate(sounds), RATE)
    run = tmp_path / "run"
    status, out, err = run_cli(
        *(capsys, "run", f"--normal={normal}", f"--test={doubtful}", f"--out_dir={run}"),
        *("--config.data.clip_seconds=2", f"--cache_dir={tmp_path / 'cache'}"),
    )
    assert status == 0, err
    assert "4 recordings are cut into 16 clips" in err
    assert "by 4 groups of normal clips" in out
    fitted = asd_jax.load(run)
    # Clips of a recording follow one another, so alarms are counted by blocks of them.
    assert fitted.reference["sequences"].tolist() == [[i // 4 for i in range(16)]]
    rule, cadence = AlarmRule(need=2, among=3, stays=2), Cadence(2, 2)
    promise = fitted.alarm_promise(rule, cadence, threshold=np.inf)
    assert promise.n_groups == 4 and promise.block_seconds == 4
    assert promise.a_month == pytest.approx(30 * 86_400 / 4 / 5)
    with pytest.raises(UserError, match=r"machine 00: 4 groups .* 129,600 false alarms a month, n"):
        fitted.alarm_threshold(rule, cadence, 1.0)
    threshold = fitted.alarm_threshold(rule, cadence, 3e5)
    assert fitted.alarm_promise(rule, cadence, threshold=threshold).a_month <= 3e5
    rows = {row["clip"]: row for row in rows_of(run / "scores.csv")}
    assert sorted(rows) == [f"test/lang 0.flac@{i}-{i + 2}s" for i in (0, 2, 4, 6)]
    highest = sorted(rows, key=lambda name: -float(rows[name]["score"]))[:2]
    assert sorted(highest) == ["test/lang 0.flac@2-4s", "test/lang 0.flac@6-8s"]
    whole = doubtful / "lang 0.flac"
    explained = tmp_path / "explained"
    status, out, err = run_cli(
        capsys, "score", run, whole, "--explain", f"--out_dir={explained}", "--format=csv"
    )
    assert status == 0, err
    found = {line.split(",")[0].rpartition("/")[2]: line.split(",")[2] for line in out.splitlines()}
    for name, row in rows.items():
        assert float(found[name.removeprefix("test/")]) == pytest.approx(float(row["score"]))
    names = sorted(path.name for path in explained.glob("*.png"))
    assert names == [f"lang_0_{i}-{i + 2}s.png" for i in (0, 2, 4, 6)]
