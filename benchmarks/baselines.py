"""Programs that people run: the challenge's official baseline, and ASDKit's recommended recipe.

Neither is part of this project: who measures fetches them, and names their folders,

    git clone https://github.com/nttcslab/dcase2023_task2_baseline_ae
    git clone https://github.com/TakuyaFujimura/dcase-asd-toolkit
    export ASD_JAX_DCASE_BASELINE=dcase2023_task2_baseline_ae
    export ASD_JAX_ASDKIT=dcase-asd-toolkit
    export ASD_JAX_PEERS_PYTHON=venv/bin/python   # with their requirements; this one by default

and they run as programs, from copies in a temporary folder, with the settings that they publish
but for the number of epochs. Ours is the command, a process as theirs is.
"""

import csv
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from asd_jax.data.clips import ANOMALY
from asd_jax.data.synthetic.synthesis import synthesize
from benchmarks.end_to_end import Recordings, Results, differences, recordings_in
from benchmarks.harness import Comparison, Difference, Prepared, Way, WrongAnswer
from benchmarks.processes import ROOT, environment

_BASELINE, _ASDKIT = "official baseline", "ASDKit"
_VARIABLES = {_BASELINE: "ASD_JAX_DCASE_BASELINE", _ASDKIT: "ASD_JAX_ASDKIT"}
_ENTRIES = {_BASELINE: "train.py", _ASDKIT: "asdkit/bin/train.py"}
_PYTHON = "ASD_JAX_PEERS_PYTHON"
# The baseline reads all four ids of a machine type of 2020.
_MACHINES, _IDS = ("fan", "valve"), 4
_BATCH, _SEEDS = 256, 5


def fetched(peer: str) -> str:
    """The reason why a program cannot run; "" if it is there."""
    variable, entry = _VARIABLES[peer], _ENTRIES[peer]
    folder = os.environ.get(variable)
    if not folder:
        return f"{variable} does not name the folder of its program (see benchmarks/baselines.py)"
    if not (Path(folder) / entry).is_file():
        return f"{variable}={folder} has no {entry}"
    return ""


def _call(command: Sequence[Any], cwd: Path, env: dict[str, str]) -> None:
    """Runs a program.

    Raises:
        WrongAnswer: it fails.
    """
    done = subprocess.run([*map(str, command)], cwd=cwd, env=env, capture_output=True, text=True)
    if done.returncode:
        raise WrongAnswer(f"{command[1]} ended with {done.returncode}: {done.stderr[-400:]}")


def _our_way(name: str, overrides: dict[str, str], recordings: Recordings) -> Way:
    run_dir, cache = recordings.place / "run", recordings.place / "cache"

    def run() -> Results:
        settings = [f"--config.{key}={value}" for key, value in overrides.items()]
        command = [
            *(sys.executable, "-P", "-m", "asd_jax", "run", f"--config={name}", *settings),
            *(f"--data_dir={recordings.data}", f"--out_dir={run_dir}", f"--cache_dir={cache}"),
        ]
        _call(command, recordings.place, environment(ROOT))
        return Results.read(run_dir)

    def before() -> None:
        for folder in (run_dir, cache):
            shutil.rmtree(folder, ignore_errors=True)

    return Way(run, before)


def _peers_way(peer: str, recordings: Recordings, run: Callable[[str, Path], Any]) -> Way:
    """A program, in a new copy each time.

    Args:
        peer: its name.
        recordings: what it gets.
        run: (interpreter, folder of the copy) → its results.
    """
    copy = recordings.place / "program"

    def before() -> None:
        shutil.rmtree(copy, ignore_errors=True)
        source = Path(os.environ[_VARIABLES[peer]])
        # Without recordings and results of the user's own.
        own = shutil.ignore_patterns(".git", "raw", "processed", "results", "venv", ".venv")
        shutil.copytree(source, copy, ignore=own)

    python = os.environ.get(_PYTHON, sys.executable)
    return Way(lambda: run(python, copy), before)


