"""Equal leaves are stored once, and come back as leaves of their own."""

from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings

import deepcomp_jax as dc
from deepcomp_jax import FormatError, account, codings
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf, Structure
from deepcomp_jax.format import container, dtypes, reader, source, writer
from deepcomp_jax.streams import rans
from tests import make_vectors
from tests.support import invalid_vectors, laws, readers, strategies
from tests.support import vector_parts as parts

MOST = 1 << 24  # of memory
CODED = *dtypes.FLOATING, *dtypes.WORDS  # dtypes that may have a codebook
STORED = [
    *((coding, dtype) for coding in ("raw", "sparse") for dtype in container.DTYPES),
    *((coding, dtype) for coding in codings.ALL for dtype in CODED),
]
BOOK = np.array([-1, 0.5, 2], np.float32)


def several(*values: np.ndarray) -> Compressed:
    """A list of leaves stored value by value."""
    return Compressed([*range(len(values))], tuple(map(DenseLeaf, values)), ())


def twice(network: Compressed) -> Compressed:
    """A list of the same network two times."""

    def shifted(node: Structure) -> Structure:
        if isinstance(node, dict):
            return {key: shifted(child) for key, child in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)(map(shifted, node))
        return None if node is None else node + len(network.leaves)

    structure: Structure = [network.structure, shifted(network.structure)]
    return network._replace(structure=structure, leaves=network.leaves * 2)


def copied(data: bytes) -> list[int | None]:
    """Which leaf each one is a copy of."""
    return [entry.layout.copy_of for entry in container.read_header(data).leaves]


# ---- what is a copy -----------------------------------------------------------------


@pytest.mark.spec("C39", "C56")
@settings(max_examples=30)
@given(strategies.networks())
def test_a_network_twice_takes_three_bytes_a_leaf_more(network: Compressed):
    """And a few for the tree; every reader gives back every bit of both."""
    once = container.dumps(network._replace(structure=[network.structure]))
    data = container.dumps(twice(network))
    assert len(data) <= len(once) + 3 * len(network.leaves) + 2
    expected = readers.of_network(network) * 2
    assert readers.of_network(container.loads(data)) == expected
    assert readers.differing(data, expected, MOST, None) == ""


@pytest.mark.spec("C39", "C56")
@pytest.mark.parametrize(("coding", "dtype"), STORED, ids=str)
def test_every_dtype_in_every_coding(coding: str, dtype: np.dtype, tmp_path: Path):
    rng = np.random.default_rng(0)
    kept = rng.random((30, 20)) < 0.8
    if coding in ("raw", "sparse"):  # one value alone, and one among zeros
        kept = np.arange(1 if coding == "raw" else 600)[:, None] == 0
    books: tuple[np.ndarray, ...] = ()
    if coding in codings.ALL:
        books = (np.ones(1, dtype),)
        leaf = SharedLeaf(kept.astype(np.uint8), 0, coding)
    else:
        leaf = DenseLeaf(kept.astype(dtype))
    network = Compressed([0], (leaf,), books)
    data = container.dumps(twice(network))
    assert copied(data) == [None, 0]
    assert account.account(data).tensors[0].coding == coding
    assert len(data) <= len(container.dumps(network)) + 5 + 1
    expected = readers.of_network(network) * 2
    assert readers.of_network(container.loads(data)) == expected
    assert readers.differing(data, expected, MOST, tmp_path / "m.dcz") == ""


@pytest.mark.spec("C55", "C57")
@pytest.mark.parametrize(
    "path", sorted((make_vectors.FOLDER / "valid").glob("copies*.dcz")), ids=str
)
def test_all_readers_read_the_vectors(path: Path, tmp_path: Path):
    data = path.read_bytes()
    expected = readers.of_network(container.loads(data))
    assert any(number is not None for number in copied(data))
    assert readers.differing(data, expected, MOST, tmp_path / "m.dcz") == ""


@pytest.mark.spec("C56")
def test_equal_is_equal_in_every_bit():
    quiet, other = (np.uint32([w]).view(np.float32) for w in (0x7FC00000, 0x7FC00001))
    zero = np.zeros(1, np.float32)
    values = [quiet, other, zero, -zero, zero[0], zero[None], zero.view(np.int32)]
    values += [np.zeros((0, 2)), np.zeros((2, 0)), np.zeros((0, 2), np.float32)]
    leaves = several(*values, *values)
    n = len(values)
    assert copied(container.dumps(leaves)) == [None] * n + [*range(n)]


