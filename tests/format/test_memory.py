"""What reading takes in memory, measured on small files that claim many values."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepcomp_jax import account, device
from deepcomp_jax.device import rans_lanes, rounding
from deepcomp_jax.format import container
from deepcomp_jax.format.file_header import SMALL
from deepcomp_jax.streams import huffman
from tests.support import vector_parts as parts
from tests.support.vector_parts import (
    BFLOAT16,
    GROUPED,
    LEAF,
    ORDER0,
    PACKED,
    RAW,
    RELATIVE,
    SPARSE,
    header,
    layout,
)

COUNTED = 2 + 8  # bytes that C31 counts for a bfloat16 value
PER_BYTE = 8  # of the file, which says each value of raw and packed leaves; C47: 256
ONE = huffman.encode(np.zeros(1, np.uint8))  # a stream of one symbol, at no bits


def file(body: bytes, coding: int, shape: tuple[int, ...]) -> bytes:
    """A file of one bfloat16 leaf with a codebook of 1.0 and the next number."""
    codebook = parts.book(bytes.fromhex("803f813f"), 2)
    described = layout(
        shape, coding, dtype=BFLOAT16, codebook=codebook, storage=BFLOAT16
    )
    described += parts.varint(len(body))
    if len(body) < SMALL:
        return header(tree=LEAF, leaves=described + body)
    return header(tree=LEAF, leaves=described) + body + parts.crc(body)


def states(first: int, lanes: int) -> bytes:
    """A rANS stream without words, whose states are 0 but for the first."""
    index = b"\0" if lanes == 1 else b"\1" + parts.varint(lanes) + b"\0"
    return index + first.to_bytes(4, "little") + bytes(4 * (lanes - 1))


def relative(n: int) -> bytes:
    """All values are kept, and are entry 0."""
    return file(b"\x08\0" + parts.varint(n) + ONE + ONE, RELATIVE, (n,))


def order0(n: int, lanes: int = 32) -> bytes:
    """A label that is not 0 and then zeros, which a state of 0 gives for ever."""
    return file(b"\xff\xff\xc0" + states(1366, lanes), ORDER0, (n,))


def grouped(n: int, lanes: int = 32) -> bytes:
    """All values are kept, and are entry 0."""
    body = b"\0" + parts.varint(n) + b"\1" + states(0, lanes)
    return file(body, GROUPED, (n,))


def grouped_by(shape: tuple[int, ...], axis: int) -> bytes:
    """The same, in two groups of as many values."""
    rows = [None] * axis + [[0, 1]] + [None] * (len(shape) - axis - 1)
    half = parts.varint(int(np.prod(shape)) // 2)
    body = parts.classes(*rows, context=0) + 2 * half + b"\0\1" + states(0, 32)
    return file(body, GROUPED, shape)


def sparse(n: int) -> bytes:
    """All values are zero."""
    return parts.leaf(parts.gaps(b"\0", 0), (n,), SPARSE, dtype=BFLOAT16)


def packed(n: int) -> bytes:
    """All values are zero, in two bits each."""
    return file(bytes(-(-2 * n // 8)), PACKED, (n,))


def raw(n: int) -> bytes:
    """All values are 0.0078125, as they are."""
    return parts.leaf(b"\0\x3c" * n, (n,), RAW, dtype=BFLOAT16)


FILES: dict[str, Callable[[int], bytes]] = {
    "raw": raw,
    "packed": packed,
    "sparse": sparse,
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
    "read_values on a device": lambda path: container.read_values(
        path.read_bytes(), decode=device.values
    ),
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
@pytest.mark.parametrize("name", FILES)
def test_a_value_takes_no_more_than_is_counted(name: str, reader: str, tmp_path: Path):
    n = 1 << 18  # of which compiled loops, with arrays of their own, decode all or none
    data = [FILES[name](size) for size in (n, 2 * n)]
    assert name in ("raw", "packed") or len(data[1]) < 250
    few, many = (peak(READERS[reader], tmp_path / "m.dcz", own) for own in data)
    said = PER_BYTE * (len(data[1]) - len(data[0]))
    assert many - few < COUNTED * n + said
    assert few < COUNTED * n + said + (1 << 24)


@pytest.mark.spec("C47", "C31")
@pytest.mark.usefixtures("even_few_lanes")
@pytest.mark.parametrize(
    "name", [name for name in FILES if name.startswith(("order0", "grouped"))]
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
    data = [FILES[name](size) for size in (n, 2 * n)]
    peak(read, path, data[0])  # compiles the loop
    few, many = (peak(read, path, own) for own in data)
    assert blocks >= 4 * n // rounding.BLOCK
    assert many - few < COUNTED * n


@pytest.mark.spec("C47")
def test_a_lane_alone_is_decoded_in_blocks(tmp_path: Path):
    n = 1 << 16
    path, read = tmp_path / "m.dcz", READERS["loads"]
    data = [order0(size, lanes=1) for size in (n, 3 * n)]
    assert len(data[0]) < 32
    few, many = (peak(read, path, own) for own in data)
    assert many - few < COUNTED * 2 * n
