"""From clip scores to results: metrics of every machine, intervals, tables, result files."""
