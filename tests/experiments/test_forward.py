"""The networks in inference, against forward passes written in NumPy, in float64."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.models import lenet, vgg
from experiments.training import train

EPSILON = 1e-5  # of BatchNorm


def _conv(x: np.ndarray, layer: Any, padding: int) -> np.ndarray:
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    size = layer["kernel"].shape[0]
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows, layer["kernel"]) + layer["bias"]


def _pool(x: np.ndarray) -> np.ndarray:
    corners = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    return np.maximum.reduce(corners)


def _norm(x: np.ndarray, layer: Any, statistics: Any) -> np.ndarray:
    deviation = np.sqrt(statistics["var"] + EPSILON)
    return (x - statistics["mean"]) / deviation * layer["scale"] + layer["bias"]


def _relu(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0)


def _vgg19(variables: Any, images: np.ndarray) -> np.ndarray:
    params, statistics = variables["params"], variables["batch_stats"]
    x = (images.astype(float) - 127.5) / 64
    for block, count in enumerate((2, 2, 4, 4, 4), start=1):
        for name in (f"{block}_{i}" for i in range(1, count + 1)):
            x = _conv(x, params[f"conv{name}"], 1)
            x = _relu(_norm(x, params[f"bn{name}"], statistics[f"bn{name}"]))
        x = _pool(x)
    x = x.reshape(len(x), -1)
    for name in ("fc1", "fc2"):
        x = _relu(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["fc3"]["kernel"] + params["fc3"]["bias"]


def _transposed(x: np.ndarray, layer: Any) -> np.ndarray:
    return np.einsum("ni,oi->no", x, layer["kernel"]) + layer["bias"]


def _lenet300(variables: Any, images: np.ndarray) -> np.ndarray:
    params = variables["params"]
    x = images.reshape(len(images), -1) / 256
    for name in ("ip1", "ip2"):
        x = _relu(_transposed(x, params[name]))
    return _transposed(x, params["ip3"])


def _lenet5(variables: Any, images: np.ndarray) -> np.ndarray:
    params = variables["params"]
    x = images / 256
    for name in ("conv1", "conv2"):
        x = _pool(_conv(x, params[name], 0))
    x = _relu(_transposed(x.reshape(len(x), -1), params["ip1"]))
    return _transposed(x, params["ip2"])


@pytest.mark.parametrize(
    ("model", "forward", "shape"),
    [
        (vgg.of_width(1 / 32), _vgg19, (32, 32, 3)),
        (lenet.LeNet300((30, 10)), _lenet300, (28, 28, 1)),
        (lenet.LeNet5((4, 6), 20), _lenet5, (28, 28, 1)),
    ],
    ids=["vgg19", "lenet300", "lenet5"],
)
def test_a_network_is_what_numpy_makes_of_its_variables(
    model: nn.Module, forward: Any, shape: tuple[int, ...]
):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, *shape)).astype(np.uint8)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))

    def draw(path: Any, leaf: Any) -> np.ndarray:
        """Every leaf at random, so that none can be left out unnoticed."""
        name = path[-1].key
        if name in ("var", "scale"):
            return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
        # Dense kernels of the LeNets are [out, in]; either way the scale is about 1.
        inputs = leaf.size / leaf.shape[-1] if leaf.ndim == 4 else max(leaf.shape)
        scale = np.sqrt(2 / inputs) if leaf.ndim > 1 else 0.3
        return (scale * rng.standard_normal(leaf.shape)).astype(np.float32)

    variables = jax.tree_util.tree_map_with_path(draw, shapes)
    found = np.asarray(train.logits(model, variables, images))
    expected = forward(jax.tree.map(lambda x: x.astype(float), variables), images)
    assert np.ptp(expected, axis=0).min() > 1e-3  # images are told apart
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
