"""Names of leaves, and the containers of a pytree."""

import enum
from collections import OrderedDict, namedtuple

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deepcomp_jax import trees

Pair = namedtuple("Pair", "left right")


def test_names_are_paths_in_the_order_of_the_leaves():
    tree = {"b": [1, (2, None)], "a": {"x": 3}, "c": Pair(4, 5)}

    assert trees.named_leaves(tree) == {
        "a/x": 3,
        "b/0": 1,
        "b/1/0": 2,
        "c/left": 4,
        "c/right": 5,
    }


def test_linen_and_nnx_give_the_same_names():
    model = nnx.Linear(2, 3, rngs=nnx.Rngs(0))
    state = nnx.state(model, nnx.Param)
    names = ["bias", "kernel"]

    assert list(trees.named_leaves(state)) == names
    assert list(trees.named_leaves(nnx.to_pure_dict(state))) == names


@flax.struct.dataclass
class Scaled:
    value: int
    scale: object = None


def test_names_are_those_of_the_file():
    """`value` is left out where nothing stands beside it, in names and in files."""
    for tree, names, expected in [
        ({"a": Scaled(1, 2)}, ["a/value", "a/scale"], {"a": {"scale": 0, "value": 1}}),
        ({"a": Scaled(1)}, ["a/value"], {"a": {"value": 0, "scale": None}}),
        ({"a": nnx.Param({"x": 3})}, ["a/x"], {"a": {"x": 0}}),
    ]:
        assert list(trees.named_leaves(tree)) == names
        assert trees.names(jax.tree.structure(tree)) == names
        assert trees.structure(tree)[0] == expected


def test_two_leaves_with_one_name_are_rejected():
    with pytest.raises(ValueError, match="two leaves are named 'a/b'"):
        trees.named_leaves({"a/b": 1, "a": {"b": 2}})


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({"b": 7, "a": 8}, {"a": 0, "b": 1}),
        ([1, (2, None), {}], [0, (1, None), {}]),
        ({"layers": {10: 1, 2: 2}}, {"layers": {2: 0, 10: 1}}),
        (OrderedDict(z=1, a=2), {"a": 0, "z": 1}),
        (Pair(1, [2]), {"left": 0, "right": [1]}),
        (flax.core.freeze({"a": {"b": 1}}), {"a": {"b": 0}}),
        (None, None),
        (5, 0),
    ],
)
def test_structure(tree: object, expected: object):
    assert trees.structure(tree)[0] == expected


def test_structure_of_nnx_state_leaves_the_variables_out():
    state = nnx.state(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    found, leaves = trees.structure(state)

    assert found == {"bias": 0, "kernel": 1}
    assert [np.shape(leaf) for leaf in leaves] == [(3,), (2, 3)]


@pytest.mark.parametrize("key", [-1, 1.5, (1, 2), None, enum.Enum("Kind", "A").A])
def test_keys_that_no_file_can_hold_are_rejected(key: object):
    with pytest.raises(ValueError, match="neither a string nor a non-negative"):
        trees.structure({key: 1})
    with pytest.raises(ValueError, match="neither a string nor a non-negative"):
        trees.named_leaves([{key: 1, "other": 2, 7: 3}])


def test_rebuild_replaces_leaves_by_name():
    tree = {"a": Pair(jnp.zeros(2), 1), "b": 2}

    assert trees.rebuild(tree, {"b": "B", "a/left": "L", "a/right": "R"}) == {
        "a": Pair("L", "R"),
        "b": "B",
    }
