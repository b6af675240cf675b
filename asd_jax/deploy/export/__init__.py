"""Fitted systems as one file that other runtimes score recordings with, without this package."""
