"""Operating states of a run's clips: which of them models are fitted to."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from asd_jax.data.clips import UNFITTED, ClipTable
from asd_jax.data.groups import group_numbers
from asd_jax.data.states import OFF, TRANSIENT, StateSource
from asd_jax.data.supplemental import SPLIT
from asd_jax.detectors import Detector
from asd_jax.errors import UserError
from asd_jax.features.batches import read_blocks
from asd_jax.features.table import Features
from asd_jax.fitting.layout import Group, groups_of
from asd_jax.scoring.moved_scores import MovedScores
from asd_jax.scoring.quiet import SEGMENTS, Quiet, learn_quiet, segment_levels
from asd_jax.scoring.state_space import StateSpace, states_by_group

_LEAST_POWER = 1e-12


class Operating(NamedTuple):
    """What is known of operating states, by "machine/section" as in `layout.group_name`.

    Attributes:
        spaces: states of the normal clips; none where states are not given.
        quiet: what is off by its level; none where it is not learned.
        moved: what states move in scores, by each seed; none of systems that compare by state.
    """

    spaces: Mapping[str, StateSpace] = {}
    quiet: Mapping[str, Quiet] = {}
    moved: Mapping[str, tuple[MovedScores, ...]] = {}

    def to_file(self) -> dict[str, Any]:
        """Of JSON's types."""
        moved = {group: [own.to_file() for own in each] for group, each in self.moved.items()}
        return {"spaces": dict(self.spaces), "quiet": dict(self.quiet), "moved": moved}

    @classmethod
    def of_file(cls, stored: Mapping[str, Any] | None) -> "Operating":
        """What `to_file` gave; nothing of a file of an earlier version."""
        stored = stored or {}
        quiet = {group: Quiet(*own) for group, own in stored.get("quiet", {}).items()}
        moved = {
            group: tuple(map(MovedScores.of_file, own))
            for group, own in stored.get("moved", {}).items()
        }
        return cls(states_by_group(stored.get("spaces")), quiet, moved)


def with_given_states(
    detector: Detector, features: Features, report: Callable[[str], None]
) -> Features:
    """The clips with the states that attributes or side files give them.

    Args:
        detector: the system, with the run's configuration.
        features: of the clips.
        report: called with lines about side files.

    Raises:
        UserError: a side file is wrong.
    """
    data = detector.config.data
    if not data.state or not len(features.clips):
        return features
    front_end = detector.front_end
    seconds = np.asarray(features.n_frames) * front_end.hop_length / front_end.sample_rate
    states = StateSource(data.state, data.state_log).states(features.clips, seconds, report)
    return with_states(features, states)


def with_states(features: Features, states: Sequence[str]) -> Features:
    """The clips with other states (clips,)."""
    clips = (
        dataclasses.replace(clip, state=state)
        for clip, state in zip(features.clips, states, strict=True)
    )
    return features.with_clips(ClipTable.of(clips))


def fitted_states(
    detector: Detector, features: Features, report: Callable[[str], None]
) -> tuple[Features, Operating]:
    """The training clips, of which those that nothing is learned from are `UNFITTED`.

    Args:
        detector: the system, with the run's configuration.
        features: of the training clips, with their given states.
        report: called with a line about each machine's states.

    Returns:
        The features, and what scores need to know of states.

    Raises:
        UserError: a machine has no clip left to learn from.
    """
    data = detector.config.data
    if not data.state and not data.learn_off:
        return features, Operating()
    quiet: dict[str, Quiet] = {}
    before = groups_of(detector, features.clips)
    if data.learn_off:
        features, quiet = _with_learned_off(detector, features, before)
    spaces: dict[str, StateSpace] = {}
    clips = features.clips
    states = np.array([clip.state for clip in clips], object)
    unfitted = clips.where(state=[OFF, TRANSIENT]) & ~clips.where(split=["test", SPLIT])
    for group, rows in before.items():
        name = "/".join(group)
        numbers = group_numbers(clips[rows])
        kept = ~unfitted[rows]
        while True:  # what is left may be of other states than all were
            own = np.flatnonzero(kept)
            space, category = StateSpace.of(states[rows[own]].tolist(), numbers[own].tolist())
            if not len(own) or (category >= 0).all():
                break
            kept[own[category < 0]] = False
        if data.state:
            spaces[name] = space
        machine = clips.where(machine=group[0]) & ~clips.where(split=["test", "other", SPLIT])
        if group[1]:
            machine &= clips.where(section=group[1])
        for row in np.flatnonzero(machine & ~unfitted):
            unfitted[row] = data.state != () and space.place(states[row]) is None
        line = states_line(group, rows, unfitted, clips, space if data.state else None)
        if unfitted[rows].all():
            raise UserError(f"{line}; nothing is left to learn from")
        report(line)
    return features.with_clips(clips.replace(unfitted, split=UNFITTED)), Operating(spaces, quiet)


