"""Times of this package's computations beside the usual tools: `python -m benchmarks`."""
