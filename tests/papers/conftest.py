"""Runs for tables draw nothing."""

import pytest


@pytest.fixture(autouse=True)
def quick(no_pictures):
    """As its name says."""
