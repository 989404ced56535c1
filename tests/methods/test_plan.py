"""Plans: rules for a number of bytes, from histograms of one look at each leaf."""

import gc
import math
import weakref
from typing import Any

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import Rule, budget, codings
from deepcomp_jax.rate import planning
from deepcomp_jax.rate.histograms import histogram

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.normal(size=shape)


def heavy(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """As trained weights are: Student's t of four degrees of freedom."""
    return rng.standard_t(4, size=shape)


def sparse(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.laplace(size=shape) * (rng.random(shape) < 0.1)


def bimodal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.choice([-1.0, 1.0], shape) + 0.05 * rng.normal(size=shape)


def constant(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, rng.normal())


KINDS = [normal, heavy, sparse, bimodal, constant]


@pytest.mark.spec("Q18")
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(64, 64), (7, 13, 40), (200, 300), (3, 3, 128, 64)]),
    scale=st.sampled_from([0.05, 1.0, 30.0]),
    relative=st.floats(math.log(0.01), math.log(2.0)).map(math.exp),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_bytes_of_a_leaf_are_known(
    kind: Any, dtype: Any, shape: Any, scale: float, relative: float, seed: int
):
    """To a percent, or a dozen bytes where there are few."""
    leaf = (scale * kind(np.random.default_rng(seed), shape)).astype(dtype)
    known = planning.planned(leaf, False, None)
    step = known.step(relative)
    rules = [Rule("w", share=known.method(step))]
    size = len(dc.dumps(dc.compress({"w": leaf}, rules)))
    expected = planning.total_bits([(known, 1)], relative) / 8 + 18  # front and name
    assert size == pytest.approx(expected, rel=0.01, abs=12)


@pytest.mark.spec("Q18")
@given(
    kinds=st.lists(st.sampled_from(KINDS[:3]), min_size=1, max_size=4),
    dtype=st.sampled_from(DTYPES),
    bits=st.floats(1.5, 7.0),
    tiny=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_a_file_has_about_the_bytes_asked_for(
    kinds: list[Any], dtype: Any, bits: float, tiny: bool, seed: int
):
    rng = np.random.default_rng(seed)
    shapes = [(16, 16)] * 40 if tiny else [(96, 200), (50, 8, 20)]
    tree = {
        f"l{i}": [
            {"kernel": kind(rng, shape).astype(dtype), "bias": rng.normal(size=9)}
            for shape in shapes
        ]
        for i, kind in enumerate(kinds)
    }
    kept = np.mean([0.1 if kind is sparse else 1.0 for kind in kinds])
    values = sum(x.size for x in dc.trees.named_leaves(tree).values())
    asked = math.floor(bits * kept * values / 8)
    least = 0
    try:
        rules = budget.plan(tree, max_bytes=asked)
    except ValueError as error:
        least = int(str(error).split("least is about ")[1].split(":")[0])
        assert least > asked
        return
    size = len(dc.dumps(dc.compress(tree, rules)))
    leaves = len(kinds) * len(shapes)
    assert size == pytest.approx(asked, rel=0.015, abs=2 * leaves)


@pytest.mark.spec("Q18")
def test_bits_of_each_weight():
    tree = {"kernel": normal(np.random.default_rng(0), (400, 300)).astype(np.float32)}
    for bits in (2.0, 4.0, 6.5):
        rules = budget.plan(tree, bits_per_weight=bits)
        size = len(dc.dumps(dc.compress(tree, rules)))
        assert 8 * size / 120_000 == pytest.approx(bits, rel=0.01)


@pytest.mark.spec("Q19")
@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from(DTYPES),
    error=st.floats(0.003, 0.7),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=30, deadline=None)
def test_no_leaf_has_a_greater_error(kind: Any, dtype: Any, error: float, seed: int):
    tree = {"embedding": kind(np.random.default_rng(seed), (150, 100)).astype(dtype)}
    rules = budget.plan(tree, max_relative_error=error)
    weights = tree["embedding"].astype(np.float64)
    found = dc.decompress(dc.compress(tree, rules))["embedding"].astype(np.float64)
    own = math.sqrt(np.square(found - weights).sum() / np.square(weights).sum())
    # Entries are rounded to the dtype, as every weight was.
    assert own <= error + float(ml_dtypes.finfo(dtype).eps) / 2
    if kind in (normal, heavy) and rules and error > 0.02:
        assert own > 0.85 * error


@pytest.mark.spec("Q19")
def test_what_no_grid_can_hold_stays_as_it_is():
    rng = np.random.default_rng(0)
    few = rng.choice([-1.0, 0.5, 2.0], (100, 100))
    tree = {"w1": few, "w2": rng.uniform(-1, 1, (100, 100))}
    tree = {name: leaf.astype(np.float32) for name, leaf in tree.items()}
    rules = budget.plan(tree, max_relative_error=3e-4)
    assert [rule.pattern for rule in rules] == [r"\A(?:w1)\Z"]


