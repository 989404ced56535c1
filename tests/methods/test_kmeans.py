"""Clustering (clauses S1 to S17), against brute force and recorded optima."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import kmeans
from tests.support.strategies import weighted, weights

INITS = ("linear", "density", "random")


def spread(values, importance=None):
    """Squared error with one centroid, computed in the plainest way."""
    x = np.asarray(values, np.float64)
    w = np.ones(x.size) if importance is None else importance
    return float(np.sum(w * (x - np.average(x, weights=w)) ** 2)) if x.size else 0.0


def brute_force(values, k, importance=None):
    """Least squared error over every way to cut the distinct values into k runs."""
    x = np.asarray(values, np.float64)
    w = np.ones(x.size) if importance is None else importance
    distinct = np.unique(x[w > 0])
    cost = {
        (a, b): spread(x[(x >= a) & (x <= b)], w[(x >= a) & (x <= b)])
        for a, b in itertools.combinations_with_replacement(distinct, 2)
    }

    def total(cuts):
        runs = itertools.pairwise((0, *cuts, distinct.size))
        return sum(cost[distinct[a], distinct[b - 1]] for a, b in runs)

    inner = range(1, distinct.size)
    cut_count = min(k, distinct.size) - 1
    return min(total(cuts) for cuts in itertools.combinations(inner, cut_count))


def two_lobes(size):
    """Gaussian values without the small ones, as magnitude pruning leaves them."""
    drawn = np.random.RandomState(0).standard_normal(5 * size)
    return drawn[np.abs(drawn) > 1.2][:size].astype(np.float32)


def every_codebook(values, k):
    yield kmeans.optimal(values, k)
    yield kmeans.nonparametric(values, cluster_cost=0.1, k_max=k)
    yield kmeans.by_explained_variance(values, 0.9, k_max=k)
    for init in INITS:
        yield kmeans.lloyd(values, k, init=init)


@pytest.mark.spec("S1", "S2", "S15")
@given(weights(), st.integers(1, 12))
def test_codebooks_ascend_and_are_no_longer_than_asked(values, k):
    for codebook in every_codebook(values, k):
        assert codebook.dtype == np.float64 and codebook.ndim == 1
        assert (np.diff(codebook) > 0).all()
        assert codebook.size <= min(k, np.unique(values).size)
        assert (codebook.size == 0) == (values.size == 0)


@pytest.mark.spec("S3", "S15")
@given(weights(), st.integers(0, 3))
def test_enough_centroids_are_the_distinct_values(values, extra):
    distinct = np.unique(values + np.float32(0))
    k = max(1, distinct.size + extra)
    found = [kmeans.optimal(values, k), kmeans.optimal_path(values, k).codebook(k)]
    found += [kmeans.lloyd(values, k, init=init) for init in INITS]
    for codebook in found:
        assert codebook.astype(np.float32).tobytes() == distinct.tobytes()


@pytest.mark.spec("S4", "S10", "S17")
@given(weighted(), st.integers(1, 6))
def test_few_values_are_clustered_as_brute_force_does(data, k):
    values, importance = data
    codebook = kmeans.optimal(values, k, importance=importance)
    error = kmeans.sse(values, codebook, importance=importance)
    slack = 1e-12 * spread(values, importance)
    assert error <= brute_force(values, k, importance) + slack


@pytest.mark.spec("S4", "S7")
@given(weights(max_size=10).filter(len))
def test_path_holds_the_error_of_every_size(values):
    path = kmeans.optimal_path(values, 8)
    assert path.sse.size == min(8, np.unique(values).size)
    assert (np.diff(path.sse) <= 0).all()
    slack = 1e-12 * spread(values)
    for k, error in enumerate(path.sse, start=1):
        assert error == pytest.approx(brute_force(values, k), abs=slack)
        assert np.array_equal(path.codebook(k), kmeans.optimal(values, k))


# Least squared errors of two_lobes(20_000), by ckwrap 1.2.3 (an exact algorithm).
RECORDED = {
    8: 349.5399068764276,
    16: 97.34657580637959,
    32: 24.988025572705325,
    64: 6.0768243220529605,
    256: 0.3383146808483997,
}


@pytest.mark.spec("S5")
@pytest.mark.parametrize("k", RECORDED)
def test_many_values_come_close_to_the_recorded_optimum(k):
    values = two_lobes(20_000)
    ratio = kmeans.sse(values, kmeans.optimal(values, k)) / RECORDED[k]
    assert 1 - 1e-9 < ratio < (1.0001 if k <= 32 else 1.001)


@pytest.mark.spec("S6")
@pytest.mark.parametrize("sizes", [(20_000, 20_000), (50_000, 1), (1, 5_000, 30_000)])
@pytest.mark.parametrize("wide", [1.0, 1e-3])
def test_no_centroid_bridges_a_gap(sizes, wide):
    rng = np.random.RandomState(1)
    groups = [1000 * wide * i + wide * rng.rand(n) for i, n in enumerate(sizes)]
    codebook = kmeans.optimal(np.concatenate(groups), len(sizes))
    assert codebook == pytest.approx([group.mean() for group in groups])


def test_more_centroids_do_not_bridge_a_gap_either():
    values = two_lobes(20_000)
    for k in (2, 3, 16, 64, 256):
        codebook = kmeans.optimal(values, k)
        borders = (codebook[1:] + codebook[:-1]) / 2
        assert ((codebook > -1.2) & (codebook < 1.2)).sum() == 0
        assert ((borders > -1.2) & (borders < 1.2)).sum() == 1


def test_one_far_outlier_does_not_cost_the_others_their_bins():
    values = two_lobes(20_000)
    codebook = kmeans.optimal(np.append(values, np.float32(1e6)), 17)
    error = kmeans.sse(values, codebook)
    assert codebook[-1] == 1e6
    assert error < 1.0001 * RECORDED[16]


@pytest.mark.spec("S8")
@given(weights().filter(len), st.integers(1, 6), st.sampled_from(INITS))
def test_lloyd_never_climbs(values, k, init):
    errors = [
        kmeans.sse(values, kmeans.lloyd(values, k, init=init, iterations=steps))
        for steps in range(6)
    ]
    assert (np.diff(errors) <= 1e-12 * spread(values)).all()


@pytest.mark.spec("S9")
def test_lloyd_starts_as_the_paper_says():
    values = [0.0, 1.0, 2.0, 3.0, 10.0, 10.0, 10.0, 20.0]

    def start(init, **knobs):
        return kmeans.lloyd(values, 4, init=init, iterations=0, **knobs).tolist()

    assert start("linear") == pytest.approx([0, 20 / 3, 40 / 3, 20])
    assert start("density") == [1, 3, 10, 20]
    assert set(start("random")) < set(values)
    assert start("random", seed=3) == start("random", seed=3)
    assert len({tuple(start("random", seed=seed)) for seed in range(20)}) > 1


def test_optimal_is_never_above_lloyd():
    values = two_lobes(20_000)
    best = kmeans.sse(values, kmeans.optimal(values, 16))
    errors = [kmeans.sse(values, kmeans.lloyd(values, 16, init=i)) for i in INITS]
    assert all(error >= best for error in errors)


@pytest.mark.spec("S10")
@given(weighted(), st.integers(1, 5))
def test_importance_counts_copies(data, k):
    values, importance = data
    copies = np.repeat(values, importance.astype(int))
    path = kmeans.optimal_path(values, k, importance=importance)
    slack = 1e-12 * spread(values, importance)
    assert path.sse == pytest.approx(kmeans.optimal_path(copies, k).sse, abs=slack)
    for init in ("linear", "density"):
        weighed = kmeans.lloyd(
            values, k, init=init, importance=importance, iterations=0
        )
        assert np.array_equal(weighed, kmeans.lloyd(copies, k, init=init, iterations=0))


@pytest.mark.parametrize("size", [1e-300, 1.0, 1e300])
def test_importance_of_any_size_works(size):
    importance = np.array([1.0, 1e-12, 1e-30, 2.0, 1.0, 1.0]) * size
    codebook = kmeans.optimal([0, 1, 2, 10, 11, 12], 2, importance=importance)
    assert codebook == pytest.approx([0, 10.75], abs=1e-9)


@pytest.mark.spec("S11")
@given(weights().filter(len), st.integers(1, 6), st.randoms(use_true_random=False))
def test_order_does_not_matter(values, k, random):
    shuffled = values.tolist()
    random.shuffle(shuffled)
    pairs = zip(
        every_codebook(values, k),
        every_codebook(np.array(shuffled, np.float32), k),
        strict=True,
    )
    assert all(a.tobytes() == b.tobytes() for a, b in pairs)


@pytest.mark.spec("S12")
@given(weights().filter(len), st.integers(1, 6), st.integers(-200, 200))
def test_scaling_by_a_power_of_two_scales_the_codebook(values, k, exponent):
    factor = 2.0**exponent
    pairs = zip(
        every_codebook(values, k),
        every_codebook(values.astype(np.float64) * factor, k),
        strict=True,
    )
    assert all(np.array_equal(a * factor, b) for a, b in pairs)


@pytest.mark.parametrize("size", [5e-324, 1e-310, 1e-200, 1e200, 5e307])
def test_any_finite_size_of_value_works(size):
    values = np.array([-3.0, -2.0, 1.0, 2.0, 3.0]) * size
    codebook = kmeans.optimal(values, 2)
    assert codebook == pytest.approx(np.array([-2.5, 2]) * size, rel=0.2)
    assert codebook.size == 2 and codebook[0] < codebook[1]


@pytest.mark.spec("S13")
@given(weights(max_size=10).filter(len), st.floats(0, 8))
def test_nonparametric_chooses_the_least_total(values, cost):
    price = cost * spread(values) / values.size
    totals = [brute_force(values, k) + price * k for k in range(1, 7)]
    codebook = kmeans.nonparametric(values, cluster_cost=cost, k_max=6)
    total = kmeans.sse(values, codebook) + price * codebook.size
    assert total <= min(totals) + 1e-12 * spread(values)


@pytest.mark.spec("S13")
@given(weighted(), st.sampled_from([0.01, 0.1, 0.5, 1.0]))
def test_nonparametric_weighs_by_importance(data, cost):
    """Least total of weighted error and weighted variance, against brute force."""
    values, importance = data
    codebook = kmeans.nonparametric(
        values, cluster_cost=cost, k_max=6, importance=importance
    )
    wide = values.astype(np.float64)
    mean = np.average(wide, weights=importance)
    price = cost * np.average((wide - mean) ** 2, weights=importance)
    totals = [brute_force(values, k, importance) + price * k for k in range(1, 7)]
    error = (importance * np.abs(wide[:, None] - codebook).min(axis=1) ** 2).sum()
    assert error + price * codebook.size == pytest.approx(
        min(totals), rel=1e-6, abs=1e-9
    )


def test_nonparametric_grows_as_the_cube_root():
    small, large = (kmeans.nonparametric(two_lobes(n)).size for n in (24_000, 192_000))
    assert large == pytest.approx(2 * small, rel=0.1)


@pytest.mark.spec("S14")
@given(weights(max_size=10).filter(len), st.floats(0, 1))
def test_explained_variance_chooses_the_smallest(values, fraction):
    codebook = kmeans.by_explained_variance(values, fraction, k_max=6)
    errors = kmeans.optimal_path(values, 6).sse
    enough = [k for k, e in enumerate(errors, 1) if e <= (1 - fraction) * errors[0]]
    assert codebook.size == min([*enough, errors.size])


REJECTED = {
    "values must be finite: got nan at flat index 1": lambda: kmeans.optimal(
        [1, np.nan], 1
    ),
    "values must be finite: got -inf at flat index 0": lambda: kmeans.sse(
        [-np.inf, 1], [0]
    ),
    "importance must be finite and not negative: got -1.0 at flat index 2": lambda: (
        kmeans.optimal([1, 2, 3], 1, importance=[0, 1, -1])
    ),
    "importance must be finite and not negative: got inf": lambda: kmeans.optimal(
        [1], 1, importance=[np.inf]
    ),
    "importance must not be zero for every value": lambda: kmeans.optimal(
        [1], 1, importance=[0]
    ),
    r"importance has shape \(1,\), values \(2,\)": lambda: kmeans.optimal(
        [1, 2], 1, importance=[1]
    ),
    "at least 1, got 0": lambda: kmeans.optimal([1, 2], 0),
    "4000 centroids of still more distinct values: at most 2048": lambda: (
        kmeans.optimal(np.arange(5000), 4000)
    ),
    "2049 centroids of still more": lambda: kmeans.optimal_path(np.arange(5000), 2049),
    "at least 1, got -1": lambda: kmeans.optimal_path([1, 2], -1),
    "at least 1, got -2": lambda: kmeans.lloyd([1, 2], -2),
    "codebook of 3 centroids asked of a path up to 2": lambda: kmeans.optimal_path(
        [1, 2, 3, 4], 2
    ).codebook(3),
    "iterations": lambda: kmeans.lloyd([1, 2], 1, iterations=-1),
    "init must be": lambda: kmeans.lloyd([1, 2], 1, init="guess"),  # type: ignore
    "cluster_cost": lambda: kmeans.nonparametric([1, 2], cluster_cost=-1),
    "fraction": lambda: kmeans.by_explained_variance([1, 2], 1.5),
    "centroids must be strictly ascending": lambda: kmeans.sse([1, 2], [2, 2]),
    "and at least one": lambda: kmeans.sse([1, 2], []),
}


@pytest.mark.spec("S16", "S17")
@pytest.mark.parametrize("message", REJECTED)
def test_wrong_arguments_are_named(message):
    with pytest.raises(ValueError, match=message):
        REJECTED[message]()


def test_complex_values_are_a_type_error():
    with pytest.raises(TypeError, match="complex"):
        kmeans.optimal([1j], 1)


def test_any_shape_and_dtype_of_values():
    values = np.array([[0, 1], [8, 9]])
    for dtype in (np.int8, np.uint16, np.float16, np.float32, np.float64):
        assert kmeans.optimal(values.astype(dtype), 2).tolist() == [0.5, 8.5]


@pytest.mark.spec("S17")
@given(weighted(), weights(max_size=6).filter(len))
def test_sse_is_the_distance_to_the_nearest(data, points):
    values, importance = data
    centroids = np.unique(points).astype(np.float64)
    distance = np.abs(values[:, None].astype(np.float64) - centroids).min(axis=1)
    error = kmeans.sse(values, centroids, importance=importance)
    assert error == pytest.approx(float(np.sum(importance * distance**2)))
