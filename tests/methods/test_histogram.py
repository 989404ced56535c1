"""Many values, clustered by histogram (clause S18), against the sorted ones."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import kmeans
from deepcomp_jax.kmeans import runs
from deepcomp_jax.kmeans.float_histogram import histogram
from tests.support import strategies

BITS = st.integers(1, 14)


@pytest.fixture
def few_are_many() -> Iterator[None]:
    """So that a histogram is made of arrays that are quick to sort."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "MANY", 1 << 12)
        patch.setattr(runs, "MANY_SHORT", 1 << 12)
        yield


def by_sorting(values: np.ndarray, k: int, importance=None) -> np.ndarray:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "MANY", values.size)
        patch.setattr(runs, "MANY_SHORT", values.size)
        return kmeans.optimal(values, k, importance=importance)


@given(strategies.many_weights(), BITS)
def test_bins_hold_all_values_near_their_means(values: np.ndarray, bits: int):
    found = histogram(values, None, bits)
    wide = values.astype(np.float64)
    if found is None:
        assert np.unique(wide).size > 1
        assert values.dtype.itemsize > 2
        return
    assert (np.diff(found.values) > 0).all() and (found.weight > 0).all()
    assert found.weight.sum() == values.size
    assert not np.signbit(found.values[found.values == 0]).any()
    above = np.searchsorted(found.values, wide).clip(max=found.values.size - 1)
    below = (above - 1).clip(min=0)
    off = np.abs(found.values[[below, above]] - wide).min(axis=0)
    assert (off <= found.width[[below, above]].max(axis=0)).all()
    greatest = np.abs(wide).max()
    # Of a bin's width, or of 20 octaves below the greatest value.
    assert (found.width <= np.abs(found.values) * 2.0**-bits + greatest / 2**19).all()


@given(strategies.many_weights(["bfloat16", "float16", "float8_e4m3fn"]))
def test_short_types_have_a_bin_for_each_value(values: np.ndarray):
    found = histogram(values, None, 11)
    distinct, counts = np.unique(values.astype(np.float64) + 0.0, return_counts=True)
    assert found is not None and not found.width.any()
    np.testing.assert_array_equal(found.values, distinct)
    np.testing.assert_array_equal(found.weight, counts)


@pytest.mark.spec("S11")
@given(strategies.many_weights(), BITS, st.integers(0, 9))
def test_order_does_not_matter(values: np.ndarray, bits: int, seed: int):
    shuffled = np.random.default_rng(seed).permutation(values)
    pair = histogram(values, None, bits), histogram(shuffled, None, bits)
    assert pair[0] is pair[1] or all(map(np.array_equal, *pair))


@given(strategies.many_weights(), BITS, st.integers(0, 9))
def test_a_weight_counts_copies(values: np.ndarray, bits: int, seed: int):
    weights = np.random.default_rng(seed).integers(0, 4, values.size)
    weights[np.abs(values.astype(float)).argmax()] = 1  # bins go by the greatest value
    found = histogram(values, weights.astype(np.float64), bits)
    copies = histogram(np.repeat(values, weights), None, bits)
    if found is None or copies is None:  # values that weigh nothing may differ
        return
    np.testing.assert_array_equal(found.values, copies.values)
    np.testing.assert_array_equal(found.weight, copies.weight)


@pytest.mark.spec("S18")
@pytest.mark.usefixtures("few_are_many")
@given(strategies.many_weights(), st.integers(1, 32))
def test_a_histogram_costs_next_to_nothing(values: np.ndarray, k: int):
    found, least = kmeans.optimal(values, k), by_sorting(values, k)
    assert found.size <= k and (np.diff(found) > 0).all()
    scale = 2.0 ** -np.frexp(np.abs(values.astype(float)).max())[1]
    scaled = values.astype(float) * scale
    error = kmeans.sse(scaled, found * scale)
    slack = 1e-12 * float(np.square(scaled - scaled.mean()).sum())
    assert error <= 1.0001 * kmeans.sse(scaled, least * scale) + slack


@pytest.mark.spec("S18")
@pytest.mark.parametrize("k", [2, 16, 64, 256])
@pytest.mark.parametrize("pruned", [False, True])
def test_two_million_weights(k: int, pruned: bool):
    values = np.random.default_rng(0).standard_normal(1 << 21).astype(np.float32)
    if pruned:
        values = values[np.abs(values) > 0.6]
    assert runs.binned(values, None, 11) is not None
    found, least = kmeans.optimal(values, k), by_sorting(values, k)
    assert not np.array_equal(found, least)  # or the test shows nothing
    # What the search leaves open for hundreds of centroids is more than that.
    bound = 1 + 3e-5 if k <= 64 else 1.001
    assert kmeans.sse(values, found) <= bound * kmeans.sse(values, least)
    if pruned:
        assert not ((found > -0.6) & (found < 0.6)).any()


