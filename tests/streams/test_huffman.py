"""The canonical code is optimal; streams come back, or damage in them is found."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import huffman, huffman_code, huffman_header
from tests.support import laws, strategies
from tests.support.readers import DECODER

FIBONACCI = [1, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377, 610, 987, 1597, 2584]


# ---- the code -----------------------------------------------------------------------


def least_bits(counts: list[int], limit: int) -> int:
    """The fewest bits of all complete codes with words of 1 to `limit` bits."""
    used = sorted((count for count in counts if count), reverse=True)
    if len(used) <= 1:
        return sum(used)
    return min(
        sum(count * length for count, length in zip(used, lengths, strict=True))
        for lengths in itertools.combinations_with_replacement(
            range(1, limit + 1), len(used)
        )
        if sum(2.0**-length for length in lengths) == 1
    )


@pytest.mark.spec("H1")
@given(strategies.counts(max_symbols=7), st.integers(3, 6))
def test_lengths_are_optimal(counts: np.ndarray, limit: int) -> None:
    lengths = huffman_code.lengths(counts, limit=limit)
    assert np.array_equal(lengths > 0, counts > 0)
    assert lengths.max(initial=0) <= limit
    assert int((counts * lengths).sum()) == least_bits(counts.tolist(), limit)


@pytest.mark.spec("H1", "H2", "H3")
@given(strategies.counts(max_symbols=60))
def test_codes_are_complete_canonical_and_in_order(counts: np.ndarray) -> None:
    lengths = huffman_code.lengths(counts)
    used = np.flatnonzero(lengths)
    if used.size > 1:
        assert sum(2.0 ** -int(length) for length in lengths[used]) == 1
    by_count = sorted(used, key=lambda symbol: (-counts[symbol], symbol))
    assert (np.diff(lengths[by_count].astype(int)) >= 0).all()
    words = huffman_code.code(lengths)
    text = [f"{words[symbol]:b}".zfill(lengths[symbol]) for symbol in used]
    # As text, a canonical code ascends by (length, symbol); no word begins another.
    in_order = [text[place] for place in np.argsort(lengths[used], kind="stable")]
    assert in_order == sorted(text)
    assert not any(b.startswith(a) for a, b in itertools.pairwise(in_order))


@pytest.mark.spec("H1")
def test_lengths_of_fibonacci_counts_are_limited() -> None:
    # Without a limit the words of these 18 symbols would have up to 17 bits.
    lengths = huffman_code.lengths(np.array(FIBONACCI))
    assert lengths.max() == 15
    assert sum(2.0 ** -int(length) for length in lengths) == 1
    unlimited = [17, *range(17, 0, -1)]
    more = int((np.array(FIBONACCI) * (lengths - np.array(unlimited))).sum())
    assert 0 < more < 10


@pytest.mark.spec("H1")
def test_every_word_of_15_bits_can_be_used() -> None:
    lengths = huffman_code.lengths(np.arange(2**15) + 10**6)
    assert set(lengths.tolist()) == {15}
    with pytest.raises(ValueError, match="32769 symbols are used, but there are only"):
        huffman_code.lengths(np.ones(2**15 + 1, np.int64))


def test_lengths_reject_bad_arguments() -> None:
    with pytest.raises(ValueError, match="counts must not be negative, got -1"):
        huffman_code.lengths(np.array([1, -1]))
    for limit in (0, 16):
        with pytest.raises(ValueError, match="limit must be 1 to 15"):
            huffman_code.lengths(np.array([1, 1]), limit=limit)


# ---- streams ------------------------------------------------------------------------


def outcome(data: bytes, count: int) -> tuple[int, list[int]] | str:
    """What the library makes of a stream: where it ends and symbols, or the clause."""
    try:
        pos, symbols = huffman.decode(data, 0, count)
    except FormatError as error:
        return error.clause
    return pos, symbols.tolist()


def by_specification(data: bytes, count: int) -> tuple[int, list[int]] | str:
    """What the decoder of the specification makes of it, bit by bit."""
    try:
        return DECODER.stream(data, 0, count)
    except DECODER.Broken as error:
        return str(error)


def assert_comes_back(symbols: np.ndarray, lanes: int | None = None) -> bytes:
    """The codec law; the specification reads the same; and the parts add up."""
    data = laws.assert_codec(
        lambda value: huffman.encode(value, lanes=lanes),
        lambda data, pos: huffman.decode(data, pos, symbols.size),
        symbols,
    )
    expected = len(data), symbols.tolist()
    assert by_specification(data, symbols.size) == expected
    pos, parts = huffman.parts(data, 0, symbols.size)
    assert (pos, sum(parts)) == (len(data), 8 * len(data))
    assert min(parts) >= 0
    return data


@pytest.mark.spec("H6", "H12", "H15")
@given(strategies.streams())
def test_streams_come_back(stream: tuple[np.ndarray, int | None]) -> None:
    assert_comes_back(*stream)


@pytest.mark.parametrize("lanes", [None, 1, 2, 100, 128, 129, 200, 312])
@pytest.mark.parametrize("size", [4992, 5000, 5007])
@pytest.mark.spec("H12")
def test_streams_of_many_lanes_come_back(lanes: int | None, size: int) -> None:
    symbols = np.random.default_rng(size).geometric(0.05, size).astype(np.uint16)
    assert_comes_back(symbols, lanes)


@pytest.mark.parametrize("lanes", [1, 127, 128, 20_000])
def test_streams_longer_than_a_block_or_a_tile_come_back(lanes: int) -> None:
    symbols = np.random.default_rng(lanes).geometric(0.2, 320_007).astype(np.uint16)
    data = huffman.encode(symbols, lanes=lanes)
    pos, back = huffman.decode(data, 0, symbols.size)
    assert pos == len(data)
    assert np.array_equal(back, symbols)


@pytest.mark.spec("H4", "H5")
@pytest.mark.parametrize(
    ("symbols", "size"),
    [([], 1), ([0], 2), ([0] * 1000, 2), ([65535], 4100), ([0, 1], 4)],
)
def test_the_shortest_streams(symbols: list[int], size: int) -> None:
    assert len(assert_comes_back(np.array(symbols, np.uint16))) == size


@pytest.mark.spec("H6")
@pytest.mark.parametrize("unused", [1, 2, 15, 16, 17, 32, 33, 1000])
def test_runs_of_unused_symbols(unused: int) -> None:
    data = assert_comes_back(np.array([0, unused + 1, 0, unused + 2], np.uint16))
    # Two half bytes for each run of up to 16, and three for the symbols that are used.
    assert huffman.parts(data, 0, 4)[1].table % 8 == 4 * (2 * -(-unused // 16) + 3) % 8


@pytest.mark.parametrize("step", [1, 2])
def test_the_greatest_alphabet(step: int) -> None:
    assert_comes_back(np.arange(0, 2**15 * step, step).astype(np.uint16), 128)


@pytest.mark.spec("H18")
@given(strategies.streams())
def test_size_is_near_the_entropy(stream: tuple[np.ndarray, int | None]) -> None:
    symbols, lanes = stream
    data = huffman.encode(symbols, lanes=lanes)
    counts = np.bincount(symbols)
    shares = counts[counts > 0] / max(1, symbols.size)
    entropy = -(shares * np.log2(shares)).sum()
    words = huffman.parts(data, 0, symbols.size)[1].words
    assert words <= symbols.size * (entropy + 1) + 1e-6
    if np.count_nonzero(counts) > 1:
        assert words >= symbols.size * entropy - 1e-6


@pytest.mark.spec("H19")
@pytest.mark.parametrize("size", [200, 30_000, 2**15, 100_000, 1_000_000])
@pytest.mark.parametrize("skew", [0.05, 0.9])
def test_lanes_cost_little(size: int, skew: float) -> None:
    rng = np.random.default_rng(size)
    symbols = np.sort(rng.geometric(skew, size).astype(np.uint16))
    for order in (symbols, rng.permutation(symbols)):
        data = huffman.encode(order)
        stream = huffman_header.read(data, 0, size)
        numbers = stream.parts.lanes - 8 * 10 if stream.starts.size > 2 else 0
        assert numbers <= 0.003 * stream.parts.words
        assert stream.starts.size == 2 or size >= 2**15
        assert np.array_equal(huffman.decode(data, 0, size)[1], order)


def test_encode_rejects_bad_arguments() -> None:
    with pytest.raises(ValueError, match=r"symbols must be below 2\*\*16, got 65536"):
        huffman.encode(np.array([65536], np.uint32))
    for lanes in (0, 3, -1):
        with pytest.raises(ValueError, match="40 symbols allow 1 to 2 lanes"):
            huffman.encode(np.arange(40).astype(np.uint16), lanes=lanes)


# ---- what a reader rejects ----------------------------------------------------------

GOOD = "03 12 20 0e 70"  # 5 symbols, lengths 1 2 2, one lane of 7 bits
TWO = "02 11 21 02 00 00 00 00 00"  # 32 symbols, lengths 1 1, two lanes of 16 bits


@pytest.mark.spec("H12", "H15")
def test_the_streams_that_the_faults_are_made_from() -> None:
    assert huffman.decode(bytes.fromhex(GOOD), 0, 5)[1].tolist() == [0, 2, 1, 0, 0]
    assert huffman.decode(bytes.fromhex(TWO), 0, 32)[1].tolist() == [0] * 32


@pytest.mark.parametrize(
    ("clause", "count", "data", "offset"),
    [
        pytest.param(*row, marks=pytest.mark.spec(row[0]))
        for row in [
            ("H7", 5, "", 0),
            ("H7", 5, "83", 0),
            ("H7", 5, "83 00 12 20 0e 70", 0),
            ("H7", 5, "83 80 80 80 80 80 80 80 80 01", 0),
            ("H7", 5, "03 12 20", 3),
            ("H7", 5, "03 12 20 8e 00 70", 3),
            ("H7", 32, "02 11 21", 3),
            ("H7", 32, "02 11 21 82 00 00", 3),
            ("H8", 5, "00", 0),
            ("H8", 0, "03 12 20 0e 70", 0),
            ("H8", 5, "81 80 04 12 20", 0),
            ("H9", 5, "04 12 20 00 0e 70", 3),
            ("H9", 5, "05 12 20 10 0e 70", 3),
            ("H9", 5, "04 12 20 f0 0e 70", 3),
            ("H10", 5, "03 22 20 0e 70", 0),
            ("H10", 5, "03 11 20 0e 70", 0),
            ("H10", 5, "01 20", 0),
            ("H10", 5, "01 f0", 0),
            ("H11", 5, "01 11", 1),
            ("H11", 5, "03 12 21 0e 70", 2),
            ("H11", 5, "03 12 20 0e 71", 4),
            ("H11", 32, "02 11 21 02 01 10 00 00 00 00", 5),
            ("H13", 5, "03 12 20 0f 00 70", 4),
            ("H13", 5, "03 12 20 0f 01 00 70", 4),
            ("H13", 5, "03 12 20 0f 02 00 70", 4),
            ("H13", 31, "02 11 21 02 00 00 00 00 00", 3),
            ("H13", 32, "02 11 01 ff ff ff ff ff ff ff ff 7f 00 00", 3),
            ("H14", 32, "02 11 21 02 21 00 00 00 00 00 00 00 00 00", 4),
            ("H16", 5, "03 12 20 0c 70", 4),
            ("H16", 5, "03 12 20 10 70", 4),
            ("H16", 5, "03 12 20 08 70", 4),
            ("H16", 5, "03 12 20 0e 7e", 4),
            ("H16", 4, "03 12 20 0e 70", 4),
            ("H16", 6, "03 12 20 0e 70", 4),
            ("H16", 32, "02 11 1f 02 01 40 00 00 00 00", 6),
            ("H16", 32, "02 11 1f 02 02 80 00 00 00 00", 6),
            ("H16", 32, "02 11 21 02 01 40 00 00 00 00 00", 8),
            ("H17", 5, "03", 1),
            ("H17", 5, "03 12", 2),
            ("H17", 5, "03 10", 2),
            ("H17", 5, "03 12 20 0e", 4),
            ("H17", 5, "03 12 20 fe ff ff ff ff ff ff ff 7f 70", 13),
            ("H17", 32, "02 11 21 02", 4),
            ("H17", 32, "02 11 21 02 20 00", 6),
            ("H17", 32, "02 11 21 02 00 00 00 00", 8),
        ]
    ],
)
def test_faults(clause: str, count: int, data: str, offset: int) -> None:
    assert by_specification(bytes.fromhex(data), count) == clause
    for front in (b"", b"xyz"):
        with pytest.raises(FormatError) as caught:
            huffman.decode(front + bytes.fromhex(data), len(front), count)
        assert caught.value.clause == clause
        assert caught.value.offset == offset + len(front)


@pytest.mark.spec("H7", "H17")
@given(strategies.streams(max_size=200))
def test_truncated_streams_are_rejected(stream: tuple[np.ndarray, int | None]) -> None:
    symbols, lanes = stream
    data = huffman.encode(symbols, lanes=lanes)
    laws.assert_prefixes_rejected(
        lambda data, pos: huffman.decode(data, pos, symbols.size), data, most=50
    )


@given(strategies.streams(max_size=200), st.data())
def test_damaged_streams_are_read_alike(
    stream: tuple[np.ndarray, int | None], data: st.DataObject
) -> None:
    symbols, lanes = stream
    code = bytearray(huffman.encode(symbols, lanes=lanes))
    for _ in range(data.draw(st.integers(1, 3))):
        code[data.draw(st.integers(0, len(code) - 1))] ^= data.draw(st.integers(1, 255))
    count = data.draw(st.just(symbols.size) | st.integers(0, 2 * symbols.size))
    damaged = bytes(code)
    laws.assert_error_or_other_data(
        lambda data, pos: huffman.decode(data, pos, count), damaged
    )
    assert outcome(damaged, count) == by_specification(damaged, count)


@given(st.binary(max_size=60), st.integers(0, 300))
def test_noise_is_read_alike(data: bytes, count: int) -> None:
    laws.assert_error_or_other_data(
        lambda data, pos: huffman.decode(data, pos, count), data
    )
    assert outcome(data, count) == by_specification(data, count)


def test_damaged_words_of_many_lanes_are_found() -> None:
    symbols = np.random.default_rng(0).geometric(0.05, 5000).astype(np.uint16)
    code = bytearray(huffman.encode(symbols, lanes=200))
    stream = huffman_header.read(bytes(code), 0, symbols.size)
    rejected = 0
    for place in range(stream.words, stream.end, 61):
        code[place] ^= 0x10
        found = outcome(bytes(code), symbols.size)
        assert found == by_specification(bytes(code), symbols.size)
        rejected += found == "H16"
        code[place] ^= 0x10
    assert rejected > 10


def test_a_count_beyond_the_data_is_rejected_at_once() -> None:
    data = huffman.encode(np.arange(100).astype(np.uint16))
    with pytest.raises(FormatError, match="cannot have"):
        huffman.decode(data, 0, 2**62)
