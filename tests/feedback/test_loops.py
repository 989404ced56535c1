"""Feedback in cells and strips is that of a loop over single weights."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deepcomp_jax.feedback import loops, metric

SIZES = st.sampled_from([1, 2, 5, 63, 64, 65, 100, 130])


def loop(
    weights: np.ndarray,
    steps: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    labels: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """One weight after the other, in doubles.

    Args:
        weights: [m, n].
        steps: Of each weight.
        rows, columns: How errors go on; the identity if they do not.
        labels: Those of all weights, if they are given: then targets are what they are
            after these.

    Returns:
        Labels, and targets in units of their steps.
    """
    weights, steps = weights.astype(np.float64), steps.astype(np.float64)
    errors, left = np.zeros_like(weights), np.zeros_like(weights)
    found, aims = np.zeros(weights.shape, np.int64), np.zeros_like(weights)
    for i, j in np.ndindex(*weights.shape):
        wanted = weights[i, j] + errors[i, :j] @ columns[:j, j].astype(np.float64)
        aim = wanted + left[:i, j] @ rows[:i, i].astype(np.float64)
        aims[i, j] = aim / steps[i, j]
        found[i, j] = np.rint(aims[i, j]) if labels is None else labels[i, j]
        errors[i, j] = weights[i, j] - found[i, j] * steps[i, j]
        left[i, j] = wanted - found[i, j] * steps[i, j]
    return found, aims


def unit(rng: np.random.Generator, size: int) -> np.ndarray:
    """A few multiples of a quarter above a diagonal of ones."""
    some = rng.integers(-2, 3, (size, size)) * (rng.random((size, size)) < 0.03) / 4
    return (np.triu(some, 1) + np.eye(size)).astype(np.float32)


@settings(max_examples=40)
@given(SIZES, SIZES, st.booleans(), st.booleans(), st.integers(0, 2**32 - 1))
@example(65, 130, True, True, 0)
@example(130, 65, True, False, 0)
@example(65, 130, False, True, 0)
@example(130, 65, False, False, 0)
def test_labels_are_those_of_a_loop(
    m: int, n: int, of_rows: bool, of_columns: bool, seed: int
):
    """All numbers are eighths and quarters, so that no sum is rounded: labels are
    equal to the last one, and ties go to the even one."""
    rng = np.random.default_rng(seed)
    weights = (rng.integers(-60, 61, (m, n)) / 8).astype(np.float32)
    first, last = (2.0 ** rng.integers(-2, 2, size) for size in (m, n))
    rows = unit(rng, m) if of_rows else None
    columns = unit(rng, n) if of_columns else None
    steps = first.astype(np.float32), last.astype(np.float32)
    found = loops.rounded(weights, steps, rows, columns)
    assert found.dtype == np.int32
    expected, _ = loop(
        weights,
        first[:, None] * last,
        np.eye(m) if rows is None else rows,
        np.eye(n) if columns is None else columns,
    )
    np.testing.assert_array_equal(found, expected)


def moments(rng: np.random.Generator, size: int) -> np.ndarray:
    """Of inputs that depend on each other, of a tenth as many dimensions and noise."""
    mixed = rng.normal(size=(2 * size, 1 + size // 10))
    inputs = mixed @ rng.normal(size=(mixed.shape[1], size))
    inputs += 0.3 * rng.normal(size=inputs.shape)
    return (inputs.T @ inputs).astype(np.float32)


@pytest.mark.parametrize(("m", "n"), [(70, 200), (200, 70), (64, 64), (3, 129)])
@pytest.mark.parametrize("sides", ["rows", "columns", "both"])
def test_each_label_is_the_nearest_to_its_target(m: int, n: int, sides: str):
    """Where sums are rounded a tie may go either way, and all labels after it are
    others: so each is compared with its target after the labels that were found."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(m, n)).astype(np.float32)
    rows, columns = (metric.side(moments(rng, size), 0.1).unit for size in (m, n))
    rows = None if sides == "columns" else rows
    columns = None if sides == "rows" else columns
    first, last = (rng.uniform(0.3, 0.6, size).astype("f4") for size in (m, n))
    found = loops.rounded(weights, (first, last), rows, columns)
    _, aims = loop(
        weights,
        np.float64(first[:, None]) * last,
        np.eye(m) if rows is None else rows,
        np.eye(n) if columns is None else columns,
        found,
    )
    assert np.abs(aims - found).max() < 0.5 + 1e-3
    assert (found != np.rint(weights / first[:, None] / last)).mean() > 0.1


