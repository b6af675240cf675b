"""Ranking and decision metrics of the challenge, for every group of clips at once."""

from asd_jax.metrics.decisions import (
    Confusion,
    DecisionRates,
    confusion_counts,
    decision_rates,
    f1,
    precision,
    recall,
)
from asd_jax.metrics.official import (
    domains_of,
    harmonic_mean,
    mean_over_sections,
    official_score,
)
from asd_jax.metrics.ranking import (
    FLOOR_SLACK,
    RankingMetrics,
    auc,
    check_max_fpr,
    mcclish,
    pauc,
    ranking_metrics,
)

__all__ = [
    "FLOOR_SLACK",
    "Confusion",
    "DecisionRates",
    "RankingMetrics",
    "auc",
    "check_max_fpr",
    "confusion_counts",
    "decision_rates",
    "domains_of",
    "f1",
    "harmonic_mean",
    "mcclish",
    "mean_over_sections",
    "official_score",
    "pauc",
    "precision",
    "ranking_metrics",
    "recall",
]
