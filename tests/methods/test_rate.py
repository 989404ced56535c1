"""Rate-distortion quantization, and the budgets that rest on it."""

import math
import tracemalloc
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import Rule, budget, rate, share
from deepcomp_jax.format import container
from deepcomp_jax.rate import choice


def network(seed: int = 0) -> dict[str, jax.Array]:
    """A pruned matrix of Laplacian weights, and a vector."""
    rng = np.random.default_rng(seed)
    weights = rng.laplace(size=(60, 50)).astype(np.float32)
    weights[np.abs(weights) < 1] = 0
    return {"kernel": jnp.asarray(weights), "bias": jnp.asarray(weights[0])}


def size(shared: share.SharedWeights) -> int:
    return len(container.dumps(dc.pack(shared)))


@pytest.mark.spec("Q1")
@pytest.mark.parametrize("rd_lambda", [0.0, 0.01, 0.5, 1e6])
def test_what_is_zero_stays_zero(rd_lambda: float):
    variables = network()
    shared = share.share(variables, [Rule("kernel", share=share.kmeans(8))])
    found = rate.rdoq(shared, variables, rd_lambda=rd_lambda)
    zero = np.asarray(variables["kernel"]) == 0
    assert (np.asarray(found.labels["kernel"])[zero] == 0).all()
    assert found.codebooks["kernel"] is shared.codebooks["kernel"]
    assert np.array_equal(share.lookup(found)["bias"], variables["bias"])


@pytest.mark.spec("Q2")
@given(st.integers(0, 2**32 - 1), st.integers(1, 9))
def test_bits_that_cost_nothing(seed: int, k: int):
    variables = {"w": jnp.asarray(np.random.default_rng(seed).normal(size=40), "f4")}
    shared = share.share(variables, [Rule("w", share=share.kmeans(k))])
    found = rate.rdoq(shared, variables, rd_lambda=0)
    entries = np.append(np.asarray(shared.codebooks["w"]), 0)
    weights = np.asarray(variables["w"])
    errors = np.abs(np.asarray(share.lookup(found)["w"]) - weights)
    nearest = np.abs(weights[:, None] - entries).min(axis=1)
    assert errors == pytest.approx(nearest, rel=1e-5, abs=1e-7)


def test_a_higher_penalty_makes_a_smaller_and_worse_file():
    variables = network()
    weights = np.asarray(variables["kernel"])
    sizes, errors = [], []
    for rd_lambda in (1e-4, 1e-3, 1e-2, 1e-1, 1.0):
        found = rate.quantize(variables, [Rule("kernel")], rd_lambda=rd_lambda)
        sizes.append(size(found))
        change = np.asarray(share.lookup(found)["kernel"]) - weights
        errors.append(float(np.square(change).sum()))
    assert sizes == sorted(sizes, reverse=True)
    assert errors == sorted(errors)


def test_it_is_better_than_the_nearest_entry():
    """At the size of k-means with the nearest entry, less distortion."""
    variables = network()
    weights = np.asarray(variables["kernel"])

    def distortion(shared: share.SharedWeights) -> float:
        return float(
            np.square(np.asarray(share.lookup(shared)["kernel"]) - weights).sum()
        )

    nearest = share.share(variables, [Rule("kernel", share=share.kmeans(8))])
    best = budget.within_bytes(variables, size(nearest), [Rule("kernel")])
    found = np.asarray(dc.decompress(best.compressed)["kernel"])
    assert float(np.square(found - weights).sum()) < 0.9 * distortion(nearest)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0.3, 0.48))
def test_a_zero_among_weights_that_are_all_kept_is_dear(seed: int, few: int, w: float):
    """The bits of a zero count: log2(4096 / 30), 7 bits, at least.

    A weight of `w` is nearer to 0 than to 1, by 1 - 2 w < 0.4 in squared error. The
    index of an entry takes a bit or so, so that 6 bits at a lambda of 0.1 outweigh it.
    """
    rng = np.random.default_rng(seed)
    weights = rng.choice(np.array([-1.0, 1.0], np.float32), 4096)
    at = rng.choice(4096, few, replace=False)
    weights[at] *= np.float32(w)
    variables = {"w": jnp.asarray(weights.reshape(64, 64))}
    shared = share.share(
        variables, [Rule("w", share=lambda v, i: np.array([-1.0, 1.0]))]
    )
    free = share.lookup(rate.rdoq(shared, variables, rd_lambda=0.0))["w"]
    assert (np.asarray(free).ravel()[at] == 0).all()
    found = share.lookup(rate.rdoq(shared, variables, rd_lambda=0.1))["w"]
    np.testing.assert_array_equal(np.asarray(found).ravel(), np.sign(weights))


