"""Codebooks of dtypes of one byte, which hold any bits: whole numbers and float8.

    codebook = u8 n, n words                     if n is at most 32
             | u8 n, 256 bits, n of them 1       else: which words are in it

Format notes:

- A word is a value as a byte. The word 0 is no entry: labels of 0 stand for it. NaNs
  and -0.0 are entries like others, and come back with every bit.
- Words ascend as integers do or, in float8, as sign and magnitude.
- The first bit, of word 0, is in the most significant bit of the first byte.
"""

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.format.fields import Problem, get_byte, get_bytes

_LISTED = 32  # entries that take no more bytes one by one than as bits
_UNSIGNED = np.dtype("bool"), np.dtype("uint8")

# ---- both ---------------------------------------------------------------------------


def problem(codebook: np.ndarray) -> Problem | None:
    """The rule that the entries of a codebook break, if any."""
    words = codebook.view(np.uint8)
    ranks = _ranks(words, codebook.dtype)
    if codebook.dtype == bool and (words > 1).any():
        return Problem("C36", "an entry is a boolean that is neither 0 nor 1")
    if words.all() and (ranks[1:] > ranks[:-1]).all():
        return None
    return Problem("C54", "entries of a codebook are not non-zero and ascending")


def negatives(codebook: np.ndarray) -> int:
    """How many entries are negative; in float8, have the sign."""
    return int(np.count_nonzero(_ranks(codebook.view(np.uint8), codebook.dtype) < 0))


def _ranks(words: NDArray[np.uint8], dtype: np.dtype) -> NDArray[np.int16]:
    """Numbers that ascend as the entries of a codebook do; below 0 with the sign."""
    if dtype in _UNSIGNED:
        return words.astype(np.int16)
    if dtype == np.int8:
        return words.view(np.int8).astype(np.int16)
    return np.where(words < 128, words, 127 - words.astype(np.int16)).astype(np.int16)


# ---- writing ------------------------------------------------------------------------


def shared(values: np.ndarray) -> tuple[NDArray[np.uint8], np.ndarray]:
    """The labels of values of one byte, and their codebook.

    Args:
        values: Any shape; a dtype of `WORDS`.
    """
    words = np.ascontiguousarray(values).view(np.uint8)
    present = np.bincount(words.ravel(), minlength=256) > 0
    present[0] = False
    entries = np.flatnonzero(present).astype(np.uint8)
    entries = entries[np.argsort(_ranks(entries, values.dtype))]
    labels = np.zeros(256, np.uint8)
    labels[entries] = np.arange(1, entries.size + 1)
    return labels[words].reshape(values.shape), entries.view(values.dtype)


def put(codebook: np.ndarray) -> bytes:
    """Writes a codebook of a dtype of `WORDS`."""
    words = codebook.view(np.uint8)
    if words.size <= _LISTED:
        return bytes([words.size]) + words.tobytes()
    flags = np.zeros(256, bool)
    flags[words] = True
    return bytes([words.size]) + np.packbits(flags).tobytes()


# ---- reading ------------------------------------------------------------------------


def get(data: bytes, pos: int, dtype: np.dtype) -> tuple[int, np.ndarray]:
    """Reads a codebook.

    Args:
        data: The file up to the end of the header.
        pos: Where the codebook begins, in bytes.
        dtype: Of `WORDS`.

    Returns:
        The position after it, and its entries.

    Raises:
        FormatError: C6, C36, C54.
    """
    start = pos
    pos, count = get_byte(data, pos)
    pos, raw = get_bytes(data, pos, count if count <= _LISTED else 32)
    words = np.frombuffer(raw, np.uint8).copy()
    if count > _LISTED:
        words = np.flatnonzero(np.unpackbits(words)).astype(np.uint8)
        words = words[np.argsort(_ranks(words, dtype))]
    codebook = words.view(dtype)
    found = problem(codebook)
    if words.size != count:
        found = Problem("C54", f"{words.size} bits for {count} entries")
    if found:
        raise FormatError(found.message, offset=start, clause=found.clause)
    return pos, codebook
