"""Code words and numbers: what is packed comes back, and where a bit is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deepcomp_jax._errors import FormatError
from deepcomp_jax.streams import bits
from tests.support import strategies


def as_text(words: list[tuple[int, int]]) -> str:
    """The bits of the words, then zeros up to a whole byte."""
    text = "".join(
        f"{word:b}".zfill(size)[-size:] if size else "" for word, size in words
    )
    return text + "0" * (-len(text) % 8)


def pack(words: list[tuple[int, int]]) -> bytes:
    codes = np.array([word for word, _ in words], np.uint64)
    return bits.pack(codes, np.array([size for _, size in words], np.uint8))


def test_pack_starts_at_the_most_significant_bit() -> None:
    #         101 0 11110000 (empty) 1 -> 1010 1111 0000 1000
    words = [(5, 3), (0, 1), (0xF0, 8), (0, 0), (1, 1)]
    assert pack(words) == bytes([0b10101111, 0b00001000])


@given(strategies.code_words())
def test_pack_concatenates_words(words: list[tuple[int, int]]) -> None:
    text = as_text(words)
    assert pack(words) == bytes(
        int(text[place : place + 8], 2) for place in range(0, len(text), 8)
    )


@pytest.mark.parametrize("size", [1, 7, 15, 31, 33, 64])
def test_pack_is_the_same_across_its_chunks(size: int) -> None:
    rng = np.random.default_rng(size)
    codes = (
        rng.integers(0, 2**size, 140_000, dtype=np.uint64, endpoint=False)
        if (size < 64)
        else rng.integers(0, 2**64, 140_000, dtype=np.uint64)
    )
    text = as_text([(int(word), size) for word in codes])
    assert bits.pack_fixed(codes, size) == int(text, 2).to_bytes(len(text) // 8, "big")


def test_pack_wants_vectors_of_one_size() -> None:
    with pytest.raises(ValueError, match=r"got shapes \(2,\) and \(3,\)"):
        bits.pack(np.zeros(2, np.uint32), np.zeros(3, np.uint8))


@given(
    st.integers(0, 57).flatmap(
        lambda width: st.tuples(
            st.just(width), st.lists(st.integers(0, 2**width - 1), max_size=30)
        )
    ),
    st.integers(0, 30),
)
def test_fixed_fields_come_back(field: tuple[int, list[int]], offset: int) -> None:
    width, values = field
    data = pack([(0, offset), *((value, width) for value in values)])
    back = bits.unpack_fixed(data, len(values), width, offset=offset)
    assert back.tolist() == values
    array = np.array(values, np.uint64)
    assert bits.pack_fixed(array, width) == pack([(value, width) for value in values])


def test_fixed_fields_reject_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="8 does not fit 3 bits"):
        bits.pack_fixed(np.array([8], np.uint8), 3)
    with pytest.raises(ValueError, match="3 fields of 3 bits from bit 0 on do not fit"):
        bits.unpack_fixed(b"\0", 3, 3)
    with pytest.raises(ValueError, match="width must be 0 to 57"):
        bits.unpack_fixed(bytes(99), 1, 58)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (0, "00"),
        (1, "01"),
        (127, "7f"),
        (128, "80 01"),
        (300, "ac 02"),
        (2**14 - 1, "ff 7f"),
        (2**14, "80 80 01"),
        (2**63 - 1, "ff ff ff ff ff ff ff ff 7f"),
    ],
)
def test_varints(value: int, data: str) -> None:
    code = bytes.fromhex(data)
    assert bits.put_varint(value) == code
    assert bits.get_varint(b"x" + code + b"x", 1, clause="C0") == (len(code) + 1, value)


@pytest.mark.parametrize("value", [-1, 2**63])
def test_varints_out_of_range(value: int) -> None:
    with pytest.raises(ValueError, match=r"0 to 2\*\*63 - 1"):
        bits.put_varint(value)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        ("", "cut off"),
        ("80", "cut off"),
        ("ff ff ff ff ff ff ff ff", "cut off"),
        ("80 00", "not in its shortest form"),
        ("ff 80 00", "not in its shortest form"),
        ("ff ff ff ff ff ff ff ff 80 01", "more than nine bytes"),
        ("80 80 80 80 80 80 80 80 80 00", "more than nine bytes"),
    ],
)
def test_malformed_varints(data: str, fault: str) -> None:
    with pytest.raises(FormatError, match=fault) as caught:
        bits.get_varint(b"\0\0" + bytes.fromhex(data), 2, clause="C0")
    assert (caught.value.offset, caught.value.clause) == (2, "C0")
