"""Codings of labels: the law, the models, the groups, and the choice among them."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import FormatError, codings
from deepcomp_jax.codings import _groups, _models, density, relative

CODINGS = list(codings.ALL)


@st.composite
def leaves(draw: st.DrawFn) -> tuple[np.ndarray, codings.Leaf]:
    """Labels of any shape, density and number of entries, with structure or without."""
    shape = tuple(draw(st.lists(st.integers(1, 9), max_size=4)))
    entries = draw(st.integers(0, 5) | st.sampled_from([31, 255, 256, 1023]))
    leaf = codings.Leaf(shape, entries, draw(st.integers(0, entries)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    odds = draw(st.sampled_from([0.0, 0.02, 0.3, 1.0])) * np.ones(shape)
    for axis in range(len(shape)):
        if draw(st.booleans()):
            scale = rng.random(shape[axis]).reshape(
                [-1] + [1] * (len(shape) - 1 - axis)
            )
            odds = odds * scale**3
    kept = rng.random(shape) < odds
    low = min(1, entries)
    labels = np.where(kept, rng.integers(low, entries + 1, shape), 0)
    return labels.ravel().astype(leaf.dtype), leaf


@pytest.mark.spec("L15")
@pytest.mark.parametrize("name", CODINGS)
@given(leaves())
def test_the_law(name: str, given_leaf: tuple[np.ndarray, codings.Leaf]):
    labels, leaf = given_leaf
    chosen, body = codings.encode(labels, leaf, name)
    assert chosen == name
    back = codings.ALL[name].decode(body, leaf)
    assert back.dtype == leaf.dtype
    assert back.tolist() == labels.tolist()
    measured = codings.ALL[name].measure(body, leaf)
    parts = measured.positions + measured.indices + measured.tables + measured.lanes
    parts += measured.classes + measured.header + measured.padding
    assert parts == 8 * len(body)
    words = measured.positions + measured.indices + measured.lanes
    assert measured.ideal <= words + 1e-6


@pytest.mark.spec("L16")
@given(leaves())
def test_the_smallest_is_chosen(given_leaf: tuple[np.ndarray, codings.Leaf]):
    labels, leaf = given_leaf
    name, body = codings.encode(labels, leaf)
    assert codings.ALL[name].decode(body, leaf).tolist() == labels.tolist()
    for other in ("density", "packed"):
        if codings.ALL[other].applies(leaf):
            assert len(body) <= len(codings.encode(labels, leaf, other)[1])


@pytest.mark.parametrize("name", CODINGS)
@given(leaves(), st.data())
def test_damage_gives_labels_or_an_error(
    name: str, given_leaf: tuple[np.ndarray, codings.Leaf], data: st.DataObject
):
    labels, leaf = given_leaf
    _, body = codings.encode(labels, leaf, name)
    if not body:
        return
    damaged = bytearray(body)
    for _ in range(data.draw(st.integers(1, 3))):
        damaged[data.draw(st.integers(0, len(body) - 1))] = data.draw(
            st.integers(0, 255)
        )
    cut = data.draw(st.integers(len(body) // 2, len(body)))
    try:
        found = codings.ALL[name].decode(bytes(damaged[:cut]), leaf)
    except FormatError as error:
        assert 0 <= error.offset <= len(body)
    else:
        assert found.size == leaf.size
        assert found.max(initial=0) <= leaf.entries


def test_a_coding_that_cannot_hold_a_leaf():
    labels = np.arange(2000, dtype=np.uint16)
    leaf = codings.Leaf((2000,), 1999, 0)
    for name in ("dense", "density"):
        with pytest.raises(ValueError, match="cannot hold a codebook of 1999 entries"):
            codings.encode(labels, leaf, name)
    name, body = codings.encode(labels, leaf)
    assert codings.ALL[name].decode(body, leaf).tolist() == labels.tolist()


def test_rows_and_columns_of_unequal_density_make_a_smaller_body():
    rng = np.random.default_rng(0)
    scale = rng.lognormal(0, 1, (200, 1)) * rng.lognormal(0, 1, 300)
    kept = rng.laplace(size=(200, 300)) * scale
    labels = np.where(np.abs(kept) > np.quantile(np.abs(kept), 0.9), 1, 0)
    leaf = codings.Leaf(labels.shape, 1, 0)
    flat = labels.ravel().astype(np.uint8)
    body = codings.encode(flat, leaf, "density")[1]
    shuffled = rng.permutation(flat)
    assert len(body) < 0.8 * len(codings.encode(shuffled, leaf, "density")[1])
    assert density.measure(body, leaf).classes > 0


@pytest.mark.parametrize("density_of", [0.001, 0.03, 0.3, 0.6])
def test_gaps_at_random_take_the_entropy_of_the_mask(density_of: float):
    rng = np.random.default_rng(1)
    labels = (rng.random(100_000) < density_of).astype(np.uint8)
    leaf = codings.Leaf((100_000,), 1, 0)
    body = codings.encode(labels, leaf, "density")[1]
    p = labels.mean()
    entropy = -100_000 * (p * math.log2(p) + (1 - p) * math.log2(1 - p))
    assert density.measure(body, leaf).ideal <= 1.005 * entropy + 20
    assert 8 * len(body) <= 1.01 * entropy + 200


# ---- models -------------------------------------------------------------------------


@pytest.mark.spec("L12", "L13")
@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=1024))
def test_frequencies(counts: list[int]):
    codes = _models.quantise(np.array(counts)[None])
    found = _models.frequencies(codes)[0]
    assert ((found > 0) == (np.array(counts) > 0)).all()
    assert found.sum() == (4096 if any(counts) else 0)
    assert codes.max() == (63 if any(counts) else 0)


@pytest.mark.spec("L14")
@given(st.integers(1, 64), st.integers(1, 1024), st.data())
def test_falling_frequencies(code: int, entries: int, data: st.DataObject):
    negatives = data.draw(st.integers(0, entries))
    found = _models.falling(code, entries, negatives).astype(int)
    assert found.sum() == 4096
    assert found.min() >= 1
    above = found[negatives:]
    assert (np.diff(above[1:]) <= 0).all()


@pytest.mark.spec("L11")
@given(st.integers(1, 2**40), st.data())
def test_gap_frequencies(size: int, data: st.DataObject):
    gaps = data.draw(st.integers(1, size) | st.integers(1, min(size, 100)))
    found = _models.gap_frequencies(size, gaps)
    assert found.sum() == 4096
    assert found.min() >= 1
    assert found.size == 33
    units = size / gaps / 2 ** _models.gap_bits(size, gaps)
    assert units < 8 or _models.gap_bits(size, gaps) == 0


# ---- groups -------------------------------------------------------------------------


@given(leaves(), st.data())
def test_positions_of_groups(
    given_leaf: tuple[np.ndarray, codings.Leaf], data: st.DataObject
):
    labels, leaf = given_leaf
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    classes = tuple(
        rng.integers(0, 4, size).astype(np.uint8) if rng.random() < 0.6 else None
        for size in leaf.shape
    )
    found = _groups.groups(leaf.shape, classes)
    whole = np.zeros(leaf.shape, np.int64)
    for axis, own in enumerate(classes):
        if own is not None:
            whole += own.reshape([-1] + [1] * (len(leaf.shape) - 1 - axis))
    assert found.sizes.tolist() == np.bincount(whole.ravel()).tolist()
    positions = np.flatnonzero(labels)
    member, ranks, order = _groups.split(positions, found)
    assert member.tolist() == sorted(whole.ravel()[positions].tolist())
    kept = np.bincount(member, minlength=found.sizes.size)
    assert _groups.join(ranks, kept, found).tolist() == positions[order].tolist()
    for group in range(found.sizes.size):
        own = np.flatnonzero(whole.ravel() == group)
        assert own[ranks[member == group]].tolist() == (
            positions[order][member == group].tolist()
        )


@pytest.mark.spec("L5")
def test_the_papers_gaps_have_no_low_bits():
    labels = np.zeros(5000, np.uint8)
    labels[[7, 4999]] = 1
    leaf = codings.Leaf((5000,), 1, 0)
    body = relative.encode(labels, leaf, gap_bits=5)
    assert (body[0], body[1]) == (5, 0)
    assert relative.gap_bits(body) == 5
    assert relative.gap_bits(relative.encode(labels, leaf)) is None
