"""Interleaved rANS: the law, its size, segments, and what readers reject."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import rans, rans_writing
from tests.support import laws, strategies
from tests.support.readers import DECODER


def decode(
    data: bytes, pos: int, segments: list[rans.Segment]
) -> tuple[int, np.ndarray]:
    """A whole stream; of each segment only the models are looked at."""
    end, state = rans.begin(data, pos)
    found = [np.zeros(0, np.uint16)]
    for segment in segments:
        state, symbols = rans.take(state, segment.models, segment.chosen)
        assert symbols.dtype == np.uint16
        found.append(symbols)
    rans.finish(state)
    return end, np.concatenate(found)


Outcome = tuple[int, list[int]] | str  # where a stream ends and symbols, or the clause


def outcome(data: bytes, segments: list[rans.Segment], few: int) -> Outcome:
    """What the library makes of a stream, with lanes below `few` one by one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rans, "_FEW_LANES", few)
        try:
            end, symbols = decode(data, 0, segments)
        except FormatError as error:
            return error.clause
    return end, symbols.tolist()


def by_specification(data: bytes, segments: list[rans.Segment]) -> Outcome:
    """What the decoder of the specification makes of it."""
    symbols: list[int] = []
    try:
        end, lanes = DECODER.begin(data, 0)
        for segment in segments:
            table = segment.models.frequencies.tolist()
            models = [table[model] for model in segment.chosen.tolist()]
            symbols += DECODER.decoded(lanes, models)
        DECODER.finish(lanes)
    except DECODER.Broken as error:
        return str(error)
    return end, symbols


def assert_alike(data: bytes, segments: list[rans.Segment]) -> None:
    """Lanes one by one, side by side and by the specification: all are the same."""
    expected = by_specification(data, segments)
    assert outcome(data, segments, few=1) == expected
    assert outcome(data, segments, few=1 << 30) == expected


def assert_comes_back(segments: list[rans.Segment], lanes: int | None = None) -> bytes:
    """The codec law; and a stream is the same however its lanes are decoded."""
    symbols = np.concatenate([np.zeros(0, np.uint16), *(s.symbols for s in segments)])
    data = laws.assert_codec(
        lambda _: rans.encode(segments, lanes=lanes),
        lambda data, pos: decode(data, pos, segments),
        symbols.astype(np.uint16),
    )
    assert_alike(data, segments)
    return data


def ideal(segments: list[rans.Segment]) -> float:
    """Bits that the symbols need, one by one."""
    return sum(
        float(np.log2(4096 / s.models.frequencies[s.chosen, s.symbols]).sum())
        for s in segments
    )


def drawn(shares: list[int], size: int, seed: int = 0) -> rans.Segment:
    """Symbols as frequent as their model says, from shares that add up to 4096."""
    table = rans.models(np.array([shares]))
    rng = np.random.default_rng(seed)
    symbols = rng.choice(len(shares), size, p=np.array(shares) / 4096)
    return rans.Segment(symbols.astype(np.uint16), table, np.zeros(size, np.uint8))


# ---- round trips --------------------------------------------------------------------


@pytest.mark.spec("E1", "E8")
@given(strategies.segments(), st.none() | st.integers(1, 60))
def test_streams_come_back(segments: list[rans.Segment], lanes: int | None) -> None:
    assert_comes_back(segments, lanes)


@pytest.mark.spec("E1", "E9")
@given(strategies.segments(), st.integers(1, 60))
def test_size_is_near_the_ideal(segments: list[rans.Segment], lanes: int) -> None:
    size = 8 * len(rans.encode(segments, lanes=lanes))
    assert ideal(segments) - 1e-6 <= size <= 1.01 * ideal(segments) + 64 * lanes + 64
    assert sum(map(rans.cost, segments)) == pytest.approx(ideal(segments))


@pytest.mark.spec("E1")
def test_models_keep_where_symbols_begin() -> None:
    table = rans.models(np.array([[1, 0, 4000, 95], [4096, 0, 0, 0]]))
    assert table.starts.tolist() == [[0, 1, 1, 4001], [0, 4096, 4096, 4096]]
    symbols, steps = rans.tables(table)
    assert symbols[:4096].tolist() == [0] + [2] * 4000 + [3] * 95
    assert (symbols[4096:] == 0).all()
    assert steps[[0, 1, 4001, 4095]].tolist() == [
        *(1 << 12, 4000 << 12, 95 << 12, (95 << 12) + 94)
    ]


@pytest.mark.spec("E1")
@pytest.mark.parametrize("lanes", [1, 5, 23, 24, 25, 100])
@pytest.mark.parametrize("size", [0, 1, 99, 100, 5000])
def test_few_and_many_lanes(lanes: int, size: int) -> None:
    """From 24 lanes on they are coded side by side."""
    assert_comes_back([drawn([1, 4000, 5, 90], size), drawn([4096], size)], lanes)


