"""What takes how long here, beside what people use for it today: `python -m benchmarks`."""