@pytest.mark.spec("Q3")
def test_unimportant_weights_get_cheap_labels():
    variables = network()
    importance = {"kernel": np.ones((60, 50), np.float32)}
    importance["kernel"][:, :25] = 0.1
    found = rate.quantize(
        variables, [Rule("kernel")], rd_lambda=0.1, importance=importance
    )
    changes = np.abs(np.asarray(share.lookup(found)["kernel"]) - variables["kernel"])
    assert changes[:, :25].mean() > 1.2 * changes[:, 25:].mean()


@pytest.mark.spec("Q3")
@given(
    st.integers(0, 2**32 - 1), st.floats(0.6, 0.99), st.sampled_from([1e-12, 1, 1e9])
)
@settings(max_examples=10)
def test_what_a_calibration_did_not_see_is_not_erased(
    seed: int, unseen: float, scale: float
):
    """Rows of a table that no batch looked up have squared gradients of zero."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(200, 32)).astype(np.float32)
    seen = rng.permutation(200) >= round(200 * unseen)
    importance = {"embedding": scale * seen[:, None] * rng.exponential(size=(200, 32))}
    with pytest.warns(UserWarning, match=r"importance is mostly zero in embedding \("):
        found = budget.within_bytes({"embedding": table}, 4000, importance=importance)
    errors = dc.decompress(found.compressed)["embedding"] - table
    assert np.square(errors[~seen]).mean() < 0.5  # of a mean square of 1


@pytest.mark.spec("Q3")
def test_a_leaf_that_a_calibration_did_not_see():
    variables = {"a/kernel": network()["kernel"], "b/kernel": network(1)["kernel"]}
    importance = {"a/kernel": np.full((60, 50), 3.0), "b/kernel": np.zeros((60, 50))}
    with pytest.warns(UserWarning, match=r"mostly zero in b/kernel \(100%\)"):
        found = budget.within_bytes(variables, 2000, importance=importance)
    decoded = dc.decompress(found.compressed)
    errors = {n: np.square(decoded[n] - w).mean() for n, w in variables.items()}
    # It counts like a leaf that was seen. Both are of one distribution.
    assert errors["b/kernel"] == pytest.approx(errors["a/kernel"], rel=0.2)
    importance["a/kernel"][:] = 0
    with pytest.raises(ValueError, match="every leaf is zero everywhere"):
        budget.within_bytes(variables, 1000, importance=importance)


def test_memory_does_not_grow_with_the_entries():
    rng = np.random.default_rng(0)
    variables = {"w": jnp.asarray(rng.uniform(-4.4, 4.4, size=(300, 400)), "f4")}
    shared = share.share(variables, [Rule("w", share=rate.grid(0.009))])
    assert shared.codebooks["w"].size > 900
    tracemalloc.start()
    rate.rdoq(shared, variables, rd_lambda=1e-6)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 60e6  # all prices at once take 480e6


@pytest.mark.spec("Q16")
def test_only_weights_are_quantized_without_patterns():
    variables = {
        "params": {"kernel": jnp.ones((30, 30)) / 3, "variance": jnp.ones((30, 2)) / 3},
        "batch_stats": {"bn": {"mean": jnp.ones(30) / 3, "var": jnp.ones(30) / 99}},
        "bn": {"var": jnp.ones((3, 30)) / 99, "scale": jnp.ones((3, 30)) / 3},
        "~": {"ema": {"average": jnp.ones((3, 9)), "hidden": jnp.ones((3, 9))}},
    }
    found = rate.quantize(variables, rd_lambda=10.0)
    assert found.labels.keys() == {"params/kernel"}
    decoded = dc.decompress(budget.within_bytes(variables, 1500).compressed)
    decoded["params"].pop("kernel")
    variables["params"].pop("kernel")
    jax.tree.map(np.testing.assert_array_equal, decoded, variables)


@pytest.mark.parametrize(
    ("importance", "message"),
    [
        ({"bias": np.ones(50)}, "no importance for leaf 'kernel'"),
        ({"kernel": np.ones(50)}, r"shape \(50,\), the leaf \(60, 50\)"),
        ({"kernel": -np.ones((60, 50))}, "negative, NaN or infinite"),
        ({"kernel": np.full((60, 50), np.nan)}, "negative, NaN or infinite"),
    ],
)
def test_importance_that_does_not_fit(importance: dict, message: str):
    for call in (
        lambda: rate.quantize(
            network(), [Rule("kernel")], rd_lambda=1, importance=importance
        ),
        lambda: budget.within_bytes(
            network(), 600, [Rule("kernel")], importance=importance
        ),
        lambda: share.share(
            network(), [Rule("kernel", share=share.kmeans(4))], importance=importance
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_leaf_without_importance_is_clustered_as_if_all_counted():
    variables = network()
    nothing = jax.tree.map(jnp.zeros_like, variables)
    rules = [Rule("kernel", share=share.kmeans(4))]
    found = share.share(variables, rules, importance=nothing)
    expected = share.share(variables, rules)
    assert jnp.array_equal(found.codebooks["kernel"], expected.codebooks["kernel"])


@pytest.mark.spec("Q4")
@pytest.mark.parametrize(
    ("values", "step", "entries"),
    [
        ([0.1, 1.0], 0.5, [-0.5, 0.5, 1.0]),
        ([-1.2, 0.9], 0.5, [-1.0, -0.5, 0.5, 1.0]),
        ([3.0], 2.0, [-2.0, 2.0, 4.0]),
        ([0.01], 2.0, [-2.0, 2.0]),
        ([0.1, 5.0], 0.5, [-0.5, 0.5, 5.0]),
    ],
)
def test_grids(values: list[float], step: float, entries: list[float]):
    assert rate.grid(step)(np.array(values), None).tolist() == entries


def test_grids_have_an_end():
    many = np.random.default_rng(0).normal(size=20_000)
    assert 500 < rate.grid(1e-9)(many, None).size <= 1002
    tiny = np.array([-4e-5, 5e-5])  # half precision would round its step by 20 %
    assert rate.grid(1e-9)(tiny, None).size <= 1002
    assert rate.grid(1e5)(tiny, None).tolist() == [-1e5, 1e5]
    for step in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="positive and finite"):
            rate.grid(step)


@pytest.mark.spec("Q5")
def test_the_step_that_suits_a_penalty():
    importance = np.array([1.0, 3.0])
    step = rate.grid_for_lambda(0.5)(np.array([-9.0, 9.0]), importance)[-1] / 9
    expected = math.sqrt(6 * 0.5 / (math.log(2) * 2.0))
    assert rate.grid_for_lambda(0.5)(np.array([0.1, 0.1]), importance)[
        -1
    ] == pytest.approx(expected, rel=1e-3)
    assert step == pytest.approx(expected * round(9 / expected) / 9, rel=1e-3)


@pytest.mark.spec("Q6")
@pytest.mark.parametrize("limit", [300, 600, 1200])
def test_a_budget_of_bytes(limit: int):
    found = budget.within_bytes(network(), limit)
    assert found.file_bytes == len(container.dumps(found.compressed)) <= limit
    assert found.file_bytes > 0.9 * limit


@pytest.mark.spec("Q6")
@given(
    scale=st.sampled_from([1e-25, 1e-18, 1e-6, 1.0, 1e6, 1e18, 1e25]),
    outlier=st.sampled_from([0.0, 30.0, 300.0, 1e4, 1e6]),
    bits=st.floats(1.0, 6.0),
    seed=st.integers(0, 2**32 - 1),
)
@example(scale=1.0, outlier=300.0, bits=6.0, seed=0)
@example(scale=1e-6, outlier=1e4, bits=6.0, seed=1)
@example(scale=1e18, outlier=1e6, bits=6.0, seed=2)
@settings(max_examples=12)
def test_a_budget_at_any_scale_and_with_any_outlier(
    scale: float, outlier: float, bits: float, seed: int
):
    """At a given number of bits no worse than the bound of Gish and Pierce allows."""
    rng = np.random.default_rng(seed)
    weights = rng.normal(size=(128, 128))
    kernel = weights.copy()
    kernel[5, 7] = outlier or kernel[5, 7]
    variables = {
        "kernel": (scale * kernel).astype(np.float32),
        "scale": np.array([1.0, 1e4], np.float32),
    }
    limit = round(bits * kernel.size / 8)
    found = budget.within_bytes(variables, limit)
    assert 0.99 * limit <= found.file_bytes <= limit
    errors = np.asarray(dc.decompress(found.compressed)["kernel"], np.float64) / scale
    errors = (errors - kernel)[np.arange(128) != 5]
    # Rate and distortion of a Gaussian; half a bit for grid, header and outlier.
    assert np.square(errors).mean() < 4.0 ** -(bits - 0.5)


@pytest.mark.spec("Q6", "Q7")
def test_a_large_value_beside_a_network_takes_no_precision_from_it():
    """A scale of 1e6 made the search give up at 40 bytes, one of 1e4 at 11,366."""
    rng = np.random.default_rng(0)
    kernel = (0.05 * rng.normal(size=(256, 256))).astype(np.float32)
    variables = {"kernel": kernel, "scale": np.array([1e6, 1.0], np.float32)}
    found = budget.within_bytes(variables, 60_000, [Rule("kernel"), Rule("scale")])
    assert 59_400 <= found.file_bytes <= 60_000

    def error(decoded: dict[str, np.ndarray]) -> float:
        return float(np.abs(decoded["kernel"] - kernel).mean())

    assert budget.within_error(variables, error, 1e-3, [Rule(".")]).file_bytes < 60_000


@pytest.mark.spec("Q6")
def test_a_point_saves_the_file_that_it_measured(tmp_path: Path):
    found = budget.within_bytes(network(), 600)
    assert found.save(tmp_path / "m.dcz") == found.file_bytes == len(found.data)
    loaded = dc.load(tmp_path / "m.dcz")
    jax.tree.map(np.testing.assert_array_equal, loaded, dc.decompress(found.compressed))


@pytest.mark.spec("Q7")
def test_a_budget_of_error():
    variables = network()
    weights = np.asarray(variables["kernel"])

    def error(decoded: dict[str, np.ndarray]) -> float:
        return float(np.abs(decoded["kernel"] - weights).mean())

    found = budget.within_error(variables, error, 0.1)
    assert 0.08 < error(dc.decompress(found.compressed)) <= 0.1
    worse = budget.within_error(variables, error, 0.2)
    assert worse.file_bytes < found.file_bytes


@pytest.mark.spec("Q6", "Q7")
def test_budgets_out_of_reach():
    with pytest.raises(ValueError, match="no steps give a file of 20 bytes, the"):
        budget.within_bytes(network(), 20)
    with pytest.raises(ValueError, match="at the finest steps, above -1"):
        budget.within_error(network(), lambda _: 0.0, -1)


@pytest.mark.parametrize("rd_lambda", [-1.0, math.nan, math.inf])
def test_penalties_that_are_none(rd_lambda: float):
    variables = network()
    shared = share.share(variables, [Rule("kernel", share=share.kmeans(8))])
    with pytest.raises(ValueError, match="rd_lambda must be"):
        rate.rdoq(shared, variables, rd_lambda=rd_lambda)
    with pytest.raises(ValueError, match="rd_lambda must be"):
        rate.quantize(variables, rd_lambda=rd_lambda)


def test_a_codebook_that_has_no_models():
    variables = {"w": jnp.arange(1.0, 3001.0)}
    shared = share.share(variables, [Rule("w", share=share.kmeans(2000))])
    with pytest.raises(ValueError, match="2000 entries, above 1024: share with fewer"):
        rate.rdoq(shared, variables, rd_lambda=0.1)


def test_leaves_that_are_no_floating_numbers_are_left_alone():
    variables = {"w": jnp.ones((5, 10)), "step": jnp.arange(3)}
    found = dc.decompress(budget.point(variables, rd_lambda=1e-6).compressed)
    assert found["step"].tolist() == [0, 1, 2]


@pytest.mark.spec("Q8")
def test_squared_gradients():
    params = {"a": jnp.array([1.0, 2.0]), "b": jnp.array(3.0)}

    def loss(params: dict[str, jax.Array], batch: jax.Array) -> jax.Array:
        return (params["a"] * batch).sum() + params["b"] ** 2

    found = rate.fisher_diagonal(loss, params, jnp.array([[1.0, 0.0], [3.0, 2.0]]))
    assert found["a"].tolist() == [5.0, 2.0]
    assert found["b"] == 36.0
    with pytest.raises(ValueError, match="at least one batch"):
        rate.fisher_diagonal(loss, params, [])


@pytest.mark.spec("Q8")
def test_squared_gradients_beside_integers():
    params = {"w": jnp.array([1.0, 2.0]), "step": jnp.arange(3)}
    found = rate.fisher_diagonal(lambda p, b: (p["w"] * b).sum(), params, [3.0])
    assert found["w"].tolist() == [9.0, 9.0]
    assert found["step"].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.spec("Q8")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_squared_gradients_in_half_precision(dtype: Any):
    """Their squares would be zero, and a sum of a thousand would stop at 256."""
    params = {"w": jnp.ones(3, dtype)}
    batches = [jnp.full(3, 1e-4, dtype)] * 1000
    found = rate.fisher_diagonal(lambda p, b: (p["w"] * b).sum(), params, batches)
    assert found["w"].dtype == jnp.float32
    assert np.asarray(found["w"]) == pytest.approx(1e-8, rel=0.02)


def test_a_network_that_was_not_pruned():
    """Nothing is zero at first, but at a bit a weight most should be, if all count.

    Labels that are the nearest have an error of 0.5, and are not for squared errors.
    """
    weights = np.random.default_rng(0).normal(size=(100, 100)).astype(np.float32)
    importance = {"w": np.ones_like(weights)}
    found = budget.within_bytes({"w": weights}, 1200, importance=importance)
    decoded = dc.decompress(found.compressed)["w"]
    assert found.file_bytes > 1100
    assert np.square(decoded - weights).mean() < 0.4  # 1 if all were zero


def test_one_pattern_alone():
    rng = np.random.default_rng(0)
    variables = {
        "k": rng.normal(size=(30, 30)).astype(np.float32),
        "var": 1e-3 * np.arange(1, 9, dtype=np.float32),
    }
    found = dc.decompress(budget.within_bytes(variables, 300, [Rule("k$")]).compressed)
    np.testing.assert_array_equal(found["var"], variables["var"])
    with pytest.raises(ValueError, match="pattern 'kernel' matches no leaf"):
        budget.within_bytes(variables, 300, [Rule("kernel"), Rule("k$")])


def test_budgets_of_half_precision():
    weights = np.array([[300.0, 1.0, 2.0, 3.0]] * 4, np.float16)
    found = budget.within_bytes({"w": weights}, 60)
    assert dc.decompress(found.compressed)["w"].dtype == np.float16
    rng = np.random.default_rng(0)
    pair = {name: rng.normal(size=(20, 20)).astype(np.float16) for name in ("w", "w2")}
    importance = {"w": np.ones((20, 20)), "w2": np.full((20, 20), 1e-11)}
    assert budget.within_bytes(pair, 150, importance=importance).file_bytes <= 150
    with pytest.raises(ValueError, match="leaf 'w' holds NaN"):
        budget.within_bytes({"w": np.full((4, 4), np.nan, np.float32)}, 100)


def label_costs(
    weights: choice.Weights, entries: np.ndarray, prices: np.ndarray
) -> np.ndarray:
    """What the best of three labels of each weight costs, in float64, float64[n]."""
    prices = prices[np.broadcast_to(weights.group, weights.values.shape)].T
    found = np.square(weights.values.astype(np.float64)) * weights.costs + prices[0]
    order = sorted(range(1, entries.size), key=lambda label: entries[label])
    for place, label in enumerate(order):
        tried = [label]
        for other in (place - 1, place + 1):
            if 0 <= other < len(order):
                inner = order[other]
                beside = entries[inner] * entries[label] > 0
                if beside and abs(entries[inner]) < abs(entries[label]):
                    tried.append(inner)
        here = weights.near == label
        for one in tried:
            errors = weights.values[here].astype(np.float64) - float(entries[one])
            costs = np.broadcast_to(weights.costs, here.shape)[here]
            own = errors**2 * costs + prices[one][here]
            found[here] = np.minimum(found[here], own)
    return found


@given(
    size=st.sampled_from([1, 70, 20_000, choice.COMPILED // 2]),
    step=st.floats(0.02, 1.5),
    bit=st.floats(0.001, 1.0),
    groups=st.sampled_from([0, 1, 2, 63]),
    important=st.booleans(),
    shuffled=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=20, deadline=None)
def test_programs_choose_as_numpy_does_and_both_the_least(
    size: int,
    step: float,
    bit: float,
    groups: int,
    important: bool,
    shuffled: bool,
    seed: int,
):
    rng = np.random.default_rng(seed)
    values = rng.laplace(size=size).astype(np.float32)
    values[rng.random(size) < 0.3] = 0
    factors = np.unique(np.rint(values / step))
    codebook = (step * factors[factors != 0]).astype(np.float32)
    if not codebook.size:
        return
    if shuffled:  # as fine-tuning may leave it
        rng.shuffle(codebook)
    costs, group = np.array(1, np.float32), np.array(0, np.uint8)
    if important:
        costs = rng.exponential(size=size).astype(np.float32)
    if groups:
        group = rng.integers(0, groups, size).astype(np.uint8)
    entries = np.append(np.float32(0), codebook)
    near = choice.nearest(values, codebook)
    weights = choice.Weights(values, costs, near, group)
    prices = bit * rng.exponential(size=(max(groups, 1), entries.size))
    tables = choice.tables(entries, prices)
    least = label_costs(weights, entries, prices)
    for choose in (choice.in_numpy, choice.in_programs):
        found = choose(weights, tables)
        own = np.square(values.astype(np.float64) - entries[found]) * costs
        np.testing.assert_allclose(own + prices[group, found], least, rtol=1e-5)


@pytest.mark.parametrize("grouped", [False, True])
def test_few_programs_for_many_shapes(grouped: bool):
    rng = np.random.default_rng(0)
    groups = 5 if grouped else 1
    tables = choice.tables(np.array([0, -1, 1], np.float32), np.zeros((groups, 3)))
    compiled: Any = choice._compiled
    before = compiled._cache_size()
    for size in (300_000, 333_333, 555_555, 1_000_000, 5_000_000):
        values = rng.normal(size=size).astype(np.float32)
        near = np.where(values < 0, 1, 2).astype(np.uint8)
        group = np.arange(size) % groups if grouped else np.array(0)
        weights = choice.Weights(
            values, np.array(1, np.float32), near, group.astype(np.uint8)
        )
        found = choice.in_programs(weights, tables)
        np.testing.assert_array_equal(found, np.where(abs(values) > 0.5, near, 0))
    assert compiled._cache_size() - before <= 3


@pytest.mark.parametrize("shape", [(200, 300), (1000, 600)])  # by NumPy, by programs
def test_what_is_kept_costs_less_where_much_is_kept(shape: tuple[int, int]):
    """Half of the rows keep 1 weight of 20, and the others 10.

    To keep a weight rather than lose it costs about log2(19), 4.2 bits, or nothing. If
    it were the same for all, rows of both kinds would lose the same fraction.
    """
    rng = np.random.default_rng(0)
    weights = rng.laplace(size=shape).astype(np.float32)
    dense = np.arange(shape[0]) % 2 == 0
    weights[rng.random(shape) > np.where(dense, 0.5, 0.05)[:, None]] = 0
    shared = share.share({"w": weights}, [Rule("w", share=rate.grid(0.5))])
    cheap = rate.rdoq(shared, {"w": weights}, rd_lambda=0.05)
    lost = (np.asarray(cheap.labels["w"]) == 0) & (weights != 0)
    parts = [lost[rows].sum() / (weights[rows] != 0).sum() for rows in (dense, ~dense)]
    assert parts[1] > 1.2 * parts[0]
