"""Models of the symbols in a rANS stream, and the tables that decode them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.streams.rans_loops import PRECISION, TOTAL


class Models(NamedTuple):
    """What is expected of symbols: one row for each model.

    Attributes:
        frequencies: How often each symbol is expected, of 4096; uint32[models,
            alphabet].
        starts: Sums of the frequencies before; uint32[models, alphabet].
    """

    frequencies: NDArray[np.uint32]
    starts: NDArray[np.uint32]


def models(frequencies: NDArray[np.integer]) -> Models:
    """Models from frequencies, int[models, alphabet], each row 4096 in all."""
    table = frequencies.astype(np.uint32)
    starts = np.cumsum(table, axis=1, dtype=np.uint32) - table
    return Models(table, starts)


def estimate(counts: NDArray[np.integer], table: Models) -> float:
    """Bits that symbols need: the ideal code length of their models.

    Args:
        counts: How often each symbol occurs with each model, int[models, alphabet].
        table: The models.
    """
    sizes = np.log2(np.maximum(table.frequencies, 1), dtype=np.float64)
    return float((counts * (PRECISION - sizes)).sum())


def find_certain(table: Models) -> NDArray[np.intp] | None:
    """The one symbol of each model if all have one only: such change no state."""
    certain = table.frequencies == TOTAL
    return certain.argmax(axis=1) if certain.any(axis=1).all() else None


def tables(table: Models) -> tuple[NDArray[np.uint16], NDArray[np.uint32]]:
    """What each of the 4096 remainders stands for under each model.

    Returns:
        The symbols, uint16[models * 4096], and frequency * 4096 + (remainder - start),
        uint32[models * 4096].
    """
    count, alphabet = table.frequencies.shape
    flat = table.frequencies.ravel()
    symbols = np.tile(np.arange(alphabet, dtype=np.uint16), count).repeat(flat)
    starts = table.starts.ravel().repeat(flat)
    remainders = np.tile(np.arange(TOTAL, dtype=np.uint32), count)
    steps = flat.repeat(flat) << np.uint32(PRECISION)
    return symbols, steps + remainders - starts
