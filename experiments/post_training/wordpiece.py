"""WordPiece: sentences into the ids of a vocabulary, as BERT reads them.

For its uncased models a text is put in lower case, loses its accents, and is split at
spaces and around each punctuation mark. Of each word the longest beginning that the
vocabulary has is taken, then the longest beginning of the rest, which is listed with
`##` in front (Wu et al. 2016, arXiv 1609.08144; Devlin et al. 2019, arXiv 1810.04805).
"""

import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

CLS, SEP, UNKNOWN = "[CLS]", "[SEP]", "[UNK]"
_LONGEST = 100  # characters of a word; a longer one is unknown


def read_vocabulary(path: Path) -> dict[str, int]:
    """Reads a vocabulary of one piece a line, and numbers the pieces from 0."""
    pieces = path.read_text(encoding="utf-8").splitlines()
    return {piece: number for number, piece in enumerate(pieces)}


def encode(text: str, vocabulary: Mapping[str, int], most: int) -> list[int]:
    """The ids of a text, between those of `[CLS]` and `[SEP]`.

    Args:
        text: Any text, without the names of special pieces.
        vocabulary: Ids by piece.
        most: How many ids there may be; what is longer loses its end.

    Examples:
        >>> pieces = ["[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "!"]
        >>> vocabulary = {piece: number for number, piece in enumerate(pieces)}
        >>> encode("Unaffable!", vocabulary, 10)
        [1, 3, 4, 5, 6, 2]
    """
    pieces = [piece for word in _words(text) for piece in _pieces(word, vocabulary)]
    return [vocabulary[piece] for piece in (CLS, *pieces[: most - 2], SEP)]


def _words(text: str) -> Iterator[str]:
    decomposed = unicodedata.normalize("NFD", text.lower())
    plain = "".join(c for c in decomposed if unicodedata.category(c) != "Mn")
    spaced = "".join(f" {c} " if _is_punctuation(c) else c for c in plain)
    yield from spaced.split()


def _is_punctuation(character: str) -> bool:
    # All symbols of ASCII count, also those that Unicode calls no punctuation.
    if character.isascii():
        return character.isprintable() and not character.isalnum() and character != " "
    return unicodedata.category(character).startswith("P")


def _pieces(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    if len(word) > _LONGEST:
        return [UNKNOWN]
    pieces: list[str] = []
    rest = word
    while rest:
        mark = "##" if pieces else ""
        lengths = range(len(rest), 0, -1)
        length = next((n for n in lengths if mark + rest[:n] in vocabulary), None)
        if length is None:
            return [UNKNOWN]
        pieces.append(mark + rest[:length])
        rest = rest[length:]
    return pieces
