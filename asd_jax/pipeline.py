"""The main job: from a folder of recordings to trained models, scores and tables."""

import contextlib
import hashlib
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from asd_jax import tables
from asd_jax.analysis import write_analysis
from asd_jax.challenge import write_challenge_files
from asd_jax.clip_features import ArrayFeatures, Features
from asd_jax.config import Config
from asd_jax.data import audio_files
from asd_jax.data.clips import Clip
from asd_jax.data.layouts import find_clips, parse_clip
from asd_jax.data.synthetic import SETTINGS_FILE
from asd_jax.detectors import make_detector
from asd_jax.errors import UserError
from asd_jax.features import compute_features
from asd_jax.fitted import FittedDetector
from asd_jax.fitting import fit_clips
from asd_jax.plan import plan_run
from asd_jax.progress import Reporter
from asd_jax.published import Published, load_published
from asd_jax.results import (
    ScoreRow,
    bootstrap_results,
    evaluate,
    read_results_csv,
    read_scores_csv,
    write_results_csv,
    write_scores_csv,
)
from asd_jax.run_dir import RunDirectory, read_config
from asd_jax.selection import choose_clips
from asd_jax.training import Interrupted
from asd_jax.training.checkpoints import Checkpoints


def run(
    config: Config,
    data_dir: os.PathLike | str,
    out_dir: os.PathLike | str,
    *,
    cache_dir: os.PathLike | str | None = None,
    on_bad_clip: str = "stop",
    reporter: Reporter | None = None,
) -> str:
    """Trains all models of a run, scores the test clips, evaluates, and writes everything.

    Started again on the same folder it goes on where it was, and does nothing twice.

    Args:
        config: the configuration.
        data_dir: a folder of recordings in one of the known layouts.
        out_dir: the run directory.
        cache_dir: where features are kept; a folder of the user's by default.
        on_bad_clip: "stop" at a recording that cannot be used, or "skip" it with a line.
        reporter: tells people how far it is.

    Returns:
        The table of results.

    Raises:
        UserError: what is wrong, in one line; what was done is kept.
    """
    reporter = reporter or Reporter()
    run_dir = RunDirectory(out_dir)
    clips = find_clips(data_dir, config.data.year or None, reporter.line)
    clips = choose_clips(config, clips, reporter.line)
    with run_dir.lock():
        run_dir.check(config)
        training, test = _features(config, clips, cache_dir, on_bad_clip, reporter)
        data = _describe_data(data_dir, [*training.clips, *test.clips])
        run_dir.claim(config, data)
        if run_dir.finished:
            reporter.line(f"{run_dir.path} is finished; nothing to do")
        else:
            fitted = _fit(config, training, run_dir, reporter)
            rows = score_clips(fitted, test, reporter)
            write_analysis(run_dir.path, rows, test, config.front_end)
            _write_results(run_dir, config, rows, data)
        reporter.line(f"results are in {run_dir.path}")
    return table(out_dir)


def dry_run(config: Config, data_dir: os.PathLike | str | None = None) -> str:
    """Lines about what `run` would take; nothing is started, nothing written.

    Args:
        config: the configuration.
        data_dir: as in `run`; without it, as if on the development set of DCASE 2020.
    """
    if data_dir is None:
        return plan_run(config, None)
    lines = []
    clips = find_clips(data_dir, config.data.year or None, lines.append)
    return "\n".join([plan_run(config, choose_clips(config, clips, lines.append)), *lines])


def _features(config, clips, cache_dir, on_bad_clip, reporter) -> tuple[Features, Features]:
    """Features of the training and of the test clips that can be used.

    What cannot be used is said, or ends the run.
    """
    front_end, min_frames = config.front_end, make_detector(config).view_length
    found = []
    for split in ("training", "test"):
        chosen = [clip for clip in clips if (clip.split == "test") == (split == "test")]
        if not chosen:
            found.append(ArrayFeatures([], []))
            continue
        reporter.start(f"features of {split} clips", len(chosen))
        try:
            found.append(
                compute_features(
                    chosen,
                    front_end,
                    channel=None if config.data.channel < 0 else config.data.channel,
                    min_frames=min_frames,
                    cache_dir=cache_dir,
                    on_bad_clip=on_bad_clip,
                    report=reporter.line,
                    progress=reporter.advance,
                )
            )
        finally:
            reporter.stop()
    trained = {clip.machine for clip in found[0].clips if clip.split == "train"}
    tested = {clip.machine for clip in found[1].clips}
    if not trained:
        raise UserError("no machine has training clips; a train/ folder of normal clips is needed")
    for machine in sorted(tested - trained):
        reporter.line(f"{machine}: no training clips; it is left out")
    for machine in sorted(trained - tested):
        reporter.line(f"{machine}: no test clips; it is trained and has no results")
    return found[0], found[1]


