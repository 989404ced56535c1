"""Networks that stay coded: the values of `dc.load`, a layer of them at a time."""

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
from deepcomp_jax._types import Compressed, DenseLeaf, Scales, SharedLeaf
from deepcomp_jax.format import container
from deepcomp_jax.resident import CodedLeaf, PlainLeaf, Resident, decoding

RNG = np.random.default_rng(0)


def drawn(*shape: int) -> np.ndarray:
    """Weights of the size that an initializer gives them."""
    return RNG.standard_normal(shape, np.float32) / np.float32(np.sqrt(shape[-2]))


def resident(path: Path, params: Any) -> tuple[Resident, Any]:
    """A network on the device, coded, and as `dc.load` has it."""
    file = path / "model.dcz"
    dc.save(file, dc.compress(params))
    with dc.open(file) as opened:
        return opened.on_device(), jax.tree.map(jnp.asarray, dc.load(file))


def temporary(fn: Callable[..., Any], *args: Any) -> int:
    """Bytes that a compiled function takes beside its arguments and results."""
    return jax.jit(fn).lower(*args).compile().memory_analysis().temp_size_in_bytes


# ---- leaves -------------------------------------------------------------------------


SHAPES = [
    (64, 96), (4096,), (1, 5000), (700, 9), (6, 64, 128), (3, 3, 32, 64),
    (128, 64, 3, 3), (2, 3, 40, 50), (5, 1, 7, 11, 13), (2, 8200),
]  # fmt: skip


def shared(shape: tuple[int, ...], entries: int, dtype: Any, **more: Any) -> Compressed:
    """A leaf of labels, most of them small in number, of a codebook."""
    codebook = (np.arange(1, entries + 1) / 64).astype(dtype)
    assert np.unique(codebook).size == entries
    labels = np.abs(RNG.standard_normal(shape) * entries / 4).astype(np.uint16)
    leaf = SharedLeaf(np.minimum(labels, entries), 0, **more)
    return Compressed({"leaf": 0}, (leaf,), (codebook,))


def assert_loaded(path: Path, network: Compressed) -> CodedLeaf:
    """The leaf of a network decodes to the bits that are loaded; it is returned."""
    path = path / "model.dcz"
    path.write_bytes(container.dumps(network))
    with dc.open(path) as file:
        leaf = file.on_device()["leaf"]
    right = np.asarray(jnp.asarray(dc.load(path)["leaf"]))
    assert isinstance(leaf, CodedLeaf)
    assert (leaf.shape, leaf.dtype) == (right.shape, right.dtype)
    assert leaf.nbytes < leaf.dense_nbytes == right.nbytes
    for decoded in (leaf.decode(), jax.jit(lambda leaf: leaf.decode())(leaf)):
        assert np.asarray(decoded).tobytes() == right.tobytes()
    return leaf


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_leaves_of_all_shapes(tmp_path: Path, shape: tuple[int, ...]):
    assert_loaded(tmp_path, shared(shape, 20, np.float32))


@pytest.mark.parametrize("dtype", ["float16", jnp.bfloat16, "float32", "float64"])
@pytest.mark.parametrize("entries", [1, 2, 255, 256, 1023])
def test_codebooks_of_all_sizes(tmp_path: Path, dtype: Any, entries: int):
    if dtype is jnp.bfloat16 and entries > 256:
        entries = 256  # it has no more numbers at this distance
    assert_loaded(tmp_path, shared((96, 200), entries, dtype))


def test_a_leaf_of_one_label(tmp_path: Path):
    network = shared((80, 64), 4, np.float32)
    (leaf,) = network.leaves
    assert isinstance(leaf, SharedLeaf)
    same = leaf._replace(labels=np.full_like(leaf.labels, 3))
    assert_loaded(tmp_path, network._replace(leaves=(same,)))


@pytest.mark.parametrize(
    ("batch", "split"), [(b, s) for s in range(4) for b in range(s + 1)]
)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_scales(tmp_path: Path, batch: int, split: int, dtype: str):
    shape = 4, 32, 48
    sizes = np.prod(shape[batch:split], dtype=int), np.prod(shape[split:], dtype=int)
    matrices = np.prod(shape[:batch], dtype=int)
    scales = Scales(
        batch, split, *(RNG.integers(-9, 9, (matrices, n)).astype("i1") for n in sizes)
    )
    if (batch, dtype) == (3, "float16"):
        return  # labels and two exponents of each value take more than that
    leaf = assert_loaded(tmp_path, shared(shape, 9, dtype, scales=scales))
    right = np.asarray(leaf.decode())
    indices = np.array([[3, 1], [0, 3]])
    assert (leaf.at(indices).decode() == right[indices]).all()
    # An array that is scanned over has a slice for each step, also of what is shared.
    over = jax.lax.scan(lambda _, layer: (0, layer.decode()), 0, leaf.layers())[1]
    assert (over == right).all()