def test_streams_longer_than_a_block_come_back() -> None:
    assert_comes_back([drawn([1, 4000, 5, 90], 70_000)], lanes=1)


def test_side_by_side_and_one_by_one_write_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    segments = [drawn([3000, 1000, 96], 777), drawn([1, 4095], 555)]
    first = rans.encode(segments, lanes=50)
    monkeypatch.setattr(rans_writing, "_FEW_LANES", 51)
    assert rans.encode(segments, lanes=50) == first


def test_symbols_that_are_certain_take_nothing() -> None:
    segment = drawn([4096], 10**6)
    data = rans.encode([segment])
    assert data == bytes(5)
    assert not decode(data, 0, [segment])[1].any()


@pytest.mark.spec("E10")
@pytest.mark.parametrize("size", [100, 20_000, 300_000])
@pytest.mark.parametrize("shares", [[2048] * 2, [4000, 95, 1], [64] * 64])
def test_lanes_cost_little(size: int, shares: list[int]) -> None:
    segment = drawn(shares, size)
    data, one = rans.encode([segment]), rans.encode([segment], lanes=1)
    lanes = rans.begin(data, 0)[1].lanes.size
    assert len(data) <= 1.005 * len(one)
    assert (lanes > 1) == (rans.cost(segment) >= 16_000)  # of which 0.2 % are two


# ---- what a reader rejects ----------------------------------------------------------

HALF = rans.models(np.array([[2048, 2048]]))


@pytest.mark.parametrize(
    ("clause", "data", "offset"),
    [
        pytest.param(*row, marks=pytest.mark.spec(row[0]))
        for row in [
            ("E2", "", 0),
            ("E2", "80 00 00 00 00 00", 0),
            ("E2", "81", 0),
            ("E2", "01", 1),
            ("E2", "01 82 00 00 00 00 00 00 00 00 00 00", 1),
            ("E3", "01 00 00 00 00 00 00 00 00 00 00", 1),
            ("E3", "01 01 00 00 00 00 00 00 00 00 00", 1),
            ("E3", "01 02 00 00 00 00 00", 1),
            ("E3", "01 ff ff ff ff ff ff ff ff 7f 00 00", 1),
            ("E4", "01 02 21 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00", 2),
            ("E5", "01 02 01 01 00 00 00 00 00 00 00 00", 3),
            ("E6", "ff ff ff ff ff ff 7f 02", 8),
            ("E6", "01 02 20 00 00 00 00 00", 8),
            ("E6", "00 00 00 01", 4),
            ("E6", "02 00 00 01 00 00", 6),
            ("E6", "fe ff ff ff ff ff ff ff 7f 00 00 01 00", 13),
            ("E6", "ff ff ff ff 7f 02 00 00 00 00 00 00 00 00 00", 15),
            ("E7", "02 00 00 00 00 00 00", 1),
            ("E7", "02 ff ff 00 00 00 00", 1),
            ("E7", "01 02 01 40 00 00 01 00 ff ff 00 00 00 00", 4),
            ("E8", "00 02 00 00 00", 0),
            ("E8", "00 00 00 01 00", 0),
            ("E8", "02 00 00 02 00 00 00", 0),
        ]
    ],
)
def test_faults(clause: str, data: str, offset: int) -> None:
    segment = rans.Segment(np.zeros(1, np.uint8), HALF, np.zeros(1, np.uint8))
    assert_alike(bytes.fromhex(data), [segment])
    for front in (b"", b"xyz"):
        with pytest.raises(FormatError) as caught:
            decode(front + bytes.fromhex(data), len(front), [segment])
        assert caught.value.clause == clause
        assert caught.value.offset == offset + len(front)


@pytest.mark.spec("E2", "E3", "E6")
@given(strategies.segments(), st.integers(1, 30))
def test_truncated_streams_are_rejected(
    segments: list[rans.Segment], lanes: int
) -> None:
    data = rans.encode(segments, lanes=lanes)
    laws.assert_prefixes_rejected(
        lambda data, pos: decode(data, pos, segments), data, most=50
    )


@pytest.mark.spec("E8")
@given(strategies.segments(), st.none() | st.integers(1, 60), st.data())
def test_damaged_streams_are_read_alike(
    segments: list[rans.Segment], lanes: int | None, data: st.DataObject
) -> None:
    code = bytearray(rans.encode(segments, lanes=lanes))
    for _ in range(data.draw(st.integers(1, 3))):
        code[data.draw(st.integers(0, len(code) - 1))] ^= data.draw(st.integers(1, 255))
    laws.assert_error_or_other_data(
        lambda data, pos: decode(data, pos, segments), bytes(code)
    )
    assert_alike(bytes(code), segments)


@given(st.binary(max_size=60), strategies.segments())
def test_noise_is_read_alike(data: bytes, segments: list[rans.Segment]) -> None:
    laws.assert_error_or_other_data(lambda data, pos: decode(data, pos, segments), data)
    assert_alike(data, segments)
