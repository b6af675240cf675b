"""What a score is made of: which statistic, which frequencies, when, how far from normal."""

import functools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asd_jax.scoring.banks import BankSettings, FittedBank, bank_scores
from asd_jax.scoring.mixture import GaussianMixture, component_log_densities
from asd_jax.scoring.neighbours import directions
from asd_jax.scoring.states import States, nearest_state

_log_densities = jax.jit(component_log_densities)

# The bands that are named have this share of a part's score together, if so few have it.
_NAMED_SHARE = 0.6
_NAMED_BANDS = 12
# Frames or bands of a map with fewer others between them are one range.
_GAP = 3
# Magnitudes below this share of the largest are as good as none, for deviations in dB.
_LEAST_MAGNITUDE = 1e-5


class Part(NamedTuple):
    """One statistic's part in a clip's score.

    Attributes:
        name: of the statistic.
        score: of the statistic by itself.
        deviation: (bands,) how far the clip is above (positive) or below what is nearest to it and
            normal, in dB: the centre of a state, or a training clip.
        share: (bands,) what each band contributes to `score`, which is their sum and whose sign
            they have.
    """

    name: str
    score: float
    deviation: np.ndarray
    share: np.ndarray


class Explanation(NamedTuple):
    """A clip's score and what it is made of.

    Attributes:
        score: of the clip.
        parts: of its statistics; none of a system with a network.
        hz: (bands, 2) lower and upper limit of each band, in Hz.
        map: (frames, bands) share of the evidence in each frame and band: not negative, 1 in all;
            0 everywhere where nothing is unusual, and None where there is nothing to compare with.
        times: (frames, 2) begin and end of each of the map's frames, in s.
        levels: (frames, bands) of the clip, in dB.
        nearest: name of the normal clip that is the most like it; None where none is known.
    """

    score: float
    parts: tuple[Part, ...]
    hz: np.ndarray
    map: np.ndarray | None = None
    times: np.ndarray | None = None
    levels: np.ndarray | None = None
    nearest: str | None = None

    def when(self, most: int = 3) -> list[tuple[float, float, float]]:
        """Ranges of time that have most of the map, the largest share first.

        Args:
            most: of them, 1 or more.

        Returns:
            Begin and end in s, and share of the map. One range where the map is spread over more
            than half of the time; none without a map, or of one that is 0.

        Examples:
            >>> times = np.arange(11)[:, None] / 10 + [0.0, 0.1]
            >>> shares = np.array([[0.0]] * 3 + [[0.5], [0.4]] + [[0.0]] * 5 + [[0.1]])
            >>> found = Explanation(2.0, (), np.array([[0, 8000]]), shares, times).when()
            >>> [tuple(round(value, 3) for value in each) for each in found]
            [(0.3, 0.5, 0.9)]
        """
        if self.map is None or self.times is None:
            return []
        return _largest(self.map.sum(axis=1), self.times, most)

    def which_hz(self, most: int = 3) -> list[tuple[float, float, float]]:
        """Ranges of frequency that have most of the map, as `when`: limits in Hz, and share."""
        return [] if self.map is None else _largest(self.map.sum(axis=0), self.hz, most)

    def lines(self, most: int = 3) -> list[str]:
        """A line a part, the largest first: its score, and the frequencies that speak loudest.

        With a map, further lines say when, which frequencies, and which normal clip is nearest.

        Args:
            most: ranges in a line, 1 or more.

        Examples:
            >>> share, deviation = np.array([0.1, 2.0, 1.8, 0.1]), np.array([0.1, 6.0, 5.0, -0.2])
            >>> hz = np.array([[0, 200], [100, 300], [200, 400], [300, 500]])
            >>> Explanation(4.0, (Part("level", 4.0, deviation, share),), hz).lines()
            ['level 4.00: 100 to 400 Hz +5.5 dB (95 %)']
        """
        width = max((len(part.name) for part in self.parts), default=0)
        lines = []
        for part in sorted(self.parts, key=lambda part: -part.score):
            if not np.isfinite(part.score):
                lines.append(f"{part.name:<{width}} {part.score}: nothing normal to compare with")
                continue
            ranges = [
                f"{low:.0f} to {high:.0f} Hz {deviation:+.1f} dB ({share:.0%})".replace("%", " %")
                for low, high, deviation, share in self._ranges(part)[: max(most, 1)]
            ]
            lines.append(f"{part.name:<{width}} {part.score:#.3g}: {', '.join(ranges)}")
        when = [
            f"{begin:.2f} to {end:.2f} s ({share:.0%})" for begin, end, share in self.when(most)
        ]
        hz = [
            f"{low:.0f} to {high:.0f} Hz ({share:.0%})" for low, high, share in self.which_hz(most)
        ]
        if when and hz:
            lines.append(f"when: {', '.join(when)}".replace("%", " %"))
            lines.append(f"where: {', '.join(hz)}".replace("%", " %"))
        elif self.map is not None:
            lines.append("when: nothing is unusual at any time")
        if self.nearest is not None:
            lines.append(f"nearest normal clip: {self.nearest}")
        return lines

    def _ranges(self, part: Part) -> list[tuple[float, float, float, float]]:
        """Limits in Hz, mean deviation and share of runs of bands, the largest share first."""
        total = part.share.sum()
        share = part.share / total if total else np.full(len(part.share), 1 / len(part.share))
        loudest = np.argsort(-share, kind="stable")
        enough = int(np.searchsorted(np.cumsum(share[loudest]), _NAMED_SHARE)) + 1
        named = np.sort(loudest[: min(enough, _NAMED_BANDS)])
        sign = np.sign(part.deviation)
        breaks = (np.diff(named) > 1) | (np.diff(sign[named]) != 0)
        runs = np.split(named, np.flatnonzero(breaks) + 1)
        ranges = [
            (
                float(self.hz[run[0], 0]),
                float(self.hz[run[-1], 1]),
                float(np.average(part.deviation[run], weights=share[run] + 1e-12)),
                float(share[run].sum()),
            )
            for run in runs
        ]
        return sorted(ranges, key=lambda own: -own[3])


