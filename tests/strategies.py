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
