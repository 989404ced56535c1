"""The `.dcz` file: a compressed network to bytes, and back.

    file = front | section...      one for each large body, in tree order

`specs/container.md` is the specification; its clauses are named C1, C2... here and in
the errors. `writer` puts a file together and `reader` takes it apart, leaf after leaf;
here are whole networks. Sections are independent, so that a tensor, or a part of it,
can be read without the others.
"""

import contextlib
import io
from collections.abc import Generator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from deepcomp_jax import _threads, codings
from deepcomp_jax._errors import listed
from deepcomp_jax._types import Compressed, DenseLeaf, Progress, SharedLeaf
from deepcomp_jax.format import (
    leaf_encoding,
    leaf_reading,
    reader,
    scales,
    source,
    structures,
)
from deepcomp_jax.format.dtypes import DTYPES as DTYPES
from deepcomp_jax.format.leaf_encoding import Encoded
from deepcomp_jax.format.leaf_encoding import as_labels as as_labels
from deepcomp_jax.format.leaf_header import Layout as Layout
from deepcomp_jax.format.memory_limit import MAX_BYTES as MAX_BYTES
from deepcomp_jax.format.records import Entry as Entry
from deepcomp_jax.format.records import Header as Header
from deepcomp_jax.format.writer import Writer
from deepcomp_jax.streams import rans

# ---- writing ------------------------------------------------------------------------


def dumps(
    compressed: Compressed,
    metadata: Mapping[str, str] | None = None,
    put: rans.Put = rans.put,
    progress: Progress | None = None,
) -> bytes:
    """Writes a network; equal networks give equal bytes.

    Args:
        compressed: The network. `labels` of any integer dtype are written alike.
        metadata: Strings that go with it.
        put: What codes rANS streams.
        progress: Is told of each leaf that is done.

    Returns:
        The bytes of a `.dcz` file.

    Raises:
        ValueError: The network breaks a limit or a rule of the format (C44); says
            which leaf or key and what to do.
        TypeError: The structure or a leaf is of the wrong type.
    """
    writer = Writer(compressed.structure, io.BytesIO())
    if len(writer.names) != len(compressed.leaves):
        raise ValueError(
            f"the structure has {len(writer.names)} leaves, but "
            f"{len(compressed.leaves)} are given"
        )
    _check_codebooks(compressed)
    read = written = 0
    with contextlib.closing(_encoded(compressed, writer.names, put)) as in_turn:
        for done, (encoded, codebook) in enumerate(in_turn, 1):
            written += writer.put(encoded, codebook)
            layout = encoded.layout
            read += layout.size * layout.dtype.itemsize
            if progress is not None:
                progress(done, len(writer.names), read, written)
    out = io.BytesIO()
    writer.finish(out, metadata)
    return out.getvalue()


def _encoded(
    compressed: Compressed, names: Sequence[str], put: rans.Put
) -> Generator[tuple[Encoded, np.ndarray | None], None, None]:
    """The leaves as they are stored, with their codebooks, in order."""

    def encode(
        named: tuple[str, DenseLeaf | SharedLeaf],
    ) -> tuple[Encoded, np.ndarray | None]:
        name, leaf = named
        codebook = None
        if isinstance(leaf, SharedLeaf):
            codebook = compressed.codebooks[leaf.codebook]
        return leaf_encoding.put(name, leaf, codebook, put), codebook

    leaves = list(zip(names, compressed.leaves, strict=True))
    return _threads.in_turn(encode, leaves, lambda named: _size(named[1]))


def _size(leaf: DenseLeaf | SharedLeaf) -> int:
    """How many values a leaf has."""
    values = (
        leaf.labels if isinstance(leaf, SharedLeaf) else getattr(leaf, "values", ())
    )
    return np.size(values)


