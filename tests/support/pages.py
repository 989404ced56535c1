"""Markdown pages whose Python is run, and whose printed output is compared."""

import contextlib
import doctest
import io
import re
from pathlib import Path
from typing import Any, NamedTuple

# A block of Python, and the block of text that may follow it: what it prints.
_BLOCK = re.compile(
    r"^```python\n(?P<code>.*?)^```$(?:\n+^```text\n(?P<printed>.*?)^```$)?",
    re.M | re.S,
)
_OPENING = re.compile(r"^ *``` *(?:py|Py|>>>).*$", re.M)
_EXACT = doctest.ELLIPSIS | doctest.DONT_ACCEPT_TRUE_FOR_1
_IMAGE = re.compile(r"!\[[^\]]*\]\(([^):]+)\)")


class Block(NamedTuple):
    """A block of Python on a page.

    Attributes:
        code: The Python.
        printed: What it prints, in which `...` stands for anything; None if the page
            does not say.
        line: Lines of the page before the code.
    """

    code: str
    printed: str | None
    line: int


def blocks(text: str) -> list[Block]:
    """All blocks of Python on a page, in order."""
    return [
        Block(match["code"], match["printed"], text[: match.start("code")].count("\n"))
        for match in _BLOCK.finditer(text)
    ]


def run_page(page: Path, namespace: dict[str, Any] | None = None) -> dict[str, Any]:
    """Runs all blocks of a page in order, as its reader would.

    Args:
        page: The Markdown file.
        namespace: What the blocks may use besides what they make.

    Returns:
        The namespace, with all names that the blocks made.

    Raises:
        AssertionError: A block printed something else than the page says, or there is
            Python on the page that would not be run.
    """
    text = page.read_text()
    found = blocks(text)
    assert len(found) == len(_OPENING.findall(text)), (
        f"{page.name}: only plain ```python blocks are run, write all Python so"
    )
    made = {"__name__": "__main__"} | (namespace or {})
    for block in found:
        run(block, page, made)
    return made


def images(text: str) -> list[str]:
    """Files beside a page that it shows."""
    return _IMAGE.findall(text)


def run(block: Block, page: Path, namespace: dict[str, Any]) -> None:
    """Runs a block as it stands on its page, in the current directory.

    Args:
        block: One of `blocks`.
        page: Where it stands; errors of the block name this file and its line.
        namespace: What the block may use, and where its own names are put.

    Raises:
        AssertionError: It printed something else than the page says.
    """
    code = "\n" * block.line + block.code
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, str(page), "exec"), namespace)
    if block.printed is None:
        return
    printed = output.getvalue()
    matches = doctest.OutputChecker().check_output(block.printed, printed, _EXACT)
    assert matches, (
        f"{page.name}, line {block.line + 1}: the block printed\n{printed}"
        f"instead of\n{block.printed}"
    )
