"""Analysis of a run's decisions: counts and rates, and spectrograms of right and wrong ones.

Source: the analysis of Jalali et al. 2020, section 3: confusion matrices of each machine at a
threshold from the training clips, and the spectrograms of wrong decisions beside right ones.
"""

import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import jax.numpy as jnp
import numpy as np

from asd_jax import metrics
from asd_jax.audio import FrontEnd
from asd_jax.audio.mel import band_limits
from asd_jax.audio.waveform_blocks import WaveformBlocks, samples_of
from asd_jax.data.columns import group_rows
from asd_jax.evaluation.pictures import COLOURS, hz_ticks, save, shortened
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.row_table import RowTable
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


def decisions_of(rows: Iterable[ScoreRow]) -> dict[str, Decisions]:
    """Counts the decisions of every machine with labelled test clips, over all its sections.

    Args:
        rows: scores of a run; every seed scored the same clips.
    """
    table = RowTable.of(rows, ScoreRow)
    label, decision = table.numbers("label"), table.numbers("decision")
    made = {}
    for (machine,), own in sorted(table.groups("machine", rows=label >= 0).items()):
        of_seeds = _of_seeds(table, own)  # (seeds, clips)
        labels, decisions = label[of_seeds], decision[of_seeds]
        counts = metrics.confusion_counts(labels, decisions)
        rates = metrics.decision_rates(counts)
        made[machine] = Decisions(
            counts,
            tpr=np.asarray(rates.tpr),
            fpr=np.asarray(rates.fpr),
            precision=np.asarray(metrics.precision(counts)),
            accuracy=np.asarray(rates.accuracy),
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


def domains_of(rows: Iterable[ScoreRow]) -> dict[tuple[str, str], OfDomain]:
    """AUC and false alarms of each domain of every machine whose labelled clips have domains.

    A plant does not know a clip's domain: so anomalies of both stand against the normal clips of
    each, as in the challenge's official score from 2022 on.

    Args:
        rows: scores of a run; every seed scored the same clips.

    Returns:
        (machine, domain) → its figures, ascending.
    """
    table = RowTable.of(rows, ScoreRow)
    label, score, decision = (table.numbers(name) for name in ("label", "score", "decision"))
    labelled = (label >= 0) & ~table.column("domain").is_in([""])
    made = {}
    for (machine,), rows_of in sorted(table.groups("machine", rows=labelled).items()):
        own = table[rows_of]
        sections = [rows_of[part] for _, part in sorted(own.groups("section").items())]
        n_seeds = len(own.column("seed").distinct())
        for domain in own.column("domain").distinct():
            of_domain = table.column("domain").is_in([domain])
            aucs = np.full((n_seeds, 0), np.nan)
            for section in sections:
                chosen = section[(label[section] == 1) | of_domain[section]]
                of_seeds = _of_seeds(table, chosen)
                labels, scores = label[of_seeds], score[of_seeds]
                if {0, 1} <= set(labels.ravel().tolist()):
                    aucs = np.column_stack([aucs, metrics.auc(labels, scores)])
            normal = rows_of[(label[rows_of] == 0) & of_domain[rows_of]]
            alarms = decision[_of_seeds(table, normal)]
            if aucs.size and alarms.size:
                made[machine, domain] = OfDomain(aucs.mean(axis=1), alarms.mean(axis=1))
    return made


def _of_seeds(table: RowTable[ScoreRow], rows: np.ndarray) -> np.ndarray:
    """Rows of each seed, ascending, in the order of the file: (seeds, clips)."""
    parts = [own for _, own in sorted(group_rows([table.column("seed")], rows).items())]
    return np.stack(parts) if parts else np.zeros((0, 0), np.int64)


def decided(table: RowTable[ScoreRow]) -> RowTable[ScoreRow]:
    """The rows whose score and threshold are numbers."""
    odd = np.isnan(table.numbers("score")) | np.isnan(table.numbers("threshold"))
    return table[~odd] if odd.any() else table


def write_analysis(
    folder: os.PathLike | str,
    rows: Iterable[ScoreRow],
    features: Features | None = None,
    front_end: ClipFrontEnd | None = None,
    draw: Callable[..., None] | None = None,
) -> None:
    """Writes `analysis.md` and a picture for each machine that has labelled test clips.

    Args:
        folder: the run directory.
        rows: scores of the run.
        features: the test clips' features; without, there are no pictures.
        front_end: their front end.
        draw: draws a machine's pictures; `write_spectrograms` by default.
    """
    folder = Path(folder)
    table = RowTable.of(rows, ScoreRow)
    rows = decided(table)
    undecided = len(table) - len(rows)
    machines = decisions_of(rows)
    text = ["# Decisions", "", markdown(decision_rows(machines)), "", DECISIONS_LEGEND]
    if undecided:
        text += ["", f"{undecided} scores or thresholds that are no numbers are left out."]
    if domains := domains_of(rows):
        cells = [
            [machine, domain, mean_std(np.atleast_1d(own.auc)), mean_std(np.atleast_1d(own.fpr))]
            for (machine, domain), own in domains.items()
        ]
        text += [
            "",
            "# Domains",
            "",
            markdown([["machine", "domain", "AUC", "FPR"], *cells]),
            "",
            "Normal clips of each domain against the anomalies of both.",
        ]
    if features is not None and front_end is not None:
        for machine in machines:
            picture = picture_of(folder, machine)
            (draw or write_spectrograms)(picture, rows, machine, features, front_end)
            link = quote(picture.relative_to(folder).as_posix())
            text += ["", f"![{machine}: wrong and right decisions]({link})"]
    with atomic_write(folder / "analysis.md") as file:
        file.write("\n".join(text) + "\n")


def picture_of(folder: Path, machine: str) -> Path:
    """Where the pictures of a machine are in a run directory."""
    return folder / "spectrograms" / fitting_name(machine, ".png")


def write_spectrograms(
    path: os.PathLike | str,
    rows: Iterable[ScoreRow],
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

    table = RowTable.of(rows, ScoreRow)
    own = table[table.where(machine=machine)]
    own = own[own.where(seed=own[0].seed)]
    label, decision, score = (own.numbers(name) for name in ("label", "decision", "score"))
    shown: list[tuple[str, ScoreRow | None]] = []
    for wanted, called, title, highest in _CASES:
        cases = np.flatnonzero((label == wanted) & (decision == called))
        pick = np.argmax if highest else np.argmin
        shown.append((title, own[cases[pick(score[cases])]] if len(cases) else None))
    # A machine's clips may have one name in two sections, as MIMII's have.
    wanted_clips = {(row.section, row.clip) for _, row in shown if row}
    places = np.flatnonzero(features.clips.where(machine=machine))
    clips = {
        (clip.section, clip.name): features.read_clips([place])[0]
        for place, clip in zip(places.tolist(), features.clips[places], strict=True)
        if (clip.section, clip.name) in wanted_clips
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