def _run_baseline(recordings: Recordings, epochs: int, python: str, copy: Path) -> dict:
    """Scores of the test clips by the official baseline, one model a machine type."""
    raw = copy / "data" / "dcase2020t2" / "dev_data" / "raw"
    raw.parent.mkdir(parents=True, exist_ok=True)
    raw.symlink_to(recordings.data / "dev_data")
    (copy / "results" / "dev_data").mkdir(parents=True)
    for machine in _MACHINES:
        ids = sorted({int(c.section) for c in recordings.clips if c.machine == machine})
        command = [
            *(python, "train.py", f"--dataset=DCASE2020T2{machine}", "-d", "-tag=all"),
            *("--use_ids", *ids, "--score", "MSE", f"--epochs={epochs}"),
            f"--use_cuda={jax.default_backend() == 'gpu'}",
        ]
        _call(command, copy, dict(os.environ))
    scores = {}
    for machine in _MACHINES:
        folder = copy / "results" / "dev_data" / "baseline_MSE"
        for path in folder.glob(f"anomaly_score_DCASE2020T2{machine}_section_*.csv"):
            section = path.name.partition("_section_")[2].split("_")[0]
            with open(path, newline="", encoding="utf-8") as file:
                for name, score in csv.reader(file):
                    scores[machine, section, name.removesuffix(".wav")] = float(score)
    return scores


def _check(recordings: Recordings, peer: str, ours: Results, theirs: dict) -> Iterator[Difference]:
    """Other draws and other details of the training, so that the limits are wide."""
    from sklearn.metrics import roc_auc_score

    suffix = Path(next(iter(ours.scores))[2]).suffix  # which the baseline's names lack
    scores = {(m, s, f"{Path(name).stem}{suffix}"): value for (m, s, name), value in theirs.items()}
    labels = {(c.machine, c.section, c.name): c.label == ANOMALY for c in recordings.clips}
    auc = {}
    for machine, section in {key[:2] for key in scores}:
        keys = [key for key in scores if key[:2] == (machine, section)]
        auc[machine, section] = roc_auc_score(
            [labels[key] for key in keys], [scores[key] for key in keys]
        )
    yield from differences(
        ours,
        scores,
        auc,
        order=0.3 if peer == _BASELINE else 2.0,
        area=0.15,
        why="other draws of the values; another validation split and back end",
    )


def setup_baseline(quick: bool, peers: Sequence[str]) -> Prepared:
    """One model a machine type, batches of the baseline's size."""
    recordings = _recordings(quick)
    epochs = 2 if quick else 10
    overrides = {"seeds": "0,", "train.epochs": str(epochs), "train.batch_size": str(_BATCH)}
    run = functools.partial(_run_baseline, recordings, epochs)
    return Prepared(
        f"`dense_ae` and the baseline's program on {len(recordings.clips)} synthetic clips of "
        f"{len(_MACHINES)} machine types, {epochs} epochs, batches of {_BATCH}: from the commands "
        "to the results",
        {"ours": _our_way("dense_ae", overrides, recordings)}
        | {peer: _peers_way(peer, recordings, run) for peer in peers},
        functools.partial(_check, recordings),
        notes=["the program is called once a machine type, as its own scripts call it"],
        close=recordings.close,
    )


def _recordings(quick: bool) -> Recordings:
    small = {"clips": 4, "duration": 6.0} if quick else {"clips": 70}
    settings = {"year": 2020, "machines": _MACHINES, "sections": _IDS, **small}
    return recordings_in(functools.partial(synthesize, **settings))


def _format(recordings: Recordings, folder: Path) -> None:
    """Links to the recordings with ASDKit's names, and a class for each machine id."""
    ids = sorted({(clip.machine, clip.section) for clip in recordings.clips})
    labels = {}
    for i, clip in enumerate(recordings.clips):
        place = Path("dcase2020", "raw", clip.machine, clip.split)
        label = "anomaly" if clip.label == ANOMALY else "normal"
        link = place / f"section_{clip.section}_source_{clip.split}_{label}_{i:06}_none.wav"
        labels[str(link)] = ids.index((clip.machine, clip.section))
        target = folder / "formatted" / link
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(clip.path)
    table = {"num_class": len(ids), "path2idx_dict": labels}
    table |= {"num_class_train": len(ids), "num_class_test": len(ids)}
    (folder / "labels.json").write_text(json.dumps(table), encoding="utf-8")


