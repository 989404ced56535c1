import numpy as np
import pytest

from deepcomp_jax import huffman, lanes
from deepcomp_jax._errors import FormatError
from tests import laws


def check_stream(symbols: np.ndarray, count: int | None) -> bytes:
    return laws.check_codec(
        lambda value: huffman.encode(value, lanes=count),
        lambda data, pos: lanes.decode(data, pos, symbols.size),
        symbols,
    )


@pytest.mark.spec("H12", "H15")
@pytest.mark.parametrize("size", [4096, 5000, 5007])
@pytest.mark.parametrize("count", [128, 200, 255])
def test_streams_come_back(size: int, count: int) -> None:
    # The longest words have at most 12 bits, and more: both sizes of table occur.
    for skew in (0.5, 0.05):
        rng = np.random.default_rng(size)
        check_stream(rng.geometric(skew, size).astype(np.uint16), count)


@pytest.mark.parametrize("symbols", [[], [7], [7] * 9, [1, 2], range(3000)])
def test_streams_of_few_lanes_come_back(symbols: list[int]) -> None:
    check_stream(np.array(symbols, np.uint16), None)


def test_streams_of_about_one_size_share_a_program() -> None:
    rng = np.random.default_rng(1)
    before = lanes._lock_step._cache_size()
    for size in (6250, 6300, 6350, 6400):
        check_stream(rng.permutation(size).astype(np.uint16) % 7, 130)
    assert lanes._lock_step._cache_size() <= before + 1


@pytest.mark.spec("H16", "H17")
def test_damage_is_found_as_on_the_host() -> None:
    symbols = np.random.default_rng(0).geometric(0.05, 5000).astype(np.uint16)
    data = huffman.encode(symbols, lanes=200)
    stream = huffman.read(data, 0, symbols.size)
    for place in range(stream.words, stream.end, 97):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        outcomes = []
        for decode in (huffman.decode, lanes.decode):
            try:
                _, back = decode(bytes(damaged), 0, symbols.size)
                outcomes.append(np.asarray(back).tolist())
            except FormatError as error:
                outcomes.append([error.clause, error.offset])
        assert outcomes[0] == outcomes[1]
    laws.check_prefixes(
        lambda data, pos: lanes.decode(data, pos, symbols.size), data, most=20
    )
