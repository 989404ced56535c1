"""Leaves as matrices, and their exponents as a file has them."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcomp_jax._types import Compressed, SharedLeaf
from deepcomp_jax.feedback.matrices import Matrices, alone
from deepcomp_jax.format import container


@st.composite
def placed(draw: st.DrawFn) -> tuple[Matrices, tuple[int, ...]]:
    """Any axes of a leaf as stack, rows and columns, each in the order of the leaf."""
    shape = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5).map(tuple))
    kinds = [draw(st.sampled_from(range(3))) for _ in shape]
    axes = [tuple(a for a, own in enumerate(kinds) if own == kind) for kind in range(3)]
    count, m, n = (math.prod(shape[axis] for axis in own) for own in axes)
    return Matrices(axes[0], axes[1], axes[2], (count, m, n), (), np.ones(1)), shape


@settings(max_examples=200)
@given(placed(), st.integers(0, 2**32 - 1))
def test_exponents_wherever_axes_are(
    given: tuple[Matrices, tuple[int, ...]], seed: int
):
    own, shape = given
    count, m, n = own.shape
    rng = np.random.default_rng(seed)
    rows = rng.integers(-20, 21, (count, m)).astype(np.int8)
    columns = rng.integers(-20, 21, (count, n)).astype(np.int8)
    found = own.scales(rows, columns, shape)
    assert 0 <= found.batch <= found.split <= len(shape)
    leaf = SharedLeaf(np.ones(shape, np.uint8), 0, scales=found)
    book = np.ones(1, np.float32)
    data = container.dumps(Compressed([0], (leaf,), (book,)))
    values = container.values(container.loads(data).leaves[0], (book,))
    for at in np.ndindex(*shape):
        i, j, k = (
            np.ravel_multi_index([at[axis] for axis in axes], size) if axes else 0
            for axes, size in (
                (axes, [shape[axis] for axis in axes]) for axes in own[:3]
            )
        )
        expected = 2 ** ((int(rows[i, j]) + int(columns[i, k])) / 8)
        assert abs(values[at] / expected - 1) < 1e-6


@given(placed(), st.integers(0, 2**32 - 1))
def test_matrices_and_back(given: tuple[Matrices, tuple[int, ...]], seed: int):
    own, shape = given
    leaf = np.random.default_rng(seed).normal(size=shape)
    stacked = own.stack(leaf)
    assert stacked.shape == own.shape
    np.testing.assert_array_equal(own.unstack(stacked, shape), leaf)


def test_exponents_side_by_side_are_not_said_again():
    """Of a stack of kernels [layers, height, width, in, out] as few as there are."""
    shape = (3, 2, 2, 5, 7)
    own = Matrices((0,), (4,), (1, 2, 3), (3, 7, 20), (), np.ones(1))
    found = own.scales(np.zeros((3, 7), np.int8), np.zeros((3, 20), np.int8), shape)
    assert (found.batch, found.split) == (1, 4)
    assert (found.first.shape, found.last.shape) == ((3, 20), (3, 7))


def test_a_leaf_that_could_not_be_followed():
    own = alone((2, 3, 4), np.array([1.0, 3.0]))
    assert own.shape == (1, 6, 4) and own.importance.tolist() == [2.0]
    assert own.axes == (0, 1, 2)
    for side in own.sides[0]:
        assert side.unit is None and (side.weights == 1).all()
