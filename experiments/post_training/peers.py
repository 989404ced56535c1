"""Codecs that need an environment of their own: ONNX Runtime and NNCodec.

Each is a script among the benchmarks. It reads an `.npz` file of arrays, and writes the
file of its kind and the arrays decoded from it.
"""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.post_training import networks
from experiments.post_training.baselines import Coded
from experiments.post_training.networks import Network

_FOLDER = Path(__file__).parents[1] / "benchmarks"


def coded(
    network: Network, settings: Sequence[str], *, python: Path, script: str
) -> Iterator[Coded]:
    """Files made by a script.

    Args:
        network: The network.
        settings: What the script takes for a setting.
        python: The Python of the environment.
        script: Its name, in the folder of the benchmarks.
    """
    # Names mean something to codecs: numbers do not.
    order = list(network.params)
    arrays: dict[str, Any] = {
        f"t{i}": _turned(network, name) for i, name in enumerate(order)
    }
    tables = [f"t{i}" for i, name in enumerate(order) if "embedding" in name]
    for setting in settings:
        with tempfile.TemporaryDirectory() as folder:
            path = partial(Path, folder)
            np.savez(path("in.npz"), **arrays)
            subprocess.run(
                [python, _FOLDER / script, setting, path("in.npz"), path("file"),
                 path("out.npz"), *tables],
                check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            with np.load(path("out.npz")) as file:
                params = {
                    name: _turned_back(network, name, file[f"t{i}"])
                    for i, name in enumerate(order)
                }
            yield Coded(setting, path("file").stat().st_size, params)


def _turned(network: Network, name: str) -> np.ndarray:
    leaf = network.params[name]
    if name in network.layouts:
        return networks.as_matrix(leaf, network.layouts[name])
    return leaf.ravel()


def _turned_back(network: Network, name: str, found: np.ndarray) -> np.ndarray:
    shape = network.params[name].shape
    found = found.astype(np.float32)
    if name in network.layouts:
        return networks.as_leaf(found, network.layouts[name], shape)
    return found.reshape(shape)
