"""What cannot be proved is left, and the notes say so."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from deepcomp_jax import shrink
from tests.shrink import networks
from tests.shrink.networks import along, conv, normal

X = jax.ShapeDtypeStruct
SHAPES = {"w": (4, 6), "b": (6,), "v": (6, 3)}


def net(between: Callable[[jax.Array], jax.Array]) -> Callable[..., jax.Array]:
    """Two dense layers with something between them."""

    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = x @ params["w"]
        return between(x + along(params["b"], x)) @ params["v"]

    return fn


def flipped(x: jax.Array) -> jax.Array:
    return jnp.flip(x, -1)


def sorted_units(x: jax.Array) -> jax.Array:
    return jnp.sort(x, -1)


def summed(x: jax.Array) -> jax.Array:
    return jnp.cumsum(x, -1)


def looped(x: jax.Array) -> jax.Array:
    return lax.while_loop(lambda y: jnp.sum(y) > 99.0, lambda y: y / 2, x)


def on_condition(x: jax.Array) -> jax.Array:
    return lax.cond(jnp.sum(x) > 0, jnp.tanh, jnp.sin, x)


def on_host(x: jax.Array) -> jax.Array:
    return jax.pure_callback(np.tanh, X(x.shape, x.dtype), x)


@pytest.mark.parametrize(
    ("between", "primitive"),
    [
        (networks.layer_norm, "reduce_sum"),
        (jax.nn.softmax, "reduce_max"),
        (flipped, "rev"),
        (sorted_units, "sort"),
        (summed, "cumsum"),
        (looped, "while"),
        (on_condition, "cond"),
        (on_host, "pure_callback"),
    ],
)
def test_units_that_something_mixes_stay(
    between: Callable[[jax.Array], jax.Array], primitive: str
):
    params = normal(0, SHAPES)
    params["v"][2] = 0
    smaller = shrink.exact(net(between), params, X((3, 4), jnp.float32))
    assert smaller.params["w"].shape == (4, 6)
    assert primitive in [note.primitive for note in smaller.notes]


def test_what_is_not_read_but_needed_is_named():
    params = normal(0, SHAPES)
    params["v"][2] = 0
    smaller = shrink.exact(net(jax.nn.softmax), params, X((3, 4), jnp.float32))
    text = "1 units are not read, but reduce_max needs them"
    assert smaller.notes == (shrink.Note("w:1", "reduce_max", text),)


def test_inputs_and_outputs_stay():
    params = {"w": np.zeros((4, 6), np.float32)}
    smaller = shrink.exact(
        lambda params, x: x @ params["w"], params, X((3, 4), jnp.float32)
    )
    assert smaller.kept == {} and smaller.widths == {}


def test_leaves_that_nothing_reads_stay():
    params = {"w": np.ones((4, 6), np.float32), "step": np.zeros(7, np.int32)}
    fn = lambda params, x: jnp.tanh(x @ params["w"])  # noqa: E731
    assert shrink.exact(fn, params, X((3, 4), jnp.float32)).kept == {}


def test_a_constant_without_a_bias_stays():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = x @ params["w"]
        return jnp.tanh(jnp.cos(x) @ params["v"]) @ params["u"]

    params = normal(0, {"w": (4, 6), "v": (6, 5), "u": (5, 2)})
    params["w"][:, 2] = 0  # its cosine is 1
    smaller = shrink.exact(fn, params, X((3, 4), jnp.float32))
    text = "1 units are constant, but tanh comes between what reads them and a bias"
    assert smaller.notes == (shrink.Note("w:1", "dot_general", text),)


def test_a_bias_that_others_read_too_takes_nothing():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = jnp.cos(x @ params["w"]) @ params["v"]
        return jnp.tanh(x + along(params["b"], x)) * along(params["b"], x)

    params = normal(0, {"w": (4, 6), "v": (6, 5), "b": (5,)})
    params["w"][:, 2] = 0
    assert shrink.exact(fn, params, X((3, 4), jnp.float32)).kept == {}


def test_a_sum_that_others_read_too_takes_nothing():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = jnp.cos(x @ params["w"]) @ params["v"]
        return jnp.tanh(x + along(params["b"], x)) * x

    params = normal(0, {"w": (4, 6), "v": (6, 5), "b": (5,)})
    params["w"][:, 2] = 0
    smaller = shrink.exact(fn, params, X((3, 4), jnp.float32))
    assert smaller.kept == {}
    assert "no bias of its own" in smaller.notes[0].text


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_constants_behind_padding_stay(padding: str):
    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = conv(x, params["c"])
        x = jax.nn.relu(x + along(params["b"], x))
        x = conv(x, params["d"], padding)
        return x + along(params["e"], x)

    params = normal(0, {"c": (3, 3, 2, 5), "b": (5,), "d": (3, 3, 5, 3), "e": (3,)})
    params["c"][..., [1, 3]] = 0
    params["b"][1], params["b"][3] = 0.5, -0.5  # the second one is zero then
    smaller = shrink.exact(fn, params, X((2, 5, 5, 2), jnp.float32))
    assert smaller.widths["c:3"] == (5, 4 if padding == "SAME" else 3)
    texts = [note.text for note in smaller.notes]
    padded = "1 units are constant, but they are not zero and zeros are padded around"
    assert [text.startswith(padded) for text in texts] == [True] * (padding == "SAME")


def test_padding_of_its_own_is_seen_too():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = conv(x, params["c"])
        x = jax.nn.relu(x + along(params["b"], x))
        x = conv(jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))), params["d"], "VALID")
        return x + along(params["e"], x)

    params = normal(0, {"c": (3, 3, 2, 5), "b": (5,), "d": (3, 3, 5, 3), "e": (3,)})
    params["c"][..., 1], params["b"][1] = 0, 0.5
    smaller = shrink.exact(fn, params, X((2, 5, 5, 2), jnp.float32))
    assert smaller.kept == {}
    assert "differs from place to place" in smaller.notes[0].text


def test_constants_that_differ_between_positions_stay():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        h = x @ params["w"] + jnp.broadcast_to(params["place"], (3, 5, 6))
        h = jnp.cos(h) @ params["v"]
        return h + along(params["b"], h)

    params = normal(0, {"w": (4, 6), "place": (5, 6), "v": (6, 2), "b": (2,)})
    params["w"][:, [1, 4]] = 0
    params["place"][:, 4] = 0.3  # alike at all positions
    smaller = shrink.exact(fn, params, X((3, 5, 4), jnp.float32))
    assert smaller.widths["w:1"] == (6, 5)
    assert "differs from place to place" in smaller.notes[0].text


def test_weights_that_the_function_closes_over_stay():
    inner = normal(0, {"v": (6, 3)})["v"]
    inner[2] = 0
    params = normal(0, {"w": (4, 6)})
    smaller = shrink.exact(
        lambda params, x: jnp.tanh(x @ params["w"]) @ inner,
        params,
        X((3, 4), jnp.float32),
    )
    assert smaller.kept == {}


def test_code_that_scales_by_a_width_keeps_it():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        q, k = x @ params["q"], x @ params["k"]
        weights = jax.nn.softmax(q @ jnp.swapaxes(k, -1, -2) / q.shape[-1] ** 0.5)
        return jnp.tanh(weights @ x @ params["w"]) @ params["v"]

    params = normal(0, {"q": (4, 6), "k": (4, 6), "w": (4, 5), "v": (5, 4)})
    params["q"][:, 1] = 0
    params["v"][1] = 0
    smaller = shrink.exact(fn, params, X((2, 5, 4), jnp.float32))
    assert smaller.widths == {"q:1": (6, 6), "w:1": (5, 4)}
    text = "left, since the code fails or answers otherwise at another width"
    assert smaller.notes == (shrink.Note("q:1", "", text),)


def test_widths_between_data_of_code_that_cannot_be_run_stay():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        assert params["q"].shape == (4, 6) and params["w"].shape == (4, 5)
        weights = jax.nn.softmax(
            (x @ params["q"]) @ jnp.swapaxes(x @ params["k"], 1, 2)
        )
        return jnp.tanh(weights @ x @ params["w"]) @ params["v"]

    params = normal(0, {"q": (4, 6), "k": (4, 6), "w": (4, 5), "v": (5, 4)})
    params["q"][:, 1] = 0
    params["v"][1] = 0
    smaller = shrink.exact(fn, params, X((2, 5, 4), jnp.float32))
    assert smaller.widths == {"q:1": (6, 6), "w:1": (5, 4)}
    assert ["rebuild" in note.text for note in smaller.notes] == [True, False]


def test_a_random_function_is_refused():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = net(jnp.tanh)(params, x)
        return x + jax.pure_callback(lambda: np.random.rand(3, 3), X((3, 3), x.dtype))

    params = normal(0, SHAPES)
    params["v"][2] = 0
    with pytest.raises(ValueError, match="answers otherwise than the original"):
        shrink.exact(fn, params, X((3, 4), jnp.float32))
