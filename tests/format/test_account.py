"""The account of a file: every bit once, the paper's tables, sizes as text."""

import json
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import FormatError, account, codings
from deepcomp_jax._types import Compressed, DenseLeaf, SharedLeaf
from deepcomp_jax.format import container
from tests.support import strategies

SIXTEEN = np.arange(1, 17, dtype=np.float32)
THREE = np.array([-1, 1, 2], np.float32)


def labels(size: int, k: int, density: float) -> np.ndarray:
    """Random labels, uint8[size]."""
    rng = np.random.default_rng(size)
    kept = rng.random(size) < density
    return (kept * rng.integers(1, k + 1, size)).astype(np.uint8)


def example() -> Compressed:
    """Two tensors that share a codebook, one of their own, three dense ones."""
    leaves = (
        SharedLeaf(labels(36_864, 16, 0.2).reshape(3, 3, 64, 64), 0, "relative", 8),
        SharedLeaf(labels(100_000, 3, 0.05).reshape(500, 200), 1, "relative", 5),
        SharedLeaf(labels(1000, 16, 0.5), 0),
        DenseLeaf(np.array([1, 1, 2, 0, -0.0, np.nan, np.nan], np.float16)),
        DenseLeaf(np.int32(3)[()] * np.ones((), np.int32)),
        DenseLeaf(np.zeros((0, 3))),
    )
    structure = {"conv": {"kernel": 0}, "fc": [1, 2], "rest": (3, 4, 5)}
    return Compressed(structure, leaves, (SIXTEEN, THREE))


DATA = container.dumps(example())
ACCOUNT = account.account(DATA, compare=True)
CONV, FC, SECOND, HALF, STEP, EMPTY = ACCOUNT.tensors


@pytest.mark.spec("A1")
@given(strategies.networks())
def test_all_bits_are_counted_once(network: Compressed):
    data = container.dumps(network)
    found = account.account(data)
    assert sum(found.total) == 8 * len(data) == 8 * found.file_bytes
    assert sum(found.front) + sum(t.bits for t in found.tensors) == 8 * len(data)
    assert min(found.total) >= 0


@pytest.mark.spec("A1")
@given(strategies.networks())
def test_a_report_can_be_written_of_every_network(network: Compressed):
    found = account.account(container.dumps(network))
    assert str(8 * found.file_bytes) in str(found)
    json.dumps(account.to_dict(found), allow_nan=False)


@pytest.mark.spec("A2")
def test_parts():
    """Bits of the parts, from the format and not from the code."""
    assert CONV.parts.checksum == 32
    # A kind, four dimensions and their number, a size of two bytes; then the widths of
    # gaps and low bits, and a number of gaps of two bytes.
    assert CONV.parts.header == 8 * (1 + 1 + 4 + 2) + 8 * (1 + 1 + 2)
    # A grid of 16 steps of 1.0: size, step in two bytes, none below zero.
    assert CONV.parts.codebook == 8 * (1 + 2 + 1)
    assert CONV.parts.values == 0
    assert HALF.parts == account.Parts(values=7 * 16, header=8 * 4)
    assert EMPTY.parts == account.Parts(header=8 * 5)
    assert ACCOUNT.front.checksum == 32
    assert sum(ACCOUNT.front) == ACCOUNT.front.header + 32


@pytest.mark.spec("A2")
@pytest.mark.parametrize("coding", ["relative", "grouped"])
@given(st.integers(0, 2**32 - 1), st.floats(0.05, 0.5))
def test_positions_say_where_and_indices_which(coding: str, seed: int, part: float):
    """Other values at the same places change the indices alone, and the reverse."""
    rng = np.random.default_rng(seed)
    kept = rng.random((60, 50)) < part
    entries = rng.integers(1, 17, kept.shape)
    skewed = np.where(rng.random(kept.shape) < 0.1, entries, 8)
    gathered = np.zeros(kept.shape, bool)  # the same values in the same order, in front
    gathered.ravel()[: kept.sum()] = True

    def parts(labels: np.ndarray) -> account.Parts:
        leaf = SharedLeaf(
            labels.astype(np.uint8), 0, coding, *[5] * (coding == "relative")
        )
        (found,) = account.account(
            container.dumps(Compressed({"w": 0}, (leaf,), (SIXTEEN,)))
        ).tensors
        return found.parts

    plain, cheap = parts(kept * entries), parts(kept * skewed)
    # One rANS stream holds both, so that a few bits go to one part or the other.
    assert cheap.positions == pytest.approx(plain.positions, rel=0.02)
    assert cheap.indices < 0.7 * plain.indices
    moved = np.zeros(kept.shape, int)
    moved[gathered] = entries[kept]
    front = parts(moved)
    assert front.positions < 0.7 * plain.positions
    assert front.indices > 0.9 * plain.indices


@pytest.mark.spec("A3")
def test_a_shared_codebook_is_charged_to_its_first_tensor():
    assert CONV.parts.codebook > 0
    assert SECOND.parts.codebook == 0
    assert SECOND.clusters == CONV.clusters == 16


