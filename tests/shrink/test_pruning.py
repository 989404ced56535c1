"""Whole units are pruned at a given loss, and `exact` cuts them."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import shrink
from tests.shrink import networks
from tests.shrink.networks import normal

EXAMPLE = jax.ShapeDtypeStruct((3, 4), jnp.float32)
IMAGES = jax.ShapeDtypeStruct((2, 4, 4, 2), jnp.float32)


def net(params: Any, x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ params["w"]) @ params["v"]


def of_squares(made: list[float], read: list[float]) -> dict[str, np.ndarray]:
    """Weights of four units with these sums of squares."""
    zeros = np.zeros((4, 4), np.float32)
    w, v = zeros.copy(), zeros.copy()
    w[1], v[:, 2] = np.sqrt(made), np.sqrt(read)
    return {"w": w, "v": v}


def test_the_groups_of_a_network_with_batchnorm():
    params = normal(0, networks.CONVOLUTIONAL)
    first, second = shrink.groups(networks.convolutional, params, IMAGES)
    assert (first.name, first.size) == ("c0:3", 5)
    parts = {(part.leaf, part.axis): part for part in first.parts}
    norm = {(f"n0_{leaf}", 0) for leaf in ("mean", "var", "scale", "bias")}
    assert parts.keys() == {("c0", 3), ("c1", 2)} | norm
    assert [name for (name, _), part in parts.items() if part.carried] == ["n0_var"]
    flat = {part.leaf: part.units for part in second.parts}["w"]
    assert flat.tolist() == [0, 1, 2, 3] * 4


def test_the_parts_of_heads():
    found = shrink.groups(
        networks.transformer,
        normal(0, networks.TRANSFORMER),
        jax.ShapeDtypeStruct((2, 5, 6), jnp.float32),
    )
    sizes = {group.name: group.size for group in found}
    assert sizes == {"q:1": 4, "q:2": 3, "v:2": 3, "w1:1": 7}


@pytest.mark.parametrize(
    ("loss", "gone"),
    [(0.0, []), (0.09, []), (0.11, [2]), (0.29, [2]), (0.31, [0, 2]), (1, [0, 1, 2])],
)
def test_the_least_important_units_go(loss: float, gone: list[int]):
    # Of 2, 3, 1 and 4 tenths of the importance.
    params = of_squares([1, 1, 1, 3], [1, 2, 0, 1])
    pruned = shrink.prune_units(params, shrink.groups(net, params, EXAMPLE), loss=loss)
    for unit in range(4):
        is_gone = unit in gone
        assert (pruned["w"][:, unit] == 0).all() == is_gone
        expected = params["v"][unit] * (not is_gone)
        np.testing.assert_array_equal(pruned["v"][unit], expected)


def test_importance_of_ones_own():
    params = of_squares([1, 1, 1, 3], [1, 2, 0, 1])
    groups = shrink.groups(net, params, EXAMPLE)
    worth = {"w": np.zeros((4, 4)), "v": np.zeros((4, 4))}
    worth["w"][0] = [1, 2, 3, 0.1]
    for importance in (worth, lambda params: worth):
        pruned = shrink.prune_units(params, groups, loss=0.02, importance=importance)
        assert (pruned["w"] == 0).all(axis=0).tolist() == [False, False, False, True]


def test_what_is_pruned_is_cut():
    params = normal(3, networks.CONVOLUTIONAL)
    groups = shrink.groups(networks.convolutional, params, IMAGES)
    pruned = shrink.prune_units(params, groups, loss=0.3)
    np.testing.assert_array_equal(pruned["n0_var"], params["n0_var"])
    smaller = shrink.exact(networks.convolutional, pruned, IMAGES)
    gone = [
        int((np.asarray(pruned[name]) == 0).all(axis=(0, 1, 2)).sum())
        for name in ("c0", "c1")
    ]
    assert min(gone) > 0
    assert smaller.widths == {"c0:3": (5, 5 - gone[0]), "c1:3": (4, 4 - gone[1])}


def test_one_group_alone():
    params = normal(3, networks.CONVOLUTIONAL)
    first, _ = shrink.groups(networks.convolutional, params, IMAGES)
    pruned = shrink.prune_units(params, [first], loss=0.5)
    assert (pruned["c0"] == 0).any()
    assert (pruned["w"] == params["w"]).all()


@pytest.mark.parametrize("loss", [np.float32(0.5), np.array(0.5), jnp.float32(0.5)])
def test_any_number_is_a_loss(loss: Any):
    params = of_squares([1, 1, 1, 3], [1, 2, 0, 1])
    groups = shrink.groups(net, params, EXAMPLE)
    pruned = shrink.prune_units(params, iter(groups), loss=loss)
    expected = shrink.prune_units(params, groups, loss=0.5)
    np.testing.assert_array_equal(pruned["w"], expected["w"])


def test_groups_are_printed_in_a_line():
    params = normal(3, networks.CONVOLUTIONAL)
    first, _ = shrink.groups(networks.convolutional, params, IMAGES)
    assert repr(first) == "Group('c0:3', 5 units on 6 axes)"
    assert repr(first.parts[0]) == "Part('c0', axis 3)"
    carried = [part for part in first.parts if part.carried]
    assert repr(carried) == "[Part('n0_var', axis 0, carried)]"


def test_wrong_calls_are_answered():
    params = of_squares([1, 1, 1, 3], [1, 2, 0, 1])
    groups = shrink.groups(net, params, EXAMPLE)
    with pytest.raises(ValueError, match="loss is 2; it must be at least 0"):
        shrink.prune_units(params, groups, loss=2)
    for loss in (-0.1, np.nan, "0.2", None, True, [0.1], 0.1j, np.ones(2)):
        with pytest.raises(ValueError, match="at least 0 and at most 1, and a number"):
            shrink.prune_units(params, groups, loss=loss)
    with pytest.raises(ValueError, match="no groups: pass some of those of"):
        shrink.prune_units(params, [], loss=0.1)
    with pytest.raises(ValueError, match=r"single group: pass a list of it, `\[group"):
        shrink.prune_units(params, groups[0], loss=0.1)
    others = [("w:1",), params, [*groups, *groups[0].parts], 3, [groups]]
    for given in others:
        with pytest.raises(ValueError, match="groups holds something of type"):
            shrink.prune_units(params, given, loss=0.1)
    with pytest.raises(
        ValueError, match=r"leaf 'w' has the shape \(\), its importance"
    ):
        shrink.prune_units({"v": params["v"]}, groups, loss=0.1)
    with pytest.raises(ValueError, match=r"its importance \(4,\), and group 'w:1' 4"):
        importance = {"w": np.ones(4), "v": params["v"]}
        shrink.prune_units(params, groups, loss=0.1, importance=importance)
