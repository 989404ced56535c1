"""One file of a set: its leaves can be read, those elsewhere and the network not."""

import io
from pathlib import Path

import numpy as np
import pytest

from deepcomp_jax import FormatError, account
from deepcomp_jax._types import DenseLeaf
from deepcomp_jax.format import container, leaf_encoding
from deepcomp_jax.format.leaf_encoding import Encoded
from deepcomp_jax.format.leaf_header import ELSEWHERE, Layout
from deepcomp_jax.format.writer import Writer
from tests.support import small_parts
from tests.support.readers import DECODER

VALUES = {"a": np.arange(7.0), "b": np.arange(3, dtype=np.int8)}
LARGE = Layout((2**40, 5), np.dtype(np.float32), ELSEWHERE)


def one_of_two() -> bytes:
    """The file of a set that holds the leaves a and b, and of c and d only shapes."""
    spool, out = io.BytesIO(), io.BytesIO()
    writer = Writer({"a": 0, "b": 1, "c": 2, "d": 3}, spool)
    for name, values in VALUES.items():
        assert writer.put(leaf_encoding.put(name, DenseLeaf(values)), None) > 0
    for _ in range(2):
        assert writer.put(Encoded(LARGE, ()), None) == 0
    assert writer.finish(out) == len(out.getvalue())
    return out.getvalue()


@pytest.mark.spec("C60")
def test_the_header_says_what_the_whole_network_looks_like():
    header = container.read_header(one_of_two())
    assert header.structure == {"a": 0, "b": 1, "c": 2, "d": 3}
    shapes = [(entry.layout.shape, entry.layout.dtype) for entry in header.leaves]
    held = [(values.shape, values.dtype) for values in VALUES.values()]
    assert shapes == [*held, *[(LARGE.shape, LARGE.dtype)] * 2]
    # Equal leaves elsewhere are no copies, and take a few bytes each.
    assert [entry.layout for entry in header.leaves[2:]] == [LARGE, LARGE]
    assert [entry.sections for entry in header.leaves[2:]] == [(), ()]
    assert header.leaves[3].header_bytes == 2 + 6 + 1


@pytest.mark.spec("C60")
def test_the_network_is_rejected_before_memory_is_taken():
    data = one_of_two()
    for read in (container.loads, container.read_values, account.account):
        with pytest.raises(FormatError, match="leaf 'c' is in another file") as caught:
            read(data)
        assert caught.value.clause == "C60"
    with pytest.raises(DECODER.Broken, match="^C60$"):
        DECODER.decode(data)


@pytest.mark.spec("C42", "C60")
def test_leaves_that_are_there_are_read(tmp_path: Path):
    path = tmp_path / "model-00001-of-00002.dcz"
    path.write_bytes(one_of_two())
    for name, values in VALUES.items():
        found = container.load_leaf(path, name)
        assert (found.dtype, found.tolist()) == (values.dtype, values.tolist())
    for name in ("c", "d"):
        with pytest.raises(FormatError, match="open them together") as caught:
            container.load_leaf(path, name)
        assert caught.value.clause == "C60"


@pytest.mark.spec("C58", "C60")
def test_a_leaf_elsewhere_has_no_part_here():
    with small_parts.limited(1):
        header = container.read_header(one_of_two())
    assert [len(entry.sections) for entry in header.leaves] == [7, 3, 0, 0]
