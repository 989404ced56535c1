"""What leaves that stay coded are taken for, and what functions of them are given."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import deepcomp_jax as dc
from deepcomp_jax.resident import CodedLeaf, PlainLeaf, Resident, decoding

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Resident, Any]:
    """Two leaves on the device, one of them coded, and as `dc.load` has them."""
    kernel = RNG.standard_normal((64, 64)).astype(np.float32) / 8
    return opened(
        tmp_path_factory.mktemp("network"), {"kernel": kernel, "bias": kernel[0]}
    )


def opened(folder: Path, params: Any) -> tuple[Resident, Any]:
    file = folder / "model.dcz"
    dc.save(file, dc.compress(params))
    with dc.open(file) as own:
        return own.on_device(), dc.load(file)


# ---- leaves -------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["kernel", "bias"])
def test_numpy_makes_an_array_of_a_leaf(network: tuple[Resident, Any], name: str):
    resident, right = network
    kind = CodedLeaf if name == "kernel" else PlainLeaf
    leaf = resident[name]
    assert isinstance(leaf, kind)
    for found in (np.asarray(leaf), np.array(leaf)):
        assert (found.shape, found.dtype) == (leaf.shape, leaf.dtype)
        np.testing.assert_array_equal(found, right[name])
    own = np.array(leaf, np.float64)
    own += 1  # it is a copy
    np.testing.assert_array_equal(own, right[name].astype("f8") + 1)
    np.testing.assert_array_equal(leaf.decode(), right[name])


USES: dict[str, Callable[[Any, Any], Any]] = {
    "@": lambda leaf, x: leaf @ x,
    "@ behind": lambda leaf, x: x @ leaf,
    "+": lambda leaf, x: leaf + x,
    "+ behind": lambda leaf, x: x + leaf,
    "-": lambda leaf, x: leaf - x,
    "- behind": lambda leaf, x: x - leaf,
    "*": lambda leaf, x: leaf * x,
    "* behind": lambda leaf, x: x * leaf,
    "* 2": lambda leaf, x: 2 * leaf,
    "/": lambda leaf, x: leaf / x,
    "/ behind": lambda leaf, x: x / leaf,
    "**": lambda leaf, x: leaf**2,
    "-leaf": lambda leaf, x: -leaf,
    "[]": lambda leaf, x: leaf[0],
    "for": lambda leaf, x: list(leaf),
    "==": lambda leaf, x: leaf == x,
    "np.sum": lambda leaf, x: np.sum(leaf),
    "np.square": lambda leaf, x: np.square(leaf),
    "jnp.asarray": lambda leaf, x: jnp.asarray(leaf),
    "jnp.sum": lambda leaf, x: jnp.sum(leaf),
    "jnp.dot": lambda leaf, x: jnp.dot(leaf, x),
    "jax.nn.relu": lambda leaf, x: jax.nn.relu(leaf),
}


@pytest.mark.parametrize("kind", [np.asarray, jnp.asarray])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("use", USES)
def test_arithmetic_with_a_leaf_names_the_ways_to_its_values(
    network: tuple[Resident, Any], use: str, compiled: bool, kind: Any
):
    x = kind(np.ones((64, 64), np.float32))

    def run(leaf: Any) -> Any:
        return USES[use](leaf, x)

    for name, what in (("kernel", r"CodedLeaf\("), ("bias", r"PlainLeaf\(")):
        with pytest.raises(TypeError, match=rf"{what}.* is coded, .*`\.decode\(\)`"):
            (jax.jit(run) if compiled else run)(network[0][name])


def test_a_network_in_place_of_its_parameters_names_what_it_has():
    empty = Resident({}, {}, 0)
    with pytest.raises(KeyError, match=r"`apply\(fn\)` runs a function.*`tree\(\)`"):
        _ = empty["params"]


# ---- arguments that are no arrays ---------------------------------------------------


class Dropping(nn.Module):
    """A perceptron that branches on what it is told."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.Dropout(0.5, deterministic=not train)(nn.Dense(64)(x))
        return nn.relu(x) if train else x


def chosen(params: Any, x: Any, how: Any = None, *, scale: Any = 1.0, to: Any = None):
    """A function that branches on all that is no array."""
    x = x["x"] @ params["kernel"]
    if how == "twice":
        x = 2 * x
    if isinstance(how, dict) and how["shift"]:
        x = x + how["by"]
    if isinstance(to, type):
        return x.astype(to)
    return (to or jnp.sin)(x * scale)


