"""Cards of the most anomalous recordings: spectrogram, map, player and facts."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from asd_jax.evaluation.decisions import ClipDecision
from asd_jax.features.cut import span_of
from asd_jax.page import charts, excerpts
from asd_jax.page.excerpts import Excerpt
from asd_jax.page.machines import TrainingScores, key_of, label_of, verdict_of
from asd_jax.page.render import Card
from asd_jax.scoring.explanation import Explanation

OF_MACHINE, OF_PAGE = 5, 30  # cards of test clips
REFERENCES = 10  # machines up to which each one has a normal recording to compare with
_SECONDS = 10.0  # of a recording, at most
_SECONDS_OF_PAGE = 160.0  # of all together, which bounds the size of the page
_LOUD, _MOST_GAIN = 0.9, 100.0  # of a machine's loudest recording as it is played
_LOST = (
    "Without pictures and players, as the recordings are not where they were when they were scored."
)


class Shown(NamedTuple):
    """A recording that has a card.

    Attributes:
        clip: the decision on it; of a normal training clip, one without threshold.
        path: of the recording; "" where it is not known.
        is_reference: whether it is a training clip to compare with.
    """

    clip: ClipDecision
    path: str
    is_reference: bool = False


def chosen(ranked: Mapping[str, Sequence[ClipDecision]]) -> dict[str, list[ClipDecision]]:
    """Clips of each machine that have cards: the highest scores, as many as the page holds.

    Args:
        ranked: clips of each machine, the highest scores first.

    Examples:
        >>> clip = ClipDecision("", "", "", "", -1, 0.0, 0.0, False, "no")
        >>> found = chosen({str(i): [clip] * 9 for i in range(8)})
        >>> [len(clips) for clips in found.values()]
        [4, 4, 4, 4, 4, 4, 3, 3]
    """
    found: dict[str, list[ClipDecision]] = {machine: [] for machine in ranked}
    left = OF_PAGE
    for place in range(OF_MACHINE):
        for machine, clips in ranked.items():
            if left and place < len(clips):
                found[machine].append(clips[place])
                left -= 1
    return found


def reference_of(
    clips: Sequence[ClipDecision], training: Mapping[tuple[str, str], TrainingScores]
) -> ClipDecision | None:
    """A typical normal training clip of the first clip's section: the one of the median score."""
    own = training.get((clips[0].machine, clips[0].section)) if clips else None
    if own is None or not np.isfinite(own.scores).any():
        return None
    # Of equal scores, the first by name.
    finite = np.flatnonzero(np.isfinite(own.scores))
    order = finite[np.argsort(own.scores[finite], kind="stable")]
    score = float(own.scores[order[len(order) // 2]])
    alike = order[own.scores[order] == score]
    place = len(order) // 2 - int((own.scores[order] < score).sum())
    name = sorted(own.names[alike].tolist())[place]
    first = clips[0]
    return first._replace(name=name, score=score, label=0, is_anomalous=False, verdict="–")


def cards(
    shown: Mapping[str, Sequence[Shown]],
    explanations: Mapping[tuple[str, str, str], Explanation],
    has_p_values: bool,
    sample_rate: int,
    channel: int | str,
    report: Callable[[str], None],
) -> dict[str, tuple[list[Card], str]]:
    """Cards of each machine's recordings, and a line on what they have in common.

    Args:
        shown: recordings by machine.
        explanations: of test clips, by `key_of`.
        has_p_values: whether p-values are shown.
        sample_rate: at which recordings are scored, in Hz.
        channel: that is scored, as of `asd_jax.data.read`.
        report: called with a line about each recording that cannot be read.
    """
    known = [each for own in shown.values() for each in own if each.path]
    seconds = min(_SECONDS, _SECONDS_OF_PAGE / max(len(known), 1))
    made = {}
    for number, (machine, own) in enumerate(shown.items(), 1):
        # The reference is a training clip, of which an explanation would be another one.
        found = [None if e.is_reference else explanations.get(key_of(e.clip)) for e in own]
        maps = [explanation.map if explanation else None for explanation in found]
        paths = [each.path for each in own]
        spans = [span_of(each.clip.name) for each in own]
        read = excerpts.read_excerpts(paths, sample_rate, channel, seconds, maps, spans, report)
        items = [
            _Item(each, explanation, own_map, excerpt, excerpt and excerpts.spectrogram(excerpt))
            for each, explanation, own_map, excerpt in zip(own, found, maps, read, strict=True)
        ]
        common = _Common.of(items)
        made[machine] = (
            [_card(item, common, has_p_values, f"m{number}c{i}") for i, item in enumerate(items)],
            common.note(read, seconds) if any(read) else _LOST if read else "",
        )
    return made


class _Item(NamedTuple):
    """A recording, and what was computed of it.

    Attributes:
        shown: the recording.
        explanation: of its score, or None.
        own_map: (frames, bands) of its score, or None.
        excerpt: None for a recording that cannot be read.
        picture: spectrogram of the excerpt, and limits of its bands.
    """

    shown: Shown
    explanation: Explanation | None
    own_map: np.ndarray | None
    excerpt: Excerpt | None
    picture: tuple[np.ndarray, np.ndarray] | None


class _Common(NamedTuple):
    """What the cards of a machine have in common, so that they can be compared.

    Attributes:
        loudest: dB of the brightest colour of spectrograms.
        highest: value of the brightest colour of maps.
        gain: by which recordings are played.
        sections: whether they are of several.
        any_read: whether a recording could be read.
    """

    loudest: float
    highest: float
    gain: float
    sections: bool
    any_read: bool

    @classmethod
    def of(cls, items: Sequence[_Item]) -> "_Common":
        levels = [np.percentile(each.picture[0], 99.9) for each in items if each.picture]
        maps = [each.own_map for each in items if each.own_map is not None]
        highs = [np.nan_to_num(np.percentile(own_map, 99.5)) for own_map in maps]
        peaks = [np.abs(each.excerpt.waveform).max(initial=0) for each in items if each.excerpt]
        peak = max(peaks, default=0.0)
        gain = min(_LOUD / peak, _MOST_GAIN) if 0 < peak < _LOUD else 1.0
        several = len({(each.shown.clip.section, each.shown.clip.domain) for each in items}) > 1
        loudest, highest = (float(max(values, default=0.0)) for values in (levels, highs))
        return cls(loudest, highest, float(gain), several, any(each.excerpt for each in items))

    def note(self, read: Sequence[Excerpt | None], seconds: float) -> str:
        """A line on pictures and players."""
        cut = any(excerpt is not None and excerpt.is_part for excerpt in read)
        shown = f"{seconds:.3g} s, the most anomalous or the loudest" if cut else "whole recordings"
        louder = f", played {20 * math.log10(self.gain):.0f} dB louder" * (self.gain > 1.1)
        return f"Spectrograms and players: {shown}{louder}."


def _card(item: _Item, common: _Common, has_p_values: bool, place: str) -> Card:
    clip, is_reference = item.shown.clip, item.shown.is_reference
    facts = [("score", f"{clip.score:.4g}"), ("threshold", f"{clip.threshold:.4g}")]
    if is_reference:
        facts.append(("learned from", "its score is the median"))
    else:
        facts.append(("called", verdict_of(clip)))
        facts += [("label", label_of(clip))] * bool(label_of(clip))
        if has_p_values:
            facts.append(("p-value", f"{clip.p_value:.3g}"))
    if common.sections:
        facts.append(("section", " ".join(filter(None, [clip.section, clip.domain]))))
    made_of = item.explanation.lines() if item.explanation else []
    excerpt = item.excerpt
    if excerpt is None:
        notes = ["No picture and no player: it is not where it was, or cannot be read."]
        return Card(clip.name, place, facts, [], "", made_of, notes * common.any_read, is_reference)
    notes = []
    if excerpt.is_part:
        notes = [f"{excerpt.start:.1f} to {excerpt.stop:.1f} s of {excerpt.duration:.1f} s."]
    sound = excerpts.player_source(excerpt, common.gain)
    pictures = _pictures(item, excerpt, common, place)
    return Card(clip.name, place, facts, pictures, sound, made_of, notes, is_reference)


def _pictures(item: _Item, excerpt: Excerpt, common: _Common, place: str) -> list[tuple[str, str]]:
    """Title and SVG of the spectrogram, and of the map of the score below it."""
    assert item.picture is not None  # of each excerpt
    decibels, hz = item.picture
    span = excerpt.start, excerpt.stop
    image = excerpts.spectrogram_image(decibels, common.loudest)
    pictures = [("Spectrogram", charts.picture(image, *span, hz, f"{place}s"))]
    if item.own_map is not None and item.explanation is not None:
        image = excerpts.map_image(excerpts.within(item.own_map, excerpt), common.highest)
        svg = charts.picture(image, *span, item.explanation.hz, f"{place}m")
        pictures.append(("Where the score comes from: bright is anomalous", svg))
    return pictures
