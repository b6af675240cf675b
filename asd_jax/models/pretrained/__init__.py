"""Weights of other programs: readers, converters, downloads."""
