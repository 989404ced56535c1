"""What a file of a usual network takes beside its weights and their positions."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import account, trees
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.format import container
from experiments.models.lenet import LeNet5
from experiments.models.vgg import of_width


def overhead(network: Compressed) -> float:
    """Bytes of the header, of codebooks, tables and checksums."""
    total = account.account(container.dumps(network)).total
    return (total.header + total.codebook + total.tables + total.checksum) / 8


def network(
    model: nn.Module,
    image: tuple[int, int, int],
    kept: Callable[[str], float],
    group: Callable[[str], str],
) -> Compressed:
    """A network on grids of at most 16 entries, of which idle ones are left out.

    Args:
        model: Gives names and shapes.
        image: Shape of its input.
        kept: The part of a leaf that is not zero; 1 for a constant.
        group: The codebook of a leaf, by any name.
    """
    with jax.numpy_rank_promotion("allow"):  # as Flax needs it
        shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *image)))
    treedef = jax.tree.structure(shapes)
    named = trees.named_leaves(shapes)
    structure, names = trees.structure(
        jax.tree.unflatten(treedef, trees.names(treedef))
    )
    factors = {name: _factors(named[name].shape, kept(name)) for name in names}
    groups: dict[str, list[str]] = {}  # in order of first use
    for name in names:
        if kept(name):
            groups.setdefault(group(name), []).append(name)
    leaves: dict[str, DenseLeaf | SharedLeaf] = {
        name: DenseLeaf(np.zeros(named[name].shape, np.float32)) for name in names
    }
    codebooks: list[np.ndarray] = []
    for number, members in enumerate(groups.values()):
        used = np.unique(np.concatenate([factors[name].ravel() for name in members]))
        entries = used[used != 0]
        codebooks.append((2.0 ** -(number % 9) * 1.25 * entries).astype(np.float32))
        for name in members:
            labels = np.searchsorted(entries, factors[name]) + 1
            labels = np.where(factors[name] == 0, 0, labels).astype(np.uint8)
            leaves[name] = SharedLeaf(labels, number)
    return Compressed(
        structure, tuple(leaves[name] for name in names), tuple(codebooks)
    )


def _factors(shape: tuple[int, ...], kept: float) -> np.ndarray:
    """Of the step of a grid: -8 to -1 and 1 to 8 where a weight is kept."""
    rng = np.random.default_rng(math.prod(shape))
    far = rng.binomial(15, 0.5, shape) - 8
    factors = np.where(far < 0, far, far + 1)
    return np.where(rng.random(shape) < kept, factors if kept < 1 else 1, 0)


def test_lenet5():
    """431,080 parameters, 0.5 % of them kept; biases have one codebook."""
    kept = {"conv1/kernel": 0.3, "conv2/kernel": 0.02, "ip1/kernel": 0.003}
    kept["ip2/kernel"] = 0.05
    lenet = network(
        LeNet5(),
        (28, 28, 1),
        lambda name: kept.get(name.removeprefix("params/"), 0.25),
        lambda name: "biases" if name.endswith("bias") else name,
    )
    found = account.account(container.dumps(lenet))
    assert found.parameters == 431_080
    assert 0.004 < found.nonzero / found.parameters < 0.006
    assert overhead(lenet) < 150


def test_vgg19():
    """A quarter of the width, for its time; 1,700 bytes at full width.

    Folded BatchNorm: its mean is zero as the bias of the convolution, its variance a
    constant, and its bias and scale have one codebook.
    """

    def kept(name: str) -> float:
        if name.endswith("kernel"):
            return 0.01
        folded = name.endswith("mean") or ("conv" in name and name.endswith("bias"))
        return 0 if folded else 1 if name.endswith("var") else 0.999

    def group(name: str) -> str:
        if name.endswith(("kernel", "var")):
            return "var" if name.endswith("var") else name
        return name.rpartition("/")[0]

    vgg = network(of_width(1 / 4), (32, 32, 3), kept, group)
    assert len(vgg.codebooks) == 19 + 16 + 3 + 1
    assert overhead(vgg) < 1_400
