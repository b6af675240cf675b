"""The tables of the five reports, filled from runs."""
