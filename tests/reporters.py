"""Reporters that tests read."""

from asd_jax.runtime.progress import Silent


class Lines(Silent):
    """Keeps the lines."""

    def __init__(self):
        super().__init__()
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        """Keeps one."""
        self.lines.append(text)
