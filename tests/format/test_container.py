"""The file: whole networks to bytes and back, damage, limits, and writing to disk."""

import os
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepcomp_jax import FormatError, codings
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf, Structure
from deepcomp_jax.format import (
    codebook_header,
    container,
    file_header,
    files,
    reader,
    source,
    tree_header,
    writer,
)
from tests.support import invalid_vectors, laws, strategies
from tests.support import vector_parts as parts
from tests.support.readers import DECODER
from tests.support.vector_parts import NONE, crc

FLOAT32 = np.array([-1.5, 0.25, 2], np.float32)


def dense(*values: np.ndarray) -> Compressed:
    """A list of leaves stored value by value."""
    return Compressed(list(range(len(values))), tuple(map(DenseLeaf, values)), ())


def shared(
    labels: np.ndarray, codebook: np.ndarray = FLOAT32, coding: str | None = None
) -> Compressed:
    """A network of one shared leaf, w."""
    return Compressed({"w": 0}, (SharedLeaf(labels, 0, coding),), (codebook,))


def noise(size: int) -> np.ndarray:
    """Values of any bits, float32, that planes of bytes do not suit."""
    bits = np.random.default_rng(0).integers(1, 2**32, size, np.uint32)
    return bits.view(np.float32)


def assert_equal(found: Compressed, given: Compressed) -> None:
    """Equal in types, order of keys, dtypes, shapes and every bit."""
    assert repr(found.structure) == repr(given.structure)
    assert len(found.leaves) == len(given.leaves)
    for a, b in zip(found.leaves, given.leaves, strict=True):
        assert type(a) is type(b)
        laws.assert_identical(a[0], b[0])
        if isinstance(a, SharedLeaf) and isinstance(b, SharedLeaf):
            # Of two equal codebooks, one is gone if copies alone had it.
            books = found.codebooks[a.codebook], given.codebooks[b.codebook]
            laws.assert_identical(*books)
            assert b.coding in (None, a.coding)
            assert b.gap_bits in (None, a.gap_bits) or not a.labels.size
            laws.assert_identical(a.scales, b.scales)
    contents = [(own.dtype, own.tobytes()) for own in given.codebooks]
    assert len(set(contents)) <= len(found.codebooks) <= len(contents)


# ---- round trips --------------------------------------------------------------------


@pytest.mark.spec("C38", "C39")
@given(strategies.networks())
def test_networks_come_back_exactly(network: Compressed):
    data = container.dumps(network)
    assert_equal(container.loads(data), network)
    assert container.dumps(container.loads(data)) == data


@pytest.mark.spec("C39")
@given(strategies.networks())
def test_the_reference_decoder_reads_what_the_library_writes(network: Compressed):
    structure, leaves, _ = DECODER.decode(container.dumps(network))
    assert repr(structure) == repr(network.structure)
    for found, leaf in zip(leaves, network.leaves, strict=True):
        values = container.values(leaf, network.codebooks)
        assert found[1:] == (values.dtype.name, values.shape, values.tobytes())


@pytest.mark.spec("C38")
def test_equal_networks_give_equal_bytes():
    labels = np.arange(24).reshape(4, 6) % 4
    wide = np.asfortranarray(labels.astype(np.int64))
    first = container.dumps(shared(labels.astype(np.uint8)))
    assert container.dumps(shared(wide)) == first
    leaves = (DenseLeaf(np.ones(2)), DenseLeaf(np.zeros(3)))
    assert container.dumps(Compressed({"b": 1, "a": 0}, leaves, ())) == container.dumps(
        Compressed({"a": 0, "b": 1}, leaves, ())
    )
    big_endian = dense(np.arange(5, dtype=">f4"))
    assert container.dumps(big_endian) == container.dumps(
        dense(np.arange(5.0, dtype="f"))
    )


SPECIAL = [np.nan, -np.nan, np.inf, -np.inf, -0.0, 0.0, 1e-45, 3.0]


