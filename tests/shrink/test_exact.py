"""Units that do nothing are found, cut, and come back; results stay."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import shrink, trees
from tests.shrink import networks
from tests.shrink.networks import along, conv, normal

X = jax.ShapeDtypeStruct


def check(
    fn: Callable[..., Any],
    params: Any,
    example: Any,
    widths: Mapping[str, tuple[int, int]],
    **options: Any,
) -> shrink.Shrunk:
    """Cuts, and compares the sizes that changed and the results of all networks."""
    smaller = shrink.exact(fn, params, example, **options)
    changed = {name: own for name, own in smaller.widths.items() if own[0] != own[1]}
    assert changed == widths
    batch = _batch(example)
    wanted = fn(params, batch)
    restored = smaller.restore(smaller.params)
    for name, leaf in trees.named_leaves(params).items():
        assert np.shape(trees.named_leaves(restored)[name]) == np.shape(leaf)
    run = options["rebuild"](smaller.params) if "rebuild" in options else fn
    for answer in (run(smaller.params, batch), fn(restored, batch)):
        np.testing.assert_allclose(answer, wanted, rtol=1e-3, atol=1e-4)
    return smaller


def _batch(example: Any) -> Any:
    if isinstance(example, X):
        return jax.random.normal(jax.random.key(9), example.shape, example.dtype)
    return example


def test_a_chain_of_dense_layers():
    params = normal(0, networks.MLP)
    params["w0"][:, 2] = 0  # a constant
    params["w1"][3] = 0  # is not read
    params["w2"][5, :4] = 0  # is read by a unit that is not read
    params["w3"][4] = 0
    smaller = check(
        networks.mlp, params, X((3, 4), jnp.float32),
        {"w0:1": (6, 4), "w1:1": (6, 5), "w2:1": (5, 4)},
    )  # fmt: skip
    assert smaller.notes == ()
    assert [own.tolist() for own in smaller.kept["w1"] if own is not None] == [
        [0, 1, 4, 5],
        [0, 1, 2, 3, 4],
    ]
    assert smaller.kept["w3"][1] is None and "b3" not in smaller.kept
    folded = params["b1"] + np.tanh(params["b0"][2]) * params["w1"][2]
    np.testing.assert_allclose(smaller.params["b1"], folded[:5], rtol=1e-6)


def test_what_is_cut_comes_back_as_zeros():
    params = normal(0, networks.CONVOLUTIONAL)
    params["c1"][:, :, 1] = 0
    smaller = check(
        networks.convolutional, params, X((2, 4, 4, 2), jnp.float32), {"c0:3": (5, 4)}
    )
    restored = smaller.restore(smaller.params)
    for name in ("c0", "n0_mean", "n0_scale", "n0_bias"):
        assert (restored[name][..., 1] == 0).all(), name
        left = np.delete(restored[name], 1, -1)
        np.testing.assert_array_equal(left, np.delete(params[name], 1, -1))
    np.testing.assert_array_equal(restored["n0_var"], params["n0_var"])
    momenta = smaller.cut({name: leaf * 2 for name, leaf in params.items()})
    for name, leaf in smaller.params.items():
        np.testing.assert_array_equal(momenta[name], leaf * 2)
    with pytest.raises(ValueError, match="leaf 'c0' has the shape .3, 3, 2, 5., but"):
        smaller.restore(params)


def test_convolutions_batchnorm_pooling_and_flatten():
    params = normal(1, networks.CONVOLUTIONAL)
    params["c1"][:, :, 1] = 0
    params["n0_scale"][3] = params["n0_bias"][3] = 0
    params["c1"][..., 2] = 0  # a constant at each pixel
    params["w"].reshape(4, 4, 3)[:, 0] = 0  # of the channel at each pixel
    smaller = check(
        networks.convolutional, params, X((2, 4, 4, 2), jnp.float32),
        {"c0:3": (5, 3), "c1:3": (4, 2)},
    )  # fmt: skip
    kept = smaller.kept["w"][0]
    assert kept is not None and kept.tolist() == [1, 3, 5, 7, 9, 11, 13, 15]


def test_residual_sums():
    params = normal(2, networks.RESIDUAL)
    for name in ("a0", "b0"):
        params[name][:, :, 2] = 0  # nothing reads this unit of the sum
    params["w"][2] = 0
    for name in ("n0", "am", "bm"):  # this one is zero throughout
        params[f"{name}_scale"][4] = params[f"{name}_bias"][4] = 0
    params["an_scale"][1] = params["an_bias"][1] = 0
    params["bn_scale"][3], params["bn_bias"][3] = 0, 2.0  # into the mean of bm
    check(
        networks.residual, params, X((2, 4, 4, 2), jnp.float32),
        {"c0:3": (6, 4), "a0:3": (5, 4), "b0:3": (4, 3)},
    )  # fmt: skip


def test_a_constant_passes_residual_sums_to_the_bias():
    def net(params: Any, x: jax.Array) -> jax.Array:
        h = jnp.tanh(x @ params["w"])
        h = (h + along(params["b"], h)) @ params["v"]
        return jnp.tanh(((x + h) + x) + along(params["c"], x)) @ params["u"]

    shapes = {"w": (4, 5), "b": (5,), "v": (5, 4), "c": (4,), "u": (4, 4)}
    params = normal(3, shapes)
    params["w"][:, [1, 3]] = 0
    smaller = check(net, params, X((3, 4), jnp.float32), {"w:1": (5, 3)})
    rows = params["b"][[1, 3]] @ params["v"][[1, 3]]
    np.testing.assert_allclose(smaller.params["c"], params["c"] + rows, rtol=1e-5)


def test_heads_and_their_width():
    params = normal(4, networks.TRANSFORMER)
    params["o"][2] = 0  # a head is not read
    params["v"][:, 1] = params["vb"][1] = 0  # a head gives zeros
    params["q"][..., 0] = 0
    params["o"][:, 2] = 0  # of the width of the values
    params["w2"][4] = 0
    check(
        networks.transformer, params, X((2, 5, 6), jnp.float32),
        {"q:1": (4, 2), "q:2": (3, 2), "v:2": (3, 2), "w1:1": (7, 6)},
    )  # fmt: skip


def test_heads_side_by_side_and_a_joint_product():
    def net(params: Any, x: jax.Array) -> jax.Array:
        count, time, _ = x.shape
        joint = x @ params["qkv"]
        q, k, v = (
            part.reshape(count, time, 4, 3) for part in jnp.split(joint, 3, axis=-1)
        )
        weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k))
        mixed = jnp.einsum("bhts,bshk->bthk", weights, v)
        return mixed.reshape(count, time, 12) @ params["o"]

    params = normal(5, {"qkv": (6, 36), "o": (12, 6)})
    params["o"][3:6] = 0
    smaller = shrink.exact(net, params, X((2, 5, 6), jnp.float32))
    assert smaller.widths["qkv:1.0"] == (4, 3)
    assert smaller.params["qkv"].shape == (6, 27)
    assert "widths of its own" in smaller.notes[-1].text


def test_a_stack_of_a_scan_loses_a_unit_in_all_layers_or_in_none():
    params = normal(6, networks.STACK)
    params["v"][:, 2] = 0
    params["v"][0, 1] = 0  # in one layer only
    params["w"][:, :, 4] = 0  # a constant, in each layer another one
    check(networks.stack, params, X((2, 4), jnp.float32), {"w:2": (6, 4)})


def test_units_that_read_only_each_other():
    params = normal(7, networks.RECURRENT)
    params["o"][[1, 2]] = 0
    params["u"][[1, 2]] = 0
    params["u"][2, [1, 2]] = params["u"][1, [1, 2]] = 1
    check(networks.recurrent, params, X((2, 5, 3), jnp.float32), {"w:1": (6, 4)})


def test_concatenations_and_depthwise_convolutions():
    def net(params: Any, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(conv(x, params["c"]))
        x = conv(x, params["deep"], groups=params["deep"].shape[-1])
        y, z = jnp.tanh(conv(x, params["y"])), jnp.tanh(conv(x, params["z"]))
        x = jnp.concatenate([y, z, x], -1)
        return x.reshape(x.shape[0], -1) @ params["w"]

    params = normal(8, {
        "c": (3, 3, 2, 5), "deep": (3, 3, 1, 5), "y": (1, 1, 5, 3), "z": (1, 1, 5, 4),
        "w": (192, 3),
    })  # fmt: skip
    rows = params["w"].reshape(16, 12, 3)
    rows[:, [1, 4, 9]] = 0  # of y, of z, of x
    params["y"][:, :, 2] = params["z"][:, :, 2] = 0
    check(
        net, params, X((2, 4, 4, 2), jnp.float32),
        {"c:3": (5, 4), "y:3": (3, 2), "z:3": (4, 3)},
    )  # fmt: skip


def test_whole_groups_of_convolutions_and_units_of_all_groups():
    def net(params: Any, x: jax.Array) -> jax.Array:
        x = jax.nn.relu(conv(x, params["c"]))
        x = jax.nn.relu(conv(x, params["g"], groups=3))
        return conv(x, params["d"])

    params = normal(9, {"c": (3, 3, 2, 6), "g": (3, 3, 2, 9), "d": (1, 1, 9, 2)})
    params["d"][:, :, 3:6] = 0
    smaller = shrink.exact(net, params, X((2, 4, 4, 2), jnp.float32))
    assert smaller.params["c"].shape == (3, 3, 2, 4)
    assert smaller.params["g"].shape == (3, 3, 2, 6)
    params["d"][:, :, [1, 7]] = 0
    smaller = shrink.exact(net, params, X((2, 4, 4, 2), jnp.float32))
    assert smaller.params["g"].shape == (3, 3, 2, 4)


def test_embeddings():
    def net(params: Any, tokens: jax.Array) -> jax.Array:
        x = jnp.take(params["table"], tokens, axis=0) @ params["w"]
        return jnp.tanh(x + along(params["b"], x)) @ params["v"]

    params = normal(10, {"table": (9, 6), "w": (6, 5), "b": (5,), "v": (5, 3)})
    params["table"][:, 2] = 0
    params["table"][:, 3] = 1.5  # whichever the token
    params["w"][4] = 0
    tokens = np.random.default_rng(0).integers(0, 9, (3, 4))
    check(net, params, jnp.asarray(tokens), {"table:1": (6, 3)})


def test_tied_embeddings_are_read_twice():
    def net(params: Any, tokens: jax.Array) -> jax.Array:
        x = jnp.tanh(params["table"][tokens] @ params["w"]) @ params["v"]
        return x @ params["table"].T

    params = normal(11, {"table": (9, 6), "w": (6, 5), "v": (5, 6)})
    params["w"][[1, 2]] = 0
    params["v"][:, 2] = 0
    tokens = jnp.arange(8).reshape(2, 4)
    check(net, params, tokens, {"table:1": (6, 5)})


def test_merged_low_rank_weights():
    def net(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(x @ (params["a"] @ params["b"])) @ params["w"]

    params = normal(12, {"a": (4, 3), "b": (3, 5), "w": (5, 2)})
    params["b"][1] = 0
    params["w"][0] = 0
    check(net, params, X((3, 4), jnp.float32), {"a:1": (3, 2), "b:1": (5, 4)})


def test_a_layer_keeps_a_unit():
    params = {name: leaf * 0 for name, leaf in normal(0, networks.MLP).items()}
    widths = {"w0:1": (6, 1), "w1:1": (6, 1), "w2:1": (5, 1)}
    check(networks.mlp, params, X((3, 4), jnp.float32), widths)


def test_a_network_without_idle_units_stays():
    params = normal(0, networks.MLP)
    smaller = check(networks.mlp, params, X((3, 4), jnp.float32), {})
    assert smaller.kept == {} and smaller.notes == ()
    assert all(smaller.params[name] is leaf for name, leaf in params.items())


def test_leaves_stay_where_they_are():
    params = normal(0, networks.MLP)
    params["w1"][3] = 0
    on_device = jax.tree.map(jnp.asarray, params)
    assert isinstance(
        shrink.exact(networks.mlp, params, X((3, 4), jnp.float32)).params["w0"],
        np.ndarray,
    )
    smaller = shrink.exact(networks.mlp, on_device, X((3, 4), jnp.float32))
    assert isinstance(smaller.params["w0"], jax.Array)
    assert isinstance(smaller.restore(smaller.params)["w0"], jax.Array)
    whole = jax.jit(smaller.restore)(smaller.params)
    np.testing.assert_array_equal(whole["w1"], params["w1"])


@pytest.mark.parametrize("dtype", ["int32", "bfloat16"])
def test_other_dtypes(dtype: str):
    def net(params: Any, x: jax.Array) -> jax.Array:
        x = x @ params["w"]
        return jnp.abs(x + along(params["b"], x)) @ params["v"]

    random = np.random.default_rng(0)
    params = {
        name: jnp.asarray(random.integers(-3, 4, shape), dtype)
        for name, shape in {"w": (4, 5), "b": (5,), "v": (5, 2)}.items()
    }
    params["v"] = params["v"].at[jnp.array([1, 3])].set(0)
    example = jnp.asarray(random.integers(-3, 4, (3, 4)), dtype)
    smaller = shrink.exact(net, params, example)
    assert smaller.widths["w:1"][1] <= 3
    np.testing.assert_array_equal(net(smaller.params, example), net(params, example))
    assert smaller.params["w"].dtype == dtype
