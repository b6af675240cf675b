"""Whether recent recordings are of the same set-up as older ones: a permutation test of levels.

If nothing has changed, groups of recent clips are exchangeable with the older ones: any of them
might have been the recent ones. So each of several statistics of the difference is compared with
its values for random choices of as many groups. Of the statistics, each over its spread among the
choices, the largest counts, and it is compared with the largest of every choice (Westfall and Young
1993, Resampling-Based Multiple Testing, section 2.5): the p-value is exact, whatever the
distribution of the levels and however bands depend on each other. Choices are drawn, and the
observed one is among them (Phipson and Smyth 2010, Permutation P-values should never be zero).
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

DRAWS = 4999  # random choices, beside the observed one
_SMOOTH = 4  # slow waves over the bands: a microphone's response
_ODD = 6.0  # standard deviations beyond which a level counts as that
_LEAST_DB = 0.1  # of a standard deviation
_BLOCK = 512  # draws at a time


class Comparison(NamedTuple):
    """What the test says.

    Attributes:
        p_value: the probability of as large a difference, of any kind, where nothing has changed.
        by_statistic: likewise of each statistic, adjusted for their number.
        n_groups: groups of older and of recent clips.
    """

    p_value: float
    by_statistic: dict[str, float]
    n_groups: tuple[int, int]

    @property
    def smallest(self) -> float:
        """The smallest p-value that so many groups can have."""
        older, recent = self.n_groups
        return max(1 / math.comb(older + recent, recent), 1 / (DRAWS + 1))


def compare_levels(
    older: np.ndarray,
    recent: np.ndarray,
    older_groups: Sequence[Hashable] | None = None,
    recent_groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Comparison:
    """Tests whether the levels of recent clips are those of older ones.

    Args:
        older: (clips, 3, bands) in dB: mean, of quiet moments, of loud ones.
        recent: (clips, 3, bands).
        older_groups: of each clip; by default each is one by itself.
        recent_groups: likewise; a name that is among the older ones is another group.
        seed: of the draws.
        draws: random choices; no p-value is below 1 / (draws + 1).

    Examples:
        >>> rng = np.random.default_rng(0)
        >>> levels = rng.normal(size=(30, 3, 16))
        >>> compare_levels(levels, rng.normal(size=(10, 3, 16)) + 6).p_value
        0.0002
        >>> compare_levels(levels, rng.normal(size=(10, 3, 16))).p_value > 0.05
        True
    """
    rows, recent_rows = of_groups(older, older_groups), of_groups(recent, recent_groups)
    both = np.concatenate([rows, recent_rows])
    middle = np.median(both, axis=0)
    spread = np.maximum(1.4826 * np.median(np.abs(both - middle), axis=0), _LEAST_DB)
    both = np.clip(both, middle - _ODD * spread, middle + _ODD * spread)
    names, values = [], []
    for chosen in _drawn(len(rows), len(recent_rows), seed, draws):
        found = _statistics(both, chosen)
        names = [*found]
        values.append(np.stack([*found.values()], axis=1))
    return _of_largest(np.concatenate(values), names, (len(rows), len(recent_rows)))


def compare_scores(
    older: np.ndarray,
    recent: np.ndarray,
    older_groups: Sequence[Hashable] | None = None,
    recent_groups: Sequence[Hashable] | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Comparison:
    """Tests whether recent scores are larger than older ones, by the mean rank of a group.

    Args:
        older: (clips,) scores of normal clips that the system was not fitted to.
        recent: (clips,).
        older_groups: as of `compare_levels`.
        recent_groups: as of `compare_levels`.
        seed: as of `compare_levels`.
        draws: as of `compare_levels`.

    Examples:
        >>> compare_scores(np.arange(20.0), np.arange(15.0, 25.0)).p_value < 0.01
        True
        >>> compare_scores(np.arange(20.0), np.arange(10.0)).p_value > 0.5
        True
    """
    import scipy.stats  # slow to import

    ranks = scipy.stats.rankdata(np.concatenate([older, recent]))
    before = of_groups(ranks[: len(older)], older_groups)
    after = of_groups(ranks[len(older) :], recent_groups)
    both = np.concatenate([before, after])
    values = [(chosen @ both)[:, None] for chosen in _drawn(len(before), len(after), seed, draws)]
    return _of_largest(np.concatenate(values), ["score"], (len(before), len(after)))


def rejected(p_values: Sequence[float], rate: float) -> list[bool]:
    """Which of several tests say that something has changed, at one rate for all (Holm 1979).

    Args:
        p_values: of the tests.
        rate: at which one or more of them say so where nothing has changed, at most.

    Examples:
        >>> rejected([0.01, 0.04, 0.2], 0.05)
        [True, False, False]
    """
    order = np.argsort(p_values, kind="stable")
    found = [False] * len(p_values)
    for place, i in enumerate(order.tolist()):
        if p_values[i] > rate / (len(p_values) - place):
            break
        found[i] = True
    return found


def of_groups(values: np.ndarray, groups: Sequence[Hashable] | None) -> np.ndarray:
    """(groups, …) means of the values (clips, …) of each group, in the order of the first clips."""
    values = np.asarray(values, np.float64)
    if groups is None:
        return values
    numbers: dict[Hashable, int] = {}
    place = np.array([numbers.setdefault(group, len(numbers)) for group in groups], int)
    sums = np.zeros((len(numbers), *values.shape[1:]))
    np.add.at(sums, place, values)
    counts = np.bincount(place, minlength=len(numbers))
    return sums / counts.reshape(-1, *[1] * (values.ndim - 1))


def _drawn(older: int, recent: int, seed: int, draws: int) -> Iterator[np.ndarray]:
    """Blocks (draws, groups) of weights whose sum with values is recent minus older, in the mean.

    The first draw is the observed choice.
    """
    rng = np.random.default_rng(seed)
    count = older + recent
    first = np.append(np.zeros(older, bool), np.ones(recent, bool))
    for begin in range(0, draws + 1, _BLOCK):
        size = min(_BLOCK, draws + 1 - begin)
        order = np.argsort(rng.random((size, count)), axis=1)
        chosen = first[order]
        if not begin:
            chosen[0] = first
        yield np.where(chosen, 1 / max(recent, 1), -1 / max(older, 1))


def _statistics(levels: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """(draws,) of each statistic, larger for larger differences.

    Args:
        levels: (groups, 3, bands).
        chosen: (draws, groups) weights.
    """
    count, _, bands = levels.shape
    shape = levels[:, 0] - levels[:, 0].mean(axis=1, keepdims=True)
    spread = np.maximum(shape.std(axis=0), _LEAST_DB)
    quiet, loud = levels[:, 1] - levels[:, 0], levels[:, 2] - levels[:, 0]
    place = (np.arange(bands) + 0.5) / bands
    waves = np.cos(np.pi * np.arange(1, _SMOOTH + 1)[:, None] * place).T / bands  # (bands, waves)
    smooth = shape @ waves
    smooth = smooth / np.maximum(smooth.std(axis=0), _LEAST_DB / bands)
    apart = chosen @ (shape / spread)  # (draws, bands)
    return {
        "level": np.abs(chosen @ levels[:, 0].mean(axis=1)),
        "spectrum": (apart**2).mean(axis=1),
        "band": np.abs(apart).max(axis=1),
        "response": np.abs(chosen @ smooth).max(axis=1),
        "quiet moments": np.abs(chosen @ quiet.mean(axis=1)),
        "loud moments": np.abs(chosen @ loud.mean(axis=1)),
    }


def _of_largest(values: np.ndarray, names: list[str], n_groups: tuple[int, int]) -> Comparison:
    """How often a draw has as large a statistic as the first one, the observed.

    Args:
        values: (draws, statistics), larger for larger differences.
        names: of the statistics.
        n_groups: older and recent ones.
    """
    if not all(n_groups):
        return Comparison(1.0, dict.fromkeys(names, 1.0), n_groups)
    spread = values.std(axis=0)
    scaled = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    # Sums in another order differ by rounding, and equal choices must tie.
    largest = np.round(scaled, 6).max(axis=1)
    adjusted = [np.mean(largest >= own) for own in np.round(scaled[0], 6)]
    by_statistic = dict(zip(names, map(float, adjusted), strict=True))
    return Comparison(min(by_statistic.values()), by_statistic, n_groups)