@pytest.mark.spec("C56", "C25")
def test_codebooks_are_equal_by_their_entries():
    """The second one goes with the leaf that alone had it, and the third moves up."""
    labels = np.arange(40).reshape(8, 5) % 4
    books = BOOK, BOOK.copy(), np.float32([1, 2, 3])
    leaves = tuple(SharedLeaf(labels, number, "packed") for number in range(3))
    data = container.dumps(Compressed([0, 1, 2], leaves, books))
    assert copied(data) == [None, 0, None]
    found = container.loads(data)
    assert [own.tolist() for own in found.codebooks] == [[-1, 0.5, 2], [1, 2, 3]]
    assert container.dumps(found) == data
    # Here another leaf has the second one, behind one that has the third.
    last = SharedLeaf(labels[::-1], 1, "packed")
    network = Compressed([0, 1, 2, 3], (*leaves, last), books)
    data = container.dumps(network)
    assert copied(data) == [None, 0, None, None]
    found = container.loads(data)
    assert readers.of_network(found) == readers.of_network(network)
    assert container.dumps(found) == data


@pytest.mark.spec("C56")
@given(strategies.networks())
def test_a_leaf_that_is_no_copy_takes_four_bytes(network: Compressed):
    """At least, and a copy three at most: it is smaller wherever there is one."""
    header = container.read_header(container.dumps(network))
    new = dict(enumerate(header.codebook_bytes))
    for entry in header.leaves:
        if entry.layout.copy_of is None:
            own = new.pop(-1 if (book := entry.layout.codebook) is None else book, 0)
            assert entry.header_bytes + entry.size + own >= 4
        else:
            assert entry.header_bytes <= 3


@pytest.mark.spec("C55", "C56")
@pytest.mark.parametrize(
    ("number", "size"), [(0, 2), (15, 2), (16, 2), (2047, 2), (2048, 3)]
)
def test_the_number_of_a_leaf(number: int, size: int):
    values = [np.array(i, np.int16) for i in range(number + 1)]
    data = container.dumps(several(*values, values[-1]))
    last = container.read_header(data).leaves[-1]
    assert (last.layout.copy_of, last.header_bytes) == (number, size)
    assert container.loads(data).leaves[-1][0] == number


@pytest.mark.spec("C2", "C56")
def test_equal_leaves_may_be_stored_twice():
    one, other = np.arange(3), np.arange(4)
    network = several(one, other, one)
    data, apart = container.dumps(network), make_vectors.apart(network)
    assert (copied(data), copied(apart)) == ([None, None, 0], [None] * 3)
    assert data[4] == apart[4] == 1
    assert readers.of_network(container.loads(apart)) == readers.of_network(network)


# ---- reading ------------------------------------------------------------------------


@pytest.mark.spec("C31", "C57")
def test_copies_count_towards_the_memory():
    n = 10_000
    leaf = SharedLeaf(np.ones(n, np.uint8), 0)
    data = container.dumps(Compressed([0, 1, 2], (leaf,) * 3, (BOOK,)))
    most = 3 * 4 * n + 8 * n  # three leaves of float32, and decoding one of them
    for read in (container.loads, container.read_values, account.account):
        read(data, max_bytes=most)
        with pytest.raises(FormatError, match="C31"):
            read(data, max_bytes=most - 1)


@pytest.mark.spec("C57")
def test_leaves_have_memory_of_their_own(tmp_path: Path):
    labels = np.arange(8000).reshape(80, 100) % 4
    leaf, raw = SharedLeaf(labels, 0, "packed"), DenseLeaf(np.arange(5.0))
    network = Compressed([0, 1, 2, 3], (leaf, leaf, raw, raw), (BOOK,))
    data = container.dumps(network)
    for found in (
        [leaf[0] for leaf in container.loads(data).leaves],
        container.read_values(data),
    ):
        for first, second in (found[:2], found[2:]):
            assert not np.shares_memory(first, second)
            assert first.flags.writeable
            assert second.flags.writeable
    (tmp_path / "m.dcz").write_bytes(data)
    place = jax.devices()[0]
    leaves = dc.load(tmp_path / "m.dcz", device=place)
    pointers = {leaf.unsafe_buffer_pointer() for leaf in leaves}
    assert len(pointers) == 4
    expected = container.read_values(data)
    assert all(map(np.array_equal, leaves, expected))


