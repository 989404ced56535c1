"""Hypothesis strategies, one block per module under test."""

import numpy as np
from hypothesis import strategies as st

# ---- kmeans -------------------------------------------------------------------------


def weights(max_size: int = 40) -> st.SearchStrategy[np.ndarray]:
    """Flat float32 arrays of ordinary size, often with repeats."""
    number = st.floats(-8, 8, width=32)
    few = st.lists(number, min_size=1, max_size=6).flatmap(
        lambda pool: st.lists(st.sampled_from(pool), max_size=max_size)
    )
    many = st.lists(number, max_size=max_size)
    return (few | many).map(lambda numbers: np.array(numbers, np.float32))


@st.composite
def weighted(draw: st.DrawFn, max_size: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Values, at least one, and small whole importances, not all zero."""
    values = draw(weights(max_size).filter(lambda values: values.size > 0))
    size = values.size
    importance = st.lists(st.integers(0, 4), min_size=size, max_size=size).filter(any)
    return values, np.array(draw(importance), np.float64)


# ---- bits, gaps, huffman, lanes ------------------------------------------------------


@st.composite
def code_words(draw: st.DrawFn) -> list[tuple[int, int]]:
    """Pairs of a word and its length in bits, up to a longest length of 0 to 64."""
    longest = draw(st.integers(0, 64))
    length = st.integers(0, longest)
    word = length.flatmap(
        lambda size: st.tuples(st.integers(0, 2**size - 1), st.just(size))
    )
    return draw(st.lists(word, max_size=40))


def kept_positions(max_zeros: int = 100) -> st.SearchStrategy[np.ndarray]:
    """Ascending positions, int64, with up to `max_zeros` zeros before each."""
    zeros = st.lists(st.integers(0, max_zeros), max_size=30)
    return zeros.map(lambda runs: np.cumsum(np.array(runs, np.int64) + 1) - 1)


def counts(max_symbols: int = 12) -> st.SearchStrategy[np.ndarray]:
    """How often symbols occur, int64; some never, some very often, many equally."""
    count = st.integers(0, 3) | st.integers(0, 30).map(lambda power: 2**power)
    return st.lists(count, max_size=max_symbols).map(
        lambda all_: np.array(all_, np.int64)
    )


@st.composite
def streams(draw: st.DrawFn, max_size: int = 600) -> tuple[np.ndarray, int | None]:
    """Symbols, uint16, and a number of lanes that suits them, or None.

    The symbols are skewed towards the first of a pool, which makes long words.
    """
    pool = draw(st.lists(st.integers(0, 2**16 - 1) | st.integers(0, 20), min_size=1))
    skew = draw(st.floats(0.05, 1))
    size = draw(st.integers(0, max_size))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    index = np.minimum(rng.geometric(skew, size) - 1, len(pool) - 1)
    symbols = np.array(pool, np.uint16)[index]
    most = size // 16
    lanes = draw(st.none() | st.integers(1, most)) if most else None
    return symbols, lanes
