"""A run on data that was touched, copied, extended or changed since it began."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import run_cli
from shared_runs import rows_of, run_arguments

pytestmark = pytest.mark.usefixtures("no_pictures")


def model_of(run):
    return (run / "model.npz").read_bytes(), (run / "log.jsonl").read_bytes()


@pytest.fixture
def own_data(data, tmp_path):
    """A copy of the data: other paths, times and inodes, the same recordings."""
    return shutil.copytree(data, tmp_path / "own", copy_function=shutil.copyfile)


def test_touched_and_copied_data_is_the_same_data(own_data, cache, copied, capsys):
    status, _, err = run_cli(capsys, *run_arguments(own_data, cache, copied))
    assert status == 0 and "is finished; nothing to do" in err


def test_one_more_test_clip_is_scored_by_the_model_that_there_is(
    own_data, cache, finished, copied, capsys
):
    first = sorted(own_data.glob("**/fan/test/anomaly_id_00_*.wav"))[0]
    added = first.with_name("anomaly_id_00_00009999.wav")
    soundfile.write(added, np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    status, _, err = run_cli(capsys, *run_arguments(own_data, cache, copied))
    assert status == 0, err
    assert "has scores of other test clips; these are scored anew" in err
    assert "nothing to do" not in err and model_of(copied) == model_of(finished)
    before, after = (rows_of(run / "scores.csv") for run in (finished, copied))
    new = [row for row in after if row["clip"] == added.name]
    assert len(new) == 2 and len(after) == len(before) + 2
    # Another number of clips may be laid out otherwise; float32 sums agree to 1e-5.
    kept = [row for row in after if row["clip"] != added.name]
    assert [r["clip"] for r in kept] == [r["clip"] for r in before]
    np.testing.assert_allclose(
        [float(r["score"]) for r in kept], [float(r["score"]) for r in before], rtol=1e-5
    )
    (auc,) = {
        r["n_anomaly"]
        for r in rows_of(copied / "results.csv")
        if (r["machine"], r["section"]) == ("fan", "00")
    }
    assert int(auc) == len([*own_data.glob("**/fan/test/anomaly_id_00_*.wav")])
    status, _, err = run_cli(capsys, *run_arguments(own_data, cache, copied))
    assert status == 0 and "is finished; nothing to do" in err


def test_a_changed_test_clip_is_scored_anew(own_data, cache, finished, copied, capsys):
    changed = sorted(own_data.glob("**/fan/test/normal_id_00_*.wav"))[0]
    soundfile.write(changed, np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    assert run_cli(capsys, *run_arguments(own_data, cache, copied))[0] == 0
    before, after = (
        {(r["machine"], r["clip"], r["seed"]): r["score"] for r in rows_of(run / "scores.csv")}
        for run in (finished, copied)
    )
    differ = {key[:2] for key in before if before[key] != after[key]}
    assert differ == {("fan", changed.name)}
    assert model_of(copied) == model_of(finished)


def test_other_training_clips_are_refused(own_data, cache, copied, capsys):
    changed = sorted(own_data.glob("**/fan/train/*.wav"))[0]
    soundfile.write(changed, np.zeros(32000), 16000)
    before = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    status, _, err = run_cli(capsys, *run_arguments(own_data, cache, copied))
    assert status == 2
    assert "begun with other recordings" in err and "training clips that have changed" in err
    after = {path: path.read_bytes() for path in copied.rglob("*") if path.is_file()}
    assert {p for p in after if after[p] != before.get(p)} <= {copied / ".lock"}
    assert "1 recordings are constant, all samples equal, first" in err


def test_a_run_of_before_knows_its_recordings_by_their_times(data, cache, copied, capsys):
    """Its description has no contents; it is completed, and keeps its name for ensembles."""
    from asd_jax.data.layouts import find_clips
    from asd_jax.runs.clips import status_fingerprint

    place = copied / "data.json"
    new = json.loads(place.read_text())
    clips = find_clips(data)
    order = [c for c in clips if c.split == "train"] + [c for c in clips if c.split == "test"]
    old = {key: new[key] for key in ("year", "synthetic", "n_clips")}
    old["fingerprint"] = status_fingerprint(order)
    place.write_text(json.dumps(old))
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert status == 0 and "is finished; nothing to do" in err, err
    assert json.loads(place.read_text()) == new | {"fingerprint": old["fingerprint"]}
    place.write_text(json.dumps(old | {"fingerprint": "another"}))
    status, _, err = run_cli(capsys, *run_arguments(data, cache, copied))
    assert status == 2 and "begun with other recordings" in err


def test_an_ensemble_follows_its_members(own_data, cache, finished, tmp_path, capsys):
    from asd_jax.runs.aligned import check_same_data
    from asd_jax.runs.directory import RunDirectory

    runs = [shutil.copytree(finished, tmp_path / name) for name in ("one", "two")]
    before = check_same_data(runs)
    flags = [f"--run_dir={run}" for run in runs]
    assert run_cli(capsys, "ensemble", *flags, f"--out_dir={tmp_path / 'both'}")[0] == 0
    ensemble = RunDirectory(tmp_path / "both")
    assert not ensemble.is_outdated(before)
    changed = sorted(Path(own_data).glob("**/fan/test/normal_id_00_*.wav"))[0]
    soundfile.write(changed, np.random.default_rng(0).normal(0, 0.1, 32000), 16000)
    for run in runs:
        assert run_cli(capsys, *run_arguments(own_data, cache, run))[0] == 0
    assert ensemble.is_outdated(check_same_data(runs))
    assert run_cli(capsys, "ensemble", *flags, f"--out_dir={tmp_path / 'both'}")[0] == 0
    assert not ensemble.is_outdated(check_same_data(runs))
