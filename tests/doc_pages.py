"""Running the Python blocks of documentation pages, and reading their other blocks."""

import contextlib
import doctest
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Block(NamedTuple):
    """A fenced block of a page.

    Attributes:
        language: the word after the fence.
        text: its lines.
        line: of the page, from 1, where they begin.
    """

    language: str
    text: str
    line: int


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, named from the repository's root."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 2)
        for match in _BLOCK.finditer(text)
    ]


def run(page: str, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs a page's Python blocks as one program and returns its names.

    A `text` block right after a Python block is what that one must print; without one it must
    print nothing. Whitespace may differ, and "..." in it stands for anything.
    """
    namespace = {"__name__": "page"} | (namespace or {})
    parts = blocks(page)
    for i, block in enumerate(parts):
        if block.language != "python":
            continue
        following = parts[i + 1] if i + 1 < len(parts) else None
        wanted = following.text if following and following.language == "text" else ""
        code = compile("\n" * (block.line - 1) + block.text, str(ROOT / page), "exec")
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace)
        if not doctest.OutputChecker().check_output(wanted, printed.getvalue(), _FLAGS):
            raise AssertionError(
                f"{page}:{block.line} printed\n{printed.getvalue()}\nbut the page says\n{wanted}"
            )
    return namespace