def _check_codebooks(compressed: Compressed) -> None:
    used = [leaf.codebook for leaf in compressed.leaves if isinstance(leaf, SharedLeaf)]
    if list(dict.fromkeys(used)) != list(range(len(compressed.codebooks))):
        raise ValueError(
            f"the {len(compressed.codebooks)} codebooks must be listed in order of "
            f"first use and each be used, but leaves use {listed(map(str, used))}"
        )


# ---- reading ------------------------------------------------------------------------


def loads(data: bytes, *, max_bytes: int = MAX_BYTES) -> Compressed:
    """Reads a network: the inverse of `dumps`.

    Args:
        data: The bytes of a `.dcz` file.
        max_bytes: The most memory that the values of all leaves may take together, and
            decoding meanwhile: 8 bytes for each value of the largest part. A leaf that
            is stored once for several counts for each. No array is made before it is
            known to fit. What does not count are at most 16 MiB, 256 bytes for each
            byte of the file, and the names of the leaves.

    Returns:
        The network. Labels have the narrowest unsigned dtype that holds them; no two
        leaves are in the same memory.

    Raises:
        FormatError: The data break a clause of the specification, as every damaged or
            cut file does; says where.
    """
    held = source.of_bytes(data)
    return reader.read_network(held, reader.read_header(held), max_bytes=max_bytes)


def read_values(data: bytes, *, max_bytes: int = MAX_BYTES, **loops: Any) -> Any:
    """Reads a network to its values: `variables(loads(data))` in less memory.

    Args:
        data, max_bytes: As for `loads`.
        loops: As for `reader.read_tree`.

    Returns:
        The pytree of the network, with arrays as leaves, no two in the same memory.

    Raises:
        FormatError: As for `loads`.
    """
    held = source.of_bytes(data)
    header = reader.read_header(held)
    return reader.read_tree(held, header, max_bytes=max_bytes, **loops)


def read_header(data: bytes) -> Header:
    """Reads what a file holds, and where.

    Raises:
        FormatError: The header breaks a clause of the specification, or C32.
    """
    return reader.read_header(source.of_bytes(data))


def load_leaf(
    path: str | PathLike[str], name: str, *, max_bytes: int = MAX_BYTES
) -> np.ndarray:
    """Reads one tensor, and of the file no more than the header and its sections.

    Args:
        path: Of the file.
        name: Of the leaf, such as "params/fc1/kernel".
        max_bytes: As for `loads`, of this leaf alone.

    Raises:
        FormatError: The header or the section is damaged, or the file is cut.
        ValueError: There is no leaf of this name.
    """
    with source.opened(path) as file:
        header = reader.read_header(file)
        named = {entry.name: entry for entry in header.leaves}
        if name not in named:
            raise ValueError(f"{path} has no leaf {name!r}, only {listed(named)}")
        reader.check_leaf(named[name], max_bytes)
        return leaf_reading.read_values(file, header, named[name])


def values(
    leaf: DenseLeaf | SharedLeaf, codebooks: tuple[np.ndarray, ...]
) -> np.ndarray:
    """The values of a leaf, in its shape and dtype.

    Args:
        leaf: The leaf.
        codebooks: Those of its network.

    Raises:
        ValueError: Its scales do not fit.
    """
    if isinstance(leaf, DenseLeaf):
        return leaf.values
    codebook = codebooks[leaf.codebook]
    lookup = np.concatenate([np.zeros(1, codebook.dtype), codebook])
    flat = codings.dequantize(leaf.labels.ravel(), lookup)
    if leaf.scales is not None:
        shape = leaf.labels.shape
        exponents = scales.of_leaf("a leaf", shape, leaf.scales, codebook)
        scales.multiply(flat, 0, exponents)
    return flat.reshape(leaf.labels.shape)


def variables(compressed: Compressed) -> Any:
    """The pytree of a network: its containers, with arrays as leaves."""
    leaves = [values(leaf, compressed.codebooks) for leaf in compressed.leaves]
    return structures.fill(compressed.structure, leaves)
