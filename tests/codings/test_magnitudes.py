"""Classes by magnitude: what they save, and that nothing is lost where they do not."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import codings, device
from deepcomp_jax.codings import Leaf, group_order, group_search, grouping, magnitudes


def entropy(counts: np.ndarray) -> float:
    """Bits of symbols that occur so often."""
    some = counts[counts > 0]
    return float((some * np.log2(some.sum() / some)).sum())


def leaf_of(shape: tuple[int, ...], factors: np.ndarray) -> tuple[np.ndarray, Leaf]:
    """Labels of multiples of a step, of which the entries that occur are stored."""
    entries = np.unique(factors[factors != 0])
    labels = np.where(factors == 0, 0, np.searchsorted(entries, factors) + 1)
    leaf = Leaf(shape, entries.size, int((entries < 0).sum()))
    return labels.ravel().astype(leaf.dtype), leaf


def scaled(shape: tuple[int, ...], spread: float, seed: int) -> tuple[np.ndarray, list]:
    """Multiples of a step, none of them 0, with a scale for each index of each axis.

    Every index has one of a few scales, so that there are groups to be found.
    """
    rng = np.random.default_rng(seed)
    octaves = [np.rint(rng.normal(scale=2 * spread, size=n)) / 2 for n in shape]
    total = sum(
        own.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        for axis, own in enumerate(octaves)
    )
    size = np.ceil(rng.exponential(2.0 ** (2 + total), shape)).clip(1, 60)
    return np.where(rng.random(shape) < 0.5, -size, size).astype(int), octaves


@pytest.mark.parametrize("shape", [(300, 400), (3, 3, 64, 96), (6, 120, 100)])
@pytest.mark.parametrize("spread", [0.5, 1.0])
@pytest.mark.parametrize("seed", range(2))
def test_scales_of_indices_make_a_smaller_body(
    shape: tuple[int, ...], spread: float, seed: int
):
    """Of what the scales that are there save of the entropy, three quarters are.

    Lanes, frequencies of 12 bits and tables of 6 bits an entry take a part in 150.
    """
    factors, octaves = scaled(shape, spread, seed)
    labels, leaf = leaf_of(shape, factors)
    one = np.bincount(labels, minlength=leaf.entries + 1)
    total = np.zeros(shape)
    told = 0.0
    for axis, own in enumerate(octaves):
        total += own.reshape([-1 if a == axis else 1 for a in range(len(shape))])
        told += entropy(np.unique(own, return_counts=True)[1])
    least = told + sum(
        entropy(np.bincount(labels[total.ravel() == group]))
        for group in np.unique(total)
    )
    name, body = codings.encode(labels, leaf)
    assert name == "grouped"
    assert 8 * len(body) < 0.75 * least + 0.25 * entropy(one) + least / 150
    np.testing.assert_array_equal(codings.decode(name, body, leaf), labels)


@pytest.mark.parametrize("shape", [(256, 300), (3, 3, 32, 64), (5000,), (40, 1)])
@pytest.mark.parametrize("zeros", [0.0, 0.2, 0.9])
def test_labels_at_random_have_no_classes(shape: tuple[int, ...], zeros: float):
    rng = np.random.default_rng(0)
    factors = np.rint(rng.standard_normal(shape) * 5).astype(int)
    factors = np.where(rng.random(shape) < zeros, 0, factors)
    labels, leaf = leaf_of(shape, factors)
    counts = np.bincount(labels, minlength=leaf.entries + 1)
    found = group_search.find(labels, leaf, counts)
    assert found.large is None
    assert codings.group_prices(labels, leaf) is None
    _, body = codings.encode(labels, leaf)
    # Lanes, the rounding of frequencies, and a table.
    assert 8 * len(body) < 1.02 * entropy(counts) + 6 * (leaf.entries + 1) + 200


@pytest.mark.parametrize("zeros", [0.1, 0.5, 0.85])
@pytest.mark.parametrize("spread", [0.05, 0.2, 0.6])
def test_no_body_is_larger_than_with_densities_alone(
    zeros: float, spread: float, monkeypatch: pytest.MonkeyPatch
):
    for seed, shape in enumerate([(200, 150), (4, 60, 70), (12, 2500)]):
        factors, octaves = scaled(shape, spread, seed)
        rng = np.random.default_rng(seed)
        rows = 2.0 ** octaves[-1]
        kept = rng.random(shape) > zeros * (rows / rows.max()) ** 0.2
        labels, leaf = leaf_of(shape, factors * kept)
        now = codings.encode(labels, leaf)[1]
        with monkeypatch.context() as patch:
            patch.setattr(
                group_search,
                "find",
                lambda labels, leaf, _: group_search.Found(
                    group_search.classes(labels, leaf.shape)
                ),
            )
            before = codings.encode(labels, leaf)[1]
        assert len(now) <= len(before)


def test_the_compiled_loop_writes_the_same_bytes():
    labels, leaf = leaf_of((300, 400), scaled((300, 400), 1.0, 0)[0])
    name, body = codings.encode(labels, leaf)
    assert (name, body) == codings.encode(labels, leaf, put=device.put_on_cpu)
    found = codings.ALL[name].measure(body, leaf)[0]
    assert found.classes > 0
    parts = found.positions + found.indices + found.tables + found.lanes
    assert parts + found.classes + found.header + found.padding == 8 * len(body)


def test_prices_are_those_of_groups_by_magnitude():
    """All weights are kept, and so rows and columns differ in magnitudes alone."""
    labels, leaf = leaf_of((300, 400), scaled((300, 400), 1.0, 0)[0])
    found = codings.group_prices(labels, leaf)
    assert found is not None
    total = found.bits[found.group, labels].sum()
    body = codings.encode(labels, leaf)[1]
    assert total < 8 * len(body) < 1.03 * total + 2 * 700 + 400


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=9),
    st.lists(st.integers(0, 6), min_size=1, max_size=40),
    st.floats(0, 1),
    st.integers(0, 99),
)
def test_values_moved_by_runs_are_those_of_each_position(
    rows: list[int], columns: list[int], density: float, seed: int
):
    rng = np.random.default_rng(seed)
    shape = (len(rows), len(columns))
    classes = np.array(rows, np.uint8), np.array(columns, np.uint8)
    groups = grouping.groups(shape, classes)
    drawn = rng.integers(1, 200, shape) * (rng.random(shape) < density)
    labels = drawn.ravel().astype(np.uint8)
    found = group_order.ordered(labels, groups)
    # By hand: the values of each group in C order, and which of them are kept.
    of_group = (classes[0][:, None] + classes[1]).ravel()
    for group in range(groups.sizes.size):
        own = labels[of_group == group]
        part = slice(found.counts[:group].sum(), found.counts[: group + 1].sum())
        assert found.ranks[part].tolist() == np.flatnonzero(own).tolist()
        assert found.labels[part].tolist() == own[own > 0].tolist()
    assert found.labels.size == np.count_nonzero(labels)


@given(st.integers(0, 9), st.integers(0, 9), st.integers(1, 12))
def test_weights_that_reach_a_threshold(below: int, above: int, threshold: int):
    leaf = Leaf((below + above + 1,), below + above, below)
    labels = np.arange(below + above + 1, dtype=np.uint8)
    # By hand: entries are multiples of a step, from -below to above.
    away = [0, *range(below, 0, -1), *range(1, above + 1)]
    assert magnitudes.of_labels(leaf).tolist() == away
    reached = magnitudes.at_least(labels, leaf, threshold)
    assert reached.tolist() == [size >= threshold for size in away]


def test_thresholds_are_reached_by_fewer_and_fewer():
    leaf = Leaf((64,), 12, 6)
    counts = np.array([8, 1, 1, 2, 4, 8, 16, 16, 8, 4, 2, 1, 1])
    #  Of 72, 64 reach 1, then 32, 16, 8, ...
    assert magnitudes.thresholds(leaf, counts) == [1, 2, 3, 4]
    # Squares: those of 1, of 2, of 3, and on the average of 4 to 6.
    energies = magnitudes.energies(leaf, counts, [1, 2, 3, 4])
    last = (4 * 16 + 2 * 25 + 2 * 36) / 8
    assert np.allclose(energies, [1, 3, 5, last - 9])


def test_most_weights_may_be_the_largest():
    """Then no threshold is reached by half of them, and densities are all there is."""
    rng = np.random.default_rng(0)
    large = rng.random((256, 256)) < np.linspace(0.2, 1, 256)[:, None]
    labels, leaf = leaf_of((256, 256), np.where(large, 2, 1))
    counts = np.bincount(labels, minlength=3)
    assert magnitudes.thresholds(leaf, counts) == []
    assert group_search.is_worth_while(labels, leaf, counts, (None, None))
    assert group_search.find(labels, leaf, counts).large is None
    coding, body = codings.encode(labels, leaf)
    np.testing.assert_array_equal(codings.decode(coding, body, leaf), labels)


@pytest.mark.parametrize("axis", [0, 1])
def test_what_a_sample_says_scales_save(axis: int):
    """Logarithms of a scale of deviation s save about s**2 / 2 nats a weight."""
    rng = np.random.default_rng(0)
    scale = np.exp(rng.normal(scale=0.1, size=(600, 1) if axis == 0 else (1, 600)))
    size = np.ceil(rng.exponential(scale * 20 * np.ones((600, 600))))
    labels, leaf = leaf_of((600, 600), size.clip(1, 250).astype(int))
    expected = 600 * 600 * 0.1**2 / 2 / math.log(2)
    assert 0.6 * expected < magnitudes.uneven(labels, leaf) < 1.4 * expected
    shuffled = rng.permutation(labels)
    assert magnitudes.uneven(shuffled, leaf) == 0