def states_line(
    group: Group,
    rows: np.ndarray,
    unfitted: np.ndarray,
    clips: ClipTable,
    space: StateSpace | None,
    done: str = "training clips are fitted to",
    lacking: str = "with too few others",
) -> str:
    """How many of a machine's clips (clips,) are learned from, and why others are not.

    Args:
        group: machine and section.
        rows: of its clips.
        unfitted: of all clips, which ones are not learned from.
        clips: all of them.
        space: the machine's states; None where none are given.
        done: what they are, and what is done with them.
        lacking: why nothing is learned of a state that is none of the machine's.
    """
    left_out = Counter(_why(clips[int(row)].state, space, lacking) for row in rows if unfitted[row])
    fitted = len(rows) - left_out.total()
    what = f"{' '.join(filter(None, group))}: {fitted} of {len(rows)} {done}"
    if space is not None and space.names and fitted:
        what += f", of {space.describe()}"
    said = [f"{count} {why}" for why, count in left_out.most_common()]
    return f"{what}; not: {', '.join(said)}" if said else what


def _why(state: str, space: StateSpace | None, lacking: str) -> str:
    if state in (OFF, TRANSIENT):
        return state
    if space is None or not state or space.lacks(state):
        return "without a state"
    return f"of {state} {lacking}"


def _with_learned_off(
    detector: Detector, features: Features, groups: Mapping[Group, np.ndarray]
) -> tuple[Features, dict[str, Quiet]]:
    """The clips that are far too quiet, off; and what is off of each group."""
    clips = features.clips
    states = np.array([clip.state for clip in clips], object)
    own = np.flatnonzero(~clips.where(split=["test", "other", SPLIT]))
    levels = np.full((len(clips), SEGMENTS), np.nan)
    for place, blocks in read_blocks(features, own):
        of_clip = segment_levels(frame_levels(blocks, detector.config.detector.hears_waveforms))
        levels[own[place], : len(of_clip)] = of_clip
    quiet = {}
    for group, rows in groups.items():
        running = rows[~clips[rows].where(state=[OFF, TRANSIENT])]
        if not len(running):
            continue
        quiet["/".join(group)] = found = learn_quiet(levels[running])
        machine = clips.where(machine=group[0])
        if group[1]:
            machine &= clips.where(section=group[1])
        for row in own[machine[own]]:
            said = found.says(levels[row][np.isfinite(levels[row])])
            if said and states[row] not in (OFF, TRANSIENT):
                states[row] = said
    return with_states(features, states.tolist()), quiet


def frame_levels(blocks: Iterable[np.ndarray], waveforms: bool) -> np.ndarray:
    """(frames,) level of each frame in dB: of a block of samples, or the mean over the bands."""
    return np.concatenate([_block_levels(np.asarray(block), waveforms) for block in blocks])


def _block_levels(block: np.ndarray, waveforms: bool) -> np.ndarray:
    if waveforms:
        power = np.mean(block.astype(np.float64) ** 2, axis=1)
        return 10 * np.log10(np.maximum(power, _LEAST_POWER))
    return block.mean(axis=1, dtype=np.float64)


class Listened:
    """Blocks of a clip, whose levels are noted as they are read.

    Args:
        blocks: (frames, width) of its features.
        waveforms: whether these are samples.
    """

    def __init__(self, blocks: Iterable[np.ndarray], waveforms: bool):
        self._blocks, self._waveforms = blocks, waveforms
        self._levels: list[np.ndarray] = []

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            self._levels.append(_block_levels(np.asarray(block), self._waveforms))
            yield block

    @property
    def levels(self) -> np.ndarray:
        """(segments,), once all blocks have been read."""
        return segment_levels(np.concatenate(self._levels))
