"""What the benchmark knows of a network, and layers that can tell what they see.

A forward pass is written once, as a function of parameters, a batch and a `See`. That
callback gets the name of each weight and a function that returns what the weight is
multiplied with. `Network.fn` ignores it; `Network.inputs` collects it for the methods
that need it, such as GPTQ.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
Params: TypeAlias = Mapping[str, Any]
Batch: TypeAlias = Any
See: TypeAlias = Callable[[str, Callable[[], jax.Array]], None]
Forward: TypeAlias = Callable[[Params, Batch, See], jax.Array]


class Metric(NamedTuple):
    """A measure of quality.

    Attributes:
        name: Its name in rows, tables and figures.
        higher: Whether more is better.
        levels: Values at which methods are compared by their bytes.
        above_dense: Whether the levels are to be added to what the network has as it
            is, as those of errors are.
    """

    name: str
    higher: bool
    levels: tuple[float, ...] = ()
    above_dense: bool = False

    def loss(self, value: float) -> float:
        """A positive number, of which less is better."""
        return max(1 - value if self.higher else value, 1e-9)


class Network(NamedTuple):
    """A trained network, what it can be calibrated with, and how good it is.

    Attributes:
        name: Its name in rows.
        params: float32 arrays by name; all of them count as its size.
        fn: Maps parameters and a batch to outputs.
        inputs: Maps parameters and a batch to what each weight of a product or a
            convolution is multiplied with, by the name of the weight: float32
            `[rows, in]`, in the order of the columns of `as_matrix`.
        layouts: For each weight, which axes of it are its outputs, its inputs and its
            places in space, in this order. A table has its rows first.
        batches: Batches to calibrate with, by the kind of data that they are. A kind
            is made when it is asked for.
        metrics: What `quality` measures, the one of the figures first.
        quality: Maps parameters to the values of the metrics by name, all measured on
            data that no batch contains.
    """

    name: str
    params: dict[str, np.ndarray]
    fn: Callable[[Params, Batch], jax.Array]
    inputs: Callable[[Params, Batch], dict[str, jax.Array]]
    layouts: Mapping[str, tuple[int, ...]]
    batches: Mapping[str, Callable[[], Sequence[Batch]]]
    metrics: tuple[Metric, ...]
    quality: Callable[[Params], dict[str, float]]

    def calibration(self, data: str) -> Iterator[Batch]:
        """Batches of a kind, or of several kinds joined by "+", one after the other."""
        for kind in data.split("+"):
            yield from self.batches[kind]()

    def values(self) -> int:
        """How many parameters there are."""
        return sum(array.size for array in self.params.values())


def as_matrix(leaf: np.ndarray, layout: tuple[int, ...]) -> np.ndarray:
    """A weight as float32 `[out, in]`, with places in space among the inputs.

    Examples:
        >>> import numpy as np
        >>> as_matrix(np.zeros((3, 3, 8, 16)), (3, 2, 0, 1)).shape
        (16, 72)
    """
    moved = np.asarray(leaf, np.float32).transpose(layout)
    return np.ascontiguousarray(moved.reshape(len(moved), -1))


def as_leaf(
    matrix: np.ndarray, layout: tuple[int, ...], shape: tuple[int, ...]
) -> np.ndarray:
    """A weight of a shape from what `as_matrix` made of it."""
    moved = matrix.reshape([shape[axis] for axis in layout])
    return np.ascontiguousarray(moved.transpose(np.argsort(layout)))


def functions(
    forward: Forward,
) -> tuple[
    Callable[[Params, Batch], jax.Array],
    Callable[[Params, Batch], dict[str, jax.Array]],
]:
    """The fields `fn` and `inputs` of a network from its forward pass."""

    def fn(params: Params, batch: Batch) -> jax.Array:
        return forward(params, batch, lambda name, inputs: None)

    def inputs(params: Params, batch: Batch) -> dict[str, jax.Array]:
        seen: dict[str, jax.Array] = {}
        forward(params, batch, lambda name, own: seen.update({name: own()}))
        return seen

    return fn, inputs


def grams(network: Network, data: str) -> dict[str, np.ndarray]:
    """Sums of the products of all pairs of inputs, for GPTQ.

    Args:
        network: The network.
        data: The kinds of batches that are looked at, as for `Network.calibration`.

    Returns:
        float64 `[in, in]` for each weight that `inputs` knows: `sum x x^T / rows`.
    """

    @jax.jit
    def of_batch(params: Params, batch: Batch) -> dict[str, tuple[jax.Array, int]]:
        seen = network.inputs(params, batch)
        return {name: (x.T @ x, len(x)) for name, x in seen.items()}

    sums: dict[str, Any] = {}
    rows: dict[str, int] = {}
    for batch in network.calibration(data):
        for name, (own, count) in of_batch(network.params, batch).items():
            sums[name] = sums.get(name, 0.0) + np.asarray(own, np.float64)
            rows[name] = rows.get(name, 0) + int(count)
    return {name: own / rows[name] for name, own in sums.items()}


def patches(
    x: jax.Array, window: tuple[int, ...], strides: tuple[int, ...], padding: int
) -> jax.Array:
    """What a convolution multiplies its kernel with.

    Args:
        x: `[batch, channels, ...places]`.
        window: Lengths of the kernel.
        strides: Of the convolution.
        padding: Zeros on each side of each axis.

    Returns:
        `[rows, channels * places of the window]`, channels first.
    """
    found = jax.lax.conv_general_dilated_patches(
        x, window, strides, [(padding, padding)] * len(window)
    )
    return jnp.moveaxis(found, 1, -1).reshape(-1, found.shape[1])
