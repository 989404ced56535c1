"""Leaves in parts: how they are divided, and what is read of them."""

import itertools
import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcomp_jax import FormatError, account, codings
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.format import container, dtypes, leaf_reading, parts, reader, source
from deepcomp_jax.format.leaf_header import RAW, SPARSE
from tests.support import readers, small_parts, strategies
from tests.support.readers import DECODER

MOST = 1 << 24  # of memory
BOOK = np.array([-1, 0.5, 2], np.float32)
CODED = *dtypes.FLOATING, *dtypes.WORDS  # dtypes that may have a codebook
STORED = [
    *(("dense", dtype) for dtype in container.DTYPES),
    *((coding, dtype) for coding in codings.ALL for dtype in CODED),
]


def any_shape() -> st.SearchStrategy[tuple[int, ...]]:
    """Shapes that a file can hold, of no value up to 2**63."""
    size = st.integers(0, 5) | st.integers(0, 62).flatmap(
        lambda power: st.integers(2**power - 1, 2**power + 1)
    )
    return (
        st.lists(size, max_size=6)
        .map(tuple)
        .filter(lambda shape: math.prod(n or 1 for n in shape) < 2**63)
    )


def limits() -> st.SearchStrategy[int]:
    """Limits under which leaves of a few values have many parts."""
    return st.integers(1, 60)


# ---- how a leaf is divided ----------------------------------------------------------


@pytest.mark.spec("C58")
@settings(max_examples=300)
@given(any_shape(), st.data())
def test_parts_have_every_value_once(shape: tuple[int, ...], draw: st.DataObject):
    found, size = parts.divide(shape), math.prod(shape)
    last = found.number - 1
    assert found.span(0).start == 0
    assert found.span(last).stop == size
    assert (found.number == 1) == (size <= 2**22)
    here = draw.draw(st.integers(0, last))
    for part in {0, here, last}:
        own, span = found.shape(part), found.span(part)
        assert math.prod(own) == span.stop - span.start <= found.largest <= 2**22
        assert found.number == 1 or math.prod(own) > 0
        assert part == last or found.span(part + 1).start == span.stop
        assert part == last or own == found.shape(0)
    assert found.number == 1 or found.largest > 2**21  # half of what it may be


@pytest.mark.spec("C58")
@settings(max_examples=300)
@given(any_shape(), limits() | st.just(2**22))
def test_the_decoder_divides_as_the_library(shape: tuple[int, ...], most: int):
    with small_parts.limited(most):
        found = parts.divide(shape)
        slow = list(itertools.islice(DECODER.shapes_of_parts(shape), 50))
        assert slow == [found.shape(i) for i in range(min(found.number, 50))]


@pytest.mark.parametrize(
    ("shape", "first", "number", "last"),
    [
        ((), (), 1, ()),
        ((2**22,), (2**22,), 1, (2**22,)),
        ((2**22 + 1,), (2**22,), 2, (1,)),
        ((2**40, 0), (2**40, 0), 1, (2**40, 0)),
        ((2, 2**22), (1, 2**22), 2, (1, 2**22)),
        ((2, 2**22 + 1), (2**22,), 3, (2,)),  # of both rows, one after the other
        ((4096, 4096), (1024, 4096), 4, (1024, 4096)),
        ((2, 3000, 4096), (1024, 4096), 6, (880, 4096)),  # of both layers
        ((24, 1024, 4096), (1, 1024, 4096), 24, (1, 1024, 4096)),
        ((24, 16, 1024, 4096), (1, 1024, 4096), 384, (1, 1024, 4096)),
        ((1, 1, 3, 2**21, 1), (2, 2**21, 1), 2, (1, 2**21, 1)),
        ((2**62,), (2**22,), 2**40, (2**22,)),
    ],
)
@pytest.mark.spec("C58")
def test_shapes(
    shape: tuple[int, ...],
    first: tuple[int, ...],
    number: int,
    last: tuple[int, ...],
):
    found = parts.divide(shape)
    assert (found.shape(0), found.number) == (first, number)
    assert found.shape(number - 1) == last


# ---- whole networks -----------------------------------------------------------------