@pytest.mark.spec("C57", "C46")
def test_a_body_is_decoded_once(monkeypatch: pytest.MonkeyPatch):
    """However many copies there are, so that they cost the time of copying alone."""
    labels = np.repeat(np.arange(2, dtype=np.uint8), 600).reshape(60, 20)
    leaf = SharedLeaf(labels, 0, "grouped")
    data = container.dumps(Compressed([*range(50)], (leaf,) * 50, (BOOK,)))
    ends: list[rans.State] = []
    monkeypatch.setattr(rans, "finish", ends.append)
    for read in (container.loads, container.read_values, account.account):
        ends.clear()
        read(data)
        assert len(ends) == 2  # of the classes, and of the labels
    # Rows and columns have 80 indices.
    monkeypatch.setattr(reader, "MAX_CLASS_INDICES", 80)
    monkeypatch.setattr(writer, "MAX_CLASS_INDICES", 80)
    assert container.dumps(container.loads(data)) == data


@pytest.mark.spec("C46", "C57")
def test_classes_of_copies_are_not_counted():
    front = invalid_vectors.many_classes(1)
    entry = container.read_header(front).leaves[0]
    tree = parts.varint(8 * 65 + 3) + parts.LEAF + 64 * parts.AGAIN
    start = front.index(parts.LEAF + bytes([parts.FLOAT16 + 16 * parts.GROUPED]))
    stored = front[
        start + 1 : entry.sections[0].offset
    ]  # the layout, and the size of the body
    copies = 64 * parts.copy_of(0)
    data = parts.header(tree=tree, leaves=stored + copies + b"\1")
    held = source.of_bytes(data)
    header = reader.read_header(held)
    assert len(header.leaves) == 65
    reader.check(held, header, 1 << 30)


# ---- around the format --------------------------------------------------------------


@pytest.mark.spec("A17", "A1")
def test_the_account_of_a_copy():
    labels = np.arange(6000).reshape(60, 100) % 4
    leaves = SharedLeaf(labels, 0, "relative", 5), DenseLeaf(np.float32([0, 1, 1, 3]))
    once = container.dumps(Compressed([[0, 1]], leaves, (BOOK,)))
    data = container.dumps(Compressed([[0, 1], [2, 3]], leaves * 2, (BOOK,)))
    single, found = account.account(once), account.account(data, compare=True)
    assert sum(found.total) == 8 * len(data)
    for first, copy in zip(found.tensors[:2], found.tensors[2:], strict=True):
        assert first.parts._replace(header=0) != account.Parts()
        assert copy.parts == account.Parts(header=16)
        assert (copy.size, copy.kept, copy.unique) == first[3:6]
        assert (copy.stored, copy.gaps, copy.fillers, copy.body_bytes) == (0,) * 4
        assert (copy.coding, copy.ideal, copy.runner_up) == ("copy", 0, None)
    assert found.tensors[0].parts == single.tensors[0].parts
    assert (found.parameters, found.nonzero) == (2 * 6004, 2 * (4500 + 3))
    assert found.unique == single.unique == 3 + 2
    assert found.ratio == 4 * 2 * 6004 / len(data)
    assert found.bound == single.bound
    assert account.table(found)[2].weight_bits is None
    assert "copy" in str(found)


def test_tied_embeddings(tmp_path: Path):
    """One array twice, with the default rules: stored once, loaded like a tied tree."""
    rng = np.random.default_rng(0)
    table = jax.numpy.asarray(rng.normal(size=(300, 64)), "float32")
    kernel = jax.numpy.asarray(rng.normal(size=(64, 32)), "float32")
    single = {"embed": {"embedding": table}, "head": {"kernel": kernel}}
    tied = single | {"output": {"embedding": table}}
    sizes = [
        dc.save(tmp_path / f"{name}.dcz", dc.compress(tree))
        for name, tree in (("single", single), ("tied", tied))
    ]
    assert sizes[1] <= sizes[0] + 20  # a name, a node, a copy
    compressed = dc.compress(tied)
    found = dc.load(tmp_path / "tied.dcz", like=tied)
    expected = dc.decompress(compressed)
    laws.assert_identical(found, expected)
    assert jax.tree.structure(found) == jax.tree.structure(tied)
    alone = container.load_leaf(tmp_path / "tied.dcz", "output/embedding")
    assert alone.tobytes() == expected["output"]["embedding"].tobytes()