def test_counts_of_a_tensor():
    first = example().leaves[0]
    assert isinstance(first, SharedLeaf)
    assert CONV.name == "conv/kernel"
    assert CONV.layout.shape == (3, 3, 64, 64)
    assert CONV.size == 36_864
    assert CONV.kept == CONV.stored == np.count_nonzero(first.labels)
    assert CONV.gaps == CONV.kept + CONV.fillers
    assert FC.fillers > 100
    assert (STEP.size, STEP.kept, STEP.unique, STEP.clusters) == (1, 1, 1, 0)


@pytest.mark.spec("A4")
def test_ratio():
    assert ACCOUNT.parameters == 36_864 + 100_000 + 1000 + 7 + 1
    assert ACCOUNT.dense_bytes == 4 * ACCOUNT.parameters
    assert ACCOUNT.ratio == 4 * ACCOUNT.parameters / len(DATA)


@pytest.mark.spec("A5")
@pytest.mark.parametrize(
    ("symbols", "bits"),
    [([], 0), ([5] * 9, 0), ([0, 1] * 4, 8), ([3, 3, 0, 1], 6), ([7, 8, 9, 6], 8)],
)
def test_entropy(symbols: list[int], bits: float):
    assert account.entropy(np.array(symbols, np.uint16)) == pytest.approx(bits)
    n, counts = len(symbols), Counter(symbols).values()
    assert bits == pytest.approx(sum(c * math.log2(n / c) for c in counts))


@pytest.mark.spec("A5", "A6")
@given(strategies.networks())
def test_words_are_no_shorter_than_their_entropy(network: Compressed):
    found = account.account(container.dumps(network))
    for tensor in found.tensors:
        parts = tensor.parts
        # The states of a rANS stream hold some of its bits.
        assert parts.positions + parts.indices + parts.lanes >= tensor.ideal - 1e-6
    assert found.bound <= 8 * found.file_bytes


@pytest.mark.spec("A6")
def test_bound():
    total = ACCOUNT.total
    ideal = sum(tensor.ideal for tensor in ACCOUNT.tensors)
    parts = total.tables + total.classes + total.codebook + total.values
    assert ACCOUNT.bound == pytest.approx(ideal + parts)
    assert 1 < 8 * len(DATA) / ACCOUNT.bound < 1.1


@pytest.mark.spec("A15")
def test_the_next_best_coding():
    sizes = {}
    for coding in codings.ALL:
        second = SharedLeaf(labels(1000, 16, 0.5), 0, coding)
        data = container.dumps(Compressed((0,), (second,), (SIXTEEN,)))
        sizes[coding] = account.account(data).tensors[0].body_bytes
    best, following = sorted(sizes, key=sizes.__getitem__)[:2]
    assert (SECOND.coding, SECOND.body_bytes) == (best, sizes[best])
    assert SECOND.runner_up == (following, sizes[following])
    assert f"{following} +{100 * (sizes[following] / sizes[best] - 1):.1f} %" in str(
        ACCOUNT
    )
    assert HALF.runner_up is EMPTY.runner_up is None


@pytest.mark.spec("A16")
def test_nothing_is_encoded_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    def encode(*_: object, **__: object) -> bytes:
        raise AssertionError("encoded")

    for name, coding in codings.ALL.items():
        monkeypatch.setitem(codings.ALL, name, coding._replace(plan=encode))
    found = account.account(DATA)
    tensors = [tensor._replace(runner_up=None) for tensor in ACCOUNT.tensors]
    assert found == ACCOUNT._replace(tensors=tuple(tensors))
    assert "next best" in str(ACCOUNT)
    bits = str(found).split("\n\n")[0].splitlines()
    assert "next best" not in bits[0]
    assert len({len(line) for line in bits}) == 1
    with pytest.raises(AssertionError, match="encoded"):
        account.account(DATA, compare=True)


@pytest.mark.spec("A7")
def test_dictionary():
    found = json.loads(json.dumps(account.to_dict(ACCOUNT), allow_nan=False))
    assert found == account.to_dict(ACCOUNT)
    assert found["file_bytes"] == len(DATA)
    assert sum(found["bits"].values()) == 8 * len(DATA)
    assert [tensor["name"] for tensor in found["per_tensor"]] == [
        "conv/kernel", "fc/0", "fc/1", "rest/0", "rest/1", "rest/2",
    ]  # fmt: skip
    assert {"parameters", "dense_bytes", "ratio", "nonzero", "unique"} <= found.keys()
    bits = [tensor["bits"]["total"] for tensor in found["per_tensor"]]
    assert sum(bits) + sum(found["front_bits"].values()) == 8 * len(DATA)