@pytest.mark.spec("C38", "C39", "C58")
@settings(max_examples=60)
@given(strategies.networks(), limits())
def test_networks_in_parts_come_back(network: Compressed, most: int):
    with small_parts.limited(most), tempfile.TemporaryDirectory() as folder:
        data = container.dumps(network)
        back = container.loads(data)
        assert repr(back.structure) == repr(network.structure)
        expected = readers.of_network(network)
        assert readers.of_network(back) == expected
        assert container.dumps(back) == data
        path = Path(folder) / "m.dcz"
        assert readers.differing(data, expected, MOST, path) == ""


@pytest.mark.spec("C39", "C58")
@pytest.mark.parametrize(("coding", "dtype"), STORED, ids=str)
def test_every_dtype_in_every_coding(coding: str, dtype: np.dtype, tmp_path: Path):
    rng = np.random.default_rng(0)
    kept = rng.random((11, 2, 30)) < 0.4
    books: tuple[np.ndarray, ...] = ()
    if coding == "dense":
        leaf = DenseLeaf(kept.astype(dtype))
    else:
        books = (np.ones(1, dtype),)
        leaf = SharedLeaf(kept.astype(np.uint8), 0, coding)
    network = Compressed([0, 1], (leaf, leaf), books)
    with small_parts.limited(125):
        data = container.dumps(network)
        first, copy = container.read_header(data).leaves
        assert len(first.sections) == 6  # of two indices each, and the last one of one
        assert copy.sections == ()
        expected = readers.of_network(network)
        assert readers.of_network(container.loads(data)) == expected
        assert readers.differing(data, expected, MOST, tmp_path / "m.dcz") == ""


@pytest.mark.spec("C40", "C58")
@pytest.mark.parametrize(("thin", "coding"), [(0, SPARSE), (1, RAW)])
def test_the_first_part_chooses_the_coding(thin: int, coding: int):
    values = np.random.default_rng(0).integers(1, 2**63, (2, 500))  # noise
    values[thin, :-1] = 0
    with small_parts.limited(500):
        (entry,) = container.read_header(container.dumps(dense(values))).leaves
    assert entry.layout.coding == coding
    sizes = [section.size for section in entry.sections]
    assert (min(sizes) < 20) == (coding == SPARSE)
    assert max(sizes) >= 4000