def _largest(shares: np.ndarray, spans: np.ndarray, most: int) -> list[tuple[float, float, float]]:
    """Runs of the fewest cells (n,) that have most, with limits (n, 2); the largest share first."""
    total = shares.sum()
    if not total > 0:
        return []
    order = np.argsort(-shares, kind="stable")
    enough = int(np.searchsorted(np.cumsum(shares[order]), _NAMED_SHARE * total)) + 1
    named = np.sort(order[:enough])
    if 2 * len(named) > len(shares):
        return [(float(spans[0, 0]), float(spans[-1, 1]), 1.0)]
    runs = np.split(named, np.flatnonzero(np.diff(named) > _GAP) + 1)
    ranges = [
        (
            float(spans[run[0], 0]),
            float(spans[run[-1], 1]),
            float(shares[run[0] : run[-1] + 1].sum() / total),
        )
        for run in runs
    ]
    return sorted(ranges, key=lambda own: -own[2])[: max(most, 1)]


def map_of(values: np.ndarray) -> np.ndarray | None:
    """Evidence (..., frames, kinds, bands) as a map (frames, bands), whose sum is 1.

    Returns:
        None where it is not finite; all 0 where it is.

    Examples:
        >>> above = np.array([[[1.0, 0.0]], [[2.0, 1.0]]])  # two frames of one kind, two bands
        >>> map_of(np.stack([above, 0 * above])).tolist()
        [[0.25, 0.0], [0.5, 0.25]]
    """
    summed = values.sum(axis=-2)
    summed = summed.reshape(-1, *summed.shape[-2:]).sum(axis=0)
    total = summed.sum()
    if not np.isfinite(total):
        return None
    return summed / total if total > 0 else summed