def _run_asdkit(
    recordings: Recordings, epochs: int, seconds: float, python: str, copy: Path
) -> dict:
    """Mean scores of the test clips by ASDKit's recipe, five seeds one after another."""
    data = copy / "benchmark"
    _format(recordings, data)
    gpu = jax.default_backend() == "gpu"
    env = {**os.environ, "PYTHONPATH": str(copy)}
    totals: dict[tuple[str, str, str], float] = {}
    for seed in range(_SEEDS):
        named = ["name=recipe", "version=benchmark", "dcase=dcase2020", f"seed={seed}"]

        def call(step: str, *settings: str, named: list[str] = named) -> None:
            _call([python, "-m", f"asdkit.bin.{step}", *named, *settings], copy, env)

        call(
            "train",
            *("experiments=dis_multispec_scac_trainable", f"data_dir={data}"),
            *(f"label_dict_path.main={data / 'labels.json'}", f"trainer.max_epochs={epochs}"),
            *(f"datamodule.sec={seconds}", f"trainer.accelerator={'gpu' if gpu else 'cpu'}"),
            "trainer.devices=1",
        )
        for machine in _MACHINES:
            own = [f"machine={machine}", "infer_ver=last"]
            device = f"device={'cuda:0' if gpu else 'cpu'}"
            length = f"datamodule.train.collator.sec={seconds}"
            extract = ["experiments=restore/shared", f"data_dir={data}", device, length]
            call("extract", *own, *extract)
            call("score", *own, "experiments=default")
            call("evaluate", *own)
            _add_scores(recordings, copy, seed, machine, totals)
    return totals


def _add_scores(recordings: Recordings, copy: Path, seed: int, machine: str, totals: dict) -> None:
    """Adds a seed's scores, those of the last back end of the recipe."""
    folder = copy / "results" / "recipe" / "dcase2020" / "benchmark" / str(seed)
    path = folder / "output" / "last" / machine / "test_score.csv"
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            clip = recordings.clips[int(Path(row["path"]).stem.split("_")[5])]
            score = float(row[[key for key in row if key.startswith("AS")][-1]])
            key = clip.machine, clip.section, clip.name
            totals[key] = totals.get(key, 0.0) + score


def setup_asdkit(quick: bool, peers: Sequence[str]) -> Prepared:
    """One network for all machines, three spectrograms, five seeds."""
    recordings = _recordings(quick)
    epochs, seconds = (1, 6.0) if quick else (2, 10.0)
    overrides = {
        "seeds": ",".join(map(str, range(_SEEDS))),
        "train.epochs": str(epochs),
        "detector.seconds": str(seconds),
        "train.threshold_split": "0",
    }
    run = functools.partial(_run_asdkit, recordings, epochs, seconds)
    return Prepared(
        f"`multibranch` with {_SEEDS} seeds, and as many runs of ASDKit's recipe "
        f"`dis_multispec_scac_trainable`, on {len(recordings.clips)} synthetic clips of "
        f"{len(_MACHINES)} machine types, {epochs} epochs: from the commands to the results",
        {"ours": _our_way("multibranch", overrides, recordings)}
        | {peer: _peers_way(peer, recordings, run) for peer in peers},
        functools.partial(_check, recordings),
        notes=[
            f"{epochs} of 16 epochs; ASDKit's pictures of embeddings are left out",
            "the order of the scores is reported and not judged: so few epochs leave it to the "
            "draws of the values",
        ],
        close=recordings.close,
    )


COMPARISONS = [
    Comparison(
        f"baselines.{name}",
        {peer: functools.partial(fetched, peer)},
        setup,
        {("cpu", peer): 1.3},
        # Each program begins with nothing kept, and takes up to an hour: a first turn is a round.
        rounds=0,
    )
    for name, peer, setup in (
        ("dense_ae", _BASELINE, setup_baseline),
        ("multibranch", _ASDKIT, setup_asdkit),
    )
]