@pytest.mark.spec("C39")
@pytest.mark.parametrize(
    "values",
    [
        np.zeros((0, 3), np.float32),
        np.zeros((3, 0, 2), bool),
        np.array(2.5),
        np.array(-0.0, np.float32),
        np.array([7], np.int64),
        np.zeros((50, 4), np.float32),
        *(np.array(SPECIAL * 9).astype(dtype) for dtype in container.DTYPES[9:]),
        np.array([0x7FA00001, 0xFF800001, 0x00000001], np.uint32).view(np.float32),
        np.array([True, False] * 9),
        np.array([-(2**63), 2**63 - 1]),
        np.array([2**64 - 1], np.uint64),
        np.arange(70_000, dtype=np.float32),
        np.arange(70_000).astype(np.float32)[::-2],
    ],
    ids=lambda values: f"{values.dtype}{list(values.shape)}",
)
def test_dense_leaves_keep_every_bit(values: np.ndarray):
    (leaf,) = container.loads(container.dumps(dense(values))).leaves
    assert isinstance(leaf, DenseLeaf)
    laws.assert_identical(leaf.values, values)
    assert leaf.values.flags.writeable


@pytest.mark.spec("C39")
@pytest.mark.parametrize("dtype", container.DTYPES[9:13], ids=str)
@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((0, 3), np.uint8),
        np.zeros((3, 4), np.uint8),
        np.array(2, np.uint8),
        np.array(0, np.uint8),
        np.array([3], np.uint8),
        np.full((9, 9), 2, np.uint8),
        np.arange(400, dtype=np.uint8).reshape(20, 20) % 4,
    ],
    ids=lambda labels: str(labels.shape),
)
def test_shared_leaves(labels: np.ndarray, dtype: np.dtype):
    network = shared(labels, FLOAT32.astype(dtype))
    data = container.dumps(network)
    assert_equal(container.loads(data), network)
    values = container.variables(container.loads(data))["w"]
    expected = np.array([0, *FLOAT32], dtype)[labels]
    laws.assert_identical(values, expected)


@pytest.mark.spec("C22", "C39")
def test_a_codebook_of_the_greatest_size():
    codebook = np.arange(1, 2**15 + 1, dtype=np.float32)
    labels = np.arange(2**15 + 1, dtype=np.uint16)
    network = shared(labels, codebook)
    assert_equal(container.loads(container.dumps(network)), network)


@pytest.mark.parametrize("k", [0, 1, 255, 256, 300])
def test_labels_come_back_in_the_narrowest_dtype(k: int):
    network = shared(np.arange(k + 1), np.arange(1, k + 1, dtype=np.float32))
    (leaf,) = container.loads(container.dumps(network)).leaves
    assert isinstance(leaf, SharedLeaf)
    assert leaf.labels.dtype == (np.uint8 if k < 256 else np.uint16)


@pytest.mark.spec("C21", "C23", "C39", "C24")
@given(strategies.stored_codebooks())
def test_codebooks_come_back_exactly(codebook: np.ndarray):
    """Grids with and without gaps, of all dtypes and in all narrower ones."""
    storage, data = codebook_header.put(codebook)
    end, back = codebook_header.get(data, 0, codebook.dtype, storage)
    assert end == len(data) <= 3 + codebook.nbytes
    laws.assert_identical(back, codebook)
    codes = map(container.DTYPES.index, (codebook.dtype, storage))
    pos, slow = DECODER.codebook(data, 0, *codes)
    assert (pos, b"".join(slow.raws)) == (end, codebook.tobytes())


@pytest.mark.spec("C24")
def test_a_grid_takes_a_few_bytes():
    """One for the size, two for the step, one for the end; a bit each with gaps."""
    sizes = {
        4: [*range(-15, 0), *range(1, 17)],
        5: [-3, -2, -1, 1, 2, 3, 5],
        6: [-3, -2, -1, 1, 2, 3, 5, 6, 7, 8],
    }
    for size, factors in sizes.items():
        for dtype in container.DTYPES[9:13]:
            entries = np.array(factors, dtype) / dtype.type(8)
            assert len(codebook_header.put(entries)[1]) == size
        far = [-3, -2, -1, 1, 2, 3, 4096]  # two for the gap, one for each run
        assert len(codebook_header.put(np.array(far, dtype) / dtype.type(8))[1]) == 8
    # A step of 0.1 is in no narrower dtype.
    tenths = np.float32(0.1) * np.arange(1, 9, dtype=np.float32)
    assert len(codebook_header.put(tenths)[1]) == 6