@pytest.mark.parametrize("shape", [(64, 96), (6, 64, 128), (3, 3, 32, 64)], ids=str)
def test_layers_and_rows(tmp_path: Path, shape: tuple[int, ...]):
    leaf = assert_loaded(tmp_path, shared(shape, 300, np.float32))
    right = np.asarray(leaf.decode())
    over = jax.lax.scan(lambda _, layer: (0, layer.decode()), 0, leaf.layers())[1]
    assert (over == right).all()
    again = leaf.at(np.array([2, 0, 2]))
    assert (again.decode() == right[[2, 0, 2]]).all()
    assert (again.at(jnp.array(1)).decode() == right[0]).all()


def test_other_leaves_are_there_as_they_are(tmp_path: Path):
    network = Compressed(
        {"bias": 0, "scaled": 1, "small": 2, "step": 3},
        (
            DenseLeaf(np.arange(5, dtype=np.float32)),
            SharedLeaf(np.eye(4, dtype=np.uint8) * 2, 0, scales=Scales(
                0, 1, np.full((1, 4), 8, "i1"), np.full((1, 4), -3, "i1"))),
            SharedLeaf(np.eye(4, dtype=np.uint8), 0),
            DenseLeaf(np.array(7, np.int32)),
        ),
        (np.array([0.5, 2], np.float32),),
    )  # fmt: skip
    path = tmp_path / "model.dcz"
    path.write_bytes(container.dumps(network))
    with dc.open(path) as file:
        found = file.on_device(jax.devices()[0])
    right = dc.load(path)
    assert list(found) == list(right)
    for name, leaf in found.items():
        assert isinstance(leaf, PlainLeaf)
        np.testing.assert_array_equal(leaf.decode(), right[name])
    assert found.nbytes == found.dense_nbytes == 5 * 4 + 4 + 2 * 64
    with pytest.raises(ValueError, match="without axes has no layers"):
        found["step"].layers()
    with pytest.raises(KeyError, match="no leaf 'kernel': there are bias"):
        _ = found["kernel"]


def test_a_leaf_that_cannot_be_cut_into_lanes_is_not_coded(tmp_path: Path):
    path = tmp_path / "model.dcz"
    path.write_bytes(container.dumps(shared((2, 8209), 9, np.float16)))  # a prime
    with dc.open(path) as file:
        leaf = file.on_device()["leaf"]
    assert isinstance(leaf, PlainLeaf)
    np.testing.assert_array_equal(leaf.decode(), dc.load(path)["leaf"])


def test_copies_are_in_memory_once(tmp_path: Path):
    kernel = drawn(128, 128)
    found, _ = resident(tmp_path, {"a": {"kernel": kernel}, "b": {"kernel": kernel}})
    alone, _ = resident(tmp_path, {"a": {"kernel": kernel}})
    assert found.nbytes == alone.nbytes < found.dense_nbytes == 2 * kernel.nbytes


def test_a_network_is_a_pytree(tmp_path: Path):
    found, right = resident(tmp_path, {"kernel": drawn(64, 96), "bias": np.ones(3)})
    again = jax.jit(lambda network: network)(found)
    assert isinstance(again, Resident)
    assert list(again) == ["bias", "kernel"]
    assert again.nbytes == found.nbytes
    assert (again["kernel"].decode() == right["kernel"]).all()
    assert repr(found).startswith(f"Resident(2 leaves, {found.nbytes} bytes on the")


# ---- functions ----------------------------------------------------------------------


def scanned(params: Any, x: jax.Array) -> jax.Array:
    def step(x: jax.Array, layer: Any) -> tuple[jax.Array, None]:
        return x + jnp.tanh(x @ layer["kernel"] + layer["bias"][None]), None

    return jax.lax.scan(step, x, params)[0]


def sliced(params: Any, x: jax.Array) -> jax.Array:
    for number in range(len(params["kernel"])):
        x = x + jnp.tanh(x @ params["kernel"][number] + params["bias"][number][None])
    return x


def counted(params: Any, x: jax.Array) -> jax.Array:
    def step(number: Any, x: jax.Array) -> jax.Array:
        return x + jnp.tanh(x @ params["kernel"][number] + params["bias"][number][None])

    return jax.lax.fori_loop(0, len(params["kernel"]), step, x)


