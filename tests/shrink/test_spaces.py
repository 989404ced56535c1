"""Spaces are divided and unified as axes are, by tables made by hand."""

import numpy as np
import pytest

from deepcomp_jax.shrink import units
from deepcomp_jax.shrink.spaces import ONE, Product, Spaces, Sum, blocks


def test_a_reshape_divides_spaces():
    spaces = Spaces()
    width = spaces.new(12)
    found = spaces.regroup([spaces.new(5), width], [5, 4, 3])
    assert found is not None
    _, heads, inner = found
    assert spaces.resolve(width) == Product((heads, inner))
    assert spaces.regroup([heads, inner], [12]) == [Product((heads, inner))]
    assert spaces.regroup([width], [1, 4, 1, 3]) == [ONE, heads, ONE, inner]


def test_a_reshape_that_cuts_across_is_refused():
    spaces = Spaces()
    assert spaces.regroup([spaces.new(4), spaces.new(3)], [6, 2]) is None
    whole = Sum((spaces.new(5), spaces.new(1)))
    assert spaces.regroup([whole], [3, 2]) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((6, 4), (24,), [(2, 1)]),
        ((6, 4), (2, 3, 4), [(1, 2), (1, 1)]),
        ((4, 6), (8, 3), [(2, 2)]),
        ((2, 1, 3), (2, 3), [(1, 1), (2, 1)]),
        ((), (1,), [(0, 1)]),
        ((1,), (), [(1, 0)]),
    ],
)
def test_blocks_of_a_reshape(
    before: tuple[int, ...], after: tuple[int, ...], expected: list[tuple[int, int]]
):
    found = [
        (len(before[first]), len(after[second]))
        for first, second in blocks(before, after)
    ]
    assert found == expected


def test_products_are_unified_by_common_factors():
    spaces = Spaces()
    a, b, c, d = map(spaces.new, (4, 6, 2, 12))
    spaces.unify(Product((a, b)), Product((c, d)), "add")
    assert spaces.pinned == {}
    first, second = spaces.resolve(a), spaces.resolve(d)
    assert isinstance(first, Product) and isinstance(second, Product)
    assert first.factors[0] == spaces.resolve(c)
    assert second.factors == (first.factors[1], spaces.resolve(b))


def test_factors_that_do_not_fit_are_pinned():
    spaces = Spaces()
    a, b, c, d = map(spaces.new, (4, 3, 6, 2))
    spaces.unify(Product((a, b)), Product((c, d)), "add")
    assert all(
        spaces.pinned[atom] == "add" for x in (a, b, c, d) for atom in spaces.atoms(x)
    )


def test_sums_are_unified_part_by_part():
    spaces = Spaces()
    a, b, c, d = map(spaces.new, (2, 7, 4, 5))
    spaces.unify(Sum((a, b)), Sum((c, d)), "add")
    assert spaces.pinned == {}
    assert spaces.resolve(c) == Sum((spaces.resolve(a), spaces.atoms(c)[1]))
    assert spaces.resolve(b) == Sum((spaces.atoms(c)[1], spaces.resolve(d)))


def test_equal_parts_are_a_product():
    spaces = Spaces()
    a, b, taps, width = map(spaces.new, (3, 3, 2, 3))
    spaces.unify(Sum((a, b)), Product((taps, width)), "dot_general")
    assert spaces.resolve(a) == spaces.resolve(b) == spaces.resolve(width)
    assert set(spaces.pinned) == {spaces.resolve(taps)}


def test_what_is_pinned_stays_pinned_when_divided():
    spaces = Spaces()
    whole = spaces.fixed(6, "output")
    halves = spaces.cut(whole, [2])
    assert halves is not None and [spaces.size(half) for half in halves] == [2, 4]
    assert all(spaces.pinned[atom] == "output" for atom in spaces.atoms(whole))


def test_segments_of_products_are_whole_rows():
    spaces = Spaces()
    rows, width = spaces.new(3), spaces.new(4)
    assert spaces.cut(Product((rows, width)), [6]) is None
    parts = spaces.cut(Product((rows, width)), [8])
    assert parts is not None and [spaces.size(part) for part in parts] == [8, 4]
    assert spaces.atoms(parts[1]) == [width] and spaces.size(rows) == 3


def test_kept_units_of_sums_and_products():
    spaces = Spaces()
    a, b = spaces.new(2), spaces.new(3)
    kept = {a: np.array([True, False]), b: np.array([False, True, True])}
    product = units.mask(spaces, Product((a, b)), kept)
    assert product.tolist() == [False, True, True, False, False, False]
    total = units.mask(spaces, Sum((b, a)), kept)
    assert total.tolist() == [False, True, True, True, False]


def test_flags_and_places_of_units():
    spaces = Spaces()
    a, b = spaces.new(2), spaces.new(3)
    flags = np.array([0, 0, 0, 0, 1, 0], bool)
    found = units.project(spaces, Product((a, b)), flags)
    assert found[a].tolist() == [False, True]
    assert found[b].tolist() == [False, True, False]
    found = units.project(spaces, Sum((a, b, a)), np.array([1, 0, 0, 0, 1, 0, 1], bool))
    assert found[a].tolist() == [True, True] and found[b].tolist() == [
        False,
        False,
        True,
    ]
    assert units.places(spaces, Product((a, b)), b).tolist() == [0, 1, 2, 0, 1, 2]
    assert units.places(spaces, Sum((a, b)), a).tolist() == [0, 1, -1, -1, -1]
