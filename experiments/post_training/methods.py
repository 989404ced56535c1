"""All methods of the benchmark by name, ours among them."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

import deepcomp_jax as dc
from deepcomp_jax import budget, share
from experiments.post_training import baselines, peers
from experiments.post_training.baselines import Coded
from experiments.post_training.networks import Network

OURS = "deepcomp_jax"
NO_DATA = "none"
_BITS = ("1 bits", "1.5 bits", "2 bits", "2.5 bits", "3 bits", "3.5 bits", "4 bits")
_BITS += ("5 bits",)
# Those with a calibration are finer where files are small, as they are useful there.
_CALIBRATED = ("0.5 bits", "0.65 bits", "0.85 bits", "1 bits", "1.5 bits", "2 bits")
_CALIBRATED += (
    "2.2 bits",
    "2.33 bits",
    "2.58 bits",
    "2.68 bits",
    "3 bits",
    "3.42 bits",
)
_KINDS = ("real+random", "real", "random")
_QPS = tuple(f"qp {qp}" for qp in range(-40, -11, 4))


class Method(NamedTuple):
    """A way to make files of several sizes.

    Attributes:
        data: The kinds of data that it is tried with; `NO_DATA` if it needs none.
        settings: Those that it is tried with.
        points: Maps a network, a kind of data and some of the settings to files.
    """

    data: tuple[str, ...]
    settings: tuple[str, ...]
    points: Callable[[Network, str, Sequence[str]], Iterator[Coded]]


def methods(peer_python: Path | None) -> dict[str, Method]:
    """The methods by name.

    Args:
        peer_python: The Python of an environment with ONNX Runtime and NNCodec; without
            it these two are left out.
    """
    found = {
        f"{OURS}, no function": Method((NO_DATA,), _BITS, planned),
        f"{OURS}, within_bytes": Method((NO_DATA,), _BITS, searched),
        f"{OURS}, calibrated": Method(_KINDS, _CALIBRATED, calibrated),
    }
    for name, group in (("rows", None), ("groups of 64", baselines.GROUP)):
        found[f"int, {name} + zstd"] = Method(
            (NO_DATA,), ("4 bits", "5 bits", "6 bits", "8 bits"),
            _without_data(partial(baselines.rounded, group=group)),
        )  # fmt: skip
        found[f"GPTQ, {name} + zstd"] = Method(
            ("real",), ("2 bits", "3 bits", "4 bits"),
            partial(baselines.gptq, group=group),
        )  # fmt: skip
    found["NF4, groups of 64 + zstd"] = Method(
        (NO_DATA,), ("4 bits",), _without_data(baselines.nf4)
    )
    settings = tuple(f"{bits} bits" for bits in (3, 4, 5, 6))
    found["k-means"] = Method((NO_DATA,), settings, clustered)
    if peer_python is None:
        return found
    for name, settings in PEERS.items():
        run = partial(peers.coded, python=peer_python, script=_SCRIPTS[name])
        found[name] = Method((NO_DATA,), settings, _without_data(run))
    return found


PEERS: Mapping[str, tuple[str, ...]] = {
    "ONNX Runtime dynamic": ("int8", "int8 + zstd"),
    "NNCodec 2.1": _QPS,
}
_SCRIPTS = {
    "ONNX Runtime dynamic": "onnxruntime_peer.py",
    "NNCodec 2.1": "nncodec_weights_peer.py",
}


def _without_data(
    points: Callable[[Network, Sequence[str]], Iterator[Coded]],
) -> Callable[[Network, str, Sequence[str]], Iterator[Coded]]:
    return lambda network, _, settings: points(network, settings)


# ---- ours ---------------------------------------------------------------------------


def file_of(setting: str, data: bytes) -> Coded:
    decoded = {name: np.asarray(leaf) for name, leaf in dc.loads(data).items()}
    return Coded(setting, len(data), decoded)


def calibrated(network: Network, data: str, settings: Sequence[str]) -> Iterator[Coded]:
    """Files of so many bits for each value, rounded with feedback.

    The first has the time of the calibration and of what all sizes need.
    """
    found = dc.calibrate(network.fn, network.params, network.calibration(data))
    sizes = [bytes_of(setting, network) for setting in settings]
    points = budget.curve(network.params, sizes, calibration=found)
    for setting, point in zip(settings, points, strict=True):
        yield file_of(setting, point.data)


def searched(network: Network, data: str, settings: Sequence[str]) -> Iterator[Coded]:
    """Files of so many bits for each value of the network, without a calibration."""
    del data
    for setting in settings:
        most = bytes_of(setting, network)
        yield file_of(setting, budget.within_bytes(network.params, most).data)


def bytes_of(setting: str, network: Network) -> int:
    """What a setting such as "2.5 bits" means for a network."""
    return int(float(setting.split()[0]) * network.values() / 8)


def planned(network: Network, data: str, settings: Sequence[str]) -> Iterator[Coded]:
    """What `dcz compress --bits-per-weight` makes of a checkpoint without its code."""
    del data
    for setting in settings:
        bits = float(setting.split()[0])
        rules = budget.plan(network.params, bits_per_weight=bits)
        yield file_of(setting, dc.dumps(dc.compress(network.params, rules)))


def clustered(network: Network, data: str, settings: Sequence[str]) -> Iterator[Coded]:
    """A codebook of k-means for each weight, as in Deep Compression, in our format."""
    del data
    for setting in settings:
        method = share.kmeans(bits=baselines.bits_of(setting))
        rules = [dc.Rule(exactly(name), share=method) for name in network.layouts]
        yield file_of(setting, dc.dumps(dc.compress(network.params, rules)))


def exactly(name: str) -> str:
    """A pattern of one name."""
    return rf"\A{re.escape(name)}\Z"