@pytest.mark.spec("S3", "S4")
@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("distinct", [1, 7, 100])
def test_few_distinct_values_are_found_exactly(dtype: str, distinct: int):
    rng = np.random.default_rng(1)
    pool = np.append(rng.standard_normal(distinct - 1), 1e-30).astype(dtype)
    values = np.concatenate([pool, rng.choice(pool, 1 << 13)])
    found = histogram(values, None, 11)
    assert found is not None and not found.width.any()
    assert np.array_equal(found.values, np.unique(pool))
    error = kmeans.sse(values, kmeans.optimal(values, 5))
    least = kmeans.sse(values, by_sorting(values, 5))
    assert error == pytest.approx(least, rel=1e-9, abs=1e-12)
    assert kmeans.optimal(values, distinct).tobytes() == (
        np.unique(pool).astype(float).tobytes()
    )


@pytest.mark.spec("S18")
@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize(
    ("shift", "outlier"),
    [(5.0, 0.0), (100.0, 0.0), (0.0, 1e6), (0.0, 1e9), (0.0, -1e30)],
)
def test_values_that_bins_would_blur_are_sorted(shift: float, outlier: float):
    rng = np.random.default_rng(2)
    values = (shift + rng.standard_normal(1 << 16)).astype(np.float32)
    values = np.append(values, np.float32(outlier)) if outlier else values
    assert np.array_equal(kmeans.optimal(values, 32), by_sorting(values, 32))


@pytest.mark.spec("S12")
@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("exponent", [-900, -60, 3, 900])
def test_a_power_of_two_scales_the_codebook(exponent: int):
    values = np.random.default_rng(3).standard_normal(1 << 16).astype(np.float32)
    wide = values.astype(np.float64) * 2.0**exponent
    expected = kmeans.optimal(values, 16) * 2.0**exponent
    assert np.array_equal(kmeans.optimal(wide, 16), expected)


@pytest.mark.spec("S10")
@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("size", [1e-300, 1.0, 1e300])
def test_importance_of_any_size_draws_centroids(size: float):
    rng = np.random.default_rng(4)
    values = rng.standard_normal(1 << 16).astype(np.float32)
    importance = np.where(values > 0, 1.0, 1e-9) * size
    found = kmeans.optimal(values, 8, importance=importance)
    assert (found > 0).sum() >= 7
    least = by_sorting(values, 8, importance)
    errors = [kmeans.sse(values, c, importance=importance) for c in (found, least)]
    assert errors[0] <= (1 + 3e-5) * errors[1]


@pytest.mark.spec("S10")
@pytest.mark.usefixtures("few_are_many")
def test_a_number_of_centroids_goes_by_importance():
    values = np.random.default_rng(6).standard_normal(1 << 14).astype(np.float32)
    threefold = kmeans.nonparametric(values, importance=np.full(values.size, 3.0))
    copies = kmeans.nonparametric(np.repeat(values, 3))
    assert threefold.size == copies.size > kmeans.nonparametric(values).size


@pytest.mark.spec("S16")
@pytest.mark.usefixtures("few_are_many")
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_found_among_many(dtype: str, wrong: float):
    values = np.resize(np.linspace(-1, 1, 99), 1 << 13).astype(np.dtype(dtype))
    values[5000] = wrong
    with pytest.raises(ValueError, match=f"finite: got {wrong} at flat index 5000"):
        kmeans.optimal(values, 4)
    with pytest.raises(ValueError, match="importance must not be zero"):
        kmeans.optimal(values[:5000], 4, importance=np.zeros(5000))


@pytest.mark.spec("S16")
@pytest.mark.usefixtures("few_are_many")
def test_more_centroids_than_can_be_found_are_refused_of_many_values_too():
    values = np.random.default_rng(5).standard_normal(1 << 14).astype(np.float32)
    with pytest.raises(ValueError, match="at most 2048"):
        kmeans.optimal(values, 2049)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.bool_, np.uint64])
@pytest.mark.usefixtures("few_are_many")
def test_whole_numbers_are_clustered_as_numbers(dtype: type):
    values = np.resize(np.array([0, 1, 3, -128]), 1 << 13).astype(dtype)
    expected = np.unique(values).astype(np.float64)
    assert np.array_equal(kmeans.optimal(values, 4), expected)
