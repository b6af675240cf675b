"""Scores with the labels and domains of a ground truth that was published after the run."""

from collections.abc import Iterable
from typing import NamedTuple

from asd_jax.data.clips import ANOMALY, NORMAL, UNLABELLED
from asd_jax.data.columns import CategoricalBuilder
from asd_jax.data.ground_truth import GroundTruth, Section, names_of
from asd_jax.data.names import official_name
from asd_jax.errors import UserError
from asd_jax.evaluation.results import ScoreRow
from asd_jax.evaluation.row_table import RowTable, over_seeds

_LABELS = {NORMAL: "normal", ANOMALY: "anomaly", UNLABELLED: ""}


class ScoredClip(NamedTuple):
    """A test clip; attributes as in `Clip`."""

    machine: str
    section: str
    clip: str
    domain: str
    label: int


def check_truth(
    truth: GroundTruth, clips: Iterable[ScoredClip], *, some_skipped: bool
) -> list[str]:
    """Checks that a ground truth is that of some test clips.

    Sections whose labels are known, and which the ground truth lacks, need none.

    Args:
        truth: the ground truth.
        clips: the test clips.
        some_skipped: whether recordings that cannot be used were left out.

    Returns:
        Lines on what the ground truth has beyond these clips.

    Raises:
        UserError: the ground truth is of other sections; it lacks clips or has others; or it
            contradicts what the clips' names say.
    """
    own: dict[Section, dict[str, ScoredClip]] = {}
    for clip in clips:
        own.setdefault((clip.machine, clip.section), {})[clip.clip] = clip
    if not own:
        return []
    common = [section for section in own if section in truth.sections]
    if not common:
        raise UserError(
            f"{truth.source} is of other data: it has {_sections(truth.sections)}, and the test "
            f"clips are of {_sections(own)}"
        )
    for section, its in own.items():
        unlabelled = [clip.clip for clip in its.values() if clip.label == UNLABELLED]
        if section not in truth.sections and unlabelled:
            raise UserError(
                f"{truth.source} lacks {' '.join(section)}, of which there are {len(unlabelled)} "
                f"clips without labels; it has {_sections(truth.sections)}"
            )
    lines = [*truth.lines]
    for section in sorted(common):
        lines += _checked(truth, section, own[section], some_skipped)
    if others := truth.sections.keys() - own.keys():
        lines.append(f"{truth.source} also has {_sections(others)}, which are not scored here")
    return lines


def _checked(
    truth: GroundTruth, section: Section, clips: dict[str, ScoredClip], some_skipped: bool
) -> list[str]:
    """Checks the clips of a section."""
    known, where = truth.sections[section], " ".join(section)
    if missing := sorted(clips.keys() - known.keys()):
        if all(clips[name].label != UNLABELLED for name in missing):
            raise UserError(
                f"the names of the test clips of {where} say their labels, as {missing[0]}; leave "
                "--ground_truth out"
            )
        raise UserError(
            f"{truth.source} lacks {len(missing)} of the {len(clips)} test clips of {where}: "
            f"{names_of(missing)}; it may be of another year, or damaged"
        )
    lines = []
    if others := sorted(known.keys() - clips.keys()):
        what = f"{len(others)} clips of {where} that are not scored: {names_of(others)}"
        if not some_skipped:
            raise UserError(
                f"{truth.source} has {what}; it may be of another year, or damaged. If they "
                "cannot be read, --on_bad_clip=skip leaves them out"
            )
        lines.append(f"{truth.source} has {what}")
    for name, clip in clips.items():
        published = known[name]
        for ours, theirs in (
            (_LABELS[clip.label], _LABELS[published.label]),
            (clip.domain, published.domain),
        ):
            if ours and theirs and ours != theirs:
                raise UserError(
                    f"{truth.source} says {theirs} of {name} of {where}, and its place in the "
                    f"data says {ours}; one of them is of another set"
                )
    return lines


def labelled_rows(truth: GroundTruth, rows: Iterable[ScoreRow]) -> RowTable[ScoreRow]:
    """Scores with labels and domains of the ground truth, which must be that of their clips."""
    table = RowTable.of(rows, ScoreRow)
    labels, domains = CategoricalBuilder(), CategoricalBuilder()
    fields = table.row_type._fields
    for block in table.blocks():
        columns = dict(zip(fields, block, strict=True))
        places = zip(*(columns[name] for name in ("machine", "section", "clip")), strict=True)
        known = [truth.sections.get(place[:2], {}).get(place[2]) for place in places]
        facts = [*zip(known, columns["label"], columns["domain"], strict=True)]
        labels.extend(label if own is None else own.label for own, label, _ in facts)
        domains.extend(domain if own is None else own.domain or domain for own, _, domain in facts)
    return table.replace(label=labels.column(), domain=domains.column())


def clips_of(rows: Iterable[ScoreRow]) -> list[ScoredClip]:
    """The test clips of scores, each once, with what their names say: no earlier ground truth's."""
    table, clips = RowTable.of(rows, ScoreRow), []
    for (machine, section), own in table.groups("machine", "section").items():
        for name in table.column("clip")[over_seeds(table, own).first].tolist():
            named = official_name(name)
            domain, label = (named.domain, named.label) if named else ("", UNLABELLED)
            clips.append(ScoredClip(machine, section, name, domain, label))
    return clips


def _sections(sections: Iterable[Section]) -> str:
    """Sections by machine.

    Examples:
        >>> _sections([("fan", "03"), ("fan", "04"), ("pump", "03")])
        'fan 03 04, pump 03'
    """
    of_machines: dict[str, list[str]] = {}
    for machine, section in sorted(sections):
        of_machines.setdefault(machine, []).append(section)
    return ", ".join(" ".join([machine, *own]) for machine, own in of_machines.items())
