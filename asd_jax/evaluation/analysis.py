"""Analysis of a run's decisions: counts and rates, and spectrograms of right and wrong ones.

Source: the analysis of Jalali et al. 2020, section 3: confusion matrices of each machine at a
threshold from the training clips, and the spectrograms of wrong decisions beside right ones.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import jax.numpy as jnp
import numpy as np

from asd_jax import metrics
from asd_jax.audio import FrontEnd
from asd_jax.audio.mel import band_limits
from asd_jax.audio.waveform_blocks import WaveformBlocks, samples_of
from asd_jax.evaluation.pictures import COLOURS, hz_ticks, save, shortened
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.tables import markdown, mean_std
from asd_jax.features.request import ClipFrontEnd
from asd_jax.features.table import Features
from asd_jax.runtime.files import atomic_write, fitting_name


class Decisions(NamedTuple):
    """Decisions on a machine's labelled test clips, each (seeds,).

    Attributes:
        counts: true and false, positive and negative; an anomaly is a positive.
        tpr: share of the anomalies that are predicted; NaN without any, like the other rates.
        fpr: share of the normal clips that are predicted anomalous.
        precision: share of the predicted anomalies that are anomalies.
        accuracy: share of right decisions.
        f1: harmonic mean of precision and true positive rate.
    """

    counts: metrics.Confusion
    tpr: np.ndarray
    fpr: np.ndarray
    precision: np.ndarray
    accuracy: np.ndarray
    f1: np.ndarray


# Places of the four pictures and of the colour bar, in the figure.
_PLACES = dict(left=0.065, right=0.9, bottom=0.075, top=0.87, wspace=0.07, hspace=0.42)
_COLOUR_BAR = (0.925, 0.075, 0.015, 0.795)
# Label and decision, title, and true if the clip with the highest score is the clearest case.
_CASES = (
    (1, 0, "false negative", False),
    (0, 1, "false positive", True),
    (1, 1, "true positive", True),
    (0, 0, "true negative", False),
)


def decisions_of(rows: Sequence[ScoreRow]) -> dict[str, Decisions]:
    """Counts the decisions of every machine with labelled test clips, over all its sections.

    Args:
        rows: scores of a run; every seed scored the same clips.
    """
    labelled: dict[str, dict[int, list[ScoreRow]]] = {}
    for row in rows:
        if row.label >= 0:
            labelled.setdefault(row.machine, {}).setdefault(row.seed, []).append(row)
    made = {}
    for machine, by_seed in sorted(labelled.items()):
        labels, decisions = (  # (seeds, clips) each
            np.array([[getattr(row, name) for row in seed] for seed in by_seed.values()])
            for name in ("label", "decision")
        )
        counts = metrics.confusion_counts(labels, decisions)
        normal, anomalous = counts.fp + counts.tn, counts.tp + counts.fn
        with np.errstate(invalid="ignore"):
            made[machine] = Decisions(
                counts,
                tpr=np.asarray(counts.tp / anomalous),
                fpr=np.asarray(counts.fp / normal),
                precision=np.asarray(metrics.precision(counts)),
                accuracy=np.asarray((counts.tp + counts.tn) / (normal + anomalous)),
                f1=np.asarray(metrics.f1(counts)),
            )
    return made


DECISIONS_LEGEND = (
    "An anomaly is a positive. Counts are means over the seeds, rates are in percent, mean ± "
    "standard deviation over the seeds."
)


def decision_rows(machines: Mapping[str, Decisions]) -> list[list[str]]:
    """Heading and lines of a table of decisions, from `decisions_of`."""
    rows = [["machine", "TP", "FN", "FP", "TN", "TPR", "FPR", "precision", "accuracy", "F1"]]
    for machine, made in machines.items():
        counts = [f"{np.mean(getattr(made.counts, name)):.4g}" for name in ("tp", "fn", "fp", "tn")]
        rows.append([machine, *counts, *(mean_std(np.atleast_1d(rate)) for rate in made[1:])])
    return rows


class OfDomain(NamedTuple):
    """A domain's normal test clips against all anomalous ones of their sections.

    Attributes:
        auc: (seeds,), mean over the machine's sections.
        fpr: (seeds,) share of the normal clips that are predicted anomalous.
    """

    auc: np.ndarray
    fpr: np.ndarray


def domains_of(rows: Sequence[ScoreRow]) -> dict[tuple[str, str], OfDomain]:
    """AUC and false alarms of each domain of every machine whose labelled clips have domains.

    A plant does not know a clip's domain: so anomalies of both stand against the normal clips of
    each, as in the challenge's official score from 2022 on.

    Args:
        rows: scores of a run; every seed scored the same clips.

    Returns:
        (machine, domain) → its figures, ascending.
    """
    labelled = [row for row in rows if row.label >= 0 and row.domain]
    made = {}
    for machine, domain in sorted({(row.machine, row.domain) for row in labelled}):
        own = [row for row in labelled if row.machine == machine]
        seeds = list(dict.fromkeys(row.seed for row in own))
        aucs = np.full((len(seeds), 0), np.nan)
        for section in sorted({row.section for row in own}):
            chosen = [
                row
                for row in own
                if row.section == section and (row.label == 1 or row.domain == domain)
            ]
            of_seeds = [[row for row in chosen if row.seed == seed] for seed in seeds]
            labels, scores = (
                np.array([[getattr(row, name) for row in seed] for seed in of_seeds])
                for name in ("label", "score")
            )
            if {0, 1} <= set(labels.ravel().tolist()):
                aucs = np.column_stack([aucs, metrics.auc(labels, scores)])
        alarms = [
            [
                row.decision
                for row in own
                if row.seed == seed and row.label == 0 and row.domain == domain
            ]
            for seed in seeds
        ]
        if aucs.size and all(alarms):
            made[machine, domain] = OfDomain(aucs.mean(axis=1), np.mean(alarms, axis=1))
    return made


def write_analysis(
    folder: os.PathLike | str,
    rows: Sequence[ScoreRow],
    features: Features | None = None,
    front_end: ClipFrontEnd | None = None,
) -> None:
    """Writes `analysis.md` and a picture for each machine that has labelled test clips.

    Args:
        folder: the run directory.
        rows: scores of the run.
        features: the test clips' features; without, there are no pictures.
        front_end: their front end.
    """
    folder = Path(folder)
    scored = [row for row in rows if not np.isnan([row.score, row.threshold]).any()]
    undecided = len(rows) - len(scored)
    rows = scored
    machines = decisions_of(rows)
    text = ["# Decisions", "", markdown(decision_rows(machines)), "", DECISIONS_LEGEND]
    if undecided:
        text += ["", f"{undecided} scores or thresholds that are no numbers are left out."]
    if domains := domains_of(rows):
        table = [
            [machine, domain, mean_std(np.atleast_1d(own.auc)), mean_std(np.atleast_1d(own.fpr))]
            for (machine, domain), own in domains.items()
        ]
        text += [
            "",
            "# Domains",
            "",
            markdown([["machine", "domain", "AUC", "FPR"], *table]),
            "",
            "Normal clips of each domain against the anomalies of both.",
        ]
    if features is not None and front_end is not None:
        for machine in machines:
            picture = "spectrograms/" + fitting_name(machine, ".png")
            write_spectrograms(folder / picture, rows, machine, features, front_end)
            text += ["", f"![{machine}: wrong and right decisions]({quote(picture)})"]
    with atomic_write(folder / "analysis.md") as file:
        file.write("\n".join(text) + "\n")


def write_spectrograms(
    path: os.PathLike | str,
    rows: Sequence[ScoreRow],
    machine: str,
    features: Features,
    front_end: ClipFrontEnd,
) -> None:
    """Draws a wrong decision of either kind beside a right one of either kind.

    From the first seed's decisions: of the wrong ones, the anomaly with the lowest score and the
    normal clip with the highest; of the right ones, the clearest of either kind.

    Args:
        path: the picture.
        rows: scores of the run.
        machine: the machine.
        features: the test clips' features.
        front_end: their front end.
    """
    from matplotlib.figure import Figure

    # A machine's clips may have one name in two sections, as MIMII's have.
    places = {
        (clip.section, clip.name): i
        for i, clip in enumerate(features.clips)
        if clip.machine == machine
    }
    own = [row for row in rows if row.machine == machine]
    own = [row for row in own if row.seed == own[0].seed]
    shown: list[tuple[str, ScoreRow | None]] = []
    for label, decision, title, highest in _CASES:
        cases = [row for row in own if (row.label, row.decision) == (label, decision)]
        pick = max if highest else min
        shown.append((title, pick(cases, key=lambda row: row.score) if cases else None))
    clips = {
        (row.section, row.clip): features.read_clips([places[row.section, row.clip]])[0]
        for _, row in shown
        if row
    }
    if isinstance(front_end, WaveformBlocks):
        front_end = log_mel = FrontEnd(front_end.sample_rate)
        clips = {
            name: np.asarray(log_mel(samples_of(jnp.asarray(blocks))))
            for name, blocks in clips.items()
        }
    mel = getattr(front_end, "mel", None)
    hz = None if mel is None else band_limits(mel)
    levels = np.concatenate([clip.ravel() for clip in clips.values()])
    low, high = np.percentile(levels, [1, 99.9])

    # At places of their own: to fit them by what they hold takes as long as to draw them.
    figure = Figure(figsize=(11, 7))
    axes = figure.subplots(2, 2, sharey=True, gridspec_kw=_PLACES)
    for axis, (title, row) in zip(axes.flat, shown, strict=True):
        if row is None:
            axis.set_axis_off()
            axis.set_title(f"{title}: none", fontsize=10)
            continue
        clip = clips[row.section, row.clip]
        seconds = len(clip) * front_end.hop_length / front_end.sample_rate
        image = axis.imshow(
            clip.T,
            origin="lower",
            aspect="auto",
            vmin=low,
            vmax=high,
            extent=(0, seconds, -0.5, clip.shape[1] - 0.5),
            cmap=COLOURS,
        )
        axis.set_title(
            f"{title}: {shortened(row.clip, 44)}\n"
            f"score {row.score:.4g}, threshold {row.threshold:.4g}",
            fontsize=10,
            parse_math=False,  # names may have dollar signs
        )
        axis.set_xlabel("time (s)")
        if hz is not None:
            hz_ticks(axis, hz)
        if axis in axes[:, 1]:
            axis.set_ylabel("")  # as that of its neighbour
    figure.colorbar(image, cax=figure.add_axes(_COLOUR_BAR), label="level (dB)")
    figure.suptitle(shortened(machine, 80), parse_math=False)
    save(figure, path)
