"""Means over machines, sections and domains, as the challenge's official programs compute them."""

import math
from typing import Any

import numpy as np

# The official programs' guard of divisions and harmonic means.
_EPSILON = float(np.finfo(np.float64).eps)


def harmonic_mean(values: Any, axis: int = -1) -> np.ndarray:
    """Harmonic mean of values in [0, 1], 0 raised to float64's eps as in the official programs.

    Args:
        values: any shape.
        axis: the axis to average over.

    Returns:
        `values` without that axis; NaN where one of the values is NaN or there are none.

    Examples:
        >>> round(float(harmonic_mean([0.5, 1.0])), 3)
        0.667
    """
    values = np.maximum(np.asarray(values, np.float64), _EPSILON)
    with np.errstate(invalid="ignore", divide="ignore"):
        return values.shape[axis] / np.sum(1 / values, axis=axis)


def official_score(year: int, domains: Any, auc: Any, pauc_mcclish: Any) -> dict[str, np.ndarray]:
    """A challenge year's score over all machines and sections.

    2020 (and MIMII, year 0): the arithmetic means of AUC and pAUC over all machine ids.
    2021: the harmonic mean of the AUCs and pAUCs of both domains.
    2022 and later: the harmonic mean of AUC (source), AUC (target) and pAUC over both domains.

    Args:
        year: challenge year.
        domains: (rows,), "all", "source" or "target"; a row is a machine, section and domain.
        auc: (..., rows).
        pauc_mcclish: (..., rows), the official programs' pAUC.

    Returns:
        Name to value (...): "AUC" and "pAUC" for 2020, "official score" later. NaN if one of
        the values needed is NaN, or there is no AUC or no pAUC to average.

    Examples:
        >>> scores = official_score(2020, ["all", "all"], [0.8, 0.6], [0.7, 0.5])
        >>> {name: round(float(value), 3) for name, value in scores.items()}
        {'AUC': 0.7, 'pAUC': 0.6}
        >>> domains = ["all", "source", "target"]
        >>> scores = official_score(2023, domains, [0.6, 0.8, 0.5], [0.5, 0.6, 0.4])
        >>> {name: round(float(value), 3) for name, value in scores.items()}
        {'official score': 0.571}
    """
    domains = np.asarray(domains)
    auc, pauc_mcclish = np.asarray(auc, np.float64), np.asarray(pauc_mcclish, np.float64)
    if year <= 2020:
        count = domains.size or math.nan
        return {"AUC": auc.sum(-1) / count, "pAUC": pauc_mcclish.sum(-1) / count}
    auc_rows = (domains == "source") | (domains == "target")
    pauc_rows = auc_rows if year == 2021 else domains == "all"
    values = np.concatenate([auc[..., auc_rows], pauc_mcclish[..., pauc_rows]], axis=-1)
    if not (auc_rows.any() and pauc_rows.any()):
        values = values[..., :0]  # no mean: NaN
    return {"official score": harmonic_mean(values)}


def domains_of(year: int) -> tuple[str, ...]:
    """Domains that a year's results are reported for.

    Examples:
        >>> domains_of(2021)
        ('source', 'target')
    """
    if year <= 2020:
        return ("all",)
    return ("source", "target") if year == 2021 else ("all", "source", "target")


def mean_over_sections(values: Any, year: int, axis: int = -1) -> np.ndarray:
    """A machine's mean as the year's official program computes it.

    Args:
        values: any shape, in [0, 1].
        year: challenge year: the arithmetic mean up to 2020, the harmonic mean since 2021.
        axis: the axis of the sections.

    Returns:
        `values` without that axis, float64.

    Examples:
        >>> [round(float(mean_over_sections([0.5, 1.0], year)), 3) for year in (2020, 2021)]
        [0.75, 0.667]
    """
    values = np.asarray(values, np.float64)
    return harmonic_mean(values, axis) if year >= 2021 else values.mean(axis)
