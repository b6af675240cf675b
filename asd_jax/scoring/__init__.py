"""Scores of clips, and what turns them into decisions: pure functions, one topic a module."""
