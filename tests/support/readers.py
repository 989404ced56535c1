"""All readers of a `.dcz` file, side by side: each must make the same of every file."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np

import deepcomp_jax as dc
from deepcomp_jax import FormatError, account
from deepcomp_jax._types import Compressed
from deepcomp_jax.format import container

Leaves = list[tuple[str, tuple[int, ...], bytes]]  # dtype, shape, values
Found = Leaves | str  # the leaves in tree order, or the clause that is broken


def reference() -> ModuleType:
    """`specs/decoder.py`, which is no part of the package."""
    path = Path(__file__).parents[2] / "specs/decoder.py"
    spec = importlib.util.spec_from_file_location("decoder", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DECODER = reference()


def of_network(network: Compressed) -> Leaves:
    """The leaves of a network that `loads` has read."""
    return [_bits(container.values(leaf, network.codebooks)) for leaf in network.leaves]


def differing(data: bytes, expected: Found, most: int, scratch: Path | None) -> str:
    """The readers that do not agree with `loads`, in words; nothing if there is none.

    Args:
        data: A file.
        expected: What `loads` made of it.
        most: What it was given as `max_bytes`.
        scratch: Where the file may be written; None leaves out `load_leaf`.
    """
    every: dict[str, Callable[[], Leaves]] = {
        "read_values": lambda: _values(data, most),
        "the decoder of the specification": lambda: _by_decoder(data, most),
        "read_values on a device": lambda: _on_device(data, most),
        "account": lambda: _accounted(data, most, expected),
    }
    found = {name: _outcome(read) for name, read in every.items()}
    wrong = [_said(name, own) for name, own in found.items() if own != expected]
    if scratch is not None and (leaf := _leaf_by_leaf(data, expected, most, scratch)):
        wrong.append(leaf)
    return "; ".join(wrong)


def _outcome(read: Callable[[], Leaves]) -> Found:
    try:
        return read()
    except FormatError as error:
        return error.clause
    except DECODER.Broken as error:
        return str(error)


def _said(name: str, found: Found) -> str:
    return f"{name}: {found if isinstance(found, str) else 'another network'}"


def _bits(array: Any) -> tuple[str, tuple[int, ...], bytes]:
    own = np.asarray(array)
    return own.dtype.name, own.shape, own.tobytes()


def _values(data: bytes, most: int) -> Leaves:
    return _flat(container.read_values(data, max_bytes=most))


def _on_device(data: bytes, most: int) -> Leaves:
    with jax.enable_x64(True):  # else JAX narrows values of 64 bits
        place = jax.devices()[0]
        return _flat(dc.loads(data, device=place, max_bytes=most))


def _flat(node: Any) -> Leaves:
    """The leaves of plain containers, in the order in which they were read."""
    if node is None:
        return []
    if isinstance(node, dict):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        return [leaf for child in node for leaf in _flat(child)]
    return [_bits(node)]


def _by_decoder(data: bytes, most: int) -> Leaves:
    _, leaves, _ = DECODER.decode(data, most)
    return [(dtype, tuple(shape), raw) for _, dtype, shape, raw in leaves]


def _accounted(data: bytes, most: int, expected: Found) -> Leaves:
    """What was expected, if an account has its values and all bits of the file."""
    found = account.account(data, max_bytes=most)
    if isinstance(expected, str):
        return []
    shapes = [(t.layout.dtype.name, t.layout.shape) for t in found.tensors]
    agree = shapes == [leaf[:2] for leaf in expected]
    return expected if agree and sum(found.total) == 8 * len(data) else []


def _leaf_by_leaf(data: bytes, expected: Found, most: int, path: Path) -> str:
    """What `load_leaf` makes of the leaves, where that is something else."""
    try:
        names = [entry.name for entry in container.read_header(data).leaves]
    except FormatError:
        names = ["any"]
    path.write_bytes(data)
    found = [
        _outcome(
            lambda name=name: [_bits(container.load_leaf(path, name, max_bytes=most))]
        )
        for name in names
    ]
    clauses = [own for own in found if isinstance(own, str)]
    if isinstance(expected, str):
        whole = expected in {"C31", "C46"}  # of all leaves together
        agree = whole or expected in clauses or not names
        return "" if agree else _said("load_leaf", "accepts")
    joined = [leaf for own in found if not isinstance(own, str) for leaf in own]
    if joined == expected:
        return ""
    return _said("load_leaf", clauses[0] if clauses else joined)
