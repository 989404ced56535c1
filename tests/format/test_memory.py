"""What reading takes in memory, measured on small files that claim many values."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest

import deepcomp_jax as dc
from deepcomp_jax import account
from deepcomp_jax.device import rans_lanes, rounding
from deepcomp_jax.format import container
from deepcomp_jax.format.records import SMALL
from deepcomp_jax.streams import huffman
from tests.support import small_parts, vector_parts
from tests.support.vector_parts import (
    BFLOAT16,
    GROUPED,
    LEAF,
    ORDER0,
    PACKED,
    PLANES,
    RAW,
    RELATIVE,
    SPARSE,
    header,
    layout,
)

COUNTED = 2 + 8  # bytes that C31 counts for a bfloat16 value
PER_BYTE = 8  # of the file, which says each value of raw and packed leaves; C47: 256
ONE = huffman.encode(np.zeros(1, np.uint8))  # a stream of one symbol, at no bits


class Body(NamedTuple):
    """The body of a bfloat16 leaf of many values, which may be one of several parts."""

    coding: int
    shape: tuple[int, ...]
    body: bytes


def file(own: Body, parts: int = 1) -> bytes:
    """A file of one leaf, divided along its first axis.

    Its codebook, if its coding has one, is of 1.0 and the next number.
    """
    codebook, storage = b"", None
    if own.coding not in (RAW, SPARSE, PLANES):
        codebook = vector_parts.book(bytes.fromhex("803f813f"), 2)
        storage = BFLOAT16
    shape = parts * own.shape[0], *own.shape[1:]
    described = layout(
        shape, own.coding, dtype=BFLOAT16, codebook=codebook, storage=storage
    )
    described += parts * vector_parts.varint(len(own.body))
    if len(own.body) < SMALL:
        return header(tree=LEAF, leaves=described + parts * own.body)
    section = own.body + vector_parts.crc(own.body)
    return header(tree=LEAF, leaves=described) + parts * section


def states(first: int, lanes: int) -> bytes:
    """A rANS stream without words, whose states are 0 but for the first."""
    index = b"\0" if lanes == 1 else b"\1" + vector_parts.varint(lanes) + b"\0"
    return index + first.to_bytes(4, "little") + bytes(4 * (lanes - 1))


def lanes_for(n: int) -> int:
    """So many that the loops in NumPy, which are slow when traced, take few steps."""
    return 512 if n >= 1 << 20 else 32


def relative(n: int) -> Body:
    """All values are kept, and are entry 0."""
    return Body(RELATIVE, (n,), b"\x08\0" + vector_parts.varint(n) + ONE + ONE)


def order0(n: int, lanes: int | None = None) -> Body:
    """A label that is not 0 and then zeros, which a state of 0 gives for ever."""
    return Body(ORDER0, (n,), b"\xff\xff\xc0" + states(1366, lanes or lanes_for(n)))


def grouped(n: int) -> Body:
    """All values are kept, and are entry 0."""
    body = b"\0" + vector_parts.varint(n) + b"\1" + states(0, lanes_for(n))
    return Body(GROUPED, (n,), body)


def grouped_by(shape: tuple[int, ...], axis: int) -> Body:
    """The same, in two groups of as many values."""
    rows = [None] * axis + [[0, 1]] + [None] * (len(shape) - axis - 1)
    n = int(np.prod(shape))
    half = vector_parts.varint(n // 2)
    body = vector_parts.classes(*rows, context=0) + 2 * half + b"\0\1"
    return Body(GROUPED, shape, body + states(0, lanes_for(n)))


def sparse(n: int) -> Body:
    """All values are zero."""
    return Body(SPARSE, (n,), vector_parts.gaps(b"\0", 0))


def planes(n: int) -> Body:
    """All values are 0.0078125: one of their two bytes has a model, the other none."""
    blocks = -(-n // 2**14)
    flags = np.packbits(np.ones(blocks, bool)).tobytes() if blocks > 1 else b""
    heads = b"\2\x3c\xff\xf0" + flags + b"\1\0" + flags
    return Body(PLANES, (n,), heads + states(0, lanes_for(n)))


def packed(n: int) -> Body:
    """All values are zero, in two bits each."""
    return Body(PACKED, (n,), bytes(-(-2 * n // 8)))


def raw(n: int) -> Body:
    """All values are 0.0078125, as they are."""
    return Body(RAW, (n,), b"\0\x3c" * n)


BODIES: dict[str, Callable[[int], Body]] = {
    "raw": raw,
    "packed": packed,
    "sparse": sparse,
    "planes": planes,
    "relative": relative,
    "order0": order0,
    "grouped": grouped,
    "grouped-rows-of-one": lambda n: grouped_by((2, n // 2, 1), 0),
    "grouped-long-rows": lambda n: grouped_by((2, n // 2), 0),
    "grouped-short-rows": lambda n: grouped_by((n // 2, 2), 1),
    "grouped-many-rows": lambda n: grouped_by((2, n // 4, 2), 0),
}
READERS: dict[str, Callable[[Path], Any]] = {
    "loads": lambda path: container.loads(path.read_bytes()),
    "read_values": lambda path: container.read_values(path.read_bytes()),
    "read_values on a device": lambda path: dc.load(path, device=jax.devices()[0]),
    "load_leaf": lambda path: container.load_leaf(path, ""),
    "account": lambda path: account.account(path.read_bytes()),
}


def peak(read: Callable[[Path], Any], path: Path, data: bytes) -> int:
    """The most memory that is held at once, in bytes."""
    path.write_bytes(data)
    tracemalloc.start()
    read(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.spec("C47", "C31")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BODIES)
def test_a_value_takes_no_more_than_is_counted(name: str, reader: str, tmp_path: Path):
    n = 1 << 20  # a block of the compiled loops, whose arrays are there once
    data = [file(BODIES[name](size)) for size in (n, 2 * n)]
    assert name in ("raw", "packed") or len(data[1]) < n / 400
    few, many = (peak(READERS[reader], tmp_path / "m.dcz", own) for own in data)
    said = PER_BYTE * (len(data[1]) - len(data[0]))
    assert many - few < COUNTED * n + said
    assert few < COUNTED * n + said + (1 << 24)


@pytest.mark.spec("C47", "C31", "C58")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", BODIES)
def test_a_value_of_a_leaf_in_parts_takes_its_own_bytes(
    name: str, reader: str, tmp_path: Path
):
    """What decoding takes besides is that of a part, however large the leaf is."""
    n, few, many = 1 << 13, 8, 16
    path, read = tmp_path / "m.dcz", READERS[reader]
    data = [file(BODIES[name](n), number) for number in (few, many)]
    with small_parts.limited(n):
        peaks = [peak(read, path, own) for own in data]
    held = 0 if reader == "load_leaf" else len(data[1]) - len(data[0])
    described = 1 << 14  # sizes and places of bodies, which count by the file's size
    assert peaks[1] - peaks[0] < 2 * (many - few) * n + held + described


@pytest.mark.spec("C47", "C31")
@pytest.mark.usefixtures("even_few_lanes")
@pytest.mark.parametrize(
    "name",
    [name for name in BODIES if name.startswith(("order0", "grouped", "planes"))],
)
def test_nor_does_it_in_the_compiled_loop(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its own arrays, which are not traced, are those of one block (`test_device`)."""
    n, blocks, loop = 1 << 17, 0, rans_lanes._lock_step

    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal blocks
        blocks += 1
        return loop(*args, **kwargs)

    monkeypatch.setattr(rans_lanes, "_lock_step", counted)
    path, read = tmp_path / "m.dcz", READERS["read_values on a device"]
    data = [file(BODIES[name](size)) for size in (n, 2 * n)]
    peak(read, path, data[0])  # compiles the loop
    few, many = (peak(read, path, own) for own in data)
    assert blocks >= 4 * n // rounding.BLOCK
    assert many - few < COUNTED * n


@pytest.mark.spec("C47")
def test_a_lane_alone_is_decoded_in_blocks(tmp_path: Path):
    n = 1 << 16
    path, read = tmp_path / "m.dcz", READERS["loads"]
    data = [file(order0(size, lanes=1)) for size in (n, 3 * n)]
    assert len(data[0]) < 32
    few, many = (peak(read, path, own) for own in data)
    assert many - few < COUNTED * 2 * n
