"""Answers about clips: normal or anomalous, or why a clip is not scored.

`judge` takes a fitted system, and features of clips with the states that are known of them; it is
what streams, services and files of recordings have in common.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from asd_jax.data.states import OFF, ON, TRANSIENT, pairs_of, state_text
from asd_jax.errors import UserError
from asd_jax.fitting.layout import Group

if TYPE_CHECKING:
    from asd_jax.fitting.detector import FittedDetector
    from asd_jax.fitting.fitted import Fitted

NORMAL, ANOMALOUS, UNSEEN = "normal", "anomalous", "unseen state"
UNSCORED = (OFF, TRANSIENT, UNSEEN)


class Judged(NamedTuple):
    """Answers about clips.

    Attributes:
        scores: (clips,) mean over the seeds; NaN of a clip that is not scored.
        states: (clips,) as given, or "off" or "transient" as found; "" where not known.
        verdicts: (clips,) "normal", "anomalous", "off", "transient" or "unseen state"; "" without a
            threshold or a score.
        threshold: above which a clip is anomalous; NaN where there is none.
    """

    scores: np.ndarray
    states: tuple[str, ...]
    verdicts: tuple[str, ...]
    threshold: float


def judge(
    fitted: "FittedDetector",
    group: Group,
    features: Sequence[np.ndarray] | np.ndarray,
    states: Sequence[Any] | str | None = None,
    *,
    embeddings: np.ndarray | None = None,
    seeds: Sequence[int] | None = None,
    threshold: float | None = None,
) -> Judged:
    """Scores clips of one machine and section, and answers about each.

    Args:
        fitted: the system.
        group: machine and section, from `Fitted.resolve`.
        features: (frames, width) a clip, as `FittedDetector.features` gives them.
        states: of each clip, or one for all: a text as "speed=6 load=2", "off", "transient", or a
            mapping as {"speed": 6}; "" or None where it is not known.
        embeddings: as in `FittedDetector.score_features`.
        seeds: of the models; all by default.
        threshold: in place of the system's own.

    Raises:
        UserError: a state of other columns than the normal clips have.
    """
    given = given_states(states, len(features))
    check_states(fitted, group, given)
    found = fitted.feature_states(features, group, given)
    own = fitted.seeds if seeds is None else seeds
    scores = np.asarray(
        fitted.seed_feature_scores(features, group, own, embeddings, states=found)
    ).mean(axis=0)
    if threshold is None:
        threshold = fitted.group_threshold(group, None)
    return answered(fitted, group, scores, found, threshold)


def answered(
    fitted: "Fitted", group: Group, scores: np.ndarray, states: Sequence[str], threshold: float
) -> Judged:
    """The answers about clips whose scores (clips,) are known, those that do not count included."""
    why = unscored(fitted, group, states)
    scores = np.where(np.array([bool(each) for each in why], bool), np.nan, scores)
    verdicts = [
        each or _decided(float(score), threshold) for each, score in zip(why, scores, strict=True)
    ]
    return Judged(scores, tuple(states), tuple(verdicts), threshold)


def _decided(score: float, threshold: float) -> str:
    if np.isnan(score) or np.isnan(threshold):
        return ""
    return ANOMALOUS if score > threshold else NORMAL


def given_states(states: Any, count: int) -> list[str]:
    """The state of each clip as a text.

    Args:
        states: as in `judge`.
        count: of clips.

    Raises:
        UserError: not as many states as clips.

    Examples:
        >>> given_states({"speed": 6.0}, 2), given_states(None, 1)
        (['speed=6', 'speed=6'], [''])
    """
    column = [states] * count if states is None or hasattr(states, "keys") else states
    if isinstance(column, str):
        column = [column] * count
    texts = [_text(each) for each in column]
    if len(texts) != count:
        raise UserError(f"{count} clips, but {len(texts)} states")
    return texts


def _text(state: Any) -> str:
    if state is None:
        return ""
    if hasattr(state, "keys"):
        return state_text(state, tuple(sorted(map(str, state))))
    if not isinstance(state, str):
        raise UserError(f"a state is {state!r}; give a text, as 'speed=6', or {{'speed': 6}}")
    pairs = [part.split("=", 1) for part in state.replace(",", " ").split()]
    if pairs and all(len(pair) == 2 for pair in pairs):
        return state_text(dict(pairs), tuple(sorted(name for name, _ in pairs)))
    return state.strip()


def check_states(fitted: "Fitted", group: Group, states: Sequence[str]) -> None:
    """Raises UserError for states of other columns than the normal clips of a group have."""
    for space, _ in fitted.state_spaces(group):
        for state in dict.fromkeys(states):
            if space is None:
                if pairs_of(state):
                    raise UserError(
                        f"the state {state!r} is given, and the system was fitted without states; "
                        "fit it with data.state, or leave the state out"
                    )
                continue
            space.check(state)
            lacking = space.lacks(state) if state not in ("", ON, OFF, TRANSIENT) else ()
            if lacking:
                raise UserError(
                    f"the state {state!r} lacks {', '.join(lacking)}; normal clips have "
                    f"{', '.join(space.names)}"
                )


def needs_levels(fitted: "Fitted", group: Group) -> bool:
    """Whether levels of segments tell what is off."""
    return any(quiet is not None for _, quiet in fitted.state_spaces(group))


def found_states(
    fitted: "Fitted",
    group: Group,
    states: Sequence[str],
    levels: Sequence[np.ndarray] | None = None,
) -> list[str]:
    """The states of clips, "off" or "transient" where their levels say so.

    Args:
        fitted: the system.
        group: as in `judge`.
        states: given of each clip.
        levels: of each clip's segments; None where they do not count.
    """
    found = [*states]
    for _, quiet in fitted.state_spaces(group) if levels is not None else ():
        if quiet is not None:
            assert levels is not None
            said = [quiet.says(own) for own in levels]
            found = [
                state if state in (OFF, TRANSIENT) else own or state
                for state, own in zip(found, said, strict=True)
            ]
    return found


def lacks_state(fitted: "Fitted", group: Group, states: Sequence[str]) -> list[bool]:
    """Whether each clip has no state, though normal clips have."""
    spaces = [space for space, _ in fitted.state_spaces(group) if space is not None]
    return [
        state not in (OFF, TRANSIENT) and any(space.lacks(state) for space in spaces)
        for state in states
    ]


def unscored(fitted: "Fitted", group: Group, states: Sequence[str]) -> list[str]:
    """Why each clip is not scored, one of `UNSCORED`; "" of one that is."""
    spaces = [space for space, _ in fitted.state_spaces(group) if space is not None]
    known: dict[str, str] = {}
    for state in dict.fromkeys(states):
        if state in (OFF, TRANSIENT):
            known[state] = state
        else:
            seen = all(space.place(state) or space.lacks(state) for space in spaces)
            known[state] = "" if seen else UNSEEN
    return [known[state] for state in states]
