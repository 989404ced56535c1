"""Random networks with random dead units: brute force finds the same ones.

A unit is dead if nothing changes when it is fixed to a value that it has. Brute force
fixes each in turn.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcomp_jax import shrink
from tests.shrink import networks
from tests.shrink.networks import Fix, Params, normal

KINDS = ("unread", "zero", "constant", "live", "live")


def dead(
    fn: Callable[..., jax.Array], params: Params, x: jax.Array, name: str, axis: int
) -> list[bool]:
    """Whether each unit of an activation can be fixed without changing a result."""
    sizes: list[int] = []

    def note(found: str, h: jax.Array) -> jax.Array:
        if found == name:
            sizes.append(h.shape[axis])
        return h

    wanted = fn(params, x, note)
    answers = _fixed(fn, name, axis)(params, x, jnp.arange(sizes[0]))
    return [np.allclose(answer, wanted, rtol=1e-4, atol=1e-5) for answer in answers]


@functools.cache
def _fixed(fn: Callable[..., jax.Array], name: str, axis: int) -> Callable[..., Any]:
    """Answers of a network with each of many units fixed, compiled once."""

    def fixed(params: Params, x: jax.Array, unit: jax.Array) -> jax.Array:
        def fix(found: str, h: jax.Array) -> jax.Array:
            if found != name:
                return h
            rows = jnp.moveaxis(h, axis, 0)
            value = rows[unit].ravel()[0]
            return jnp.moveaxis(rows.at[unit].set(value), 0, axis)

        return fn(params, x, fix)

    return jax.jit(jax.vmap(fixed, (None, None, 0)))


def kill(
    params: Params,
    random: np.random.Generator,
    makers: Mapping[str, int],
    biases: Mapping[str, int],
    readers: Mapping[str, int],
) -> None:
    """Gives each unit of a group a fate: not read, zero, constant, or none."""
    name, axis = next(iter(makers.items()))
    for unit in range(params[name].shape[axis]):
        fate = random.choice(KINDS)
        gone = {
            "unread": readers, "zero": {**makers, **biases}, "constant": makers,
            "live": {},
        }[fate]  # fmt: skip
        for leaf, along in gone.items():
            np.moveaxis(params[leaf], along, 0)[unit] = 0


def left(count: int, gone: list[bool]) -> tuple[int, int]:
    """The sizes before and after, of which one unit stays."""
    return count, max(1, count - sum(gone))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=6)
def test_dense_layers(seed: int):
    random = np.random.default_rng(seed)
    params = normal(seed, networks.MLP)
    for name in ("w1", "w2"):  # so that deaths spread
        params[name] *= random.random(params[name].shape) < 0.4
    for i in range(3):
        kill(params, random, {f"w{i}": 1}, {f"b{i}": 0}, {f"w{i + 1}": 0})
    example = jax.ShapeDtypeStruct((3, 4), jnp.float32)
    smaller = shrink.exact(networks.mlp, params, example)
    x = jax.random.normal(jax.random.key(1), (20, 4))
    for i, size in enumerate((6, 6, 5)):
        gone = dead(networks.mlp, params, x, f"h{i}", 1)
        assert smaller.widths[f"w{i}:1"] == left(size, gone)
    np.testing.assert_allclose(
        networks.mlp(smaller.params, x), networks.mlp(params, x), rtol=1e-3, atol=1e-4
    )


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3)
def test_convolutions(seed: int):
    random = np.random.default_rng(seed)
    params = normal(seed, networks.CONVOLUTIONAL)
    kill(params, random, {"n0_scale": 0}, {"n0_bias": 0}, {"c1": 2})
    kill(params, random, {"c1": 3}, {"d1": 0}, {})
    params["w"].reshape(4, 4, 3)[:, random.random(4) < 0.5] = 0
    example = jax.ShapeDtypeStruct((2, 4, 4, 2), jnp.float32)
    smaller = shrink.exact(networks.convolutional, params, example)
    x = jax.random.normal(jax.random.key(1), (9, 4, 4, 2)) * 9
    for name, group, size in (("c0", "c0:3", 5), ("c1", "c1:3", 4)):
        gone = dead(networks.convolutional, params, x, name, 3)
        assert smaller.widths[group] == left(size, gone)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3)
def test_residual_networks(seed: int):
    random = np.random.default_rng(seed)
    params = normal(seed, networks.RESIDUAL)
    norms = {f"{name}_scale": 0 for name in ("n0", "am", "bm")}
    biases = {f"{name}_bias": 0 for name in ("n0", "am", "bm")}
    kill(params, random, {**norms, **biases}, {}, {"a0": 2, "b0": 2, "w": 0})
    for block in "ab":
        makers, readers = {f"{block}n_scale": 0}, {f"{block}1": 2}
        kill(params, random, makers, {f"{block}n_bias": 0}, readers)
    example = jax.ShapeDtypeStruct((2, 4, 4, 2), jnp.float32)
    smaller = shrink.exact(networks.residual, params, example)
    x = jax.random.normal(jax.random.key(1), (9, 4, 4, 2)) * 9
    for name, group, size in (("a", "a0:3", 5), ("b", "b0:3", 4)):
        gone = dead(networks.residual, params, x, name, 3)
        assert smaller.widths[group] == left(size, gone)
    stream = dead(networks.residual, params, x, "x", 3)
    readers = [params[name] for name in ("a0", "b0", "w")]
    unread = [not any(leaf[..., i, :].any() for leaf in readers) for i in range(6)]
    zero = [not any(params[name][i] for name in norms) for i in range(6)]
    # Brute force fixes what the blocks add up to, not what each of them reads.
    found = [a or b for a, b in zip(unread, zero, strict=True)]
    assert all(not a or b for a, b in zip(found, stream, strict=True))
    assert smaller.widths["c0:3"] == left(6, found)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=3)
def test_transformers(seed: int):
    random = np.random.default_rng(seed)
    params = normal(seed, networks.TRANSFORMER)
    kill(params, random, {"v": 1, "vb": 0}, {}, {"o": 0})
    kill(params, random, {"v": 2, "vb": 1}, {}, {"o": 1})
    kill(params, random, {"q": 2}, {}, {"k": 2})
    kill(params, random, {"w1": 1}, {"b1": 0}, {"w2": 0})
    example = jax.ShapeDtypeStruct((2, 5, 6), jnp.float32)
    smaller = shrink.exact(networks.transformer, params, example)
    x = jax.random.normal(jax.random.key(1), (4, 5, 6))
    heads = dead(networks.transformer, params, x, "heads", 2)
    for name, group, axis, size in (
        ("heads", "q:1", 2, 4), ("v", "v:2", 3, 3), ("mlp", "w1:1", 2, 7),
    ):  # fmt: skip
        gone = dead(networks.transformer, params, x, name, axis)
        if name == "v" and all(heads):
            # A unit is fixed to one value in all heads, also in those that would be
            # dead with zeros alone: brute force does not see that nobody reads it.
            gone = [True] * size
        assert smaller.widths[group] == left(size, gone)
    # One unit of the width of queries and keys is dead if any of both is.
    if smaller.widths["q:1"][1] > 1:
        gone = [
            a or b
            for a, b in zip(
                dead(networks.transformer, params, x, "q", 3),
                dead(networks.transformer, params, x, "k", 3),
                strict=True,
            )
        ]
        assert smaller.widths["q:2"] == left(3, gone)


def whole(params: Params, x: jax.Array, fix: Fix = networks.free) -> jax.Array:
    """As `mlp`, of whole numbers: sums are exact in whichever order."""
    for i in range(3):
        x = x @ params[f"w{i}"]
        x = fix(f"h{i}", jnp.abs(x + networks.along(params[f"b{i}"], x)))
    x = x @ params["w3"]
    return x + networks.along(params["b3"], x)


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=6)
def test_whole_numbers_answer_exactly_alike(seed: int):
    random = np.random.default_rng(seed)
    params = {
        name: random.integers(-3, 4, shape).astype(np.float32)
        * (random.random(shape) < 0.5)
        for name, shape in networks.MLP.items()
    }
    params = {name: leaf.astype(np.float32) for name, leaf in params.items()}
    for i in range(3):
        kill(params, random, {f"w{i}": 1}, {f"b{i}": 0}, {f"w{i + 1}": 0})
    smaller = shrink.exact(whole, params, jax.ShapeDtypeStruct((3, 4), jnp.float32))
    x = jnp.asarray(random.integers(-5, 6, (20, 4)), jnp.float32)
    restored = smaller.restore(smaller.params)
    for own in (smaller.params, restored):
        np.testing.assert_array_equal(whole(own, x), whole(params, x))
    for i, size in enumerate((6, 6, 5)):
        # Whole numbers may cancel by chance, which brute force sees.
        gone = dead(whole, params, x, f"h{i}", 1)
        assert smaller.widths[f"w{i}:1"] >= left(size, gone)
