"""Scales of rows and columns that follow from the weights alone (S29 to S31)."""

from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import Rule, budget, rate, share
from deepcomp_jax._types import Scales, SharedLeaf
from tests.support import laws

DTYPES = [np.float32, np.float16, ml_dtypes.bfloat16]


def uneven(shape: tuple[int, ...], axes: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Weights whose size differs along some axes, float32."""
    rng = np.random.default_rng(seed)
    found = rng.normal(size=shape)
    for axis in axes:
        sizes = np.exp2(rng.normal(size=shape[axis]) / 3)
        found *= np.expand_dims(sizes, tuple(i for i in range(len(shape)) if i != axis))
    return found.astype(np.float32)


def scales_of(leaf: Any, step: float = 0.5) -> Scales | None:
    rules = [Rule("w", share=share.scaled(rate.multiples(step), np.shape(leaf)))]
    found = dc.compress({"w": leaf}, rules).leaves[0]
    assert isinstance(found, SharedLeaf)
    return found.scales


def expected(magnitudes: np.ndarray, axis: int) -> np.ndarray:
    """Exponents as S29 has them, where no weight is zero or far from the others."""
    assert magnitudes.max() < 16 * magnitudes.mean()
    others = tuple(i for i in range(magnitudes.ndim) if i != axis)
    sizes = magnitudes.mean(others, dtype=np.float64) / magnitudes.mean(dtype=float)
    return np.clip(2 * np.rint(2 * np.log2(sizes)), -16, 16)


@pytest.mark.spec("S29")
@pytest.mark.parametrize(
    ("shape", "uneven_axes", "split", "first", "last"),
    [
        ((96, 200), (0, 1), 1, 0, 1),
        ((96, 200), (1,), 1, None, 1),
        ((3, 3, 64, 80), (2, 3), 3, None, 3),  # a convolution of JAX
        ((96, 64, 3), (0, 1), 1, 0, None),  # and one of PyTorch
        ((3, 3, 1, 100), (3,), 0, None, None),  # depthwise: 9 values for each exponent
        ((80, 32), (0, 1), 1, None, 1),  # 32 for each of the rows
    ],
)
def test_scales_are_half_way(
    shape: tuple[int, ...],
    uneven_axes: tuple[int, ...],
    split: int,
    first: int | None,
    last: int | None,
):
    leaf = uneven(shape, uneven_axes)
    found = scales_of(leaf)
    if first is None and last is None:
        assert found is None
        return
    assert found is not None
    assert (found.batch, found.split) == (0, split)
    for own, axis in ((found.first, first), (found.last, last)):
        if axis is None:
            assert not own.any()
        else:
            np.testing.assert_array_equal(own[0], expected(np.abs(leaf), axis))


@pytest.mark.spec("S30")
@pytest.mark.parametrize(
    "leaf",
    [
        np.random.default_rng(0).normal(size=(300, 200)).astype("f4"),  # all alike
        uneven((300,), (0,)),
        uneven((300, 200), (0,)).astype(np.float64),
        np.rint(uneven((300, 200), (0,))),  # whole numbers
        0.25 * np.rint(4 * uneven((300, 200), (0, 1))),
        uneven((300, 200), (0,)) * np.float32(1e-34),
        uneven((300, 200), (0,)) * np.float32(1e37),
        (uneven((300, 200), (0,)) / 2**13).astype(np.float16),
        np.zeros((300, 200), np.float32),
    ],
    ids=["alike", "1-d", "f8", "whole", "grid", "tiny", "huge", "half", "zero"],
)
def test_leaves_without_scales(leaf: np.ndarray):
    step = float(np.abs(leaf.astype(float)).mean()) or 1.0
    with jax.enable_x64(leaf.dtype == np.float64):
        assert scales_of(leaf, step) is None


@pytest.mark.spec("S30")
def test_an_outlier_has_no_row_or_column_of_its_own():
    leaf = np.random.default_rng(1).normal(size=(256, 256)).astype("f4")
    leaf[5, 7] = 1e5
    assert scales_of(leaf) is None


@pytest.mark.spec("S29", "S31")
@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.sampled_from([(70, 90), (64, 5, 70), (128, 1, 80)]),
    octaves=st.integers(-6, 6),
    kept=st.sampled_from([0.3, 1.0]),
    relative=st.floats(0.05, 3.0),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_values_are_near_and_lookup_gives_those_of_the_file(
    dtype: Any,
    shape: tuple[int, ...],
    octaves: int,
    kept: float,
    relative: float,
    seed: int,
):
    leaf = uneven(shape, (0, len(shape) - 1), seed) * np.float32(2.0**octaves)
    leaf *= np.random.default_rng(seed).random(shape) < kept
    leaf = leaf.astype(dtype)
    step = relative * float(np.abs(leaf.astype(float)).mean())
    rules = [Rule("w", share=share.scaled(rate.multiples(step), np.shape(leaf)))]
    shared = share.share({"w": jnp.asarray(leaf)}, rules)
    packed = dc.pack(shared)
    laws.assert_identical(packed, dc.compress({"w": leaf}, rules))
    value = dc.loads(dc.dumps(packed))["w"]
    assert np.asarray(share.lookup(shared)["w"]).tobytes() == value.tobytes()
    assert not value[leaf == 0].any()
    assert isinstance(found := packed.leaves[0], SharedLeaf) and found.scales
    size = np.exp2((found.scales.first.T + found.scales.last.astype(float)) / 8)
    off = np.abs(value.astype(float) - leaf.astype(float)).reshape(size.shape) / size
    rounding = np.abs(leaf.astype(float)).reshape(size.shape) / size
    # The step is rounded to a thousandth or so, and raised if it has 1000 multiples.
    own = max(step, 2 * float(rounding.max()) / 1000) * 1.26 / 2
    assert (off <= own + 4 * float(ml_dtypes.finfo(dtype).eps) * rounding).all()


def test_small_rows_keep_something():
    """With one step for all they would be erased."""
    leaf = uneven((256, 256), (0,))
    sizes = np.sqrt(np.square(leaf).mean(1))
    params = {"kernel": leaf, "norm": {"scale": np.ones(256, "f4")}}
    found = budget.within_bytes(params, 256 * 256 // 4)
    again = dc.decompress(found.compressed)["kernel"]
    errors = np.sqrt(np.square(again - leaf).mean(1)) / sizes
    # An error that grows with the root of the size falls as that, relative to it.
    slope = np.polyfit(np.log2(sizes), np.log2(errors), 1)[0]
    assert slope == pytest.approx(-0.5, abs=0.15)


def test_a_table_has_none_and_importance_takes_their_place():
    leaf = uneven((200, 100), (0, 1))
    found = budget.within_bytes({"embedding": leaf}, 5000).compressed
    assert isinstance(own := found.leaves[0], SharedLeaf) and own.scales is None
    params = {"kernel": leaf}
    importance = {"kernel": np.ones_like(leaf)}
    found = budget.within_bytes(params, 5000, importance=importance).compressed
    assert isinstance(own := found.leaves[0], SharedLeaf) and own.scales is None
    rules = budget.plan(params, max_relative_error=0.1)
    found = dc.compress(params, rules)
    assert isinstance(own := found.leaves[0], SharedLeaf) and own.scales is None


@pytest.mark.spec("S31")
def test_one_codebook_for_several_leaves_with_scales():
    tree = {"a": uneven((80, 90), (0,)), "b": uneven((70, 100), (1,), 1)}
    method = share.scaled(rate.multiples(0.5), [80, 100])
    found = dc.compress(tree, [Rule(".", share=method, group="all")])
    assert len(found.codebooks) == 1
    assert all(isinstance(x, SharedLeaf) and x.scales for x in found.leaves)


def test_labels_of_scaled_leaves_are_not_chosen_anew():
    params = {"kernel": uneven((100, 100), (0, 1))}
    rules = [Rule("kernel", share=share.scaled(rate.multiples(0.5), [100]))]
    shared = share.share(params, rules)
    with pytest.raises(ValueError, match=r"nearest labels \(kernel\)"):
        rate.rdoq(shared, params, rd_lambda=0.1)


@pytest.mark.spec("S29")
def test_scales_end_two_octaves_from_one():
    leaf = uneven((100, 200), ())
    leaf[::2] *= 2.0**12
    found = scales_of(leaf, 100.0)
    assert found is not None
    assert set(found.first[0].tolist()) == {4, -16}


@pytest.mark.spec("Q20")
def test_matrices_have_scales_along_axes_of_normalizations_alone():
    """A size means nothing there, and elsewhere that a row matters."""
    kernel = uneven((96, 128), (0, 1))
    norm = {"scale": np.ones((1, 96), "f4"), "count": np.array(96)}
    for tree in (
        {"kernel": kernel},
        {"kernel": kernel, "LayerNorm_0": {"scale": np.ones(64, "f4")}},
        {"kernel": kernel, "normal_head": {"b": np.ones(96, "f4")}},
        {"kernel": kernel, "ln_1": norm},
    ):
        found = dc.compress(tree, budget.plan(tree, bits_per_weight=5))
        again = budget.within_bytes(tree, 9000).compressed
        for own in (found, again):
            leaf = own.leaves[list(dc.trees.named_leaves(tree)).index("kernel")]
            assert isinstance(leaf, SharedLeaf)
            if "ln_1" not in tree:
                assert leaf.scales is None
            else:
                assert leaf.scales is not None
                assert leaf.scales.first.any() and not leaf.scales.last.any()


def test_importance_is_that_of_errors_of_the_weights():
    """What is left is multiplied by its scales again, and so is its error."""
    leaf = uneven((128, 96), (0, 1))
    seen: list[tuple[np.ndarray, np.ndarray | None]] = []

    def method(values: np.ndarray, importance: np.ndarray | None) -> np.ndarray:
        seen.append((values, importance))
        return rate.multiples(0.5)(values, importance)

    importance = np.random.default_rng(1).uniform(1, 2, leaf.shape).astype(np.float32)
    rules = [Rule("w", share=share.scaled(method, leaf.shape))]
    shared = share.share({"w": leaf}, rules, importance={"w": importance})
    assert "w" in shared.scales
    values, counts = seen[-1]
    assert counts is not None
    factor = leaf.ravel() / values
    assert factor.max() > 2 * factor.min()
    np.testing.assert_allclose(counts, importance.ravel() * factor**2, rtol=1e-5)
