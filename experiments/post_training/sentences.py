"""Sentences to calibrate and to test with, of different sources.

Those of `invented` come from a small grammar of our own and speak of everyday things.
Those of `documented` are from the language reference that is part of every Python, in
`pydoc_data`; its versions differ in a few of them. The documents of a test are not
those of a calibration.
"""

import importlib
import random
import re
from collections.abc import Iterator

_SUBJECTS = (
    "the cat", "a small dog", "my neighbor", "the old engineer", "a famous singer",
    "the committee", "our teacher", "the machine", "a lonely sailor", "the government",
    "a young doctor", "the football team", "this algorithm", "the river",
    "an angry customer",
)  # fmt: skip
_VERBS = (
    "quickly repaired", "was looking for", "wrote a letter about",
    "could not understand", "sold", "painted", "is afraid of", "discussed", "measured",
    "lost", "found", "will probably buy", "never mentioned", "explained",
    "dreamed about",
)  # fmt: skip
_OBJECTS = (
    "the broken bicycle", "a new law on taxes", "the weather in Norway",
    "an ancient temple", "his mother's recipe for bread", "quantum mechanics",
    "the stock market", "a red balloon", "three bottles of wine",
    "the history of music", "the train to Paris", "a database of proteins",
    "some cheap headphones", "the final match", "an unpaid invoice",
)  # fmt: skip
_CIRCUMSTANCES = (
    "yesterday", "in the garden", "because it rained", "without any help",
    "at three o'clock", "for the first time", "despite the noise", "after the war",
    "on the internet", "before breakfast",
)  # fmt: skip

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*\* )")  # or an item of a list
_BETWEEN = re.compile(r"(?<=[.?!])\s+(?=[A-Z])")
_WORDS = range(6, 41)  # how many a documented sentence may have
_LETTERS = 0.85  # the least part of it that letters and spaces are, or it is code
_TEST_DOCUMENTS = 4  # every so many-th document is for tests


def invented(count: int, seed: int) -> list[str]:
    """Sentences of the grammar, drawn at random.

    Examples:
        >>> invented(1, 0)
        ['the river is afraid of some cheap headphones despite the noise.']
    """
    draw = random.Random(seed).choice
    parts = (_SUBJECTS, _VERBS, _OBJECTS, _CIRCUMSTANCES)
    return [" ".join(map(draw, parts)) + "." for _ in range(count)]


def documented(count: int, seed: int, *, test: bool) -> list[str]:
    """Different sentences of Python's language reference, drawn at random.

    Args:
        count: How many.
        seed: Of the draw.
        test: Whether they are from the documents for tests, or from the others.

    Raises:
        ValueError: The documents have fewer sentences.
    """
    topics = importlib.import_module("pydoc_data.topics").topics
    documents = [topics[name] for name in sorted(topics)]
    tested = {s for text in documents[::_TEST_DOCUMENTS] for s in _sentences(text)}
    others = {s for text in documents for s in _sentences(text)} - tested
    found = sorted(tested if test else others)
    if len(found) < count:
        raise ValueError(f"there are {len(found)} sentences, not {count}: ask for less")
    return random.Random(seed).sample(found, count)


def _sentences(document: str) -> Iterator[str]:
    for paragraph in _PARAGRAPH.split(document):
        text = " ".join(paragraph.split()).lstrip("* ")
        yield from filter(_is_prose, _BETWEEN.split(text))


def _is_prose(text: str) -> bool:
    if len(text.split()) not in _WORDS or text[-1] not in ".?!":
        return False
    letters = sum(c.isalpha() or c == " " for c in text)
    return text[0].isupper() and letters >= _LETTERS * len(text)