@pytest.mark.spec("C58", "A1")
def test_the_account_of_parts():
    """Bits are those of all parts; what is counted of values does not change."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, (8, 600)) * (rng.random((8, 600)) < 0.3)
    for coding in codings.ALL:
        network = Compressed([0], (SharedLeaf(labels, 0, coding),), (BOOK,))
        whole = account.account(container.dumps(network))
        with small_parts.limited(600):
            data = container.dumps(network)
            found = account.account(data, compare=True)
            sections = container.read_header(data).leaves[0].sections
        (one,), (several,) = whole.tensors, found.tensors
        assert sum(found.total) == 8 * len(data)
        assert several.body_bytes == sum(section.size for section in sections)
        counts = [(t.size, t.kept, t.unique, t.stored) for t in (one, several)]
        assert counts[0] == counts[1]
        assert several.coding == one.coding == coding
        assert several.runner_up is not None
        assert several.runner_up[0] != coding


@pytest.mark.spec("C38", "C58")
def test_gaps_have_the_width_that_all_parts_have():
    """Parts of unequal density have unequal low bits, and so none in common."""
    labels = np.zeros((3, 500), np.uint8)
    labels[0, 100::199] = labels[1:, ::3] = 1
    for gap_bits, width in [(None, 0), (5, 5)]:
        leaf = SharedLeaf(labels, 0, "relative", gap_bits)
        with small_parts.limited(500):
            data = container.dumps(Compressed([0], (leaf,), (BOOK,)))
            back = container.loads(data)
            assert container.dumps(back) == data
            (tensor,) = account.account(data).tensors
        assert back.leaves[0][1:] == (0, "relative", gap_bits, None)
        assert tensor.gap_bits == width


def dense(*values: np.ndarray) -> Compressed:
    """A list of leaves stored value by value."""
    return Compressed([*range(len(values))], tuple(map(DenseLeaf, values)), ())


# ---- parts of files -----------------------------------------------------------------


@pytest.mark.spec("C42", "C57", "C58")
@settings(max_examples=60)
@given(strategies.networks(), limits(), st.data())
def test_slices_are_those_of_the_whole(
    network: Compressed, most: int, draw: st.DataObject
):
    with small_parts.limited(most):
        held = source.of_bytes(container.dumps(network))
        header = reader.read_header(held)
        for entry in header.leaves:
            whole = leaf_reading.read_values(held, header, entry)
            if not entry.layout.shape:
                continue
            size = entry.layout.shape[0]
            start = draw.draw(st.integers(0, size))
            rows = slice(start, draw.draw(st.integers(start, size)))
            found = leaf_reading.read_values(held, header, entry, rows)
            assert (found.dtype, found.shape) == (whole.dtype, whole[rows].shape)
            assert found.tobytes() == whole[rows].tobytes()
            assert found.flags.writeable


def stacked(coding: str | None) -> Compressed:
    """A leaf of six layers of 2000 values, and one that is not read."""
    labels = np.arange(12_000).reshape(6, 20, 100) * 7 % 5 % 4
    leaf = DenseLeaf(np.random.default_rng(0).integers(1, 2**63, labels.shape))
    if coding is not None:
        leaf = SharedLeaf(labels, 0, coding)
    other = DenseLeaf(np.arange(1000))
    return Compressed([0, 1], (leaf, other), (BOOK,) if coding else ())


@pytest.mark.spec("C42", "C58")
@pytest.mark.parametrize("coding", [None, "packed", "order0", "grouped"])
@pytest.mark.parametrize("rows", [slice(2, 3), slice(1, 4), slice(5, 6), slice(3, 3)])
def test_a_slice_is_read_from_its_own_parts(coding: str | None, rows: slice):
    with small_parts.limited(2000):
        data = container.dumps(stacked(coding))
        header = container.read_header(data)
        entry = header.leaves[0]
        whole = leaf_reading.read_values(source.of_bytes(data), header, entry)
        read: list[tuple[int, int]] = []

        def noted(offset: int, size: int) -> bytes:
            read.append((offset, size))
            return data[offset : offset + size]

        held = source.Source(noted, len(data))
        found = leaf_reading.read_values(held, header, entry, rows)
    assert found.tobytes() == whole[rows].tobytes()
    own = [entry.sections[part] for part in range(6)[rows]]
    assert read == [(s.offset, s.size + s.checksum_bytes) for s in own]


@pytest.mark.spec("C33", "C42")
def test_a_damaged_part_is_named_and_others_are_read():
    with small_parts.limited(2000):
        data = bytearray(container.dumps(stacked(None)))
        header = container.read_header(bytes(data))
        entry = header.leaves[0]
        section = entry.sections[3]
        data[section.offset + 5] ^= 1
        held = source.of_bytes(bytes(data))
        for rows in (slice(0, 3), slice(4, 6)):
            leaf_reading.read_values(held, header, entry, rows)
        for rows in (None, slice(2, 4), slice(3, 4)):
            with pytest.raises(FormatError, match="leaf '0': the section") as caught:
                leaf_reading.read_values(held, header, entry, rows)
            assert caught.value.offset == section.offset + section.size
            assert caught.value.clause == "C33"


@pytest.mark.spec("C31", "C57")
def test_memory_is_that_of_the_values_and_of_the_largest_part():
    n = 1000
    leaf = SharedLeaf(np.ones((10, n), np.uint8), 0, "packed")
    small = SharedLeaf(np.ones(2 * n - 1, np.uint8), 0, "packed")
    network = Compressed([0, 1, 2], (leaf, leaf, small), (BOOK,))
    with small_parts.limited(3 * n):
        data = container.dumps(network)
        assert len(container.read_header(data).leaves[0].sections) == 4
        most = 4 * (20 * n + 2 * n - 1) + 8 * 3 * n  # float32, and a part of 3 rows
        for read in (container.loads, container.read_values, account.account):
            read(data, max_bytes=most)
            with pytest.raises(FormatError, match="C31"):
                read(data, max_bytes=most - 1)
        DECODER.decode(data, most)
        with pytest.raises(DECODER.Broken, match="C31"):
            DECODER.decode(data, most - 1)
