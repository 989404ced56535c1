import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import gaps
from tests.support import (
    strategies,
)

widths = st.integers(1, 16)
NONE = np.zeros(0, np.uint64)  # no low bits


def check(positions: np.ndarray, *, bits: int, low_bits: int = 0) -> list[int]:
    """Positions come back, from both decoders; returns the symbols."""
    symbols, low = gaps.encode(positions, bits=bits, low_bits=low_bits)
    assert (symbols.dtype, low.dtype) == (np.uint16, np.uint64)
    assert not low.size or int(low.max()) < 1 << low_bits
    size = int(positions[-1]) + 1 if positions.size else 0
    back = gaps.decode(symbols, low, size=size, bits=bits, low_bits=low_bits)
    assert back.dtype == np.int64
    slow = gaps.decode_slow(symbols, low, bits=bits, low_bits=low_bits)
    assert back.tolist() == positions.tolist() == slow
    return symbols.tolist()


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
    assert check(positions, bits=3) == symbols


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
    assert check(positions, bits=2, low_bits=2) == symbols
    assert gaps.encode(positions, bits=2, low_bits=2)[1].tolist() == low


@pytest.mark.spec("G2", "G3", "G4", "G7")
@given(strategies.kept_positions(), widths, st.integers(0, 32))
def test_positions_come_back(positions: np.ndarray, bits: int, low_bits: int) -> None:
    symbols = np.array(check(positions, bits=bits, low_bits=low_bits), np.uint16)
    # Nothing is coded after the last weight, and only fillers are no weights.
    assert symbols.size == positions.size + gaps.fillers(symbols, bits=bits)
    assert not symbols.size or symbols[-1] < 2**bits - 1


@pytest.mark.spec("G1")
@pytest.mark.parametrize("bits", [0, 17, -1])
def test_widths_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match="a gap must have 1 to 16 bits"):
        gaps.encode(np.array([1]), bits=bits)
    with pytest.raises(ValueError, match="a gap must have 1 to 16 bits"):
        gaps.decode(np.array([1], np.uint16), NONE, size=9, bits=bits)


@pytest.mark.spec("G1")
def test_the_widest_gap() -> None:
    positions = np.array([65534, 200_000])
    assert check(positions, bits=16) == [65534, 65535, 65535, 3395]


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
    given, low = np.array(symbols, np.uint16), np.zeros(symbols.count(0), np.uint64)
    with pytest.raises(FormatError) as caught:
        gaps.decode(given, low, size=99, bits=2, offset=70)
    assert (caught.value.clause, caught.value.offset) == (clause, 70)
    with pytest.raises(FormatError):
        gaps.decode_slow(given, low, bits=2)


@pytest.mark.spec("L7")
@pytest.mark.parametrize("symbols", [[5], [2, 3], [65534] * 2**16])
def test_gaps_that_lead_too_far(symbols: list[int]) -> None:
    """The last of them lead beyond 2**64: no integer may overflow."""
    given, low = np.array(symbols, np.uint16), np.zeros(len(symbols), np.uint64)
    least = (sum(symbols) << 32) + len(symbols)
    with pytest.raises(FormatError) as caught:
        gaps.decode(given, low, size=least - 1, bits=16, low_bits=32, offset=7)
    assert (caught.value.clause, caught.value.offset) == ("L7", 7)
    if least < 1 << 62:
        back = gaps.decode(given, low, size=least, bits=16, low_bits=32)
        assert back[-1] == least - 1
