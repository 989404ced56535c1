"""Files that others would make of a trained network, without retraining it.

Weights become labels and scales, all else is stored in half precision, and Zstandard
at its level 19 compresses it all. Each file is decoded again: what is measured is the
network that is in it. Another part, of codecs with environments of their own, is in
`peers`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from experiments.post_training import archive, networks, quantizers
from experiments.post_training.networks import Network
from experiments.post_training.quantizers import Quantized

GROUP = 64
_LARGEST = 65504  # of half precision, which scales and biases are stored in

Quantizer: TypeAlias = Callable[[str, np.ndarray], Quantized]


class Coded(NamedTuple):
    """A network in a file.

    Attributes:
        setting: The setting that it was made with, such as "4 bits".
        file_bytes: Size of the file, with everything in it.
        params: The network decoded from it.
    """

    setting: str
    file_bytes: int
    params: dict[str, np.ndarray]


def coded(
    network: Network, setting: str, levels: np.ndarray, quantize: Quantizer
) -> Coded:
    """Makes the file and reads it.

    Args:
        network: The network.
        setting: For the result.
        levels: What labels stand for, in units of a scale.
        quantize: Maps the name of a weight and its matrix `[out, in]` to labels.

    Raises:
        ValueError: A leaf has values that are no half-precision numbers; says which.
    """
    for name, leaf in network.params.items():
        if not np.abs(leaf).max() <= _LARGEST:
            raise ValueError(f"{name} has values that half precision cannot hold")
    found = {
        name: quantize(name, networks.as_matrix(network.params[name], layout))
        for name, layout in network.layouts.items()
    }
    arrays = {f"labels/{name}": own.labels for name, own in found.items()}
    arrays |= {f"scales/{name}": own.scales for name, own in found.items()}
    arrays |= {
        f"half/{name}": leaf.astype(np.float16)
        for name, leaf in network.params.items()
        if name not in found
    }
    groups = {name: own.group for name, own in found.items()}
    data = archive.write(arrays)
    return Coded(setting, len(data), _decoded(network, data, levels, groups))


def _decoded(
    network: Network, data: bytes, levels: np.ndarray, groups: dict[str, int]
) -> dict[str, np.ndarray]:
    arrays = archive.read(data)
    params: dict[str, np.ndarray] = {}
    for name, leaf in network.params.items():
        if name not in groups:
            params[name] = arrays[f"half/{name}"].astype(np.float32)
            continue
        own = Quantized(
            arrays[f"labels/{name}"], arrays[f"scales/{name}"], groups[name]
        )
        matrix = quantizers.dequantize(own, levels)
        params[name] = networks.as_leaf(matrix, network.layouts[name], leaf.shape)
    return params


def bits_of(setting: str) -> int:
    """The number in a setting such as "4 bits"."""
    return int(setting.split()[0])


def rounded(
    network: Network, settings: Sequence[str], group: int | None
) -> Iterator[Coded]:
    """Integers with a scale for each group of a row, or for each row.

    Args:
        network: The network.
        settings: Such as "4 bits".
        group: Weights with a common scale; None for all of a row.
    """
    for setting in settings:
        levels = quantizers.integers(bits_of(setting))
        yield coded(
            network, setting, levels,
            lambda _, matrix, levels=levels: quantizers.nearest(
                matrix, levels, group or matrix.shape[1]
            ),
        )  # fmt: skip


def nf4(network: Network, settings: Sequence[str]) -> Iterator[Coded]:
    """Sixteen levels that suit a normal distribution, as in QLoRA."""
    for setting in settings:
        yield coded(
            network, setting, quantizers.NF4,
            lambda _, matrix: quantizers.nearest(matrix, quantizers.NF4, GROUP),
        )  # fmt: skip


def gptq(
    network: Network, data: str, settings: Sequence[str], group: int | None
) -> Iterator[Coded]:
    """GPTQ for all weights of products; tables, which it cannot see, are rounded.

    Args:
        network: The network.
        data: The kind of batches that it is calibrated with.
        settings: Such as "4 bits".
        group: As for `rounded`.
    """
    grams = networks.grams(network, data)

    for setting in settings:
        levels = quantizers.integers(bits_of(setting))

        def quantize(
            name: str, matrix: np.ndarray, levels: np.ndarray = levels
        ) -> Quantized:
            size = group or matrix.shape[1]
            if name in grams:
                return quantizers.gptq(matrix, grams[name], levels, size)
            return quantizers.nearest(matrix, levels, size, search=True)

        yield coded(network, setting, levels, quantize)
