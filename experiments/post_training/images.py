"""Networks of our own that tell images apart: VGG19 of a quarter of the width, LeNet-5.

Both are trained by the study's own loop (`training.train`) in the work directory, once:
a phase that is killed goes on, and one that is finished is read. BatchNorm is folded
into the kernels. A batch is uint8 `[batch, height, width, channels]`, outputs are
logits. Weights are those of a dense network; nothing is pruned.
"""

import dataclasses
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import fold, trees
from experiments import command, lenet_mnist, vgg19_cifar10
from experiments.data.datasets import Dataset
from experiments.post_training import networks
from experiments.post_training.networks import Metric, Network, Params, See
from experiments.study import stages
from experiments.study.config import Config
from experiments.training import states
from experiments.training.runs import Run
from experiments.training.train import normalize

METRICS = (
    Metric("test error %", False, (1.0, 0.3, 0.1), above_dense=True),
    Metric("validation error %", False),
)
CALIBRATED = 512  # images
_BATCH = 64
_EVALUATED = 500  # images at once
_LAYOUTS = {2: (1, 0), 4: (3, 2, 0, 1)}  # of Flax's kernels, by their axes


class Recipe(NamedTuple):
    """How a network is trained, and what it computes.

    Attributes:
        name: Of the network, in rows.
        known: The network as the commands of the study know it.
        config: The settings of the training.
        forward: The network without BatchNorm, from inputs made by `normalize`.
        layouts: Of the weights, by the number of their axes.
    """

    name: str
    known: command.Network
    config: Config
    forward: networks.Forward
    layouts: dict[int, tuple[int, ...]]


def network(
    recipe: Recipe, data_dir: Path, directory: Path, trained: Path | None = None
) -> Network:
    """Reads the network, or trains it first.

    Args:
        recipe: Which network.
        data_dir: The folder of the data.
        directory: Where the training is kept.
        trained: A phase of another run, `DIR/phases/dense.msgpack`, to be read instead.
            If that run held no images out, its validation error is of images that it
            was trained on.
    """
    config = recipe.config
    dataset = recipe.known.datasets[config.dataset](data_dir)
    path = trained or _train(recipe, dataset, directory)
    used, held = stages.splits(dataset, config)
    parts = {
        "test error %": (dataset.test_images, dataset.test_labels),
        "validation error %": (held.images, held.labels),
    }
    return build(recipe, folded(read_phase(path)), np.asarray(used.images), parts)


def build(
    recipe: Recipe,
    params: dict[str, np.ndarray],
    images: np.ndarray,
    parts: dict[str, tuple[Any, Any]],
) -> Network:
    """A network of parameters that are there.

    Args:
        recipe: Which network.
        params: Its parameters, as `folded` returns them.
        images: To calibrate with, the first of them; uint8.
        parts: Images and labels that errors are measured on, by the name of the metric.
    """
    fn, inputs = networks.functions(recipe.forward)
    answer = jax.jit(lambda params, own: jnp.argmax(fn(params, own), -1))

    def error(decoded: Params, own: tuple[Any, Any]) -> float:
        found = [answer(decoded, part) for part in _batches(own[0], _EVALUATED)]
        return 100 * float(np.mean(np.concatenate(found) != np.asarray(own[1])))

    def quality(decoded: Params) -> dict[str, float]:
        decoded = jax.device_put(dict(decoded))
        return {name: error(decoded, own) for name, own in parts.items()}

    layouts = {n: recipe.layouts[x.ndim] for n, x in params.items() if x.ndim > 1}
    chosen = images[:CALIBRATED]
    noise = partial(_noise, chosen.shape)
    return Network(
        recipe.name, params, fn, inputs, layouts,
        {
            "real": lambda: _batches(chosen, _BATCH),
            "random": lambda: _batches(noise(), _BATCH),
        },
        METRICS, quality,
    )  # fmt: skip


def _batches(images: Any, size: int) -> list[Any]:
    return [images[first : first + size] for first in range(0, len(images), size)]


def _noise(shape: Sequence[int]) -> np.ndarray:
    """Images without any sense: each byte is drawn by itself."""
    return np.random.default_rng(2).integers(0, 256, shape, np.uint8)


# ---- training -----------------------------------------------------------------------


