"""Placeholder."""

from benchmarks.harness import Comparison

COMPARISONS: list[Comparison] = []