def test_rows_of_more_than_one_strip():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(4500, 3)).astype(np.float32)
    steps = rng.uniform(0.3, 0.6, 4500).astype("f4"), np.float32([1, 2, 0.5])
    columns = np.float32([[1, 0.5, -0.25], [0, 1, 0.75], [0, 0, 1]])
    found = loops.rounded(weights, steps, None, columns)
    some = [0, 1, 4095, 4096, 4499]
    sizes = np.float64(steps[0][some, None]) * steps[1]
    _, aims = loop(weights[some], sizes, np.eye(5), columns, found[some])
    assert np.abs(aims - found[some]).max() < 0.5 + 1e-3
    same = loops.rounded(weights[4096:], (steps[0][4096:], steps[1]), None, columns)
    np.testing.assert_array_equal(same, found[4096:])


@pytest.mark.parametrize("sides", ["rows", "columns", "both"])
def test_errors_cost_less_with_feedback(sides: str):
    """tr(G E A E^T) is that of rounding whose errors are uniform under the factors."""
    rng = np.random.default_rng(1)
    m, n, step = 150, 190, 0.5
    a = moments(rng, n) if sides != "rows" else np.ones(n, np.float32)
    g = moments(rng, m) if sides != "columns" else np.ones(m, np.float32)
    rows, columns = metric.side(g, 0.05), metric.side(a, 0.05)
    weights = rng.normal(size=(m, n)).astype(np.float32)
    ordered = weights[np.ix_(rows.order, columns.order)]
    steps = np.full(m, step, np.float32), np.ones(n, np.float32)
    costs = {}
    for name, units in (
        ("feedback", (rows.unit, columns.unit)),
        ("nearest", (None, None)),
    ):
        errors = np.zeros((m, n))
        labels = loops.rounded(ordered, steps, *units)
        errors[np.ix_(rows.order, columns.order)] = ordered - step * labels
        costs[name] = np.trace(damped(g, 0.05) @ errors @ damped(a, 0.05) @ errors.T)
    expected = step**2 / 12 * rows.weights.sum() * columns.weights.sum()
    assert costs["feedback"] == pytest.approx(expected, rel=0.05)
    assert costs["feedback"] < 0.5 * costs["nearest"]


def damped(moments: np.ndarray, damping: float) -> np.ndarray:
    """Moments in units of the mean second moment, all pairs, damped."""
    pairs = np.diag(moments) if moments.ndim == 1 else moments
    pairs = pairs.astype(np.float64)
    return pairs / np.diagonal(pairs).mean() + damping * np.eye(len(pairs))


# ---- factors ------------------------------------------------------------------------


@example(64, 0.25, 0)
@example(65, 0.25, 0)
@example(200, 0.25, 0)  # several blocks
@given(st.integers(1, 40), st.sampled_from([0.01, 0.25, 2.0]), st.integers(0, 99))
def test_a_factor_times_itself_is_the_damped_matrix(n: int, damping: float, seed: int):
    own = moments(np.random.default_rng(seed), n)
    found = metric.side(own, damping)
    assert sorted(found.order) == list(range(n))
    largest_first = np.diagonal(own)[found.order]
    assert (np.diff(largest_first) <= 0).all()
    assert found.unit is not None and found.unit.dtype == np.float32
    np.testing.assert_array_equal(np.diagonal(found.unit), np.ones(n))
    np.testing.assert_array_equal(np.tril(found.unit, -1), np.zeros((n, n)))
    factor = found.unit * np.sqrt(found.weights)
    expected = damped(own, damping)[np.ix_(found.order, found.order)]
    np.testing.assert_allclose(factor @ factor.T, expected, rtol=1e-5, atol=1e-5)


def test_sides_without_pairs():
    found = metric.side(np.float32([1, 4, 1]), 0.5)
    assert found.order.tolist() == [1, 0, 2] and found.unit is None
    assert found.weights.tolist() == [2.5, 1, 1]
    for unseen in (np.zeros(3, np.float32), np.zeros((3, 3), np.float32)):
        found = metric.side(unseen, 0.5)
        assert (found.order.tolist(), found.weights.tolist()) == ([0, 1, 2], [1, 1, 1])
        assert found.unit is None