@pytest.mark.spec("Q20")
def test_tables_are_coarser_and_all_else_is_left():
    rng = np.random.default_rng(1)
    kernel = rng.normal(size=(200, 100)).astype(np.float32)
    tree = {
        "embedding": rng.normal(size=(200, 100)).astype(np.float32),
        "a": {"kernel": kernel, "bias": kernel[0]},
        "b": {"kernel": 8 * rng.normal(size=(200, 100)).astype(np.float32)},
        "steps": np.arange(5),
    }
    rules = budget.plan(tree, bits_per_weight=3)
    found = dc.decompress(dc.compress(tree, rules))

    def error(name: str) -> float:
        old, new = (dc.trees.named_leaves(x)[name] for x in (tree, found))
        return float(np.sqrt(np.square(old - new).mean() / np.square(old).mean()))

    assert error("a/kernel") == pytest.approx(error("b/kernel"), rel=0.05)
    assert 2 < error("embedding") / error("a/kernel") < 2.6
    assert error("a/bias") == error("steps") == 0
    skipped = budget.plan(tree, bits_per_weight=12, skip="^a/")
    found = dc.decompress(dc.compress(tree, skipped))
    assert error("a/kernel") == 0 < error("b/kernel")


@pytest.mark.spec("Q20")
@pytest.mark.parametrize("rows", [6, 60])
def test_small_tables_are_as_fine_as_weights(rows: int):
    rng = np.random.default_rng(1)
    tree = {
        "embedding": rng.normal(size=(rows, 64)).astype(np.float32),
        "kernel": rng.normal(size=(200, 64)).astype(np.float32),
    }
    for found in (
        dc.compress(tree, budget.plan(tree, bits_per_weight=3)),
        budget.within_bytes(tree, rows * 24 + 4800).compressed,
    ):
        decoded = dc.decompress(found)
        errors = [np.abs(decoded[name] - tree[name]).max() for name in tree]
        coarser = 1 if rows == 6 else 2.5
        assert errors[0] / errors[1] == pytest.approx(coarser, rel=0.2)


@pytest.mark.spec("Q20")
def test_equal_leaves_take_bytes_once():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 100)).astype(np.float32)
    other = rng.normal(size=(300, 100)).astype(np.float32)
    tree = {"embedding": table, "head": {"kernel": table}, "w": other, "mask": other}
    with pytest.warns(UserWarning, match="left as they are .mask."):
        rules = budget.plan(tree, max_bytes=150_000)
    size = len(dc.dumps(dc.compress(tree, rules)))
    assert size == pytest.approx(150_000, rel=0.01)
    found = dc.decompress(dc.compress(tree, rules))
    # What is multiplied, too, is as fine as what is only multiplied.
    assert np.square(found["embedding"] - table).mean() == pytest.approx(
        np.square(found["w"] - other).mean(), rel=0.1
    )


@pytest.mark.spec("Q18")
def test_nothing_is_rounded_where_everything_fits():
    tree = {"kernel": normal(np.random.default_rng(0), (30, 30)).astype(np.float32)}
    assert budget.plan(tree, max_bytes=5_000) == []
    assert budget.plan({"bias": np.ones(3)}, bits_per_weight=1) == []
    zeros = {"kernel": np.zeros((30, 30), np.float32)}
    assert budget.plan(zeros, max_relative_error=0.1) == []


class Lazy:
    """A leaf that is read when asked for, as those of checkpoints are."""

    alive: list[weakref.ref] = []

    def __init__(self, values: np.ndarray) -> None:
        self._values, self.shape, self.dtype = values, values.shape, values.dtype

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        gc.collect()
        assert all(other() is None for other in self.alive)
        values = self._values.copy().view(Owned)
        self.alive.append(weakref.ref(values))
        return values


class Owned(np.ndarray):
    """An array that can be referred to weakly."""


@pytest.mark.spec("Q21")
def test_one_leaf_at_a_time():
    rng = np.random.default_rng(0)
    tree = {
        f"l{i}": {"kernel": rng.normal(size=(60, 70)), "bias": rng.normal(size=70)}
        for i in range(3)
    }
    tree = {k: {n: x.astype(np.float32) for n, x in v.items()} for k, v in tree.items()}
    lazy = {k: {n: Lazy(x) for n, x in v.items()} for k, v in tree.items()}
    asks: list[dict[str, Any]] = [{"bits_per_weight": 4}, {"max_relative_error": 0.1}]
    for asked in asks:
        found, expected = budget.plan(lazy, **asked), budget.plan(tree, **asked)
        assert [r.pattern for r in found] == [r.pattern for r in expected]
        assert found


