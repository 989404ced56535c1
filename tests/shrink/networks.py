"""Small networks, in each of which any activation can be fixed by hand.

None has ReLU, so that no unit is dead only because the data are as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Fix = Callable[[str, jax.Array], jax.Array]
Params = dict[str, np.ndarray]

LAYOUT = ("NHWC", "HWIO", "NHWC")


def free(name: str, x: jax.Array) -> jax.Array:
    """Fixes nothing."""
    return x


def normal(seed: int, shapes: Mapping[str, tuple[int, ...]]) -> Params:
    """Parameters of which none is zero."""
    random = np.random.default_rng(seed)
    return {
        name: random.standard_normal(shape).astype(np.float32)
        for name, shape in shapes.items()
    }


def conv(x: jax.Array, kernel: jax.Array, padding: str = "SAME", groups: int = 1):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), padding,
        dimension_numbers=LAYOUT, feature_group_count=groups,
    )  # fmt: skip


def along(vector: jax.Array, x: jax.Array) -> jax.Array:
    """A vector that goes with the last axis of another array."""
    return jnp.broadcast_to(vector, x.shape)


def norm(params: Params, name: str, x: jax.Array) -> jax.Array:
    """BatchNorm with running averages, as frameworks compute it."""
    mean, var = params[f"{name}_mean"], params[f"{name}_var"]
    scale = params[f"{name}_scale"] * lax.rsqrt(jnp.abs(var) + 1e-5)
    centered = x - along(mean, x)
    return centered * along(scale, x) + along(params[f"{name}_bias"], x)


def norm_shapes(name: str, size: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}_{leaf}": (size,) for leaf in ("mean", "var", "scale", "bias")}


def mlp(params: Params, x: jax.Array, fix: Fix = free) -> jax.Array:
    """Three hidden layers; `[batch, 4]` to `[batch, 2]`."""
    for i in range(3):
        x = x @ params[f"w{i}"]
        x = fix(f"h{i}", jnp.tanh(x + along(params[f"b{i}"], x)))
    x = x @ params["w3"]
    return x + along(params["b3"], x)


MLP = {
    "w0": (4, 6), "b0": (6,), "w1": (6, 6), "b1": (6,), "w2": (6, 5), "b2": (5,),
    "w3": (5, 2), "b3": (2,),
}  # fmt: skip


def convolutional(params: Params, x: jax.Array, fix: Fix = free) -> jax.Array:
    """Convolutions, BatchNorm, pooling, flatten, dense; images of 4 x 4 x 2."""
    x = jax.nn.leaky_relu(norm(params, "n0", conv(x, params["c0"])))
    x = fix("c0", x)
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = conv(x, params["c1"], "VALID")
    x = fix("c1", jax.nn.leaky_relu(x + along(params["d1"], x)))
    x = x.reshape(x.shape[0], -1) @ params["w"]
    return x + along(params["b"], x)


CONVOLUTIONAL = {
    "c0": (3, 3, 2, 5), **norm_shapes("n0", 5), "c1": (1, 1, 5, 4), "d1": (4,),
    "w": (16, 3), "b": (3,),
}  # fmt: skip


def residual(params: Params, x: jax.Array, fix: Fix = free) -> jax.Array:
    """A ResNet of two blocks with sums; images of 4 x 4 x 2."""
    x = jax.nn.leaky_relu(norm(params, "n0", conv(x, params["c0"])))
    for block in "ab":
        h = norm(params, f"{block}n", conv(x, params[f"{block}0"], "SAME"))
        h = fix(block, jax.nn.leaky_relu(h))
        x = jax.nn.leaky_relu(
            x + norm(params, f"{block}m", conv(h, params[f"{block}1"]))
        )
    x = jnp.mean(fix("x", x), (1, 2)) @ params["w"]
    return x + along(params["b"], x)


RESIDUAL = {
    "c0": (3, 3, 2, 6), **norm_shapes("n0", 6),
    "a0": (3, 3, 6, 5), **norm_shapes("an", 5), "a1": (1, 1, 5, 6),
    **norm_shapes("am", 6),
    "b0": (1, 1, 6, 4), **norm_shapes("bn", 4), "b1": (1, 1, 4, 6),
    **norm_shapes("bm", 6),
    "w": (6, 3), "b": (3,),
}  # fmt: skip


def layer_norm(x: jax.Array) -> jax.Array:
    x = x - jnp.mean(x, -1, keepdims=True)
    return x * lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + 1e-6)


def transformer(params: Params, x: jax.Array, fix: Fix = free) -> jax.Array:
    """A block of attention and MLP; `[batch, time, 6]` to the same."""
    h = layer_norm(x)
    q, k, v = (jnp.einsum("btd,dhk->bthk", h, params[name]) for name in "qkv")
    q, k = fix("q", q), fix("k", k)
    v = fix("v", v + along(params["vb"], v))
    weights = jax.nn.softmax(jnp.einsum("bthk,bshk->bhts", q, k) / 2.0)
    mixed = fix("heads", jnp.einsum("bhts,bshk->bthk", weights, v))
    out = jnp.einsum("bthk,hkd->btd", mixed, params["o"])
    x = x + out + along(params["ob"], out)
    h = layer_norm(x) @ params["w1"]
    h = fix("mlp", jax.nn.gelu(h + along(params["b1"], h))) @ params["w2"]
    return x + h + along(params["b2"], h)


TRANSFORMER = {
    "q": (6, 4, 3), "k": (6, 4, 3), "v": (6, 4, 3), "vb": (4, 3), "o": (4, 3, 6),
    "ob": (6,), "w1": (6, 7), "b1": (7,), "w2": (7, 6), "b2": (6,),
}  # fmt: skip


def stack(params: Params, x: jax.Array) -> jax.Array:
    """A stack of three blocks under `scan`; `[batch, 4]` to the same."""

    def block(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        h = x @ layer["w"]
        h = jax.nn.relu(h + along(layer["b"], h)) @ layer["v"]
        return x + h + along(layer["c"], h), None

    return lax.scan(block, x, params)[0]


STACK = {"w": (3, 4, 6), "b": (3, 6), "v": (3, 6, 4), "c": (3, 4)}


def recurrent(params: Params, x: jax.Array) -> jax.Array:
    """A recurrent layer under `scan`; `[batch, time, 3]` to `[batch, time, 2]`."""

    def step(h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        h = jnp.tanh(x @ params["w"] + h @ params["u"])
        return h, h

    first = jnp.zeros((x.shape[0], params["u"].shape[0]))
    _, states = lax.scan(step, first, jnp.swapaxes(x, 0, 1))
    return jnp.swapaxes(states @ params["o"], 0, 1)


RECURRENT = {"w": (3, 6), "u": (6, 6), "o": (6, 2)}