def map_of_parts(
    parts: Sequence[Part], values: np.ndarray, kinds: Mapping[str, int]
) -> np.ndarray | None:
    """Lays the parts of a score out over time, as a map (frames, bands).

    Each band's share is weighed by itself, as cells are, and spread over time as the evidence in
    the direction of the band's deviation.

    Args:
        parts: of the score.
        values: (2, frames, kinds, bands) evidence above and below the usual.
        kinds: of a part, by name, which kind of cells it is of; 0 for those that are not named.

    Examples:
        >>> part = Part("level", 3.0, np.array([6.0, -6.0]), np.array([2.0, 1.0]))
        >>> above, below = np.zeros((2, 1, 2)), np.zeros((2, 1, 2))
        >>> above[1], below[0] = 1.0, 1.0
        >>> map_of_parts([part], np.stack([above, below]), {}).tolist()
        [[0.0, 0.2], [0.8, 0.0]]
    """
    total = np.zeros(values.shape[1:2] + values.shape[3:])
    for part in parts:
        above, below = values[:, :, kinds.get(part.name, 0)]
        own = np.where(part.deviation > 0, above, below)
        of_band = own.sum(axis=0)
        # Where no frame is unusual, all are equal.
        own = np.where(of_band > 0, own / np.where(of_band > 0, of_band, 1), 1 / len(own))
        total += own * part.share**2
    return map_of(total[:, None])


def part_of(name: str, states: States, values: np.ndarray, *, relative: bool = True) -> Part:
    """The part of one statistic, whose score is its distance from normal.

    The distance is a sum of squares, one for each band: of the deviations, made uncorrelated by
    the whitening that stays closest to them (ZCA of correlations; Kessy, Lewin and Strimmer 2018,
    Optimal whitening and decorrelation).

    Args:
        name: of the statistic.
        states: of one model.
        values: (bands,) of the clip.
        relative: whether the score is the distance over the expected one.

    Examples:
        >>> from asd_jax.scoring.states import fit_states
        >>> rows = np.random.default_rng(0).normal(size=(200, 5))
        >>> part = part_of("level", fit_states(rows), rows.mean(axis=0) + [0, 0, 9, 0, 0])
        >>> int(part.share.argmax()), round(float(part.deviation[2]))
        (2, 9)
    """
    deviation, factor = nearest_state(states, values)
    if not np.isfinite(states.expected) or not states.valid:
        score = np.inf if np.isfinite(states.expected) else np.nan
        return Part(name, score, deviation, np.full(len(deviation), score))
    share = _squares(deviation, states.whitening) * factor
    share /= float(states.expected) if relative else 1.0
    return Part(name, float(share.sum()), deviation, share)


def part_of_mixture(
    name: str, mixture: GaussianMixture, values: np.ndarray, middle: float = 0, spread: float = 1
) -> Part:
    """The part of one statistic, whose score is −max ln N over the components, standardised.

    Bands contribute as they do to the squared distance from the likeliest component.

    Args:
        name: of the statistic.
        mixture: of one model.
        values: (bands,) of the clip.
        middle: what is taken off the score.
        spread: what the rest is divided by.

    Examples:
        >>> means = np.array([[0.0, 0.0], [50.0, 0.0]])
        >>> mixture = GaussianMixture(np.ones(2) / 2, means, np.stack([np.eye(2)] * 2))
        >>> part = part_of_mixture("mean", mixture, np.array([51.0, 9.0]))
        >>> part.deviation.tolist(), round(part.score, 2)  # 82 / 2 + ln 2π
        ([1.0, 9.0], 42.84)
    """
    if np.isnan(mixture.weights).any():
        return _unknown(name, len(values))
    with jax.enable_x64(True):
        densities = np.asarray(_log_densities(mixture, jnp.asarray(values)[None]))[0]
    likeliest = int(densities.argmax())
    score = float((-densities[likeliest] - middle) / spread)
    deviation = values - np.asarray(mixture.means)[likeliest]
    squares = _squares(deviation, np.asarray(mixture.precisions_cholesky)[likeliest])
    return Part(name, score, deviation, score * _fractions(squares))