def _describe_data(data_dir: os.PathLike | str, clips: Sequence[Clip]) -> dict:
    """What must be the same when a run goes on."""
    folder = Path(data_dir).resolve()
    synthetic = any((place / SETTINGS_FILE).is_file() for place in (folder, *folder.parents[:2]))
    years = sorted({clip.year for clip in clips})
    if len(years) > 1:
        raise UserError(
            f"the data is of several years ({', '.join(map(str, years))}); give the folder of "
            "one, or set data.year"
        )
    digest = hashlib.sha256()
    for clip in clips:
        file = os.stat(clip.path)
        facts = (clip.machine, clip.section, clip.split, clip.name, file.st_size, file.st_mtime_ns)
        digest.update(f"{facts}\n".encode())
    return {
        "year": years[0],
        "synthetic": synthetic,
        "n_clips": len(clips),
        "fingerprint": digest.hexdigest(),
    }


def _fit(config, training: Features, run_dir: RunDirectory, reporter) -> FittedDetector:
    """The fitted system: from its file when training is over, else trained from where it was."""
    if run_dir.model.is_file():
        return FittedDetector.load(run_dir.model)
    run_dir.write_environment()
    checkpoints = Checkpoints(run_dir.checkpoints)
    log = run_dir.open_log(keep_epochs=checkpoints.latest or 0)
    try:
        with _stop_signals() as received:
            fitted = fit_clips(
                config,
                training,
                reporter=reporter,
                checkpoints=checkpoints,
                log=log,
                should_stop=lambda: bool(received),
            )
    except Interrupted as interrupted:
        raise UserError(
            f"stopped by {received[0].name} after epoch {interrupted.epoch}, which is saved; the "
            "same command goes on from there",
            exit_status=128 + received[0],
        ) from None
    finally:
        log.close()
        with contextlib.suppress(UserError):  # whatever ended the training says more
            checkpoints.close()
    fitted.save(run_dir.model)
    if received:  # too late to interrupt the training
        raise UserError(
            f"stopped by {received[0].name} after training, which is saved; the same command "
            "goes on from there",
            exit_status=128 + received[0],
        )
    return fitted


@contextlib.contextmanager
def _stop_signals() -> Iterator[list[signal.Signals]]:
    """Collects SIGTERM and SIGINT instead of dying of them; a second one kills as ever."""
    received: list[signal.Signals] = []
    before = {}

    def receive(number, frame):
        received.append(signal.Signals(number))
        for each, handler in before.items():
            signal.signal(each, handler)

    try:
        for each in (signal.SIGTERM, signal.SIGINT):
            before[each] = signal.signal(each, receive)
    except ValueError:  # not in the main thread: signals are the caller's business
        pass
    try:
        yield received
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def score_clips(fitted: FittedDetector, features: Features, reporter: Reporter) -> list[ScoreRow]:
    """Scores test clips by all the models that serve their machine and section."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, clip in enumerate(features.clips):
        groups.setdefault((clip.machine, clip.section), []).append(index)
    rows: list[ScoreRow] = []
    reporter.start("scoring", len(groups))
    for done, ((machine, section), indices) in enumerate(sorted(groups.items()), 1):
        try:
            chosen = fitted.choose(machine, section)
        except UserError as error:
            reporter.line(f"{error}; its test clips have no scores")
            continue
        for m, scores in zip(chosen, fitted.member_scores(chosen, features, indices), strict=True):
            threshold = float(fitted.thresholds[m])
            for index, score in zip(indices, scores, strict=True):
                clip = features.clips[index]
                rows.append(
                    ScoreRow(
                        machine=machine,
                        section=section,
                        domain=clip.domain,
                        seed=fitted.members[m].seed,
                        clip=clip.name,
                        label=clip.label,
                        score=score,
                        threshold=threshold,
                        decision=int(score > threshold),
                    )
                )
        reporter.advance(done)
    reporter.stop()
    return rows


def _write_results(run_dir: RunDirectory, config: Config, rows, data: dict) -> None:
    """Writes scores and results; results.md comes last and says that the run is finished."""
    year = data["year"]
    write_scores_csv(run_dir.scores_csv, rows)
    write_challenge_files(run_dir.scores, rows, year)
    results = evaluate(rows, year)
    write_results_csv(run_dir.results_csv, results)
    tables.write_results_md(
        run_dir.results_md,
        results,
        year,
        bootstrap_results(rows, year),
        _published(config.name, config.detector.name, year),
        _notes(data),
    )


def _notes(data: dict) -> list[str]:
    """What a reader of a table must know of its data."""
    note = "The data is synthetic; published numbers are of the challenge's recordings."
    return [note] if data["synthetic"] else []


def _published(configuration: str, system: str, year: int) -> tuple[Published, ...]:
    """Published numbers of a configuration, or else of its system."""
    return load_published(configuration, year) or load_published(system, year)


def table(path: os.PathLike | str) -> str:
    """The table of a finished run, with intervals and published numbers.

    Raises:
        UserError: no run directory, or one that is not finished or is damaged.
    """
    run_dir, stored, data = _finished(path)
    year = data["year"]
    return tables.format_table(
        read_results_csv(run_dir.results_csv),
        year,
        bootstrap_results(read_scores_csv(run_dir.scores_csv), year),
        _published(stored["name"], stored["detector"]["name"], year),
        _notes(data),
    )


def report(paths: Sequence[os.PathLike | str]) -> str:
    """Finished runs side by side, with published numbers; one alone with its intervals."""
    if len(paths) == 1:
        return table(paths[0])
    runs, numbers, notes = [], [], []
    names = [Path(path).resolve().name for path in paths]
    for path, name in zip(paths, names, strict=True):
        run_dir, stored, data = _finished(path)
        results = read_results_csv(run_dir.results_csv)
        shown = name if names.count(name) == 1 else os.fspath(path)
        runs.append(tables.Run(shown, data["year"], results))
        numbers += _published(stored["name"], stored["detector"]["name"], data["year"])
        notes += _notes(data)
    text = tables.format_report(runs, tuple(dict.fromkeys(numbers)))
    return "\n".join([text, *dict.fromkeys(notes)])


def _finished(path: os.PathLike | str) -> tuple[RunDirectory, dict, dict]:
    """A finished run's paths, its configuration, and what is known of its data."""
    run_dir = RunDirectory(path)
    stored = read_config(run_dir.config)
    if not run_dir.finished:
        raise UserError(f"{path} has no results yet; go on with the command that began it")
    return run_dir, stored, run_dir.read_data()


