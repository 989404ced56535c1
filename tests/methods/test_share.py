"""Groups, labels and codebooks over a pytree (chapter S, from S20)."""

from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import Rule, share
from deepcomp_jax.rules import ShareMethod
from deepcomp_jax.share.labels import _assign
from tests.support import laws, strategies

EVERY = [Rule(".", share=share.kmeans(4))]


def _variables() -> dict[str, dict[str, jax.Array]]:
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> jax.Array:
        return jnp.array(rng.standard_normal(shape), jnp.float32)

    return {
        "conv1_1": {"kernel": draw(3, 3, 2, 4), "bias": draw(4)},
        "bn1_1": {"scale": draw(4), "bias": draw(4)},
        "conv1_2": {"kernel": draw(3, 3, 4, 4), "bias": draw(4)},
    }


@pytest.mark.spec("S20")
def test_groups_as_in_the_slides():
    rules = [
        Rule("kernel$", share=share.kmeans(4)),
        Rule(r"(?:conv|bn)(\d_\d)/", share=share.kmeans(3), group=r"bn\1"),
    ]
    shared = share.share(_variables(), rules)

    assert {group: book.size for group, book in shared.codebooks.items()} == {
        "conv1_1/kernel": 4,
        "conv1_2/kernel": 4,
        "bn1_1": 3,
        "bn1_2": 3,
    }
    assert dict(shared.groups)["bn1_1/scale"] == "bn1_1"
    assert dict(shared.groups)["conv1_1/bias"] == "bn1_1"
    assert shared.rest == {}


@pytest.mark.spec("S20")
def test_a_rule_without_a_method_leaves_its_leaves_alone():
    shared = share.share(_variables(), [Rule("bias"), *EVERY])

    assert set(shared.rest) == {"conv1_1/bias", "conv1_2/bias", "bn1_1/bias"}
    np.testing.assert_array_equal(
        share.lookup(shared)["bn1_1"]["bias"], _variables()["bn1_1"]["bias"]
    )


@pytest.mark.spec("S21", "S28")
@given(strategies.any_finite())
def test_distinct_loses_no_value(weights: np.ndarray):
    shared = share.share({"w": jnp.array(weights)}, [Rule("w", share=share.distinct)])
    expected = np.where(weights == 0, weights.dtype.type(0), weights).tobytes()
    assert np.asarray(share.lookup(shared)["w"]).tobytes() == expected
    assert dc.decompress(dc.pack(shared))["w"].tobytes() == expected


@pytest.mark.spec("S22", "S28")
@given(strategies.any_finite(), st.data())
def test_labels_are_nearest_at_any_scale(weights: np.ndarray, data: st.DataObject):
    kept = np.unique(weights[weights != 0])
    chosen = data.draw(st.sets(st.sampled_from(kept.tolist()), min_size=1))
    codebook = np.unique(np.array(sorted(chosen), weights.dtype))
    labels = np.asarray(share.assign(jnp.array(weights), codebook))
    entries = [Fraction(float(entry)) for entry in codebook]
    for weight, label in zip(weights, labels, strict=True):
        distances = [abs(entry - Fraction(float(weight))) for entry in entries]
        nearest = distances.index(min(distances)) + 1
        assert label == (nearest if weight != 0 else 0)


@pytest.mark.spec("S27")
@pytest.mark.parametrize(
    ("centroids", "message"), [([], "no centroids"), ([1.0, np.nan], "NaN")]
)
def test_methods_that_return_no_codebook(centroids: list[float], message: str):
    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        return np.array(centroids)

    with pytest.raises(ValueError, match=f"group 'all' returned {message} for 2 wei"):
        share.share(
            {"w": jnp.array([1.0, 0.0, 2.0])}, [Rule("w", share=method, group="all")]
        )