def part_of_bank(name: str, bank: FittedBank, settings: BankSettings, values: np.ndarray) -> Part:
    """The part of one statistic, whose score is the distance from the nearest row of a bank.

    Bands contribute as they do to the squared distance from the row whose distance, normalised as
    settings say, is the smallest. "cosine" does not see the level: both are of length 1, and the
    deviations' median is 0.

    Args:
        name: of the statistic.
        bank: of one model, whose rows are magnitudes.
        settings: those that it was fitted with.
        values: (bands,) magnitudes of the clip.

    Examples:
        >>> zero = np.zeros(2)
        >>> rows = np.array([[1.0, 1.0, 1.0], [9.0, 9.0, 9.0]])
        >>> bank = FittedBank(rows, zero == 0, zero > 0, zero, 0.0, 0.0, zero, zero + 1)
        >>> part = part_of_bank("spectrum", bank, BankSettings(), np.array([1.0, 10.0, 1.0]))
        >>> part.deviation.round(6).tolist(), part.score
        ([0.0, 20.0, 0.0], 9.0)
    """
    if not np.any(bank.mask):
        return _unknown(name, len(values))
    values = np.asarray(values, np.float64)
    with jax.enable_x64(True):
        score, nearest = _nearest(bank, values, settings)
        row = np.asarray(bank.rows)[int(nearest)]
        if settings.metric == "cosine":
            values, row = (np.asarray(directions(jnp.asarray(each))) for each in (values, row))
    least = _LEAST_MAGNITUDE * max(values.max(), row.max())
    deviation = 20 * np.log10(np.maximum(values, least) / np.maximum(row, least))
    if settings.metric == "cosine":
        deviation -= np.median(deviation)
    return Part(name, float(score), deviation, float(score) * _fractions((values - row) ** 2))


@functools.partial(jax.jit, static_argnums=2)
def _nearest(
    bank: FittedBank, values: jax.Array, settings: BankSettings
) -> tuple[jax.Array, jax.Array]:
    """The score of values (bands,), and the row that alone would give the smallest one."""

    def score(mask: jax.Array) -> jax.Array:
        return bank_scores(bank._replace(mask=mask), values[None], settings)[0]

    mask = jnp.asarray(bank.mask, bool)
    alone = jax.vmap(score)(jnp.eye(len(mask), dtype=bool) & mask)
    return score(mask), jnp.argmin(alone)


def _squares(deviation: np.ndarray, whitening: np.ndarray) -> np.ndarray:
    """Squares (bands,) whose sum is the squared Mahalanobis distance of a deviation (bands,).

    They are of the deviation made uncorrelated, by the whitening that stays closest to it.
    """
    whitening = np.asarray(whitening, np.float64)  # W Wᵀ = C⁻¹
    covariance = np.linalg.inv(whitening @ whitening.T)
    scale = np.sqrt(np.diag(covariance))
    correlations = covariance / (scale[:, None] * scale)
    values_of, vectors = np.linalg.eigh(correlations)
    white: np.ndarray = vectors @ ((vectors.T @ (deviation / scale)) / np.sqrt(values_of))
    return white**2


def _fractions(contributions: np.ndarray) -> np.ndarray:
    """Contributions over their sum; equal ones where there is none."""
    total, n = contributions.sum(), len(contributions)
    return contributions / total if total > 0 else np.full(n, 1 / n)


def _unknown(name: str, bands: int) -> Part:
    """The part of a model that could not be fitted."""
    return Part(name, np.nan, np.full(bands, np.nan), np.full(bands, np.nan))
