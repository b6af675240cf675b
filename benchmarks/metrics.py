"""AUC and both partial AUCs with bootstrap: all groups at once, and a loop over scikit-learn's."""

from collections.abc import Sequence

import numpy as np

from asd_jax.evaluation.bootstrap import bootstrap
from asd_jax.metrics import ranking_metrics
from benchmarks.harness import Comparison, Difference, Prepared, Way, installed, largest
from benchmarks.roofline import Work

GROUPS, RESAMPLES, MAX_FPR = 115, 1000, 0.1


def make_groups(groups: int, clips: int) -> tuple[np.ndarray, np.ndarray]:
    """Labels (clips,), half of them anomalies, and scores (groups, clips) of AUCs around 0.76."""
    labels = np.arange(clips) % 2
    return labels, np.random.default_rng(0).normal(size=(groups, clips)) + labels


def sklearn_metrics(labels: np.ndarray, scores: np.ndarray) -> tuple[float, float, float]:
    """AUC, the papers' pAUC and the official programs' of one group."""
    from sklearn.metrics import roc_auc_score

    normal = np.flatnonzero(labels == 0)
    top = normal[np.argsort(-scores[normal])[: int(MAX_FPR * len(normal) + 1e-9)]]
    kept = np.concatenate([np.flatnonzero(labels == 1), top])
    return (
        roc_auc_score(labels, scores),
        roc_auc_score(labels[kept], scores[kept]),
        roc_auc_score(labels, scores, max_fpr=MAX_FPR),
    )


def _sklearn_loop(labels: np.ndarray, scores: np.ndarray, resamples: int):
    """Metrics (3, groups) and those of resamples, (3, groups, resamples)."""
    rng = np.random.default_rng(1)
    classes = [np.flatnonzero(labels == label) for label in (0, 1)]
    points = [sklearn_metrics(labels, row) for row in scores]
    drawn = [
        [
            sklearn_metrics(labels[index], row[index])
            for index in (
                np.concatenate([rng.choice(each, len(each)) for each in classes])
                for _ in range(resamples)
            )
        ]
        for row in scores
    ]
    return np.transpose(points), np.moveaxis(np.array(drawn), -1, 0)


def _check(peer, ours, theirs):
    (points, drawn), (their_points, their_drawn) = ours, theirs
    yield Difference("metric", largest(points, their_points), 1e-6, "exact but for rounding")
    # A mean over resamples and groups; the resamples of both ways are different draws.
    few = their_drawn.shape[-1]
    error = np.sqrt((their_drawn.var(-1, ddof=1) * (1 / few + 1 / drawn.shape[-1])).sum(-1))
    distance = np.abs((their_drawn.mean(-1) - drawn.mean(-1)).sum(-1)) / error
    yield Difference(
        "mean of the resamples, in standard errors",
        float(distance.max()),
        5,
        "different draws; over 5 once in a million",
    )
    spread = np.sqrt(drawn.var(-1, ddof=1).mean(-1))
    their_spread = np.sqrt(their_drawn.var(-1, ddof=1).mean(-1))
    degrees = their_drawn.shape[1] * (few - 1)
    yield Difference(
        "standard deviation of the resamples, relative",
        largest(spread, their_spread, relative=True),
        5 / np.sqrt(degrees),
        f"different draws; seven standard errors of {degrees} degrees of freedom",
    )


def setup(quick: bool, peers: Sequence[str]) -> Prepared:
    """Arrays are on the host, as in `results`."""
    groups, clips, share = (20, 200, 10) if quick else (GROUPS, 400, 10)
    labels, scores = make_groups(groups, clips)

    def ours():
        points = ranking_metrics(labels, scores, max_fpr=MAX_FPR)
        drawn = bootstrap(labels[None], scores, n_resamples=RESAMPLES, max_fpr=MAX_FPR)
        return np.stack([np.asarray(v) for v in points]), np.stack([np.asarray(v) for v in drawn])

    def peer():
        return _sklearn_loop(labels, scores, share)

    def work(_):
        # Of a resample's weights: normal clips of each group, against anomalies.
        weights = groups * clips * RESAMPLES
        return Work(
            2 * 4 * weights,
            6 * weights,
            "how often a clip is drawn, written and read in float32; three sums of products",
        )

    return Prepared(
        f"AUC, pAUC and McClish's pAUC of {groups} groups of {clips} clips, and of {RESAMPLES} "
        "stratified bootstrap resamples of each group; scores float64",
        # A resample takes as long as the metrics themselves.
        {"ours": Way(ours)}
        | {name: Way(peer, scale=(1 + RESAMPLES) / (1 + share)) for name in peers},
        _check,
        work,
        notes=[
            f"scikit-learn takes {share} of the {RESAMPLES} resamples, its seconds multiplied by "
            f"{1 + RESAMPLES} / {1 + share}; the whole would take too long"
        ],
    )


COMPARISONS = [
    Comparison(
        "metrics",
        {"scikit-learn": installed("sklearn", "")},
        setup,
        {("cpu", "scikit-learn"): 500, ("gpu", "scikit-learn"): 5000},
        brief=True,
    )
]