def in_bfloat16(params: Any, x: jax.Array) -> jax.Array:
    params = jax.tree.map(lambda own: own.astype(jnp.bfloat16), params)
    return scanned(params, x.astype(jnp.bfloat16))


def backwards(params: Any, x: jax.Array) -> jax.Array:
    def step(x: jax.Array, layer: Any) -> tuple[jax.Array, jax.Array]:
        x = jnp.tanh(x @ layer.T)
        return x, x.sum()

    return jax.lax.scan(step, x, params["kernel"], reverse=True)[1]


def transposed_stack(params: Any, x: jax.Array) -> jax.Array:
    turned = jnp.swapaxes(params["kernel"], 0, 1)
    over = jax.lax.scan(lambda total, own: (total + own.sum(), own @ x.T), 0.0, turned)
    return over[0] + over[1]


def recurrent(params: Any, x: jax.Array) -> jax.Array:
    kernel = params["kernel"][1]
    return jax.lax.scan(lambda h, own: (jnp.tanh(h @ kernel + own), None), x[0], x)[0]


def rematerialized(params: Any, x: jax.Array) -> jax.Array:
    return jax.checkpoint(lambda kernel, x: jnp.sin(x @ kernel))(params["kernel"][0], x)


def conditional(params: Any, x: jax.Array) -> jax.Array:
    first, second = params["kernel"][0], params["kernel"][1]
    return jax.lax.cond(x.sum() > 0, lambda: x @ first, lambda: x @ second)


def of_weights_alone(params: Any, x: jax.Array) -> jax.Array:
    left, right = params["kernel"][0], params["kernel"][1]
    return jax.nn.gelu(x @ (left @ right)) + jax.nn.silu(left).sum(0, keepdims=True)


FUNCTIONS = [
    scanned, sliced, counted, in_bfloat16, backwards, transposed_stack, recurrent,
    rematerialized, conditional, of_weights_alone,
]  # fmt: skip


@pytest.mark.parametrize("fn", FUNCTIONS)
def test_functions_of_stacks(tmp_path: Path, fn: Callable[..., jax.Array]):
    params = {"kernel": drawn(6, 80, 80), "bias": np.full((6, 80), 0.1, np.float32)}
    found, right = resident(tmp_path, params)
    assert isinstance(found["kernel"], CodedLeaf)
    x = RNG.standard_normal((5, 80), np.float32)
    got, expected = found.apply(fn)(x), jax.jit(fn)(right, x)
    assert (got.shape, got.dtype) == (expected.shape, expected.dtype)
    np.testing.assert_allclose(
        np.asarray(got, np.float32), np.asarray(expected, np.float32), rtol=1e-5
    )


def test_arguments_and_results_may_be_trees(tmp_path: Path):
    found, right = resident(tmp_path, {"kernel": drawn(64, 96)})

    def fn(params: Any, batch: Any, *, scale: Any) -> Any:
        return {"y": batch["x"] @ params["kernel"] * scale, "weights": params["kernel"]}

    batch = {"x": RNG.integers(-2, 3, (4, 64)).astype(np.float32), "none": None}
    got = found.apply(fn)(batch, scale=2)
    assert got.keys() == {"y", "weights"}
    assert (got["weights"] == right["kernel"]).all()
    np.testing.assert_allclose(got["y"], fn(right, batch, scale=2)["y"], atol=1e-5)


@pytest.mark.parametrize("mode", ["fill", "clip", None])
def test_rows_of_a_table_are_looked_up(tmp_path: Path, mode: str | None):
    found, right = resident(tmp_path, {"embedding": drawn(5000, 64)})
    ids = RNG.integers(-6000, 6000, (7, 9))

    def look_up(params: Any, ids: jax.Array) -> jax.Array:
        table = params["embedding"].astype(jnp.bfloat16)
        return jnp.take(table, ids, axis=0, mode=mode)

    got = np.asarray(found.apply(look_up)(ids).astype(np.float32))
    expected = np.asarray(look_up(right, ids).astype(np.float32))
    np.testing.assert_array_equal(got, expected)
    assert np.isnan(expected).any() == (mode != "clip")
    run = temporary(decoding(look_up), found.tree(), ids)
    assert run < right["embedding"].nbytes / 10


