"""Modules of Linen, NNX and Equinox."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from deepcomp_jax import shrink, trees

X = jax.ShapeDtypeStruct


class Block(nn.Module):
    """A transformer block of Linen."""

    heads: int = 4
    width: int = 12
    hidden: int = 7

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        h = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(
            self.heads, qkv_features=self.width, out_features=6
        )(h)
        h = nn.gelu(nn.Dense(self.hidden, name="up")(nn.LayerNorm()(x)))
        return x + nn.Dense(6, name="down")(h)


def writable(variables: Any) -> Any:
    return jax.tree.map(np.array, variables)


@pytest.fixture(autouse=True)
def broadcasting():
    """Flax and Equinox add biases by broadcasting."""
    with jax.numpy_rank_promotion("allow"):
        yield


def test_a_block_of_linen_is_built_with_its_widths():
    example = jax.random.normal(jax.random.key(1), (2, 5, 6))
    variables = writable(Block().init(jax.random.key(0), example))
    attention = variables["params"]["MultiHeadDotProductAttention_0"]
    attention["out"]["kernel"][2] = 0
    variables["params"]["down"]["kernel"][[1, 5]] = 0
    smaller = shrink.exact(Block().apply, variables, example)
    name = "params/MultiHeadDotProductAttention_0/query/kernel:1"
    assert smaller.widths[name] == (4, 3)
    assert smaller.widths["params/up/kernel:1"] == (7, 5)
    assert "build it with those of `widths`" in smaller.notes[-1].text
    narrow = Block(heads=3, width=9, hidden=5)
    np.testing.assert_allclose(
        narrow.apply(smaller.params, example),
        Block().apply(variables, example),
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_module_that_is_rebuilt_is_run():
    example = jax.random.normal(jax.random.key(1), (2, 5, 6))
    variables = writable(Block().init(jax.random.key(0), example))
    attention = variables["params"]["MultiHeadDotProductAttention_0"]
    attention["query"]["kernel"][..., 1] = attention["query"]["bias"][..., 1] = 0
    attention["out"]["kernel"][1] = 0

    def rebuild(params: Any) -> Any:
        params = params["params"]
        _, heads, width = params["MultiHeadDotProductAttention_0"]["query"][
            "kernel"
        ].shape
        return Block(heads, heads * width, params["up"]["bias"].size).apply

    smaller = shrink.exact(Block().apply, variables, example, rebuild=rebuild)
    name = "params/MultiHeadDotProductAttention_0/query/kernel"
    # The module divides by the square root of the width of heads, which it sees.
    assert smaller.widths[f"{name}:2"] == (3, 3)
    assert smaller.widths[f"{name}:1"] == (4, 3)
    assert [note.group for note in smaller.notes] == [f"{name}:2"]
    rebuilt = rebuild(smaller.params)(smaller.params, example)
    wanted = Block().apply(variables, example)
    np.testing.assert_allclose(rebuilt, wanted, rtol=1e-3, atol=1e-5)


class Net(nnx.Module):
    """Convolution, BatchNorm, dense: takes its widths from its parameters."""

    def __init__(self, rngs: nnx.Rngs):
        self.conv = nnx.Conv(2, 6, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.relu(self.norm(self.conv(x)))
        return self.head(jnp.mean(x, (1, 2)))


def test_nnx_by_merging():
    definition, state = nnx.split(Net(nnx.Rngs(0)))

    def fn(state: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(definition, state)(x)

    leaves = {name: np.array(x) for name, x in trees.named_leaves(state).items()}
    leaves["head/kernel"][[1, 4]] = 0
    leaves["norm/scale"][2], leaves["norm/bias"][2] = 0, 0.5
    state = trees.rebuild(state, leaves)
    example = jax.random.normal(jax.random.key(1), (3, 4, 4, 2))
    smaller = shrink.exact(fn, state, example)
    assert smaller.widths == {"conv/kernel:3": (6, 3)} and smaller.notes == ()
    np.testing.assert_allclose(
        fn(smaller.params, example), fn(state, example), rtol=1e-3, atol=1e-5
    )
    restored = smaller.restore(smaller.params)
    np.testing.assert_allclose(
        fn(restored, example), fn(state, example), rtol=1e-3, atol=1e-5
    )


class Attending(nnx.Module):
    """Attention, whose module holds the number of heads and their width."""

    def __init__(self, heads: int, width: int, rngs: nnx.Rngs):
        self.inner = nnx.MultiHeadAttention(
            heads, 6, qkv_features=heads * width, out_features=6, decode=False,
            rngs=rngs,
        )  # fmt: skip
        self.head = nnx.Linear(6, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.head(jnp.mean(self.inner(x), 1))


def merged(heads: int, width: int) -> Any:
    """The function of a state, and the state."""
    definition, state = nnx.split(Attending(heads, width, nnx.Rngs(0)))
    return lambda state, x: nnx.merge(definition, state)(x), state


def test_nnx_is_rebuilt_of_its_widths():
    fn, state = merged(4, 3)
    leaves = {name: np.array(x) for name, x in trees.named_leaves(state).items()}
    leaves["inner/out/kernel"][2] = 0  # a head is not read
    leaves["inner/out/kernel"][:, 1] = 0  # nor a unit of each, as values have them
    state = trees.rebuild(state, leaves)
    example = jax.random.normal(jax.random.key(1), (2, 5, 6))

    def rebuild(state: Any) -> Any:
        _, heads, width = trees.named_leaves(state)["inner/query/kernel"].shape
        return merged(heads, width)[0]

    smaller = shrink.exact(fn, state, example, rebuild=rebuild)
    assert smaller.widths["inner/query/kernel:1"] == (4, 3)
    # The module has one width for values and queries.
    assert smaller.widths["inner/value/kernel:2"] == (3, 3)
    assert [note.group for note in smaller.notes] == ["inner/value/kernel:2"]
    np.testing.assert_allclose(
        rebuild(smaller.params)(smaller.params, example), fn(state, example),
        rtol=1e-3, atol=1e-5,
    )  # fmt: skip
    # Without a way to build it, all goes that can, and the error is in the note.
    alone = shrink.exact(fn, state, example)
    assert alone.widths["inner/value/kernel:2"] == (3, 2)
    with pytest.raises((TypeError, ValueError)) as raised:
        fn(alone.params, example)
    line = str(raised.value).strip().partition("\n")[0]
    assert line[:100] in alone.notes[-1].text


def test_equinox_by_combining():
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(4, 3, 8, 2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_array)

    def fn(params: Any, x: jax.Array) -> jax.Array:
        return jax.vmap(eqx.combine(params, static))(x)

    leaves = {name: np.array(x) for name, x in trees.named_leaves(params).items()}
    leaves["layers/1/weight"][:, 3] = 0  # [out, in]
    leaves["layers/0/weight"][5] = 0
    leaves["layers/2/weight"][:, [0, 1, 2]] = 0
    params = trees.rebuild(params, leaves)
    example = jax.random.normal(jax.random.key(1), (5, 4))
    smaller = shrink.exact(fn, params, example)
    sizes = {"layers/0/weight:0": (8, 6), "layers/1/weight:0": (8, 5)}
    assert smaller.widths == sizes and smaller.notes == ()
    np.testing.assert_allclose(
        fn(smaller.params, example), fn(params, example), rtol=1e-3, atol=1e-5
    )
