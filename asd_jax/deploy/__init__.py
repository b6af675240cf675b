"""Fitted runs at work: what keeps scoring recordings outside of experiments."""