def _train(recipe: Recipe, dataset: Dataset, directory: Path) -> Path:
    """Trains until the phase is on the disk; returns the phase's file."""
    config = recipe.config
    with Run(directory, config, epochs=config.dense_epochs) as run:
        model = recipe.known.build(config, dataset.classes)
        parts = stages.splits(dataset, config)
        stages.train_dense(stages.Study(config, run, model, *parts, recipe.known.roles))
    return directory / "phases" / "dense.msgpack"


def read_phase(path: Path) -> dict[str, Any]:
    """Linen variables from a saved phase of any run of the study."""
    fields: Any = flax.serialization.msgpack_restore(states.read(path))
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    for name, leaf in zip(fields["names"], fields["leaves"], strict=True):
        part, *keys = re.findall(r"^\.(\w+)|\['([^']+)'\]", name)
        inner = [key for _, key in keys]
        if part[0] == "params":
            inner = ["params", *inner]
        elif part[0] != "rest":
            continue
        collection, layer, leaf_name = inner
        variables[collection].setdefault(layer, {})[leaf_name] = np.asarray(leaf)
    return variables


def folded(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """Kernels and biases of all layers, `LAYER.kernel`, with BatchNorm folded in."""
    if variables["batch_stats"]:
        pairs = [("conv(.*)/bias", r"bn\1/bias")]
        variables = fold.batchnorm(variables, bias_of=pairs, kernels=True)
    params = {
        name.replace("/", "."): np.asarray(leaf)
        for name, leaf in trees.named_leaves(variables["params"]).items()
        if not name.startswith("bn")
    }
    # What a BatchNorm adds is in its own bias, and that of the convolution is zero.
    for name, norm in variables["params"].items():
        if name.startswith("bn"):
            params[f"conv{name[2:]}.bias"] = np.asarray(norm["bias"])
    return params


# ---- forward passes -----------------------------------------------------------------


def _conv(params: Params, name: str, x: jax.Array, padding: int, see: See) -> jax.Array:
    kernel = params[f"{name}.kernel"]
    window = kernel.shape[:2]
    see(
        f"{name}.kernel",
        lambda: networks.patches(jnp.moveaxis(x, -1, 1), window, (1, 1), padding),
    )
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), [(padding, padding)] * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )  # fmt: skip
    return y + params[f"{name}.bias"]


def _max_pool(x: jax.Array) -> jax.Array:
    batch, height, width, channels = x.shape
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max((2, 4))


def vgg(params: Params, batch: networks.Batch, see: See) -> jax.Array:
    """Logits of a VGG of any depth and width, float32 `[batch, classes]`."""
    x = normalize(jnp.asarray(batch))
    convs = sorted(name[4:-7] for name in params if re.match(r"conv.*kernel", name))
    for number, following in zip(convs, [*convs[1:], ""], strict=True):
        x = jax.nn.relu(_conv(params, f"conv{number}", x, 1, see))
        if number.split("_")[0] != following.split("_")[0]:
            x = _max_pool(x)
    x = x.reshape(len(x), -1)
    layers = sorted(name[:-7] for name in params if re.match(r"fc.*kernel", name))
    for layer in layers:
        see(f"{layer}.kernel", partial(jnp.asarray, x))
        x = x @ params[f"{layer}.kernel"] + params[f"{layer}.bias"]
        x = x if layer == layers[-1] else jax.nn.relu(x)
    return x


def lenet5(params: Params, batch: networks.Batch, see: See) -> jax.Array:
    """Logits of a LeNet-5 of any width, float32 `[batch, classes]`."""
    x = jnp.asarray(batch).astype(jnp.float32) / 256
    for layer in ("conv1", "conv2"):
        x = _max_pool(_conv(params, layer, x, 0, see))
    x = x.reshape(len(x), -1)
    for layer in ("ip1", "ip2"):
        see(f"{layer}.kernel", partial(jnp.asarray, x))
        x = x @ params[f"{layer}.kernel"].T + params[f"{layer}.bias"]
        x = jax.nn.relu(x) if layer == "ip1" else x
    return x


VGG19 = Recipe(
    "vgg19", vgg19_cifar10.NETWORK, vgg19_cifar10.PRESETS["cpu"], vgg, _LAYOUTS
)
LENET5 = Recipe(
    "lenet5",
    lenet_mnist.NETWORKS["lenet5"],
    # As in the study, but shorter, and with as many images held out as for VGG19.
    dataclasses.replace(lenet_mnist.PAPER5, dense_epochs=6, validation=5000),
    lenet5,
    _LAYOUTS | {2: (0, 1)},
)
