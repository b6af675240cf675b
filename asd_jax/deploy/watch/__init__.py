"""Watching streams: sources → windows → one program → scores → alarms → lines and messages."""