def test_derivatives_and_batches(tmp_path: Path):
    found, right = resident(
        tmp_path, {"kernel": drawn(6, 80, 80), "bias": drawn(6, 80)}
    )
    x = RNG.standard_normal((3, 5, 80), np.float32)
    run, tree = decoding(scanned), found.tree()
    got = jax.jit(jax.vmap(run, (None, 0)))(tree, x)
    np.testing.assert_allclose(got, jax.vmap(scanned, (None, 0))(right, x), rtol=1e-4)
    # All examples share what is decoded.
    batched = temporary(jax.vmap(run, (None, 0)), tree, x)
    assert batched < temporary(run, tree, x[0]) + 4 * x.nbytes
    slopes = jax.jit(jax.grad(lambda x: run(tree, x).sum()))(x[0])
    expected = jax.grad(lambda x: scanned(right, x).sum())(x[0])
    np.testing.assert_allclose(slopes, expected, rtol=1e-4, atol=1e-5)


# ---- memory -------------------------------------------------------------------------


WIDTH, LAYERS = 512, 12
LAYER = 4 * WIDTH**2


def apart(params: Any, x: jax.Array) -> jax.Array:
    for layer in params.values():
        x = x + jnp.tanh(x @ layer["kernel"]) @ layer["kernel"].T
    return x


def side_by_side(params: Any, x: jax.Array) -> jax.Array:
    return sum((jnp.tanh(x @ own["kernel"]) for own in params.values()), start=x)


@pytest.mark.parametrize("fn", [scanned, sliced, counted, apart, side_by_side])
def test_one_layer_is_decoded_at_a_time(tmp_path: Path, fn: Callable[..., jax.Array]):
    params: Any = {"kernel": drawn(LAYERS, WIDTH, WIDTH), "bias": drawn(LAYERS, WIDTH)}
    if fn in (apart, side_by_side):
        params = {f"{n}": {"kernel": own} for n, own in enumerate(params["kernel"])}
    found, right = resident(tmp_path, params)
    x = RNG.standard_normal((4, WIDTH), np.float32)
    got, expected = found.apply(fn)(x), jax.jit(fn)(right, x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    limit = 2 * LAYER
    assert temporary(decoding(fn), found.tree(), x) < limit
    # Coded leaves and what is decoded fit where the weights alone do not.
    assert found.nbytes + limit < found.dense_nbytes / 2

    def at_once(network: Resident, x: jax.Array) -> jax.Array:
        return fn(jax.tree.map(lambda own: own.decode(), network, is_leaf=_is_leaf), x)

    if fn is not sliced:
        tree = found.tree()
        assert temporary(at_once, tree, x) > 2 * limit


def _is_leaf(node: Any) -> bool:
    return isinstance(node, (CodedLeaf, PlainLeaf))


# ---- frameworks ---------------------------------------------------------------------


class Block(nn.Module):
    """A perceptron with a table in front."""

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        x = nn.Embed(1000, 64)(ids)
        x = nn.gelu(nn.Dense(128)(nn.LayerNorm()(x)))
        return nn.Dense(64)(x)


def test_linen(tmp_path: Path):
    model, ids = Block(), RNG.integers(0, 1000, (2, 5))
    found, right = resident(tmp_path, model.init(jax.random.key(0), ids))
    assert sum(isinstance(leaf, CodedLeaf) for leaf in found.values()) == 3
    got = found.apply(model.apply)(ids)
    np.testing.assert_allclose(got, model.apply(right, ids), rtol=1e-4, atol=1e-5)


def test_nnx(tmp_path: Path):
    model = nnx.Sequential(
        nnx.Linear(64, 128, rngs=nnx.Rngs(0)),
        jax.nn.relu,
        nnx.Linear(128, 64, rngs=nnx.Rngs(1)),
    )
    graph, state = nnx.split(model)
    file = tmp_path / "model.dcz"
    dc.save(file, dc.compress(state))
    with dc.open(file) as opened:
        found = opened.on_device()
    x = RNG.standard_normal((3, 64), np.float32)

    def fn(state: Any, x: jax.Array) -> jax.Array:
        return nnx.merge(graph, state)(x)

    got = found.apply(fn, state)(x)
    expected = nnx.merge(graph, dc.load(file, state))(x)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="does not fit `like`"):
        found.apply(fn, {"kernel": np.ones(3)})


def test_a_closed_file_says_so(tmp_path: Path):
    file = tmp_path / "model.dcz"
    dc.save(file, dc.compress({"kernel": drawn(64, 96)}))
    with dc.open(file, max_bytes=1000) as opened, pytest.raises(dc.FormatError):
        opened.on_device()
    with pytest.raises(ValueError, match="the file was closed"):
        opened.on_device()