@pytest.mark.spec("A8", "A9")
def test_table_of_the_paper():
    rows = {row.name: row for row in account.table(ACCOUNT)}
    conv, half, total = rows["conv/kernel"], rows["rest/0"], rows["total"]
    assert (conv.weight_bits, conv.gap_bits) == (4, 8)
    assert conv.weight_bits_coded == CONV.parts.indices / CONV.kept
    assert conv.gap_bits_coded == CONV.parts.positions / CONV.gaps
    fixed = 4 * CONV.kept + 8 * CONV.gaps + CONV.parts.codebook
    assert conv.rate == fixed / (32 * CONV.size)
    assert conv.rate_coded == CONV.bits / (32 * CONV.size)
    assert rows["fc/0"].weight_bits == 2
    assert (half.kept, half.weight_bits, half.gap_bits) == (1, 16, None)
    assert rows["rest/2"].rate is None
    assert total.rate_coded == pytest.approx(1 / ACCOUNT.ratio)


@pytest.mark.spec("A8")
@pytest.mark.parametrize(
    ("k", "bits"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (256, 8), (257, 9)]
)
def test_bits_of_an_index(k: int, bits: int):
    leaf = SharedLeaf(np.arange(k + 1), 0, "relative", 5)
    network = Compressed(0, (leaf,), (np.arange(1, k + 1, dtype=np.float32),))
    row = account.table(account.account(container.dumps(network)))[0]
    assert row.weight_bits == bits


@pytest.mark.spec("A13")
def test_nonzero_and_unique():
    assert (HALF.size, HALF.kept, HALF.unique, HALF.stored) == (7, 5, 3, 7)
    assert ACCOUNT.nonzero == sum(tensor.kept for tensor in ACCOUNT.tensors)
    assert CONV.unique == SECOND.unique == 16  # one codebook, counted once
    assert ACCOUNT.unique == 16 + 3 + 3 + 1
    idle = Compressed([0], (SharedLeaf(np.array([1, 3, 0]), 0),), (SIXTEEN,))
    found = account.account(container.dumps(idle))
    assert (found.unique, found.tensors[0].clusters) == (2, 16)


@pytest.mark.spec("A13")
@pytest.mark.parametrize("dtype", container.DTYPES[9:], ids=str)
@pytest.mark.parametrize("copies", [1, 50])
def test_nonzero_and_unique_in_any_dtype(dtype: np.dtype, copies: int):
    values = np.array([np.nan, -np.nan, np.inf, 0, -0.0, 1, 1, 2] + copies * [0])
    data = container.dumps(Compressed(0, (DenseLeaf(values.astype(dtype)),), ()))
    (tensor,) = account.account(data).tensors
    finite = dtype.name.endswith(("fn", "fnuz"))  # infinity becomes a NaN there
    assert (tensor.kept, tensor.unique) == (6, 3 if finite else 4)


@pytest.mark.spec("A1", "A2")
@pytest.mark.parametrize("name", ["bfloat16", "float32", "complex64"])
def test_values_in_planes(name: str):
    """All are stored: the byte of the exponent by a model, the others as they are."""
    (dtype,) = (dtype for dtype in container.DTYPES if dtype.name == name)
    halves = 2 if dtype.kind == "c" else 1
    weights = np.random.default_rng(0).normal(scale=0.02, size=6000 * halves)
    weights = weights.astype("float32" if halves == 2 else dtype).view(dtype)
    data = container.dumps(Compressed(0, (DenseLeaf(weights),), ()))
    (tensor,) = account.account(data).tensors
    assert (tensor.coding, tensor.kept) == ("planes", np.count_nonzero(weights))
    assert tensor.size == tensor.stored == 6000
    planes = dtype.itemsize // halves
    assert tensor.parts.values == 8 * 6000 * halves * (planes - 1)  # all but the first
    assert 2 * 6000 * halves < tensor.parts.indices < 5 * 6000 * halves
    assert 0.9 * tensor.parts.indices < tensor.ideal < 1.1 * tensor.parts.indices
    assert tensor.parts.positions == tensor.gaps == tensor.clusters == 0
    row = account.table(account.account(data))[0]
    assert (row.kept, row.weight_bits, row.gap_bits) == (1, 8 * dtype.itemsize, None)


def test_report():
    lines = str(ACCOUNT).splitlines()
    assert str(ACCOUNT) == account.format(ACCOUNT)
    for tensor in ACCOUNT.tensors:
        (row,) = [line for line in lines if line.startswith(tensor.name + " ")][:1]
        assert str(tensor.bits) in row.split()
    (ratio,) = [line for line in lines if line.startswith("dense fp32 / file")]
    assert f"= x{ACCOUNT.ratio:.2f}" in ratio
    assert not any(line.endswith(" ") for line in lines)


def test_a_report_has_aligned_columns():
    bits = str(ACCOUNT).split("\n\n")[0].splitlines()
    assert len({len(line) for line in bits}) == 1


def test_damaged_files_are_rejected():
    for wrong in (DATA[:-1], DATA + b"\0", DATA[:-1] + bytes([DATA[-1] ^ 1])):
        with pytest.raises(FormatError):
            account.account(wrong)


def test_memory_is_limited():
    with pytest.raises(FormatError, match="above max_bytes=1000"):
        account.account(DATA, max_bytes=1000)
