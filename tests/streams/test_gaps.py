"""Gaps: what they say about positions, how few there are, and what is rejected."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import relative
from deepcomp_jax.streams import gaps, huffman
from deepcomp_jax.streams.bits import pack_fixed, put_varint
from tests.support import strategies

widths = st.integers(1, 16)


def by_hand(symbols: list[int], low: list[int], cap: int, low_bits: int) -> list[int]:
    """Positions, symbol by symbol, as the specification tells it."""
    positions, here, rest = [], 0, iter(low)
    for symbol in symbols:
        here += symbol << low_bits
        if symbol < cap:
            positions.append(here + next(rest))
            here = positions[-1] + 1
    return positions


def assert_comes_back(
    positions: np.ndarray, *, bits: int, low_bits: int = 0
) -> list[int]:
    """Positions come back, also by hand; returns the symbols."""
    symbols, low = gaps.encode(positions, bits=bits, low_bits=low_bits)
    assert (symbols.dtype, low.dtype) == (np.uint16, np.uint64)
    assert not low.size or int(low.max()) < 1 << low_bits
    cap, front = 2**bits - 1, np.zeros(3, np.uint64)
    packed = pack_fixed(np.append(front, low), low_bits)
    blocks = list(
        gaps.decode(symbols, packed, cap=cap, low_bits=low_bits, start=3 * low_bits)
    )
    assert all(block.dtype == np.int64 for block in blocks)
    back = [place for block in blocks for place in block.tolist()]
    assert back == positions.tolist()
    assert by_hand(symbols.tolist(), low.tolist(), cap, low_bits) == back
    return symbols.tolist()


def body(symbols: list[int], *, bits: int, low_bits: int = 0) -> bytes:
    """The gaps of a body in the relative coding, of which all low bits are zeros."""
    kept = sum(symbol < 2**bits - 1 for symbol in symbols)
    head = bytes([bits, low_bits]) + put_varint(len(symbols))
    low = bytes(-(-kept * low_bits // 8))
    return head + huffman.encode(np.array(symbols, np.uint16)) + low


@pytest.mark.spec("G2", "G3")
@pytest.mark.parametrize(
    ("zeros", "symbols"),
    [
        # A gap of 3 bits counts up to six zeros; seven are a filler.
        ([0], [0]),
        ([6], [6]),
        ([7], [7, 0]),
        ([8], [7, 1]),
        ([13], [7, 6]),
        ([14], [7, 7, 0]),
        ([0, 0, 7, 0], [0, 0, 7, 0, 0]),
    ],
)
def test_gaps_of_three_bits(zeros: list[int], symbols: list[int]) -> None:
    positions = np.cumsum(np.array(zeros) + 1) - 1
    assert assert_comes_back(positions, bits=3) == symbols


@pytest.mark.spec("G3", "G7")
@pytest.mark.parametrize(
    ("zeros", "symbols", "low"),
    [
        # A unit is four zeros, and a gap of 2 bits counts up to two units.
        ([0], [0], [0]),
        ([3], [0], [3]),
        ([4], [1], [0]),
        ([11], [2], [3]),
        ([12], [3, 0], [0]),
        ([13, 0, 5], [3, 0, 0, 1], [1, 0, 1]),
    ],
)
def test_gaps_with_low_bits(zeros: list[int], symbols: list[int], low: list[int]):
    positions = np.cumsum(np.array(zeros) + 1) - 1
    assert assert_comes_back(positions, bits=2, low_bits=2) == symbols
    assert gaps.encode(positions, bits=2, low_bits=2)[1].tolist() == low


@pytest.mark.spec("G2", "G3", "G4", "G7")
@given(strategies.kept_positions(), widths, st.integers(0, 32))
def test_positions_come_back(positions: np.ndarray, bits: int, low_bits: int) -> None:
    symbols = np.array(
        assert_comes_back(positions, bits=bits, low_bits=low_bits), np.uint16
    )
    # Nothing is coded after the last weight, and only fillers are no weights.
    assert symbols.size == positions.size + (symbols == 2**bits - 1).sum()
    assert not symbols.size or symbols[-1] < 2**bits - 1


@pytest.mark.spec("G1")
@pytest.mark.parametrize("bits", [0, 17, -1])
def test_widths_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match="a gap must have 1 to 16 bits"):
        gaps.encode(np.array([1]), bits=bits)


@pytest.mark.spec("G1")
def test_the_widest_gap() -> None:
    positions = np.array([65534, 200_000])
    assert assert_comes_back(positions, bits=16) == [65534, 65535, 65535, 3395]


@pytest.mark.parametrize("positions", [[3, 3], [0, 5, 4], [-1, 2]])
def test_positions_must_ascend(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="non-negative and strictly ascending"):
        gaps.encode(np.array(positions), bits=4)


@pytest.mark.parametrize(
    ("symbols", "clause"),
    [
        pytest.param([0, 4], "G5", marks=pytest.mark.spec("G5")),
        pytest.param([0, 3], "G6", marks=pytest.mark.spec("G6")),
        pytest.param([3, 3, 3], "G6", marks=pytest.mark.spec("G6")),
    ],
)
def test_rejected_symbols(symbols: list[int], clause: str) -> None:
    data = body(symbols, bits=2)
    with pytest.raises(FormatError) as caught:
        relative.get_gaps(data, 99)
    assert (caught.value.clause, caught.value.offset) == (clause, 3)


def test_more_gaps_than_a_block_come_back() -> None:
    rng = np.random.default_rng(0)
    assert_comes_back(np.cumsum(rng.geometric(0.03, 150_000)), bits=5, low_bits=2)


@pytest.mark.spec("L7")
@pytest.mark.parametrize("symbols", [[5], [2, 3], [65534] * 2**16])
def test_gaps_that_lead_too_far(symbols: list[int]) -> None:
    """The last of them lead beyond 2**64: no integer may overflow."""
    data = body(symbols, bits=16, low_bits=32)
    least = (sum(symbols) << 32) + len(symbols)
    with pytest.raises(FormatError) as caught:
        relative.get_gaps(data, least - 1)
    start = 2 + len(put_varint(len(symbols)))
    assert (caught.value.clause, caught.value.offset) == ("L7", start)
    assert relative.get_gaps(data, least).kept == len(symbols)
