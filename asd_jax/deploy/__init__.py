"""Fitted systems at work outside of experiments: watched streams, a service, exported files."""
