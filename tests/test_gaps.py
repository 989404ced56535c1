import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax import gaps
from deepcomp_jax._errors import FormatError
from tests import strategies

widths = st.integers(1, 16)


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
    assert gaps.encode(positions, bits=3)[0].tolist() == symbols
    assert gaps.decode(np.array(symbols, np.uint16), bits=3).tolist() == list(positions)


@pytest.mark.spec("G2", "G3", "G4")
@given(strategies.kept_positions(), widths)
def test_positions_come_back(positions: np.ndarray, bits: int) -> None:
    symbols = gaps.encode(positions, bits=bits)[0]
    assert symbols.dtype == np.uint16
    back = gaps.decode(symbols, bits=bits)
    assert back.dtype == np.int64
    assert back.tolist() == positions.tolist() == gaps.decode_slow(symbols, bits=bits)
    # Nothing is coded after the last weight, and only fillers are no weights.
    assert symbols.size == positions.size + gaps.fillers(symbols, bits=bits)
    assert not symbols.size or symbols[-1] < 2**bits - 1


@pytest.mark.spec("G1")
@pytest.mark.parametrize("bits", [0, 17, -1])
def test_widths_out_of_range(bits: int) -> None:
    with pytest.raises(ValueError, match="a gap must have 1 to 16 bits"):
        gaps.encode(np.array([1]), bits=bits)[0]
    with pytest.raises(ValueError, match="a gap must have 1 to 16 bits"):
        gaps.decode(np.array([1], np.uint16), bits=bits)


@pytest.mark.spec("G1")
def test_the_widest_gap() -> None:
    positions = np.array([65534, 200_000])
    symbols = gaps.encode(positions, bits=16)[0]
    assert symbols.tolist() == [65534, 65535, 65535, 3395]
    assert gaps.decode(symbols, bits=16).tolist() == [65534, 200_000]


@pytest.mark.parametrize("positions", [[3, 3], [0, 5, 4], [-1, 2]])
def test_positions_must_ascend(positions: list[int]) -> None:
    with pytest.raises(ValueError, match="non-negative and strictly ascending"):
        gaps.encode(np.array(positions), bits=4)[0]


@pytest.mark.parametrize(
    ("symbols", "clause"),
    [
        pytest.param([0, 4], "G5", marks=pytest.mark.spec("G5")),
        pytest.param([0, 3], "G6", marks=pytest.mark.spec("G6")),
        pytest.param([3, 3, 3], "G6", marks=pytest.mark.spec("G6")),
    ],
)
def test_rejected_symbols(symbols: list[int], clause: str) -> None:
    with pytest.raises(FormatError) as caught:
        gaps.decode(np.array(symbols, np.uint16), bits=2, offset=70)
    assert (caught.value.clause, caught.value.offset) == (clause, 70)
    with pytest.raises(FormatError):
        gaps.decode_slow(np.array(symbols, np.uint16), bits=2)


@pytest.mark.spec("G7")
@given(strategies.kept_positions(), st.integers(1, 16), st.integers(0, 32))
def test_low_bits(positions: np.ndarray, bits: int, low_bits: int):
    symbols, low = gaps.encode(positions, bits=bits, low_bits=low_bits)
    assert low.size == positions.size
    assert not low.size or low.max() < 1 << low_bits
    back = gaps.decode(symbols, low, bits=bits, low_bits=low_bits)
    slow = gaps.decode_slow(symbols, low, bits=bits, low_bits=low_bits)
    assert back.tolist() == positions.tolist() == slow
