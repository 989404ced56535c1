"""Networks of every library are calibrated alike: nothing of one is known here."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import deepcomp_jax as dc
from deepcomp_jax import trees
from tests.support import sums

R = sums.random(7)


@pytest.fixture(autouse=True)
def _broadcasting():
    """Libraries add biases by broadcasting."""
    with jax.numpy_rank_promotion("allow"):
        yield


def roles(found):
    return {
        name: [(use.kind, use.batch, use.inputs, use.outputs) for use in uses]
        for name, uses in found.leaves.items()
    }


DENSE = ("product", (), (0,), (1,))


class Convolutional(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), strides=2)(x))
        x = nn.Conv(4, (3, 3), feature_group_count=4)(x)
        x = nn.relu(nn.BatchNorm(use_running_average=True)(x))
        x = nn.ConvTranspose(3, (2, 2), strides=(2, 2))(x)
        return nn.Dense(5)(x.reshape(len(x), -1))


def test_a_convolutional_network_of_linen():
    model, x = Convolutional(), R(2, 8, 8, 3)
    variables = model.init(jax.random.key(0), x)
    found = dc.calibrate(model.apply, variables, [x])
    assert found.notes == ()
    window = ("product", (), (0, 1, 2), (3,))
    assert roles(found) == {
        "params/Conv_0/kernel": [window],
        "params/Conv_1/kernel": [("product", (3,), (0, 1, 2), ())],
        "params/ConvTranspose_0/kernel": [window],
        "params/Dense_0/kernel": [DENSE],
    }
    patches = found.leaves["params/Conv_0/kernel"][0]
    # The middle of the window is never outside of the image: every fourth pixel.
    middle = patches.input_moments.reshape(3, 3, 3, 3, 3, 3)[1, 1, :, 1, 1]
    pixels = x[:, 1::2, 1::2].reshape(-1, 3)
    np.testing.assert_allclose(middle, pixels.T @ pixels, rtol=1e-4)


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        y = nn.LayerNorm()(x)
        x = x + nn.MultiHeadDotProductAttention(num_heads=2, qkv_features=8)(y)
        y = nn.gelu(nn.Dense(16)(nn.LayerNorm()(x)))
        return x + nn.Dense(8)(y), None


class Transformer(nn.Module):
    remat: bool = False

    @nn.compact
    def __call__(self, ids):
        embed = nn.Embed(11, 8)
        block = nn.remat(Block) if self.remat else Block
        stack = nn.scan(
            block, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = stack()(embed(ids), None)
        return embed.attend(nn.LayerNorm()(x))


@pytest.mark.parametrize("remat", [False, True])
def test_a_scanned_transformer_of_linen(remat):
    model, ids = Transformer(remat), np.array([[1, 2, 3], [4, 10, 4]])
    variables = model.init(jax.random.key(0), ids)
    found = dc.calibrate(model.apply, variables, [ids])
    assert found.notes == ()
    attention = "params/Scan{}Block_0/MultiHeadDotProductAttention_0/".format(
        "Checkpoint" if remat else ""
    )
    layers = "params/Scan{}Block_0/".format("Checkpoint" if remat else "")
    projection = [("product", (0,), (1,), (2, 3))]
    assert roles(found) == {
        attention + "key/kernel": projection,
        attention + "query/kernel": projection,
        attention + "value/kernel": projection,
        attention + "out/kernel": [("product", (0,), (1, 2), (3,))],
        layers + "Dense_0/kernel": [("product", (0,), (1,), (2,))],
        layers + "Dense_1/kernel": [("product", (0,), (1,), (2,))],
        "params/Embed_0/embedding": [
            ("product", (), (1,), (0,)),
            ("table", (), (0,), (1,)),
        ],
    }
    table = found.leaves["params/Embed_0/embedding"][1]
    assert table.input_moments.tolist() == [0, 1, 1, 1, 2, 0, 0, 0, 0, 0, 1]
    assert found.sensitivity[layers + "Dense_0/kernel"].shape == (3,)
    # Queries, keys and values see the same inputs.
    a, b = (
        found.leaves[attention + n][0].input_moments
        for n in ("key/kernel", "value/kernel")
    )
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("cell", [nn.LSTMCell, nn.OptimizedLSTMCell, nn.GRUCell])
def test_recurrent_cells_of_linen(cell):
    model, xs = nn.RNN(cell(4)), R(2, 6, 3)
    variables = model.init(jax.random.key(0), xs)
    found = dc.calibrate(model.apply, variables, [xs])
    assert found.notes == ()
    kernels = {n for n in trees.named_leaves(variables) if n.endswith("kernel")}
    assert set(found.leaves) == kernels
    rows = xs.reshape(-1, 3)
    for name, (use,) in found.leaves.items():
        assert use[:4] == DENSE
        if use.input_moments.shape == (3, 3):
            np.testing.assert_allclose(use.input_moments, rows.T @ rows, rtol=1e-4)
        else:
            assert (np.diagonal(use.input_moments) > 0).all(), name


class Perceptron(nnx.Module):
    def __init__(self, rngs):
        self.embed = nnx.Embed(7, 3, rngs=rngs)
        self.a = nnx.Linear(3, 4, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.conv = nnx.Conv(4, 2, 3, rngs=rngs)

    def __call__(self, ids):
        x = self.drop(nnx.relu(self.norm(self.a(self.embed(ids)))))
        return self.conv(x)


def test_a_network_of_nnx():
    model = Perceptron(nnx.Rngs(0))
    model.eval()
    graph, state, rest = nnx.split(model, nnx.Not(nnx.RngState), ...)
    ids = np.array([[0, 1, 6, 6]])

    def fn(state, ids):
        return nnx.merge(graph, state, rest)(ids)

    found = dc.calibrate(fn, state, [ids])
    assert found.notes == ()
    assert roles(found) == {
        "a/kernel": [DENSE],
        "conv/kernel": [("product", (), (0, 1), (2,))],
        "embed/embedding": [("table", (), (0,), (1,))],
    }
    x = np.asarray(model.embed(ids)).reshape(-1, 3)
    np.testing.assert_allclose(
        found.leaves["a/kernel"][0].input_moments, x.T @ x, rtol=1e-4, atol=1e-6
    )


def test_experts_of_nnx():
    @nnx.split_rngs(splits=2)
    @nnx.vmap
    def experts(rngs):
        return nnx.Linear(3, 4, rngs=rngs)

    model = experts(nnx.Rngs(0))
    graph, state = nnx.split(model)

    def fn(state, x):
        model = nnx.merge(graph, state)
        return nnx.vmap(lambda m, x: m(x))(model, x)

    x = R(2, 5, 3)
    found = dc.calibrate(fn, state, [x])
    (use,) = found.leaves["kernel"]
    assert use[:4] == ("product", (0,), (1,), (2,))
    np.testing.assert_allclose(
        use.input_moments, np.einsum("ebi,ebj->eij", x, x), rtol=1e-4
    )


def test_lora_of_nnx():
    lora = nnx.LoRALinear(3, 4, lora_rank=2, rngs=nnx.Rngs(0))
    graph, state = nnx.split(lora)
    state = jax.tree.map(lambda leaf: leaf + 1, state)  # or one of them is zero
    found = dc.calibrate(lambda s, x: nnx.merge(graph, s)(x), state, [R(5, 3)])
    assert found.notes == ()
    assert roles(found) == {
        "kernel": [DENSE], "lora/lora_a": [DENSE], "lora/lora_b": [DENSE],
    }  # fmt: skip


def test_a_network_of_equinox():
    eqx = pytest.importorskip("equinox")
    keys = jax.random.split(jax.random.key(0), 3)
    model = {
        "conv": eqx.nn.Conv2d(2, 4, 3, key=keys[0]),
        "linear": eqx.nn.Linear(4, 3, key=keys[1]),
        "gru": eqx.nn.GRUCell(3, 2, key=keys[2]),
    }
    arrays, rest = eqx.partition(model, eqx.is_array)

    def one(model, x):
        h = jax.nn.relu(model["conv"](x)).mean(axis=(1, 2))
        return model["gru"](model["linear"](h), jnp.ones(2))

    def fn(arrays, x):
        return jax.vmap(functools.partial(one, eqx.combine(arrays, rest)))(x)

    found = dc.calibrate(fn, arrays, [R(5, 2, 4, 4)])
    assert found.notes == ()
    assert roles(found) == {
        "conv/weight": [("product", (), (1, 2, 3), (0,))],
        "gru/weight_ih": [("product", (), (1,), (0,))],
        "linear/weight": [("product", (), (1,), (0,))],
    }


def test_a_network_of_haiku():
    hk = pytest.importorskip("haiku")

    def forward(ids):
        x = hk.Embed(7, 3)(ids)
        x = jax.nn.relu(hk.Linear(4)(x))
        return hk.dynamic_unroll(hk.LSTM(2), x, hk.LSTM(2).initial_state(2))[0]

    model = hk.without_apply_rng(hk.transform(forward))
    ids = np.array([[0, 1], [6, 6]])
    params = model.init(jax.random.key(0), ids)
    found = dc.calibrate(model.apply, params, [ids])
    assert found.notes == ()
    kinds = sorted(use[0] for uses in roles(found).values() for use in uses)
    assert kinds == ["product", "product", "table"]