@pytest.mark.spec("C24")
@given(st.lists(st.tuples(st.integers(1, 2**20), st.integers(1, 40)), min_size=1))
def test_a_grid_in_runs_comes_back(runs: list[tuple[int, int]]):
    """Of float64, in which nothing is rounded; from a factor far below zero on."""
    place, factors = -sum(gap for gap, _ in runs) // 2, list[int]()
    for gap, length in runs:
        place += gap
        factors += range(place, place + length)
        place += length
    kept = [factor for factor in factors if factor]
    entries = 3.0 * np.array(kept, np.float64)
    storage, data = codebook_header.put(entries)
    end, back = codebook_header.get(data, 0, entries.dtype, storage)
    assert end == len(data)
    assert back.tolist() == entries.tolist()
    # Three bytes for a gap and one for a length; eight for all that is in front.
    if 3.0 in np.abs(entries) or 3.0 in np.diff(entries):
        assert len(data) <= 8 + 4 * len(runs)


@pytest.mark.spec("C24")
def test_a_grid_in_runs_ends_somewhere():
    """A factor of 2**28 takes four bytes, and one more has no grid any more."""
    near = np.arange(1, 40) / 2
    for far, size in ((2.0**27, 10), (2.0**27 + 0.5, 2 + 8 * 40)):
        entries = np.append(near, far)
        storage, data = codebook_header.put(entries)
        assert len(data) == size
        _, back = codebook_header.get(data, 0, entries.dtype, storage)
        assert back.tolist() == entries.tolist()


@pytest.mark.spec("C40")
@given(strategies.dense_values())
def test_a_dense_leaf_is_never_larger_than_raw(values: np.ndarray):
    data = container.dumps(dense(values))
    (entry,) = container.read_header(data).leaves
    assert entry.size <= values.nbytes


@pytest.mark.spec("C40")
@pytest.mark.parametrize("kept", range(0, 100, 9))
def test_a_sparse_leaf_is_one_that_is_smaller_so(kept: int):
    values = noise(100)
    values[kept:] = 0
    (entry,) = container.read_header(container.dumps(dense(values))).leaves
    is_sparse = entry.layout.coding == 1
    assert is_sparse == (entry.size < values.nbytes)
    assert is_sparse == (kept < 99)


def test_variables_are_plain_containers():
    structure: Structure = {3: 0, "a": [1, (2, None, {})]}
    arrays = [np.array(i) for i in range(3)]
    network = Compressed(structure, tuple(map(DenseLeaf, arrays)), ())
    loaded = container.variables(container.loads(container.dumps(network)))
    assert repr(loaded) == repr({3: arrays[0], "a": [arrays[1], (arrays[2], None, {})]})


# ---- damage -------------------------------------------------------------------------


