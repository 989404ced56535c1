"""Clauses and tests name each other, and every example is true."""

import re

import pytest

from deepcomp_jax import FormatError
from tests.support import specs
from tests.support.example_adapters import ADAPTERS


def test_clause_numbers_are_unique_and_ascending_in_each_chapter():
    numbers = [clause.number for clause in specs.clauses()]
    assert len(numbers) == len(set(numbers)) > 60
    for letter in {number[0] for number in numbers}:
        chapter = [int(n[1:]) for n in numbers if n[0] == letter]
        assert chapter == sorted(chapter)


def test_every_citation_names_a_clause():
    known = {clause.number for clause in specs.clauses()}
    shown = specs.citations() | {example.clause for example in specs.examples()}
    assert shown - known == set()


def test_every_must_has_a_test_or_an_example():
    shown = specs.citations() | {example.clause for example in specs.examples()}
    demanded = {c.number for c in specs.clauses() if "MUST" in c.text}
    assert demanded - shown == set()


def test_every_block_and_clause_is_read():
    text = "\n".join(c.read_text() for c in specs.CHAPTERS if c.name != "README.md")
    assert len(re.findall(r"^```example", text, re.M)) == len(specs.examples())
    assert len(re.findall(r"^\W*\*\*[A-Z]\d+", text, re.M)) == len(specs.clauses())


@pytest.mark.parametrize(
    "example",
    [
        pytest.param(example, id=f"{example.clause}-{example.kind}-{i}")
        for i, example in enumerate(specs.examples())
    ],
)
def test_example(example: specs.Example):
    try:
        found = ADAPTERS[example.kind](example.given).strip()
    except FormatError as error:
        found = f"error {error.clause}"
    assert found == example.expected
