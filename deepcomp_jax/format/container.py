"""The `.dcz` file: a compressed network to bytes, and back.

    file = front | section...      one section for each large leaf, in tree order

`specs/container.md` is the specification; its clauses are named C1, C2... here and in
the errors. The header is read and written in `file_header` and `tree_header`, the
sections in `leaf_body`. Sections are independent, so a tensor can be read without the
others.
"""

import os
import stat
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError, listed
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf, Structure
from deepcomp_jax.format import (
    byte_codebooks,
    codebook_header,
    copies,
    file_header,
    leaf_body,
    tree_header,
)
from deepcomp_jax.format.dtypes import DTYPES as DTYPES
from deepcomp_jax.format.dtypes import FLOATING, WORDS
from deepcomp_jax.format.file_header import Entry as Entry
from deepcomp_jax.format.file_header import Header as Header
from deepcomp_jax.format.files import write as write
from deepcomp_jax.format.leaf_body import coded_words as coded_words
from deepcomp_jax.format.leaf_header import Layout as Layout
from deepcomp_jax.streams import bits

MAX_BYTES = 1 << 32  # of memory, if the caller does not say otherwise (C31)
MAX_CLASS_INDICES = 1 << 22  # of a file: some microseconds each, and no bits (C46)


# ---- writing ------------------------------------------------------------------------


def dumps(compressed: Compressed) -> bytes:
    """Writes a network; equal networks give equal bytes.

    Args:
        compressed: The network. `labels` of any integer dtype are written alike.

    Returns:
        The bytes of a `.dcz` file.

    Raises:
        ValueError: The network breaks a limit or a rule of the format (C44); says
            which leaf or key and what to do.
        TypeError: The structure or a leaf is of the wrong type.
    """
    tree = tree_header.put(compressed.structure)
    names, problem = tree_header.leaf_names(compressed.structure)
    if problem:
        raise ValueError(f"{problem.message}: rename a key")
    if len(names) != len(compressed.leaves):
        raise ValueError(
            f"the structure has {len(names)} leaves, but {len(compressed.leaves)} "
            "are given"
        )
    _check_codebooks(compressed)
    leaves = [
        leaf_body.put(name, leaf, compressed.codebooks)
        for name, leaf in zip(names, compressed.leaves, strict=True)
    ]
    return join(tree, *copies.find(leaves, compressed.codebooks))


def join(
    tree: bytes,
    leaves: Sequence[tuple[Layout, bytes]],
    codebooks: Sequence[np.ndarray],
) -> bytes:
    """Puts a file together from its parts.

    Args:
        tree: The strings and the tree.
        leaves: Layout and body of each leaf, that of a copy being empty.
        codebooks: In order of first use.

    Raises:
        ValueError: The codebooks or the classes are too many together.
    """
    _check_classes(leaves)
    out = [file_header.put(tree, codebooks, leaves)]
    for _, body in leaves:
        if len(body) >= file_header.SMALL:
            out += [body, file_header.checksum(body)]
    return b"".join(out)


def _check_classes(leaves: Sequence[tuple[Layout, bytes]]) -> None:
    total = sum(leaf_body.class_indices(layout, body) for layout, body in leaves)
    if total > MAX_CLASS_INDICES:
        raise ValueError(
            f"{total} indices of axes have classes, above {MAX_CLASS_INDICES}: name "
            "the coding of some leaves, such as 'order0', or split the network"
        )


def _check_codebooks(compressed: Compressed) -> None:
    used = [leaf.codebook for leaf in compressed.leaves if isinstance(leaf, SharedLeaf)]
    if list(dict.fromkeys(used)) != list(range(len(compressed.codebooks))):
        raise ValueError(
            f"the {len(compressed.codebooks)} codebooks must be listed in order of "
            f"first use and each be used, but leaves use {listed(map(str, used))}"
        )
    for number, codebook in enumerate(compressed.codebooks):
        if codebook.ndim != 1 or codebook.dtype not in (*FLOATING, *WORDS):
            raise ValueError(
                f"codebook {number} is {codebook.dtype}{list(codebook.shape)}, not a "
                "vector of a floating dtype or one of one byte"
            )
        rules = byte_codebooks if codebook.dtype in WORDS else codebook_header
        if problem := rules.problem(codebook):
            raise ValueError(
                f"codebook {number}: {problem.message}; share with fewer clusters, or "
                "leave these leaves out of sharing"
            )


# ---- reading ------------------------------------------------------------------------


