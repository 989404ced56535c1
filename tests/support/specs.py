"""Reads the specifications: their clauses, their examples, and who cites them."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
CHAPTERS = sorted((ROOT / "specs").glob("*.md"))

_CLAUSE = re.compile(r"^\*\*([A-Z]\d+)\.\*\*(.*?)(?=\n\n|\Z)", re.M | re.S)
_EXAMPLE = re.compile(r"^```example (\w+) (\w+)\n(.*?)^```", re.M | re.S)
_CITATION = re.compile(r"pytest\.mark\.spec\(([^)]*)\)")


class Clause(NamedTuple):
    """A numbered sentence of a chapter."""

    number: str
    text: str


class Example(NamedTuple):
    """A block of a chapter that is run: input, then what must come out."""

    clause: str
    kind: str
    given: str
    expected: str


def clauses() -> list[Clause]:
    """Of all chapters, in order."""
    return [
        Clause(number, " ".join(text.split()))
        for chapter in CHAPTERS
        if chapter.name != "README.md"
        for number, text in _CLAUSE.findall(chapter.read_text())
    ]


def examples() -> list[Example]:
    """Of all chapters, in order; a line with a dot divides input and output."""
    found = []
    for chapter in CHAPTERS:
        if chapter.name == "README.md":
            continue
        for clause, kind, body in _EXAMPLE.findall(chapter.read_text()):
            given, _, expected = body.partition("\n.\n")
            found.append(Example(clause, kind, given, expected.strip()))
    return found


def citations() -> set[str]:
    """Clauses that some test cites."""
    found: set[str] = set()
    for test in (ROOT / "tests").rglob("test_*.py"):
        for arguments in _CITATION.findall(test.read_text()):
            found.update(re.findall(r"[A-Z]\d+", arguments))
    return found
