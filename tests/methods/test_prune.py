"""Masks: which weights are kept (chapter P)."""

from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from deepcomp_jax import Rule, prune
from deepcomp_jax.rules import PruneMethod
from tests.support import laws, strategies

METHODS = [
    prune.by_std(0.7),
    prune.by_magnitude(0.5),
    prune.by_global_magnitude(0.5),
    prune.by_erk(0.5),
]

BY_STD = jax.jit(METHODS[0])


def _network(seed: int = 0) -> dict[str, dict[str, jax.Array]]:
    rng = np.random.default_rng(seed)

    def draw(*shape: int) -> jax.Array:
        return jnp.array(rng.standard_normal(shape), jnp.float32)

    return {
        "conv": {"kernel": draw(3, 3, 4, 8), "bias": draw(8)},
        "fc": {"kernel": 5 * draw(32, 10), "bias": draw(10)},
    }


@pytest.mark.spec("P1")
def test_apply_zeroes_what_is_pruned_and_keeps_the_bits_of_the_rest():
    weights = {"w": jnp.array([-0.0, -1.5, jnp.nan, 3.0])}
    pruned = prune.apply(weights, {"w": jnp.array([False, True, True, False])})["w"]

    expected = np.array([0.0, -1.5, np.nan, 0.0], np.float32)
    assert np.asarray(pruned).tobytes() == expected.tobytes()


@pytest.mark.spec("P2")
@pytest.mark.parametrize("method", METHODS)
@given(st.integers(0, 1000))
def test_no_method_keeps_a_zero(method: PruneMethod, seed: int):
    rng = np.random.default_rng(seed)
    leaves = [
        jnp.array(rng.integers(-2, 3, shape), jnp.float32) for shape in ((12,), (3, 4))
    ]
    for leaf, mask in zip(leaves, method(leaves), strict=True):
        assert mask.shape == leaf.shape
        assert not np.any(np.asarray(mask) & (np.asarray(leaf) == 0))


@pytest.mark.spec("P3")
@pytest.mark.parametrize("method", METHODS)
def test_masks_only_shrink_even_when_weights_grow_back(method: PruneMethod):
    params = _network()
    masks = prune.masks(params, [Rule("kernel", prune=method)])
    for seed in range(3):
        params = _network(seed)
        new = prune.masks(params, [Rule("kernel", prune=method)], masks)
        grown = jax.tree.map(lambda n, o: bool(jnp.any(n & ~o)), new, masks)
        assert not any(jax.tree.leaves(grown))
        masks = new


@pytest.mark.spec("P4")
def test_the_first_rule_that_matches_holds():
    rules = [
        Rule("fc/bias"),
        Rule("conv", prune=prune.by_std(9)),
        Rule("kernel", prune=prune.by_std(0)),
    ]
    masks = prune.masks(_network(), rules)

    assert masks["fc"]["bias"].shape == ()
    assert masks["fc"]["bias"]
    assert not masks["conv"]["kernel"].any()
    assert not masks["conv"]["bias"].any()
    assert masks["fc"]["kernel"].all()


@pytest.mark.spec("P5")
@given(strategies.weights().map(lambda w: np.resize(w, 24)), st.floats(0, 2))
def test_by_std_agrees_with_its_definition(weights: np.ndarray, quality: float):
    (mask,) = prune.by_std(quality)([jnp.array(weights)])
    kept = weights[weights != 0].astype(np.float64)
    threshold = quality * kept.std() if kept.size else np.inf
    # At the threshold itself float32 may decide either way.
    clear = np.abs(np.abs(weights) - threshold) > 1e-5 * (1 + threshold)
    expected = (weights != 0) & (np.abs(weights) > threshold)
    np.testing.assert_array_equal(np.asarray(mask)[clear], expected[clear])


@pytest.mark.spec("P5")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@given(st.integers(0, 2**32 - 1), st.data())
def test_by_std_means_the_same_at_any_scale(dtype: str, seed: int, data: st.DataObject):
    limits = jnp.finfo(dtype)
    weights = np.random.default_rng(seed).integers(-15, 16, 32).astype(dtype)
    exponent = data.draw(st.integers(int(limits.minexp), int(limits.maxexp) - 4))
    (plain,) = BY_STD([jnp.array(weights)])
    (scaled,) = BY_STD([jnp.array(np.ldexp(weights.astype(float), exponent), dtype)])
    np.testing.assert_array_equal(plain, scaled)
    kept = weights[weights != 0].astype(float)
    np.testing.assert_array_equal(plain, np.abs(weights) > 0.7 * kept.std())


@pytest.mark.spec("P5")
@given(st.integers(-60, 60), st.integers(1, 16))
def test_what_is_just_at_the_threshold_of_by_std_is_pruned(exponent: int, pairs: int):
    """As many weights of +a as of -a have the deviation a, without rounding."""
    weights = np.array([1.0, -1.0] * pairs + [0.0] * (32 - 2 * pairs), np.float32)
    weights *= np.float32(2) ** exponent
    (at,) = prune.by_std(1.0)([jnp.array(weights)])
    (below,) = prune.by_std(1 - 2.0**-20)([jnp.array(weights)])
    assert not at.any()
    np.testing.assert_array_equal(below, weights != 0)