@pytest.mark.spec("S21", "S22")
@given(
    strategies.weights().map(lambda w: np.resize(w, 24)),
    st.lists(st.integers(-64, 64), min_size=4, max_size=4, unique=True),
)
def test_labels_are_nearest_and_zero_is_zero(weights: np.ndarray, book: list[int]):
    codebook = np.unique(np.array(book, np.float32)) / 8
    labels = np.asarray(share.assign(jnp.array(weights), codebook))
    distance = np.abs(weights.astype(float)[:, None] - codebook.astype(float))
    expected = np.where(weights == 0, 0, distance.argmin(axis=1) + 1)
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.spec("S21", "S22")
def test_labels_in_half_precision_are_those_of_exact_arithmetic():
    codebook = np.array([1.0, 1.001], np.float16)
    weights = np.array([1.0, 1.001, 0.0, -0.0, 2.0], np.float16)

    labels = share.assign(jnp.array(weights), codebook)
    assert labels.tolist() == [1, 2, 0, 0, 2]
    wide = share.assign(jnp.array(weights, jnp.bfloat16), codebook.astype(jnp.bfloat16))
    assert wide.shape == (5,)


@pytest.mark.spec("S23")
def test_lookup_gives_entries_bit_for_bit():
    shared = share.share(_variables(), EVERY)
    variables = share.lookup(shared)
    for name, labels in shared.labels.items():
        layer, leaf = name.split("/")
        values = np.asarray(variables[layer][leaf])
        codebook = np.asarray(shared.codebooks[name])
        expected = codebook[np.asarray(labels) - 1]
        assert values.tobytes() == expected.tobytes()


@pytest.mark.spec("S26")
@given(strategies.dense_values())
def test_lookup_keeps_every_bit_of_what_is_not_shared(leaf: np.ndarray):
    variables = {"w": jnp.arange(4.0), "rest": leaf, "step": 2**40}
    found = share.lookup(share.share(variables, [Rule("w", share=share.kmeans(2))]))
    kept = np.asarray(found["rest"])
    assert (kept.dtype, kept.shape) == (leaf.dtype, leaf.shape)
    assert kept.tobytes() == leaf.tobytes()
    assert found["step"] == 2**40


def test_a_step_may_consume_what_lookup_gives():
    variables = {"w": jnp.arange(4.0), "rest": jnp.ones(2)}
    shared = share.share(variables, [Rule("w", share=share.kmeans(2))])
    share.lookup(shared)["rest"].delete()
    np.testing.assert_array_equal(shared.rest["rest"], np.ones(2))


@pytest.mark.spec("S24")
@pytest.mark.parametrize(
    ("leaf", "message"),
    [
        (jnp.arange(3), "'a' is int32: only floating types"),
        (jnp.array([1.0, jnp.nan]), "'a' holds NaN or infinity"),
        (jnp.array([1.0, -jnp.inf]), "'a' holds NaN or infinity"),
        (np.zeros(3), "'a' is float64, which JAX would cut"),
    ],
)
def test_leaves_that_cannot_be_shared(leaf: jax.Array, message: str):
    with pytest.raises(ValueError, match=message):
        share.share({"a": leaf}, EVERY)


@pytest.mark.spec("S24")
def test_groups_that_cannot_be():
    mixed = {"a": jnp.ones(2), "b": jnp.ones(2, jnp.bfloat16)}
    with pytest.raises(ValueError, match="leaves of dtypes"):
        share.share(mixed, [Rule(".", share=share.kmeans(2), group="all")])
    rules = [
        Rule("a", share=share.kmeans(2), group="all"),
        Rule("b", share=share.kmeans(3), group="all"),
    ]
    with pytest.raises(ValueError, match="leaves of two rules"):
        share.share({"a": jnp.ones(2), "b": jnp.ones(2)}, rules)


@pytest.mark.spec("S25")
@pytest.mark.parametrize(
    "method",
    [
        share.kmeans(4),
        share.kmeans(bits=2),
        share.lloyd(4, init="linear"),
        share.lloyd(4, init="density"),
        share.lloyd(4, init="random", seed=3),
        share.distinct,
    ],
)
def test_sharing_again_changes_nothing(method: ShareMethod):
    rules = [Rule(".", share=method)]
    once = share.lookup(share.share(_variables(), rules))
    twice = share.lookup(share.share(once, rules))
    laws.assert_identical(twice, once)


