"""Programs beside the package that figures in the documentation are from."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from asd_jax.errors import UserError
from asd_jax.evaluation.pseudo_auc import SectionScores
from asd_jax.evaluation.results import ScoreRow


def script(name, monkeypatch=None):
    path = Path(__file__).parent.parent / "scripts" / f"{name}.py"
    if monkeypatch:  # a script that imports another
        monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def auc_by_cause():
    return script("auc_by_cause")


def test_shares_of_maps_by_hand():
    """A fault of two frames and one band of three: the quietest tenth of its power is left out."""
    map_shares = script("map_shares")
    fault = np.full((4, 3), -90.0)
    fault[1:3, 2] = 0.0
    fault[0, 0] = -12.0
    place = map_shares.place_of(fault)
    assert place.tolist() == [[False] * 3, [False] * 2 + [True], [False] * 2 + [True], [False] * 3]
    levels = np.zeros((4, 3))
    levels[1, 2], levels[0, 0] = 10.0, -10.0
    shares = np.zeros((4, 3))
    shares[1, 2], shares[3, 0] = 0.75, 0.25
    found = map_shares.shares_of(place, levels, shares)
    expected = 2 / 12, 11 / 20.1, 30 / 120, 0.75  # 10 + 1 of 10 + 10 · 1 + 0.1; 20 + 10 of 120
    np.testing.assert_allclose(found, expected)
    times = np.array([[0.0, 0.05], [0.05, 0.1]])
    on_frames = map_shares._on_frames(np.ones((2, 128)) * [[1.0], [2.0]], times, 5)
    assert on_frames[:, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("fuzzer", "count"),
    [
        *(("fuzz_settings", 100), ("fuzz_recordings", 64)),
        pytest.param("fuzz_command_lines", 26, marks=pytest.mark.slow),
        pytest.param("fuzz_limits", 6, marks=pytest.mark.slow),
    ],
)
def test_random_input_is_taken_or_refused(fuzzer, count):
    """In a process of its own, in which JAX has not started and which may be forked."""
    program = Path(__file__).parent.parent / "scripts" / f"{fuzzer}.py"
    arguments = [sys.executable, program, "--seed=3", f"--count={count}"]
    done = subprocess.run(arguments, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    assert done.stdout.startswith(f"seed 3, {count} trials") and "wrong" in done.stdout


def row(section, seed, clip, label, score):
    return ScoreRow("fan", section, "", seed, clip, label, score, 0.0, 0)


def test_auc_by_cause_by_hand(auc_by_cause, tmp_path):
    """Two ids and two seeds; each cause against all normal clips of its own id."""
    a, b, c = (f"anomaly_id_{place}.wav" for place in ("00_00", "00_01", "02_00"))
    (tmp_path / "anomalies.csv").write_text(
        "path,machine,cause\n"
        f"dev_data/fan/test/{a},fan,whine\n"
        f"dev_data/fan/test/{b},fan,clogging\n"
        f"dev_data/fan/test/{c},fan,whine\n"
    )
    causes = auc_by_cause.read_causes(tmp_path)
    rows = []
    for seed, lowest in ((0, 0.0), (1, 2.5)):
        rows += [row("00", seed, f"n{i}.wav", 0, i) for i in range(4)]
        rows += [row("00", seed, a, 1, 2.0), row("00", seed, b, 1, lowest)]
        rows += [row("02", seed, "n.wav", 0, 5), row("02", seed, c, 1, 9)]
    found = auc_by_cause.auc_by_cause(rows, causes)
    # a: above two of four normal clips and equal to one; c: above the only one.
    whine = (2.5 / 4 + 1) / 2
    expected = {
        "changes of the machine's own sound": [0.5 / 4, 3 / 4],
        "fan clogging": [0.5 / 4, 3 / 4],
        "fan whine": [whine, whine],
        "sounds on top": [whine, whine],
    }
    assert list(found) == list(expected)
    for name, aucs in expected.items():
        np.testing.assert_allclose(found[name], aucs, rtol=1e-6)


def test_other_data_is_one_line(auc_by_cause, tmp_path):
    with pytest.raises(UserError, match=r"anomalies\.csv is not there"):
        auc_by_cause.read_causes(tmp_path)
    with pytest.raises(UserError, match=r"fan 00 x\.wav is not of this data set"):
        auc_by_cause.auc_by_cause([row("00", 0, "x.wav", 1, 1.0)], {})


def test_ids_with_clips_of_one_name_keep_their_own_causes(auc_by_cause, tmp_path):
    """MIMII numbers the clips of each id from 0, and scores.csv names them with their folder."""
    name = "abnormal/00000000.wav"
    (tmp_path / "anomalies.csv").write_text(
        f"path,machine,cause\nfan/id_00/{name},fan,whine\nfan/id_02/{name},fan,clogging\n"
    )
    causes = auc_by_cause.read_causes(tmp_path)
    assert causes == {("fan", "00", name): "whine", ("fan", "02", name): "clogging"}
    rows = [row(section, 0, "normal/00000000.wav", 0, 1.0) for section in ("00", "02")]
    rows += [row("00", 0, name, 1, 2.0), row("02", 0, name, 1, 0.5)]
    found = auc_by_cause.auc_by_cause(rows, causes)
    assert (found["fan whine"], found["fan clogging"]) == ([1.0], [0.0])


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["fan/test/anomaly_id_00_0.wav"] * 2, "has fan 00 anomaly_id_00_0.wav twice"),
        (["fan/test/a.wav"], "fan/test/a.wav is no clip of a known layout"),
    ],
)
def test_a_list_that_names_no_clip_or_one_twice(auc_by_cause, tmp_path, paths, message):
    lines = "".join(f"{path},fan,whine\n" for path in paths)
    (tmp_path / "anomalies.csv").write_text(f"path,machine,cause\n{lines}")
    with pytest.raises(UserError, match=message):
        auc_by_cause.read_causes(tmp_path)


@pytest.fixture(scope="module")
def select_sets(request):
    folder = str(Path(__file__).parent.parent / "scripts")
    sys.path.insert(0, folder)
    request.addfinalizer(lambda: sys.path.remove(folder))
    return script("select_sets")


def judged_machine(select_sets, seed, shift, machine="fan"):
    """Three candidates: the third hears nothing, the second what the first hears, less."""
    rng = np.random.default_rng(seed)
    heard = np.array([1.0, 0.6, 0.0])[:, None] * shift
    normal, pseudo, test = (rng.normal(size=(3, n)) for n in (30, 60, 40))
    label = np.repeat([0, 1], 20)
    strengths = np.linspace(0.5, 1.5, 5)[None, :, None]
    section = SectionScores(
        normal,
        np.arange(30),
        np.zeros(30, bool),
        pseudo[:, None] + heard[..., None] * strengths,
        np.arange(60) % 6,
        np.arange(60) % 30,
    )
    scale = np.stack([normal.mean(axis=1), normal.std(axis=1)])
    target = np.arange(40) % 20 < 8
    return select_sets.Machine(
        seed, machine, ("a", "b", "c"), section, test + heard * label, label, target, scale
    )


def test_true_aucs_of_judged_machines(select_sets):
    machine = judged_machine(select_sets, 1, 1.5)
    faulty, own = machine.label == 1, machine.target
    for c in range(3):
        scores = machine.test[c]
        of_domains = [
            roc_auc_score(machine.label[faulty | domain], scores[faulty | domain])
            for domain in (own, ~own)
        ]
        # The domains' normal clips, against all anomalies.
        assert machine.true[c] == pytest.approx(np.mean(of_domains), abs=1e-12)
    same = machine._replace(test=np.stack([machine.test[0]] * 3), scale=np.ones((2, 3)))
    assert same.lowest_z == pytest.approx(machine.true[0], abs=1e-12)


def test_the_calibration_of_the_choice(select_sets, capsys, monkeypatch):
    monkeypatch.setattr("asd_jax.evaluation.pseudo_auc.DRAWS", 200)
    monkeypatch.setattr("asd_jax.evaluation.selection.DRAWS", 200)
    machines = [
        judged_machine(select_sets, seed, 1.5, machine)
        for seed in range(4)
        for machine in ("fan", "pump")
    ]
    program = script("select_calibration")
    program.print_constants(machines)
    out = capsys.readouterr().out
    assert out.startswith("8 machines of 4 data sets, 24 pairs\nSLOPE ")
    # Test clips are as hard as pseudo-anomalies here, so that the slope is near 1.
    assert 0.6 < float(out.split("SLOPE ")[1].split(",")[0]) < 1.4
    program.print_trial(machines, machines)
    out = capsys.readouterr().out
    assert out.startswith("fixed choice, the best of the calibration: a\n")
    true = np.array([[m.true for m in own] for own in select_sets.by_set(machines)]).mean(axis=1)
    regret = 100 * np.mean(true.max(axis=1) - true[:, 0])
    random = 100 * np.mean(true.max(axis=1) - true.mean(axis=1))
    per_run = out.split("per run, 4 cases")[1].split("per machine")[0]
    lines = {line[:30].strip(): line[30:].split() for line in per_run.splitlines()}
    assert float(lines["fixed (a)"][0]) == pytest.approx(regret, abs=0.006)
    assert float(lines["at random"][0]) == pytest.approx(random, abs=0.006)
    assert "sureness of machines: " in out
