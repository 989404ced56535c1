"""Runs the Python of a Markdown page as a reader would paste it, block by block."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

_BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\s*^```text\n(.*?)^```$)?", re.M | re.S)


class Block(NamedTuple):
    """A block of Python of a page.

    Attributes:
        line: Of the page, from 1, on which the code begins.
        code: The Python.
        output: What it prints, where the page shows that; `...` stands for anything on
            a line.
    """

    line: int
    code: str
    output: str | None


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    return [
        Block(text.count("\n", 0, found.start()) + 2, found[1], found[2])
        for found in _BLOCK.finditer(text)
    ]


def run_block(page: Path, block: Block, names: dict[str, Any]) -> str:
    """Runs a block in a namespace; errors have the line of the page.

    Returns:
        What it printed.
    """
    printed = io.StringIO()
    code = "\n" * (block.line - 1) + block.code
    with contextlib.redirect_stdout(printed):
        exec(compile(code, str(page), "exec"), names)
    return printed.getvalue()


def agrees(shown: str, printed: str) -> bool:
    """Whether the output that a page shows is what was printed.

    Args:
        shown: Of the page; `...` is anything on a line, a line of it any lines, and
            spaces at ends of lines do not count.
        printed: By its code.
    """

    def pattern(line: str) -> str:
        if line == "...":
            return r"(?:.*\n)*"
        return ".*".join(map(re.escape, line.split("..."))) + r" *\n"

    lines = (line.rstrip() for line in shown.rstrip().splitlines())
    return bool(re.fullmatch("".join(map(pattern, lines)), printed.rstrip() + "\n"))


def run(page: Path) -> None:
    """Runs a page in the current directory, in one namespace that begins empty.

    Raises:
        AssertionError: A block prints something else than the page shows.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        printed = run_block(page, block, names)
        if block.output is not None and not agrees(block.output, printed):
            raise AssertionError(
                f"{page.name}, line {block.line}: the page shows\n{block.output}\n"
                f"but its code prints\n{printed}"
            )