CALLS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "nothing": ((), {}),
    "none": ((None,), {"to": None}),
    "a string": (("twice",), {}),
    "a boolean in a tree": (({"shift": True, "by": 3},), {"scale": np.float32(2)}),
    "another one": (({"shift": False, "by": np.ones(64)},), {"scale": 2}),
    "a function": ((), {"to": jnp.tanh}),
    "a dtype": ((), {"to": jnp.float16}),
    "a dtype of NumPy": ((np.float64,), {"to": np.float16}),
    "all": (("twice",), {"to": jnp.cos, "scale": jnp.ones(64)}),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_is_no_array_reaches_the_function(
    network: tuple[Resident, Any], name: str
):
    resident, right = network
    args, kwargs = CALLS[name]
    x = {"x": RNG.integers(-2, 3, (5, 64)).astype(np.float32)}
    run = resident.apply(chosen)
    with jax.numpy_rank_promotion("allow"):
        expected = chosen(right, x, *args, **kwargs)
        for _ in range(2):
            np.testing.assert_allclose(run(x, *args, **kwargs), expected, atol=1e-5)
        found = decoding(chosen)(resident.tree(), x, *args, **kwargs)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_each_choice_is_compiled_once(network: tuple[Resident, Any]):
    traced = []

    def fn(params: Any, x: Any, number: Any, flag: bool) -> Any:
        traced.append(flag)
        return x @ params["kernel"] * number if flag else x

    run, x = network[0].apply(fn), np.ones((1, 64), np.float32)
    for number, flag in ((1, True), (2, True), (3.0, False), (4.0, False), (5, True)):
        run(x, number, flag)
    assert traced == [True, False]


def test_a_boolean_of_a_jit_around_it(network: tuple[Resident, Any]):
    resident, right = network
    run = jax.jit(decoding(chosen), static_argnames=("how", "to"))
    x = {"x": np.eye(64, dtype=np.float32)}
    found = run(resident.tree(), x, how="twice", to=jnp.abs)
    np.testing.assert_allclose(found, 2 * np.abs(right["kernel"]), rtol=1e-6)


def test_linen_in_both_modes(tmp_path: Path):
    model, x = Dropping(), RNG.standard_normal((4, 64), np.float32)
    variables = model.init(jax.random.key(0), x)
    resident, right = opened(tmp_path, variables)
    run = resident.apply(model.apply)
    with jax.numpy_rank_promotion("allow"):
        np.testing.assert_allclose(
            run(x, train=False), model.apply(right, x), rtol=1e-4, atol=1e-5
        )
        drawn = {"dropout": jax.random.key(1)}
        np.testing.assert_allclose(
            run(x, train=True, rngs=drawn),
            model.apply(right, x, train=True, rngs=drawn),
            rtol=1e-4,
            atol=1e-5,
        )


# ---- functions ----------------------------------------------------------------------


@pytest.mark.parametrize("fn", [3, None, "apply", {"kernel": 1}, np.ones(3)])
def test_what_is_no_function_is_refused_at_once(network: tuple[Resident, Any], fn: Any):
    with pytest.raises(TypeError, match=r"fn is \w+: pass a function that takes the"):
        network[0].apply(fn)


def test_functions_are_printed_in_a_line(network: tuple[Resident, Any]):
    assert repr(network[0].apply(chosen)) == "Applied(chosen, 2 leaves)"
    assert repr(network[0].apply(jax.jit(chosen))) == "Applied(chosen, 2 leaves)"


def of_a_module(module: Any, x: Any) -> Any:
    return x @ module.kernel


def of_a_call(module: Any, x: Any) -> Any:
    return module(x)


def of_a_tuple(pair: Any, x: Any) -> Any:
    kernel, _ = pair[0], pair[1]
    return x @ kernel


def of_one_array(kernel: Any, x: Any) -> Any:
    return x @ kernel


def of_a_state(state: Any, x: Any) -> Any:
    graph, _ = nnx.split(nnx.Linear(64, 64, rngs=nnx.Rngs(0)))
    return nnx.merge(graph, nnx.State(state)["linear"])(x)


def of_leaves(params: Any, x: Any) -> Any:
    structure = jax.tree.structure((1, 2, 3))
    return x @ jax.tree.unflatten(structure, jax.tree.leaves(params))[0]


OTHERS = [of_a_module, of_a_call, of_a_tuple, of_one_array, of_a_state, of_leaves]


@pytest.mark.parametrize("fn", OTHERS)
def test_errors_of_functions_of_other_containers_name_like(
    network: tuple[Resident, Any], fn: Callable[..., Any]
):
    resident, right = network
    x = jnp.ones((3, 64))
    with pytest.raises(Exception) as expected:
        fn(right, x)
    with pytest.raises(expected.type) as raised:
        resident.apply(fn)(x)
    (note,) = (own for own in raised.value.__notes__ if "containers of the file" in own)
    assert "a dict" in note and "as `like`" in note
    # With `like` the function is on its own.
    with pytest.raises(expected.type) as raised:
        resident.apply(fn, like=right)(x)
    assert "containers of the file" not in str(getattr(raised.value, "__notes__", ""))


def test_equinox(tmp_path: Path):
    eqx = pytest.importorskip("equinox")
    model = eqx.nn.MLP(64, 3, 80, 2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_array)
    resident, _ = opened(tmp_path, params)
    x = RNG.standard_normal((5, 64), np.float32)

    def fn(params: Any, x: Any) -> Any:
        return jax.vmap(eqx.combine(params, static))(x)

    with pytest.raises(ValueError) as raised:
        resident.apply(fn)(x)
    assert any("as `like`" in note for note in raised.value.__notes__)
    loaded = dc.load(tmp_path / "model.dcz", like=params)
    found = resident.apply(fn, like=params)(x)
    np.testing.assert_allclose(found, fn(loaded, x), rtol=1e-4, atol=1e-5)