@pytest.mark.parametrize(
    "method",
    [
        share.kmeans(2),
        share.kmeans(explained_variance=0.9),
        share.nonparametric(0.1),
    ],
)
def test_importance_draws_centroids(method: ShareMethod):
    """The two that count are told apart; if all counted, they would be one."""
    weights = {"w": jnp.array([1.0, 2.0, 10.0])}
    importance = {"w": jnp.array([1000.0, 1000.0, 0.001])}
    shared = share.share(weights, [Rule("w", share=method)], importance=importance)
    alike = share.share(weights, [Rule("w", share=method)])

    assert shared.codebooks["w"][0] == 1.0
    assert alike.codebooks["w"][0] == 1.5


@pytest.mark.parametrize(
    "method",
    [
        share.kmeans(bits=2),
        share.kmeans(explained_variance=0.9),
        share.lloyd(4, init="density"),
        share.lloyd(4, init="random", seed=3),
        share.nonparametric(),
    ],
)
def test_every_method_shares_a_whole_network(method: ShareMethod):
    shared = share.share(_variables(), [Rule(".", share=method)])
    for name, codebook in shared.codebooks.items():
        assert codebook.size >= 1
        assert int(shared.labels[name].max()) <= codebook.size


@pytest.mark.parametrize("knobs", [{}, {"k": 2, "bits": 1}])
def test_kmeans_wants_one_number_of_centroids(knobs: dict[str, int]):
    with pytest.raises(ValueError, match="exactly one of"):
        share.kmeans(**knobs)


@pytest.mark.parametrize(
    ("knobs", "kind", "message"),
    [
        ({"k": 2.5}, TypeError, "k is 2.5; it must be a whole number"),
        ({"k": 0}, ValueError, "k is 0; it must be from 1 to 32768"),
        ({"bits": 16}, ValueError, "bits is 16; it must be from 0 to 15"),
        ({"bits": "4"}, TypeError, "bits is '4'"),
        ({"explained_variance": 1.5}, ValueError, "explained_variance is 1.5"),
    ],
    ids=str,
)
def test_numbers_of_centroids_that_cannot_be(
    knobs: Any, kind: type[Exception], message: str
):
    with pytest.raises(kind, match=message):
        share.kmeans(**knobs)
    if "k" in knobs:
        with pytest.raises(kind, match=message):
            share.lloyd(**knobs)


def test_a_network_with_shared_weights_is_printed_on_a_line():
    shared = share.share(
        {"w": jnp.ones(9), "b": jnp.ones(3)}, [Rule("w", share=share.distinct)]
    )
    assert repr(shared) == "SharedWeights(2 leaves, 1 of them with labels, 1 codebooks)"


def test_empty_and_zero_leaves_have_empty_codebooks():
    shared = share.share({"a": jnp.zeros((0, 3)), "b": jnp.zeros(4)}, EVERY)

    assert [book.size for book in shared.codebooks.values()] == [0, 0]
    np.testing.assert_array_equal(share.lookup(shared)["b"], np.zeros(4))


def test_sharing_is_a_pytree_that_passes_through_jit():
    shared = share.share(_variables(), EVERY)
    again = jax.jit(lambda s: jax.tree.map(lambda x: x, s))(shared)
    laws.assert_identical(share.lookup(again), share.lookup(shared))


def test_leaves_of_many_shapes_share_few_programs():
    """Compiling one for each took longer than everything else, 200 leaves 30 s."""
    before = _assign._cache_size()
    rng = np.random.default_rng(0)
    for _ in range(60):
        shape = tuple(rng.integers(1, 40, size=2))
        weights = rng.normal(size=shape).astype(np.float32)
        labels = share.assign(jnp.asarray(weights), np.array([-1, 0.5], np.float32))
        assert labels.shape == shape
        assert np.array_equal(labels, 1 + (weights > -0.25))
    assert _assign._cache_size() <= before + 8
