"""Values as words, and words as planes of bytes, the first ones with the most to gain.

    float32    s eeeeeeee mmmmmmm...   ->   eeeeeeee | s mmmmmmm | mmmmmmmm | mmmmmmmm
    bfloat16   s eeeeeeee mmmmmmm      ->   eeeeeeee | s mmmmmmm

Format notes:

- A *word* is a value as bits, or a part of a complex one. The sign of a floating word
  goes behind its exponent, and so do the first 3 of 11 bits of an exponent; of a
  negative integer all bits but the sign are flipped.
- Plane p holds byte p of each word, the most significant one first.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 14  # words that are stored or coded together

_EXPONENTS = {  # bits of an exponent
    "float16": 5, "bfloat16": 8, "float32": 8, "float64": 11,
    "complex64": 8, "complex128": 11,
}  # fmt: skip


def word_of(dtype: np.dtype) -> np.dtype:
    """The words of a dtype, as unsigned integers: of complex values, of a half."""
    return np.dtype(f"<u{dtype.itemsize // (2 if dtype.kind == 'c' else 1)}")


def blocks(words: np.ndarray) -> Iterator[np.ndarray]:
    """Views of so few words that all that is made of them fits a cache."""
    for first in range(0, words.size, BLOCK):
        yield words[first : first + BLOCK]


def split(values: np.ndarray) -> NDArray[np.uint8]:
    """The planes of values, uint8[bytes of a word, words]."""
    word = word_of(values.dtype)
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    words = np.ascontiguousarray(little).view(word)
    planes = np.empty((word.itemsize, words.size), np.uint8)
    first = 0
    for block in blocks(words):
        raw = _grouped(block, values.dtype).view(np.uint8).reshape(block.size, -1)
        planes[:, first : first + block.size] = raw.T[::-1]
        first += block.size
    return planes


def join(words: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The values of words whose bits are regrouped, which are not needed any more."""
    for block in blocks(words):
        _ungroup(block, dtype)
    return words.view(dtype.newbyteorder("<")).astype(dtype, copy=False)


def _grouped(words: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Words whose bits are in another order, or flipped (V2)."""
    if dtype.name in _EXPONENTS:
        moved, rest, mantissa, low, high = _fields(words.dtype, dtype)
        return (words << moved) & high | (words >> rest) << mantissa | words & low
    return _flipped(words) if dtype.kind == "i" else words


def _ungroup(words: np.ndarray, dtype: np.dtype) -> None:
    """The inverse of `_grouped`, in place."""
    if dtype.name in _EXPONENTS:
        moved, rest, mantissa, low, high = _fields(words.dtype, dtype)
        words[:] = (words & high) >> moved | (words >> mantissa) << rest | words & low
    elif dtype.kind == "i":
        words[:] = _flipped(words)


def _fields(word: np.dtype, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """What moves in a word: the first bits of it, behind those of the exponent.

    Returns:
        Number of the bits that move, of all others, and of the mantissa; mask of the
        mantissa, and of the bits of the exponent that come first.
    """
    size, exponent = 8 * word.itemsize, _EXPONENTS[dtype.name]
    moved = 1 + max(exponent - 8, 0)
    mantissa = size - 1 - exponent
    low, high = (1 << mantissa) - 1, (1 << size) - (1 << mantissa + moved)
    numbers = moved, size - moved, mantissa, low, high
    return tuple(np.array(number, word) for number in numbers)


def _flipped(words: np.ndarray) -> np.ndarray:
    """Words of integers: of negative ones, all bits but the sign are flipped."""
    sign = 8 * words.dtype.itemsize - 1
    negative = words.view(words.dtype.str.replace("u", "i")) >> sign
    return words ^ negative.view(words.dtype) & np.array((1 << sign) - 1, words.dtype)