def load(path: os.PathLike | str) -> FittedDetector:
    """Loads the fitted system of a run directory.

    Raises:
        UserError: no run directory, or one that has not finished training.
    """
    run_dir = RunDirectory(path)
    read_config(run_dir.config)
    return FittedDetector.load(run_dir.model)


def score_files(
    path: os.PathLike | str,
    files: Sequence[os.PathLike | str],
    *,
    machine: str | None = None,
    section: str | None = None,
    on_bad_clip: str = "stop",
    report: Callable[[str], None] = print,
) -> list[tuple[str, str, float, float, int]]:
    """Scores recordings by the fitted system of a run.

    Args:
        path: the run directory.
        files: the recordings.
        machine: their machine type; by default it is told from each file's folder, where
            the run has several.
        section: their section; by default it is told from each file's name, where needed.
        on_bad_clip: "stop" or "skip".
        report: called with a line about each recording that is left out, resampled or mixed.

    Returns:
        File, machine, score (the mean over the seeds), threshold and decision of each.
    """
    fitted = load(path)
    config = fitted.config
    channel = None if config.data.channel < 0 else config.data.channel
    found: dict[int, tuple[str, str, float, float, int]] = {}
    batches = audio_files.read_batches(
        files, config.front_end.sample_rate, channel, 32, on_bad_clip=on_bad_clip, report=report
    )
    for indices, waveforms in batches:
        groups: dict[tuple[str | None, str | None], list[tuple[int, np.ndarray]]] = {}
        for index, waveform in zip(indices, waveforms, strict=True):
            file = os.path.abspath(files[index])
            clip = parse_clip(file)
            several = len(fitted.machines) > 1
            whose = (
                machine or (clip.machine if clip and several else None),
                section or (clip.section if clip else None),
            )
            try:
                fitted.choose(*whose)
                features = fitted.features(waveform, config.front_end.sample_rate)[0]
            except UserError as error:
                if on_bad_clip == "stop":
                    raise UserError(f"{files[index]}: {error}", exit_status=1) from None
                report(f"left out: {files[index]}: {error}")
                continue
            groups.setdefault(whose, []).append((index, features))
        for (whose_machine, whose_section), members in groups.items():
            whose = {"machine": whose_machine, "section": whose_section}
            threshold = fitted.threshold(**whose)
            scores = fitted.score_features([features for _, features in members], **whose)
            for (index, _), score in zip(members, scores, strict=True):
                found[index] = (
                    os.fspath(files[index]),
                    whose_machine or fitted.machines[0],
                    float(score),
                    threshold,
                    int(score > threshold),
                )
    return [found[index] for index in sorted(found)]
