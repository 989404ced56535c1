"""What reading takes in memory, measured on small files that claim many values."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deepcomp_jax import account, container, huffman
from deepcomp_jax._dtypes import DTYPES
from tests import vector_parts as parts
from tests.vector_parts import BFLOAT16, DENSE, DENSITY, LEAF, RELATIVE, header, layout

SIZE = 1 << 22  # values, so many that bytes of each of them show
BESIDE, EACH = 1 << 24, 256  # bytes that C47 does not count: some, and for each byte


def file(body: bytes, coding: int, shape: tuple[int, ...] = (SIZE,)) -> bytes:
    """A file of one bfloat16 leaf with a codebook of 1.0 and the next number."""
    codebook = parts.book(bytes.fromhex("803f813f"), 2)
    described = layout(
        shape, coding, dtype=BFLOAT16, codebook=codebook, storage=BFLOAT16
    )
    return header(tree=LEAF, leaves=described + parts.varint(len(body)) + body)


def state(number: int) -> bytes:
    """A rANS stream of one lane without words."""
    return b"\0" + number.to_bytes(4, "little")


def density(front: bytes, counts: tuple[int, ...]) -> bytes:
    """A body whose weights are all of entry 0 and in a row, by a lane in state 0."""
    numbers = b"".join(map(parts.varint, counts))
    splits = b"\0" if front != b"\0" else b""
    return front + numbers + splits + b"\1" + state(0)


ONE = huffman.encode(np.zeros(1, np.uint8))  # a stream of one symbol, at no bits
ALL = b"\x08\0" + parts.varint(SIZE) + ONE  # gaps of all values
LOW_BITS = b"\x08\4" + parts.varint(0) + huffman.encode(np.zeros(0, np.uint8))
TWO = parts.classes([0, 1], context=0)[1:]
FILES = {
    "packed-without-entries": header(
        tree=LEAF,
        leaves=layout((SIZE,), 2, codebook=b"\0", storage=9) + b"\0",
    ),
    "relative": file(ALL + ONE, RELATIVE),
    "relative-without-gaps": file(LOW_BITS + b"\0", RELATIVE),
    # One label that is not zero and then zeros, which a state of 0 gives for ever.
    "dense": file(b"\xff\xff\xc0" + state(1366), DENSE),
    "dense-of-one-symbol": file(b"\xfc\0\0" + state(0), DENSE),
    "density": file(density(b"\0", (SIZE,)), DENSITY),
    "density-half": file(density(b"\0", (SIZE // 2,)), DENSITY),
    "density-rows": file(
        density(b"\1" + TWO, (SIZE // 2, SIZE // 2)), DENSITY, (2, SIZE // 2, 1)
    ),
    "density-one-row": file(
        density(b"\1" + TWO, (SIZE // 2, SIZE // 2)), DENSITY, (2, SIZE // 2)
    ),
    "density-columns": file(
        density(b"\2" + TWO, (SIZE // 2, SIZE // 2)), DENSITY, (SIZE // 2, 2)
    ),
    "density-middle": file(
        density(b"\1" + TWO, (SIZE // 2, SIZE // 2)), DENSITY, (2, SIZE // 4, 2)
    ),
}
READERS: dict[str, Callable[[bytes, Path], Any]] = {
    "loads": lambda data, _: container.loads(data),
    "read_values": lambda data, _: container.read_values(data),
    "load_leaf": lambda _, path: container.load_leaf(path, ""),
    "account": lambda data, _: account.account(data),
}


@pytest.mark.spec("C47", "C31")
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("name", FILES)
def test_small_files_of_many_values(name: str, reader: str, tmp_path: Path):
    data = FILES[name]
    assert len(data) < 60
    layout = container.read_header(data).leaves[0].layout
    counted = layout.size * (DTYPES[BFLOAT16].itemsize + 8)
    (tmp_path / "m.dcz").write_bytes(data)
    tracemalloc.start()
    READERS[reader](data, tmp_path / "m.dcz")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < counted + BESIDE + EACH * len(data)
