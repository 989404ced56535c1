"""Classes of axes: what is written comes back, and structure makes it short."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import Leaf, axis_classes, group_search
from tests.support import laws
from tests.support import vector_parts as parts


@st.composite
def rows_of_classes(draw: st.DrawFn) -> list[list[int] | None]:
    """Classes of a few axes, which every axis has more than one of."""
    axes: list[list[int] | None] = []
    for _ in range(draw(st.integers(0, 4))):
        own = st.lists(st.integers(0, 12), min_size=2, max_size=40).filter(any)
        axes.append(draw(st.none() | own))
    return axes


@pytest.mark.spec("L19")
@given(rows_of_classes(), st.integers(0, 90))
def test_classes_come_back(axes: list[list[int] | None], context: int):
    shape = tuple(5 if own is None else len(own) for own in axes)
    arrays = (None if own is None else np.array(own, np.uint8) for own in axes)
    best = axis_classes.put(tuple(arrays))
    for data in (best, parts.classes(*axes, context=context)):
        end, back = axis_classes.get(data + b"x", shape)
        assert [None if own is None else own.tolist() for own in back] == axes
        assert end == len(data)


@pytest.mark.spec("L19")
@given(rows_of_classes())
def test_cut_classes_are_rejected(axes: list[list[int] | None]):
    shape = tuple(5 if own is None else len(own) for own in axes)
    data = parts.classes(*axes)
    laws.assert_prefixes_rejected(
        lambda data, pos: axis_classes.get(data[pos:], shape), data, most=50
    )


@given(st.integers(1, 12), st.integers(0, 9), st.data())
def test_the_price_is_what_a_stream_takes(most: int, context: int, data: st.DataObject):
    own = data.draw(st.lists(st.integers(0, most), min_size=1, max_size=300))
    own[0] = most
    classes = np.array(own, np.uint8)
    intervals = axis_classes.intervals(classes, most, context)
    spent = sum(12 - math.log2(size) for _, size in intervals)
    # Rounding to frequencies and the least of 1 cost little.
    price = axis_classes._price(classes, context)
    assert price == pytest.approx(spent, rel=0.02, abs=0.5)


def test_pixels_are_known_by_those_around_them():
    """A disc on 28 rows of pixels, seen through noise."""
    y, x = np.divmod(np.arange(784), 28)
    rng = np.random.default_rng(0)
    radius = np.hypot(y - 13.5, x - 13.5) + rng.normal(0, 0.7, 784)
    own = np.digitize(-radius, [-13, -9, -5]).astype(np.uint8)
    context, price = axis_classes.choose(own)
    assert context in (2 * 27 + 1, 2 * 28 + 1)
    shuffled = rng.permutation(own)
    assert price < 0.6 * axis_classes.choose(shuffled)[1]
    assert axis_classes.choose(shuffled)[0] == 0


def test_classes_without_structure_take_their_entropy():
    own = np.random.default_rng(1).choice(4, 2000, p=[0.7, 0.2, 0.08, 0.02])
    shares = np.bincount(own) / own.size
    entropy = -2000 * (shares * np.log2(shares)).sum()
    size = 8 * len(axis_classes.put((own.astype(np.uint8),)))
    assert entropy < size < 1.02 * entropy + 64


@pytest.mark.spec("L18")
def test_the_longest_axes_that_may_have_classes():
    own = np.zeros(2**16, np.uint8)
    own[::500] = 1
    data = axis_classes.put((own,))
    assert np.array_equal(axis_classes.get(data, (2**16,))[1][0], own)
    with pytest.raises(FormatError) as caught:
        axis_classes.get(data, (2**16 + 1,))
    assert caught.value.clause == "L18"


def test_longer_axes_are_written_without_classes():
    shape = (70_000, 3)
    labels = np.zeros(shape, np.uint8)
    labels[:100] = 1
    found = group_search.classes(labels.ravel(), shape)
    assert found[0] is None
    leaf = Leaf(shape, 1, 0)
    body = codings.ALL["grouped"].encode(labels.ravel(), leaf)
    assert np.array_equal(codings.decode("grouped", body, leaf), labels.ravel())
