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
    text = "left, since at another width the code answers otherwise"
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
    assert "widths of its own (AssertionError" in smaller.notes[-1].text


def of_a_fixed_reshape(params: Any, x: jax.Array) -> jax.Array:
    x = (x @ params["w"]).reshape(x.shape[0], 6)
    return jnp.tanh(x) @ params["v"]


def of_fixed_zeros(params: Any, x: jax.Array) -> jax.Array:
    step = lambda h, row: (jnp.tanh(h @ params["u"] + row), None)  # noqa: E731
    first = jnp.zeros((x.shape[1], 6))
    return lax.scan(step, first, x @ params["w"])[0] @ params["v"]


def of_fixed_groups(params: Any, x: jax.Array) -> jax.Array:
    x = jax.nn.relu(conv(x, params["c"]))
    return conv(conv(x, params["d"], groups=6), params["e"])


OWN_WIDTHS = {
    "reshape": (of_a_fixed_reshape, {"w": (4, 6), "v": (6, 3)}, (3, 4), "v"),
    "zeros": (
        of_fixed_zeros, {"w": (4, 6), "u": (6, 6), "v": (6, 3)}, (5, 3, 4), "uv",
    ),
    "groups": (
        of_fixed_groups, {"c": (3, 3, 2, 6), "d": (3, 3, 1, 6), "e": (1, 1, 6, 3)},
        (2, 4, 4, 2), "e",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN_WIDTHS)
def test_code_with_widths_beside_its_parameters_says_what_it_raises(name: str):
    fn, shapes, shape, readers = OWN_WIDTHS[name]
    params = normal(0, shapes)
    for reader in readers:
        np.moveaxis(params[reader], -2, 0)[2] = 0
    example = X(shape, jnp.float32)
    smaller = shrink.exact(fn, params, example)
    assert [own for own in smaller.widths.values() if own[0] > own[1]] == [(6, 5)]
    with pytest.raises(Exception) as raised:
        jax.eval_shape(fn, smaller.params, example)
    line = str(raised.value).strip().partition("\n")[0]
    text = smaller.notes[-1].text
    assert f"widths of its own ({raised.type.__name__}: {line[:100]}" in text
    assert "build it with those of `widths`" in text


def test_a_group_that_a_module_cannot_lose_says_why():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        return jnp.tanh(jnp.tanh(x @ params["w"]) @ params["u"]) @ params["v"]

    def rebuild(params: Any) -> Any:
        if params["w"].shape[1] < 6:
            raise NotImplementedError("five is no width")
        return fn

    params = normal(0, {"w": (4, 6), "u": (6, 5), "v": (5, 3)})
    params["u"][2] = params["v"][1] = 0
    example = X((3, 4), jnp.float32)
    smaller = shrink.exact(fn, params, example, rebuild=rebuild)
    assert smaller.widths == {"w:1": (6, 6), "u:1": (5, 4)}
    (note,) = smaller.notes
    reason = "the code fails (NotImplementedError: five is no width)"
    assert note == ("w:1", "", f"left, since at another width {reason}")


# ---- arguments ----------------------------------------------------------------------


def without(tree: Any) -> Any:
    return {name: leaf for name, leaf in tree.items() if name != "v"}


OTHER_TREES: dict[str, Callable[[Any, Any], Any]] = {
    "the other one": lambda own, other: other,
    "one leaf of the other one": lambda own, other: {**own, "w": other["w"]},
    "transposed": lambda own, other: {**own, "w": own["w"].T},
    "flat": lambda own, other: {**own, "w": own["w"].reshape(-1)},
    "a number": lambda own, other: {**own, "w": 0.0},
    "missing": lambda own, other: without(own),
    "one more": lambda own, other: {**own, "z": own["w"]},
    "deeper": lambda own, other: {"params": own},
    "empty": lambda own, other: {},
    "no tree": lambda own, other: {"a": 1},
}


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("name", OTHER_TREES)
def test_trees_of_other_names_or_shapes_are_neither_cut_nor_restored(
    name: str, kind: Any
):
    params = {own: kind(leaf) for own, leaf in normal(0, SHAPES).items()}
    kept = np.array([0, 1, 3, 4, 5])
    smaller = {"b": params["b"][kept], "v": params["v"][kept]}
    smaller["w"] = params["w"][:, kept]
    kept_of = {"w": (None, kept), "b": (kept,), "v": (kept, None)}
    own = shrink.Shrunk(smaller, kept_of, {"w:1": (6, 5)}, (), params)
    for call, given in (
        (own.cut, OTHER_TREES[name](params, smaller)),
        (own.restore, OTHER_TREES[name](smaller, params)),
    ):
        with pytest.raises(ValueError, match="pass a tree like") as raised:
            call(given)
        assert "original" in str(raised.value) or "smaller" in str(raised.value)
    for name, leaf in own.cut(params).items():
        np.testing.assert_array_equal(leaf, smaller[name])


@pytest.mark.parametrize(
    ("leaf", "what"),
    [
        (X((4, 6), jnp.float32), "ShapeDtypeStruct, and no array"),
        ("relu", "str, and no array"),
        (jnp.tanh, "and no array: pass"),
    ],
)
def test_parameters_without_values_are_refused(leaf: Any, what: str):
    params = {**normal(0, SHAPES), "w": leaf}
    with pytest.raises(ValueError, match=f"leaf 'w' is .*{what}"):
        shrink.exact(net(jnp.tanh), params, X((3, 4), jnp.float32))


def test_traced_parameters_are_refused():
    run = lambda params: shrink.exact(net(jnp.tanh), params, jnp.ones((3, 4))).params  # noqa: E731
    with pytest.raises(ValueError, match="leaf 'b' is traced.* outside of `jit`"):
        jax.jit(run)(normal(0, SHAPES))


def test_a_random_function_is_refused():
    def fn(params: Any, x: jax.Array) -> jax.Array:
        x = net(jnp.tanh)(params, x)
        return x + jax.pure_callback(lambda: np.random.rand(3, 3), X((3, 3), x.dtype))

    params = normal(0, SHAPES)
    params["v"][2] = 0
    with pytest.raises(ValueError, match="answers otherwise than the original"):
        shrink.exact(fn, params, X((3, 4), jnp.float32))