def loads(data: bytes, *, max_bytes: int = MAX_BYTES) -> Compressed:
    """Reads a network: the inverse of `dumps`.

    Args:
        data: The bytes of a `.dcz` file.
        max_bytes: The most memory that the values of all leaves may take together, and
            decoding meanwhile: 8 bytes for each value of the largest leaf. A leaf that
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
    header = check(data, max_bytes)

    def get(entry: Entry) -> DenseLeaf | SharedLeaf:
        return leaf_body.get(entry, _section_of(entry, data), header.codebooks)

    leaves = copies.read(header.leaves, get, copies.again)
    return Compressed(header.structure, tuple(leaves), header.codebooks)


def read_values(
    data: bytes,
    header: Header | None = None,
    *,
    max_bytes: int = MAX_BYTES,
    decode: leaf_body.Decode = codings.decode,
    copy: Callable[[Any], Any] = np.copy,
) -> Any:
    """Reads a network straight to its values: `variables(loads(data))` in less memory.

    Args:
        data: The bytes of a `.dcz` file.
        header: Its header, for those who have read it already.
        max_bytes: As for `loads`.
        decode: What reads labels, for those who want other arrays than NumPy's: from
            coding, body, leaf and lookup table to values.
        copy: What copies such an array, or one of NumPy.

    Returns:
        The pytree of the network, with arrays as leaves, no two in the same memory.

    Raises:
        FormatError: As `loads` does.
    """
    header = check(data, max_bytes, header)

    def get(entry: Entry) -> Any:
        section = _section_of(entry, data)
        return leaf_body.get_values(entry, section, header.codebooks, decode)

    return _fill(header.structure, copies.read(header.leaves, get, copy))


def read_header(data: bytes) -> Header:
    """Reads what a file holds, and where.

    Args:
        data: A file, or its first bytes up to the first section at least.

    Raises:
        FormatError: The header breaks a clause of the specification.
    """
    return file_header.get(data)


def check(data: bytes, max_bytes: int, header: Header | None = None) -> Header:
    """Reads a header, and checks what it says of the whole file.

    Args:
        data: The bytes of a `.dcz` file.
        max_bytes: As for `loads`.
        header: Of the file, if it was read already.

    Returns:
        The header of a file that can be decoded in that memory and in reasonable time.

    Raises:
        FormatError: As `read_header` does, or C31, C32, C46.
    """
    header = header or read_header(data)
    file_header.check_sizes(header, len(data))
    file_header.check_memory(header.leaves, max_bytes)
    total = sum(
        leaf_body.class_indices(entry.layout, _first_of(entry, data))
        for entry in header.leaves
    )
    if total > MAX_CLASS_INDICES:
        raise FormatError(
            f"{total} indices of axes have classes, above {MAX_CLASS_INDICES}",
            offset=header.size,
            clause="C46",
        )
    return header


def _first_of(entry: Entry, data: bytes) -> bytes:
    size = min(entry.size, bits.MAX_VARINT_BYTES)
    return data[entry.offset : entry.offset + size]


def read_file(path: str | PathLike[str]) -> tuple[bytes, Header]:
    """Reads a file whole, if its first bytes and its size are those of a `.dcz` file.

    Args:
        path: Of the file. One that is not regular, such as a pipe, has no size.

    Returns:
        Its bytes and its header.

    Raises:
        FormatError: C1 to C6, or another clause of the header, or C32.
    """
    with Path(path).open("rb") as file:
        front = file.read(file_header.PREFIX_BYTES)
        end = file_header.end(front)
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            data = front + file.read()
            return data, read_header(data)
        front += file.read(max(min(end, status.st_size) - len(front), 0))
        header = read_header(front)
        file_header.check_sizes(header, status.st_size)
        return front + file.read(), header


def load_leaf(
    path: str | PathLike[str],
    name: str,
    *,
    max_bytes: int = MAX_BYTES,
    decode: leaf_body.Decode = codings.decode,
) -> Any:
    """Reads one tensor, and of the file no more than the header and its section.

    Args:
        path: Of the file.
        name: Of the leaf, such as "params/fc1/kernel".
        max_bytes: As for `loads`, of this leaf alone.
        decode: As for `read_values`.

    Raises:
        FormatError: The header or the section is damaged, or the file is cut.
        ValueError: There is no leaf of this name.
    """
    with Path(path).open("rb") as file:
        file_bytes = os.fstat(file.fileno()).st_size
        front = file.read(file_header.PREFIX_BYTES)
        more = min(file_header.end(front), file_bytes) - len(front)
        header = read_header(front + file.read(max(more, 0)))
        file_header.check_sizes(header, file_bytes)
        named = {entry.name: entry for entry in header.leaves}
        if name not in named:
            raise ValueError(f"{path} has no leaf {name!r}, only {listed(named)}")
        file_header.check_memory([named[name]], max_bytes)
        entry = copies.original(named[name], header.leaves)
        file.seek(entry.offset)
        section = file.read(entry.size + entry.checksum_bytes)
    return leaf_body.get_values(entry, section, header.codebooks, decode)


def values(
    leaf: DenseLeaf | SharedLeaf, codebooks: tuple[np.ndarray, ...]
) -> np.ndarray:
    """The values of a leaf, in its shape and dtype.

    Args:
        leaf: The leaf.
        codebooks: Those of its network.
    """
    if isinstance(leaf, DenseLeaf):
        return leaf.values
    codebook = codebooks[leaf.codebook]
    lookup = np.concatenate([np.zeros(1, codebook.dtype), codebook])
    return codings.dequantize(leaf.labels.ravel(), lookup).reshape(leaf.labels.shape)


def variables(compressed: Compressed) -> Any:
    """The pytree of a network: its containers, with arrays as leaves."""
    leaves = [values(leaf, compressed.codebooks) for leaf in compressed.leaves]
    return _fill(compressed.structure, leaves)


def _fill(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The containers, with leaves in place of their numbers."""

    def visit(node: Structure) -> Any:
        if isinstance(node, dict):
            return {key: visit(child) for key, child in node.items()}
        if isinstance(node, list):
            return [visit(child) for child in node]
        if isinstance(node, tuple):
            return tuple(visit(child) for child in node)
        if node is None:
            return None
        return leaves[node]

    return visit(structure)


def _section_of(entry: Entry, data: bytes) -> bytes:
    return data[entry.offset : entry.offset + entry.size + entry.checksum_bytes]