@pytest.mark.parametrize("name", ["a['b']", 'a["', "a.b", "a\n", "(", "ä", "a|b"])
def test_rules_name_their_leaves_exactly(name: str):
    rng = np.random.default_rng(0)
    tree = {
        f"{name}": {"kernel": rng.normal(size=(40, 40)).astype(np.float32)},
        "axb": {"w": rng.normal(size=(40, 40)).astype(np.float32)},
    }
    rules = budget.plan(tree, bits_per_weight=20, skip="axb")
    found = dc.decompress(dc.compress(tree, rules))
    assert (found[name]["kernel"] != tree[name]["kernel"]).any()
    np.testing.assert_array_equal(found["axb"]["w"], tree["axb"]["w"])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "exactly one of max_bytes, bits_per_weight and max_relative_error"),
        ({"max_bytes": 9, "bits_per_weight": 4}, "exactly one of"),
        ({"bits_per_weight": -1.0}, "positive and finite"),
        ({"max_relative_error": math.nan}, "positive and finite"),
        ({"max_bytes": 20}, "no steps give a file of 20 bytes, the least is about"),
    ],
)
def test_plans_that_cannot_be(asked: dict[str, Any], message: str):
    tree = {"kernel": np.ones((20, 20), np.float32), "bias": np.arange(20.0)}
    with pytest.raises(ValueError, match=message):
        budget.plan(tree, **asked)


def test_weights_that_are_no_numbers():
    tree = {"kernel": np.full((20, 20), np.nan, np.float32)}
    with pytest.raises(ValueError, match="leaf 'kernel' holds NaN or infinity"):
        budget.plan(tree, bits_per_weight=4)
    tree = {"kernel": jnp.full((200, 200), -jnp.inf, jnp.bfloat16), "b": jnp.ones(3)}
    with pytest.raises(ValueError, match="leaf 'kernel' holds NaN or infinity"):
        budget.plan(tree, bits_per_weight=4)
    assert budget.plan(tree, bits_per_weight=16.5, skip="kernel") == []


@given(
    kind=st.sampled_from(KINDS),
    dtype=st.sampled_from([*DTYPES, np.float64]),
    size=st.sampled_from([0, 1, 50, 5_000, 20_000]),
    scale=st.sampled_from([1e-2, 1.0, 1e2]),
    relative=st.floats(0.02, 3.0),
    seed=st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_histograms_know_labels_and_errors(
    kind: Any, dtype: Any, size: int, scale: float, relative: float, seed: int
):
    values = (scale * kind(np.random.default_rng(seed), (size,))).astype(dtype)
    found, wide = histogram(values), values.astype(np.float64)
    kept = wide[wide != 0]
    assert (found.size, found.zeros) == (size, size - kept.size)
    power = float(np.square(kept).mean()) if kept.size else 0.0
    assert found.power() == pytest.approx(power, rel=1e-3)
    usual = float(np.abs(kept).mean()) if kept.size else 0.0
    assert found.magnitude() == pytest.approx(usual, rel=1e-3)
    if not kept.size:
        return
    step = relative * math.sqrt(power)
    rounded = np.rint(wide / step)
    factors, counts = found.labels(step)
    assert (np.diff(factors) > 0).all()
    assert counts.sum() == size
    assert (counts > 0).all()
    # A bin of a thousandth may be on the wrong side of a border, with its neighbors.
    expected = np.array([np.count_nonzero(rounded == factor) for factor in factors])
    assert np.abs(counts - expected).sum() <= 0.01 * size + 4 or kind is constant
    error = float(np.square(kept - step * np.rint(kept / step)).mean())
    # Where all values are in one bin, its middle may be as wrong as it is wide.
    width = step * math.sqrt(power) * 2**-11 if kind is constant else 1e-6 * power
    assert found.distortion(step) == pytest.approx(error, rel=0.02, abs=width)


def test_values_of_two_bytes_are_counted_exactly():
    rng = np.random.default_rng(0)
    for dtype in DTYPES[1:]:
        values = rng.normal(size=30_000).astype(dtype)
        found = histogram(values)
        expected, counts = np.unique(values.astype(np.float32), return_counts=True)
        np.testing.assert_array_equal(found.values, expected[expected != 0])
        np.testing.assert_array_equal(found.counts, counts[expected != 0])


def test_bits_from_counts_are_those_of_the_smallest_body():
    rng = np.random.default_rng(0)
    for step in (0.02, 0.1, 0.5, 2.0):
        factors, at = np.unique(
            np.rint(rng.normal(size=90_000) / step), return_inverse=True
        )
        entries = factors[factors != 0]
        leaf = codings.Leaf((300, 300), entries.size, int((entries < 0).sum()))
        labels = np.where(factors == 0, 0, np.searchsorted(entries, factors) + 1)[at]
        counts = np.bincount(labels, minlength=entries.size + 1)
        _, body = codings.encode(labels.astype(leaf.dtype), leaf)
        assert codings.estimate(counts, leaf) / 8 == pytest.approx(len(body), rel=0.005)