@pytest.mark.spec("C41")
@given(strategies.networks())
def test_every_strict_prefix_is_rejected(network: Compressed):
    data = container.dumps(network)
    for size in range(0, len(data), -(-len(data) // 300)):
        with pytest.raises(FormatError) as caught:
            container.loads(data[:size])
        assert 0 <= caught.value.offset <= size


@pytest.mark.spec("C41")
@settings(max_examples=20)
@given(strategies.networks(), st.data())
def test_every_flipped_bit_is_rejected(network: Compressed, draw: st.DataObject):
    data = container.dumps(network)
    # All bits of the first bytes; of a long file, every 7th or so of the others.
    step = max(1, len(data) // 40)
    start = draw.draw(st.integers(0, step - 1))
    for bit in [*range(min(200, 8 * len(data))), *range(start, 8 * len(data), step)]:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FormatError) as caught:
            container.loads(bytes(damaged))
        assert 0 <= caught.value.offset <= len(data)


@pytest.mark.spec("C41")
def test_all_prefixes_and_all_flips_of_one_file():
    labels = np.arange(20, dtype=np.uint8) % 4
    leaves = (
        DenseLeaf(np.arange(129)),  # in a section
        *(SharedLeaf(labels, 0, coding) for coding in codings.ALL),
        DenseLeaf(np.array([0.0] * 30 + [1.0], ml_dtypes.bfloat16)),
    )
    structure: Structure = {"a": 0, "conv": {"k": [1, 2, 3, 4], "l": 5}}
    network = Compressed(structure, leaves, (FLOAT32,))
    data = container.dumps(network)
    damaged = [data[:size] for size in range(len(data))] + [data + b"\0"]
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        damaged.append(bytes(flipped))
    for wrong in damaged:
        with pytest.raises(FormatError):
            container.loads(wrong)


@given(st.binary(max_size=60), strategies.networks(), st.data())
def test_readers_agree_on_garbage_with_valid_checksums(
    garbage: bytes, network: Compressed, draw: st.DataObject
):
    """Checksums made right again: the rules alone must hold off every other error."""
    wrong = bytearray(container.dumps(network))
    header = container.read_header(bytes(wrong))
    sections = [own for entry in header.leaves for own in entry.bodies]
    bodies = [(own.offset, own.offset + own.size) for own in sections if own.size]
    start, stop = draw.draw(st.sampled_from([(0, header.size - 4), *bodies]))
    at = draw.draw(st.integers(start, stop - 1))
    garbage = garbage[: stop - at]
    wrong[at : at + len(garbage)] = garbage
    # Small bodies have the checksum of the header.
    first, last = (0, header.size - 4) if start < header.size else (start, stop)
    wrong[last : last + 4] = crc(bytes(wrong[first:last]))
    data = bytes(wrong)
    try:
        read = container.loads(data, max_bytes=1 << 20)
    except FormatError as error:
        assert 0 <= error.offset <= len(data)
        with pytest.raises(DECODER.Broken, match=f"^{error.clause}$"):
            DECODER.decode(data, 1 << 20)
    else:
        structure, leaves, _ = DECODER.decode(data)
        assert repr(structure) == repr(read.structure)
        values = [container.values(leaf, read.codebooks) for leaf in read.leaves]
        assert [leaf[3] for leaf in leaves] == [array.tobytes() for array in values]


@pytest.mark.spec("C31")
def test_memory_is_limited_before_it_is_taken():
    zeros = np.zeros(1_000_000, np.uint8)
    data = container.dumps(shared(zeros))
    assert len(data) < 100
    with pytest.raises(
        FormatError, match="4000000 bytes, 12000000 with .* above max_bytes=11999999"
    ):
        container.loads(data, max_bytes=11_999_999)
    container.loads(data, max_bytes=12_000_000)

    huge = (
        Path(__file__).parents[2] / "specs/vectors/invalid/C31-4-gib.dcz"
    ).read_bytes()
    tracemalloc.start()
    with pytest.raises(FormatError):
        container.loads(huge)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.spec("C46")
def test_classes_of_all_leaves_are_counted(monkeypatch: pytest.MonkeyPatch):
    def check(data: bytes) -> None:
        held = source.of_bytes(data)
        reader.check(held, reader.read_header(held), 1 << 30)

    check(invalid_vectors.many_classes(64))
    with pytest.raises(FormatError, match=r"4259840 indices .* clause C46"):
        check(invalid_vectors.many_classes(65))

    rows = np.repeat(np.arange(2, dtype=np.uint8), 600).reshape(60, 20)
    leaves = (SharedLeaf(rows, 0, "grouped"), SharedLeaf(rows[::-1], 0, "grouped"))
    network = Compressed([0, 1], leaves, (np.ones(1, np.float32),))
    monkeypatch.setattr(reader, "MAX_CLASS_INDICES", 120)
    monkeypatch.setattr(writer, "MAX_CLASS_INDICES", 120)
    data = container.dumps(network)
    assert container.dumps(container.loads(data)) == data
    monkeypatch.setattr(reader, "MAX_CLASS_INDICES", 119)
    monkeypatch.setattr(writer, "MAX_CLASS_INDICES", 119)
    with pytest.raises(ValueError, match="120 indices .* above 119: name the coding"):
        container.dumps(network)
    with pytest.raises(FormatError, match="120 indices .* above 119"):
        container.loads(data)


@pytest.mark.spec("C1", "C2", "C4", "C32")
@pytest.mark.parametrize("first", [b"", b"\x89PNG", b"\x89DCZ\1\xff\xff\x7f", b"good"])
def test_a_large_file_is_looked_at_before_it_is_read(tmp_path: Path, first: bytes):
    path = tmp_path / "m.dcz"
    path.write_bytes(
        container.dumps(shared(np.ones(9, int))) if first == b"good" else first
    )
    os.truncate(path, 1 << 28)  # zeros that take no room on the disk
    tracemalloc.start()
    with source.opened(path) as file, pytest.raises(FormatError):
        reader.read_header(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 23


def test_a_pipe_is_read_as_a_file(tmp_path: Path):
    data = container.dumps(shared(np.ones(9, int)))
    (tmp_path / "m.dcz").write_bytes(data)
    reading, writing = os.pipe()
    os.write(writing, data)
    os.close(writing)
    for path in (tmp_path / "m.dcz", f"/dev/fd/{reading}"):
        with source.opened(path) as file:
            assert file.size == len(data)
            assert file.read(0, len(data) + 1) == data
            assert file.read(3, 5) == data[3:8]
            assert file.read(len(data) - 1, 5) == data[-1:]
            network = reader.read_network(file, reader.read_header(file))
        assert_equal(network, container.loads(data))
    os.close(reading)


def test_messages_name_few_leaves(tmp_path: Path):
    names = {f"leaf{number:05}": number for number in range(5000)}
    network = Compressed(names, (DenseLeaf(np.zeros(1, np.int8)),) * 5000, ())
    (tmp_path / "m.dcz").write_bytes(container.dumps(network))
    with pytest.raises(ValueError, match="leaf00019, and 4980 more") as caught:
        container.load_leaf(tmp_path / "m.dcz", "none")
    assert len(str(caught.value)) < 1000


@pytest.mark.spec("C17")
def test_repeated_nodes_are_counted():
    """A few bytes that say to repeat what is repeated already."""
    half = NONE
    for _ in range(15):
        half = parts.container(3, half, parts.AGAIN)  # 2**16 - 1 nodes in the end
    most = parts.header(tree=parts.container(3, half, parts.AGAIN, NONE))
    assert repr(container.loads(most).structure).count("None") == 2**16 + 1
    more = parts.header(tree=parts.container(3, half, parts.AGAIN, NONE, NONE))
    with pytest.raises(FormatError, match="C17"):
        container.loads(more)
    with pytest.raises(ValueError, match="131073 containers and leaves, above 131072"):
        container.dumps(Compressed([None] * 2**17, (), ()))
    container.dumps(Compressed([None] * (2**17 - 1), (), ()))


@given(strategies.networks())
def test_equal_nodes_are_written_once(network: Compressed):
    size = len(network.leaves)
    thrice: Structure = [shifted(network.structure, size * i) for i in range(3)]
    written = tree_header.put(thrice)
    assert len(written) == len(tree_header.put(network.structure)) + 3
    pos, structure, _ = tree_header.get(written, 0)
    assert (pos, repr(structure)) == (len(written), repr(thrice))


def shifted(node: Structure, by: int) -> Structure:
    """The same node with other leaves."""
    if isinstance(node, dict):
        return {key: shifted(child, by) for key, child in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(shifted(child, by) for child in node)
    return None if node is None else node + by


def test_an_error_names_leaf_offset_and_clause():
    data = container.dumps(shared(np.arange(9000) % 4, coding="packed"))
    with pytest.raises(FormatError) as caught:
        container.loads(data[:-1] + bytes([data[-1] ^ 1]))
    assert str(caught.value) == (
        f"leaf 'w': the section is damaged (byte {len(data) - 4}, clause C33)"
    )
    assert (caught.value.offset, caught.value.clause) == (len(data) - 4, "C33")


# ---- one tensor ---------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file of three leaves."""
    leaves = (
        DenseLeaf(np.arange(5)),
        SharedLeaf(np.arange(6000, dtype=np.uint16).reshape(2, 3000) % 4, 0, "packed"),
        DenseLeaf(noise(300)),
    )
    network = Compressed({"a": 0, "b": {"w": 1, "z": 2}}, leaves, (FLOAT32,))
    files.write(tmp_path / "m.dcz", container.dumps(network))
    return tmp_path / "m.dcz"


@pytest.mark.spec("C42")
def test_one_tensor_is_read_alone(path: Path):
    data = path.read_bytes()
    header = container.read_header(data)
    everything = container.loads(data)
    for entry, leaf in zip(header.leaves, everything.leaves, strict=True):
        # All other sections are damaged, and nobody notices.
        spoilt = bytearray(data)
        spoilt[header.size :] = bytes(len(data) - header.size)
        for own in entry.sections:
            keep = slice(own.offset, own.offset + own.size + own.checksum_bytes)
            spoilt[keep] = data[keep]
        path.write_bytes(spoilt)
        found = container.load_leaf(path, entry.name)
        laws.assert_identical(found, container.values(leaf, everything.codebooks))


def test_the_header_says_what_is_there(path: Path):
    data = path.read_bytes()
    header = container.read_header(data)
    assert repr(file_header.get(data[: header.size])) == repr(header)
    assert [(e.name, e.layout.shape, e.layout.dtype) for e in header.leaves] == [
        ("a", (5,), np.int64),
        ("b/w", (2, 3000), np.float32),
        ("b/z", (300,), np.float32),
    ]
    small, *large = [own for entry in header.leaves for own in entry.bodies]
    assert small.offset + small.size == header.size - 4  # in front of the checksum
    ends = [e.offset + e.size + e.checksum_bytes for e in large]
    assert [header.size, *ends] == [*(e.offset for e in large), len(data)]


def test_a_tensor_that_cannot_be_read(path: Path):
    with pytest.raises(ValueError, match="has no leaf 'w', only a, b/w, b/z"):
        container.load_leaf(path, "w")
    with pytest.raises(FormatError, match="C31"):
        container.load_leaf(path, "a", max_bytes=39)
    data = path.read_bytes()
    for size in range(0, len(data), 7):
        path.write_bytes(data[:size])
        with pytest.raises(FormatError):
            container.load_leaf(path, "a")


# ---- what cannot be written ---------------------------------------------------------


def nest(depth: int) -> Structure:
    """Lists within each other, None within the last."""
    return [nest(depth - 1)] if depth else None


@pytest.mark.spec("C44", "C18", "C19", "C16")
@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ({"a": {"b": 0}, "a/b": 1}, "two leaves are named 'a/b': rename a key"),
        ({0: 0, "0": 1}, "two leaves are named '0'"),
        ({"a": [0], "a/0": 1}, "two leaves are named 'a/0'"),
        ({"x" * 512: {"y" * 512: 0}, "z": 1}, "more than 1024 bytes: rename a key"),
        ({"x" * 1025: None, "a": 0, "b": 1}, "more than 1024 bytes: rename a key"),
        ({1.5: 0, "b": 1}, "key 1.5 is neither a string nor an integer .* rename it"),
        ({("a",): 0, "b": 1}, "is neither a string"),
        ({-1: 0, 2: 1}, "key -1 is neither"),
        ({True: 0, 2: 1}, "key True is neither"),
        ({1 << 62: 0, 2: 1}, "from 0 to 2"),
        ({"b": 0, "\ud800": 1}, "lone surrogate"),
        ([nest(64), 0, 1], "nest deeper than 64: flatten the tree"),
        ([1, 0], "numbered 0, 1, 2... in tree order"),
        ({"b": 0, "a": 1}, "numbered 0, 1, 2... in tree order"),
        ([0, 0], "numbered 0, 1, 2"),
        ([0], "has 1 leaves, but 2 are given"),
        ([0, 1, 2], "has 3 leaves, but 2 are given"),
    ],
)
def test_structures_that_cannot_be_written(structure: Structure, message: str):
    leaves = (DenseLeaf(np.ones(1)),) * 2
    with pytest.raises(ValueError, match=message):
        container.dumps(Compressed(structure, leaves, ()))


@pytest.mark.spec("C44")
@pytest.mark.parametrize("node", ["a", True, 1.0, np.array(0), {0}])
def test_nodes_of_other_types(node: object):
    with pytest.raises(TypeError, match="made of dict, list, tuple, int and None"):
        container.dumps(Compressed([node], (DenseLeaf(np.ones(1)),), ()))  # pyright: ignore


@pytest.mark.spec("C44", "C23", "C25", "C21")
@pytest.mark.parametrize(
    ("leaf", "codebooks", "message"),
    [
        (
            DenseLeaf(np.array(["a"])),
            (),
            "leaf 'w' is <U1: convert it to one of bool, int8",
        ),
        (DenseLeaf(np.array([None])), (), "leaf 'w' is object: convert"),
        (SharedLeaf(np.array([4]), 0), (FLOAT32,), "labels must be 0 to 3, got 4 to 4"),
        (SharedLeaf(np.array([-1, 2]), 0), (FLOAT32,), "got -1 to 2"),
        (SharedLeaf(np.array([1.0]), 0), (FLOAT32,), "labels are float64, not integ"),
        (
            SharedLeaf(np.array([1]), 0, "relative", 0),
            (FLOAT32,),
            "a gap must have 1 to 16 bits, got 0",
        ),
        (SharedLeaf(np.array([1]), 0, None, 17), (FLOAT32,), "1 to 16 bits, got 17"),
        (
            SharedLeaf(np.array([1]), 0, "huffman"),
            (FLOAT32,),
            "no coding 'huffman': packed, relative, order0, grouped",
        ),
        (
            SharedLeaf(np.array([1]), 0, "grouped"),
            (np.arange(1, 1026, dtype=np.float32),),
            "grouped coding cannot hold a codebook of 1025 entries: share with fewer",
        ),
        (SharedLeaf(np.array([1]), 1), (FLOAT32,), "in order of first use"),
        (SharedLeaf(np.array([1]), 0), (), "in order of first use"),
        (
            SharedLeaf(np.array([1]), 0),
            (FLOAT32, FLOAT32),
            "2 codebooks must be listed",
        ),
        (SharedLeaf(np.array([1]), 0), (FLOAT32[::-1],), "strictly ascending; share"),
        (SharedLeaf(np.array([1]), 0), (np.float32([1, 1]),), "strictly ascending"),
        (SharedLeaf(np.array([1]), 0), (np.float32([0, 1]),), "non-zero"),
        (SharedLeaf(np.array([1]), 0), (np.float32([-0.0]),), "non-zero"),
        (SharedLeaf(np.array([1]), 0), (np.float32([np.nan]),), "not finite"),
        (SharedLeaf(np.array([1]), 0), (np.float32([1, np.inf]),), "not finite"),
        (SharedLeaf(np.array([1]), 0), (np.array([1, 2]),), "a codebook is int64"),
        (SharedLeaf(np.array([1]), 0), (FLOAT32[None],), "not a vector of a floating"),
    ],
)
def test_leaves_that_cannot_be_written(
    leaf: DenseLeaf | SharedLeaf, codebooks: tuple[np.ndarray, ...], message: str
):
    with pytest.raises(ValueError, match=message):
        container.dumps(Compressed({"w": 0}, (leaf,), codebooks))


@pytest.mark.spec("C44", "C22")
def test_a_codebook_that_is_too_large():
    codebook = np.arange(1, 2**15 + 2, dtype=np.float32)
    with pytest.raises(ValueError, match="32769 entries.*fewer clusters, or leave"):
        container.dumps(shared(np.zeros(3, np.uint16), codebook))


@pytest.mark.spec("C44", "C45")
def test_codebooks_that_are_too_large_together():
    many = tuple(np.arange(i, i + 2**15, dtype=np.float32) for i in range(1, 34))
    leaves = tuple(SharedLeaf(np.zeros(3, np.uint16), i) for i in range(33))
    with pytest.raises(ValueError, match="1081344 entries, above 1048576: share with"):
        container.dumps(Compressed([*range(33)], leaves, many))


@pytest.mark.spec("C44")
def test_a_leaf_of_another_type():
    with pytest.raises(
        TypeError, match="leaf 'w' is a ndarray, not DenseLeaf or SharedLeaf"
    ):
        container.dumps(Compressed({"w": 0}, (np.ones(3),), ()))  # pyright: ignore


@pytest.mark.spec("C26", "C27", "C44")
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1,) * 32, "leaf 'w' has 32 dimensions, above 31: reshape it"),
        ((2**61, 0), "leaf 'w' has shape .*, above 2.*63 bytes: reshape it"),
    ],
)
def test_shapes_that_cannot_be_written(shape: tuple[int, ...], message: str):
    with pytest.raises(ValueError, match=message):
        container.dumps(shared(np.zeros(shape, np.uint8)))
