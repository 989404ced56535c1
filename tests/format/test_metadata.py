"""Strings that go with a network."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import deepcomp_jax as dc
from deepcomp_jax import account
from deepcomp_jax._types import Compressed, DenseLeaf
from deepcomp_jax.format import container
from tests.support import readers, strategies
from tests.support.readers import DECODER

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
PAIRS = st.dictionaries(TEXT, TEXT, max_size=5)


@pytest.mark.spec("C39", "C59")
@given(strategies.networks(), PAIRS)
def test_metadata_come_back_beside_any_network(
    network: Compressed, metadata: dict[str, str]
):
    data = container.dumps(network, metadata)
    header = container.read_header(data)
    assert header.metadata == metadata
    assert header.metadata_bytes == len(data) - len(container.dumps(network)) - (
        varint_bytes(data) - varint_bytes(container.dumps(network))
    )
    assert readers.of_network(container.loads(data)) == readers.of_network(network)
    assert DECODER.decode(data)[2] == metadata
    assert sum(account.account(data).total) == 8 * len(data)


def varint_bytes(data: bytes) -> int:
    """Of the size of the header, which is larger with metadata."""
    return next(i for i in range(5, 15) if data[i] < 128) - 4


@pytest.mark.spec("C38", "C59")
@given(PAIRS, st.randoms(use_true_random=False))
def test_the_order_of_the_pairs_does_not_matter(
    metadata: dict[str, str], source: random.Random
):
    network = Compressed(0, (DenseLeaf(np.arange(3)),), ())
    pairs = list(metadata.items())
    source.shuffle(pairs)
    data = container.dumps(network, metadata)
    assert container.dumps(network, dict(pairs)) == data
    keys = [key.encode() for key in container.read_header(data).metadata]
    assert keys == sorted(keys)


def test_no_metadata_take_no_byte():
    network = Compressed(0, (DenseLeaf(np.arange(3)),), ())
    assert container.dumps(network, {}) == container.dumps(network)
    assert container.read_header(container.dumps(network)).metadata_bytes == 0


@pytest.mark.spec("C59")
def test_save_and_report(tmp_path: Path):
    path, said = tmp_path / "m.dcz", {"format": "pt", "step": "1000"}
    compressed = dc.compress({"kernel": np.eye(40, dtype="f4")})
    size = dc.save(path, compressed, metadata=said)
    assert size == path.stat().st_size
    assert path.read_bytes() == dc.dumps(compressed, metadata=said)
    assert container.read_header(path.read_bytes()).metadata == said
    assert dc.load(path)["kernel"].shape == (40, 40)
    assert sum(dc.report(path).total) == 8 * size


@pytest.mark.spec("C44", "C59")
@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"a": 1}, TypeError, "metadata must be strings, got 1: convert it"),
        ({1: "a", "b": "c"}, TypeError, "metadata must be strings, got 1: convert"),
        ({"a": b"b"}, TypeError, "must be strings, got b'b'"),
        ({"a": "\ud800"}, ValueError, "lone surrogate"),
        ({"\udfff": "a"}, ValueError, "lone surrogate"),
    ],
)
def test_metadata_that_cannot_be_written(
    metadata: dict[str, str], error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        container.dumps(Compressed(None, (), ()), metadata)
