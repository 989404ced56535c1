"""Files that are written leaf after leaf: the same bytes, in the memory of a leaf."""

import io
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.format import container, files, leaf_encoding
from deepcomp_jax.format.writer import Writer
from tests.support import strategies

BOOK = np.array([-1, 0.5, 2], np.float32)


def written(network: Compressed, writer: Writer) -> list[int]:
    """Puts all leaves; what it says of the size of each."""
    sizes: list[int] = []
    for name, leaf in zip(writer.names, network.leaves, strict=True):
        codebook = None
        if isinstance(leaf, SharedLeaf):
            codebook = network.codebooks[leaf.codebook]
        sizes.append(writer.put(leaf_encoding.put(name, leaf, codebook), codebook))
    return sizes


@pytest.mark.spec("C38", "C56")
@given(strategies.networks())
def test_a_writer_says_how_large_bodies_and_file_are(network: Compressed):
    out, metadata = io.BytesIO(), {"a": "b"}
    writer = Writer(network.structure, io.BytesIO())
    sizes = written(network, writer)
    assert writer.finish(out, metadata) == len(out.getvalue())
    assert out.getvalue() == container.dumps(network, metadata)
    leaves = container.read_header(out.getvalue()).leaves
    assert sizes == [entry.size for entry in leaves]
    assert writer.names == [entry.name for entry in leaves]


def test_a_file_is_put_together_on_the_disk(tmp_path: Path):
    leaves = (
        DenseLeaf(np.arange(100_000)),
        SharedLeaf(np.arange(3000) % 4, 0, "packed"),
        DenseLeaf(np.arange(5)),
    )
    network, path = Compressed([0, 1, 2], leaves, (BOOK,)), tmp_path / "m.dcz"
    with files.replacing(path) as file, files.spool(path) as spool:
        writer = Writer(network.structure, spool)
        written(network, writer)
        size = writer.finish(file)
    assert path.read_bytes() == container.dumps(network)
    assert path.stat().st_size == size
    assert list(tmp_path.iterdir()) == [path]


def test_bodies_are_not_kept_in_memory(tmp_path: Path):
    """However many leaves there are."""
    each, count = 1 << 20, 30
    path = tmp_path / "m.dcz"

    def write() -> None:
        with files.replacing(path) as file, files.spool(path) as spool:
            writer = Writer(list(range(count)), spool)
            for number in range(count):
                rng = np.random.default_rng(number)
                leaf = DenseLeaf(rng.integers(1, 256, each, np.uint8))
                writer.put(leaf_encoding.put(writer.names[number], leaf), None)
            assert writer.finish(file) > count * each

    tracemalloc.start()
    write()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * each


@pytest.mark.spec("C44")
@pytest.mark.parametrize("given", [0, 1, 3])
def test_leaves_that_are_missing_or_too_many(given: int):
    writer = Writer([0, 1], io.BytesIO())
    for number in range(given):
        writer.put(leaf_encoding.put("w", DenseLeaf(np.array(number))), None)
    with pytest.raises(ValueError, match=f"has 2 leaves, but {given} are given"):
        writer.finish(io.BytesIO())


@pytest.mark.spec("C44", "C23")
def test_a_codebook_is_checked_when_it_is_put():
    writer = Writer([0], io.BytesIO())
    encoded = leaf_encoding.put("w", SharedLeaf(np.array([1]), 0, "packed"), BOOK)
    with pytest.raises(ValueError, match="strictly ascending; share"):
        writer.put(encoded, BOOK[::-1])


@pytest.mark.spec("C44", "C18")
def test_names_are_checked_at_the_beginning():
    with pytest.raises(ValueError, match="two leaves are named 'a/0': rename a key"):
        Writer({"a": [0], "a/0": 1}, io.BytesIO())