@pytest.mark.spec("P6")
@pytest.mark.parametrize("sparsity", [0.0, 0.25, 0.9, 1.0])
def test_magnitude_reaches_its_sparsity_exactly(sparsity: float):
    leaves = [_network()["conv"]["kernel"], _network()["fc"]["kernel"]]
    sizes = [leaf.size for leaf in leaves]

    each = prune.by_magnitude(sparsity)(leaves)
    assert [int(m.sum()) for m in each] == [round(n * (1 - sparsity)) for n in sizes]
    together = prune.by_global_magnitude(sparsity)(leaves)
    assert sum(int(m.sum()) for m in together) == round(sum(sizes) * (1 - sparsity))


@pytest.mark.spec("P6")
def test_global_magnitude_compares_across_tensors():
    leaves = [jnp.array([1.0, 2.0]), jnp.array([-3.0, 4.0, -0.5])]
    low, high = prune.by_global_magnitude(0.6)(leaves)

    assert low.tolist() == [False, False]
    assert high.tolist() == [True, True, False]


@pytest.mark.spec("P7")
@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 1.0])
def test_erk_densities(density: float):
    shapes = [(3, 3, 3, 16), (3, 3, 16, 64), (512, 512), (512, 10)]
    sizes = np.array([np.prod(shape) for shape in shapes])
    found = np.array(prune.erk_densities(shapes, density))

    assert (found * sizes).sum() == pytest.approx(density * sizes.sum())
    sparse = found < 1
    ratio = found * sizes / [sum(shape) for shape in shapes]
    assert np.ptp(ratio[sparse]) <= 1e-9 if sparse.any() else density == 1.0


@pytest.mark.spec("P8")
def test_the_schedule_can_be_compiled():
    schedule = prune.cubic_schedule(0.0, 0.8, 4)

    assert jax.jit(schedule)(jnp.array(1)) == pytest.approx(0.4625)


@pytest.mark.spec("P6", "P7", "P10")
@pytest.mark.parametrize(
    "make", [prune.by_magnitude, prune.by_global_magnitude, prune.by_erk]
)
def test_a_schedule_chooses_the_sparsity_inside_jit(make: Any):
    schedule = prune.cubic_schedule(0.1, 0.8, 7)
    params = _network()

    @jax.jit
    def compiled(params: Any, step: jax.Array) -> Any:
        return prune.masks(params, [Rule("kernel", prune=make(schedule(step)))])

    for step in range(9):
        sparsity = float(schedule(step))
        expected = prune.masks(params, [Rule("kernel", prune=make(sparsity))])
        laws.assert_identical(compiled(params, jnp.array(step)), expected)
        kernels = [params[layer]["kernel"] for layer in ("conv", "fc")]
        kept = [int(expected[layer]["kernel"].sum()) for layer in ("conv", "fc")]
        size = sum(kernel.size for kernel in kernels)
        # Each tensor is rounded to whole weights.
        assert sum(kept) == pytest.approx(size * (1 - sparsity), abs=1.01)


@pytest.mark.spec("P5", "P10")
def test_a_quality_may_be_traced():
    leaf = _network()["fc"]["kernel"]
    compiled = jax.jit(lambda quality: prune.by_std(quality)([leaf])[0])
    for quality in (0.0, 0.5, 2.0):
        (expected,) = prune.by_std(quality)([leaf])
        np.testing.assert_array_equal(compiled(quality), expected)


@pytest.mark.spec("P9")
@pytest.mark.parametrize(
    "make",
    [
        lambda: prune.by_std(-0.1),
        lambda: prune.by_magnitude(1.5),
        lambda: prune.by_global_magnitude(-0.5),
        lambda: prune.by_erk(2),
        lambda: prune.cubic_schedule(0, 1.1, 3),
        lambda: prune.cubic_schedule(0, 0.5, 0),
    ],
)
def test_impossible_settings_are_rejected(make: object):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_methods_are_jit_able():
    for method in METHODS:
        leaves = [_network()["conv"]["kernel"], _network()["fc"]["kernel"]]
        for plain, jitted in zip(method(leaves), jax.jit(method)(leaves), strict=True):
            np.testing.assert_array_equal(plain, jitted)


def test_empty_and_dead_tensors():
    for method in METHODS:
        masks = method([jnp.zeros((0, 3)), jnp.zeros((2, 3))])
        assert [int(mask.sum()) for mask in masks] == [0, 0]
    assert prune.by_global_magnitude(0.5)([]) == []


@pytest.mark.spec("P9")
@pytest.mark.parametrize(
    ("leaf", "pattern", "message"),
    [
        (jnp.array([1.0, jnp.nan]), "w", "leaf 'w' holds NaN or infinity"),
        (jnp.arange(3), "w", "leaf 'w' is int32"),
        (jnp.ones(3), "kernl", "pattern 'kernl' matches no leaf: there are w"),
    ],
)
def test_leaves_and_patterns_that_cannot_be(
    leaf: jax.Array, pattern: str, message: str
):
    with pytest.raises(ValueError, match=message):
        prune.masks({"w": leaf}, [Rule(pattern, prune=prune.by_std(0.1))])


@pytest.mark.spec("P7")
def test_erk_keeps_a_scalar_of_a_dense_network():
    params = {"kernel": jnp.ones((4, 4)), "scale": jnp.float32(3)}
    masks = prune.masks(params, [Rule(".", prune=prune.by_erk(0.0))])
    assert all(bool(mask.all()) for mask in masks.values())
