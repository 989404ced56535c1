"""Code words and numbers to bytes, and back: the bit order is decided here only.

The words a = 101, b = 01 and c = 1110001 lie in two bytes:

    bit      7 6 5 4 3 2 1 0   7 6 5 4 3 2 1 0
    byte     1 0 1 0 1 1 1 1   0 0 0 1 0 0 0 0     af 10
    of       a a a b b c c c   c c c c - - - -     - is padding

Format notes:

- Bits fill bytes from the most significant bit down, and so does each code word.
- The last byte is padded with zero bits.
- A varint holds seven bits a byte, least significant group first (LEB128); the top
  bit is set in every byte but the last. Only the shortest form is valid.
"""

from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from deepcomp_jax._errors import FormatError

MAX_VARINT_BYTES = 9  # 63 bits: every valid number fits a signed 64-bit integer
MAX_UNPACK_BITS = 57  # with up to 7 bits in front of it, a field fits 64 bits

_CHUNK = 1 << 16  # code words packed at a time: a few arrays of this size fit a cache


def pack(codes: NDArray[np.unsignedinteger], lengths: NDArray[np.uint8]) -> bytes:
    """Writes code words one after the other, most significant bit first.

    Args:
        codes: The code words, uint[n]; word i has its bits in the lowest `lengths[i]`
            bits and zeros above.
        lengths: uint8[n], in bits, 0 to 64.

    Returns:
        The words, padded with zero bits to a whole byte.

    Raises:
        ValueError: The two are not vectors of one size.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.streams import bits
        >>> words = np.array([0b101, 0b01, 0b1110001], np.uint8)
        >>> bits.pack(words, np.array([3, 2, 7], np.uint8)).hex(" ")
        'af 10'
    """
    if codes.ndim != 1 or codes.shape != lengths.shape:
        raise ValueError(
            "codes and lengths must be vectors of one size, got shapes "
            f"{codes.shape} and {lengths.shape}"
        )
    total = int(lengths.sum(dtype=np.int64))
    words = np.zeros(total // 64 + 2, np.uint64)
    start = 0
    for first in range(0, codes.size, _CHUNK):
        chunk = slice(first, first + _CHUNK)
        start = _put(words, start, codes[chunk].astype(np.uint64), lengths[chunk])
    return words.astype(">u8").tobytes()[: (total + 7) // 8]


def _put(
    words: NDArray[np.uint64],
    start: int,
    codes: NDArray[np.uint64],
    lengths: NDArray[np.uint8],
) -> int:
    """Ors code words into 64-bit words from bit `start` on; returns the bit after.

    A code word ends in the 64-bit word in which it begins, with `free` bits after it,
    or spills over into the next one:

        word i     ...............aaaaa....     free = 4: a is shifted left by 4
        word i     ....................bbbb     free = -3: b is shifted right by 3,
        word i+1   bbb.....................     and its last 3 bits to the top
    """
    sizes = lengths.astype(np.int64)
    longest = int(sizes.max())
    while 2 * longest <= 64 and codes.size > 1:
        codes, sizes = _join_pairs(codes, sizes)
        longest *= 2
    ends = np.cumsum(sizes) + start
    starts = ends - sizes
    index = starts >> 6
    free = 64 - (starts & 63) - sizes
    over = np.flatnonzero(free < 0)
    # A shift by 64 is undefined, and arises only where the word is empty.
    left = np.minimum(np.maximum(free, 0), 63).astype(np.uint64)
    high = codes << left
    spill = (-free[over]).astype(np.uint64)
    high[over] = codes[over] >> spill
    groups = np.flatnonzero(np.diff(index, prepend=-1))
    words[index[groups]] |= np.bitwise_or.reduceat(high, groups)
    words[index[over] + 1] |= codes[over] << (np.uint64(64) - spill)
    return int(ends[-1])


def _join_pairs(
    codes: NDArray[np.uint64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Joins code words two by two into half as many longer ones."""
    if codes.size % 2:
        codes, sizes = np.append(codes, np.uint64(0)), np.append(sizes, 0)
    right = sizes[1::2]
    return codes[::2] << right.astype(np.uint64) | codes[1::2], sizes[::2] + right


def pack_fixed(values: NDArray[np.unsignedinteger], width: int) -> bytes:
    """Writes every value with the same number of bits, 0 to 64.

    Raises:
        ValueError: A value has more than `width` bits.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.streams import bits
        >>> bits.pack_fixed(np.array([5, 1, 7], np.uint8), 3).hex()
        'a780'
    """
    if values.size and int(values.max()).bit_length() > width:
        raise ValueError(f"{int(values.max())} does not fit {width} bits")
    return pack(values, np.full(values.size, width, np.uint8))


def unpack_fixed(
    data: bytes,
    count: int,
    width: int,
    *,
    offset: int = 0,
    dtype: DTypeLike = np.uint64,
) -> NDArray[Any]:
    """Reads values that all have the same number of bits.

    Args:
        data: The bytes read from.
        count: Number of values.
        width: Bits of each, 0 to 57.
        offset: Where the first begins, in bits from the start of `data`.
        dtype: Dtype of the result, an integer wide enough for the values.

    Returns:
        The values, [count].

    Raises:
        ValueError: The width is out of range or `data` ends too early.

    Examples:
        >>> from deepcomp_jax.streams import bits
        >>> bits.unpack_fixed(bytes.fromhex("a780"), 3, 3)
        array([5, 1, 7], dtype=uint64)
    """
    if not 0 <= width <= MAX_UNPACK_BITS:
        raise ValueError(f"width must be 0 to {MAX_UNPACK_BITS} bits, got {width}")
    if offset + count * width > 8 * len(data):
        raise ValueError(
            f"{count} fields of {width} bits from bit {offset} on do not fit "
            f"{len(data)} bytes"
        )
    if width == 0:
        return np.zeros(count, dtype)
    values = np.empty(-(-count // 8) * 8, dtype)
    for first in range(0, count, _CHUNK):
        part = values[first : first + _CHUNK].reshape(-1, 8)
        _unpack_eights(data, offset + first * width, width, part)
    return values[:count]


def _unpack_eights(
    data: bytes, offset: int, width: int, values: NDArray[np.integer]
) -> None:
    """Reads values [n, 8] from bit `offset` on; bytes beyond the data are zeros.

    Eight fields take `width` bytes, so all values of a column lie alike in theirs. With
    3 bits each, field 2 has the end of byte 0 and the beginning of byte 1:

        byte     0                 1                 2
        field    0 0 0 1 1 1 2 2   2 3 3 3 4 4 4 5   5 5 6 6 6 7 7 7
    """
    first, shift, size = offset // 8, offset % 8, width * len(values)
    raw = np.zeros(size + 1, np.uint8)
    there = data[first : first + size + 1]
    raw[: len(there)] = np.frombuffer(there, np.uint8)
    if shift:
        raw[:-1] = raw[:-1] << np.uint8(shift) | raw[1:] >> np.uint8(8 - shift)
    raw = raw[:-1].reshape(-1, width)
    for column in range(8):
        byte, skipped = divmod(column * width, 8)
        ending = -(skipped + width) % 8
        count = (skipped + width + ending) // 8
        window = raw[:, byte].astype(np.min_scalar_type((1 << 8 * count) - 1))
        window &= window.dtype.type(0xFF >> skipped)
        for place in range(byte + 1, byte + count):
            window = window << 8 | raw[:, place]
        values[:, column] = window >> ending


def put_varint(value: int) -> bytes:
    """Writes a number of at most 63 bits as a varint, in its shortest form.

    Raises:
        ValueError: The number is negative or has more than 63 bits.

    Examples:
        300 is 10 0101100 in groups of seven bits; the lower group comes first:

        >>> from deepcomp_jax.streams import bits
        >>> bits.put_varint(300).hex(" ")
        'ac 02'
    """
    if value < 0 or value.bit_length() > 7 * MAX_VARINT_BYTES:
        raise ValueError(f"a varint must be in 0 to 2**63 - 1, got {value}")
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)


def get_varint(data: bytes, pos: int, *, clause: str) -> tuple[int, int]:
    """Reads a varint.

    Args:
        data: The bytes read from.
        pos: Where the number begins, in bytes.
        clause: The clause to name if the number is malformed.

    Returns:
        The position after the number, and the number.

    Raises:
        FormatError: if the number is cut off, not in its shortest form, or has more
            than nine bytes.

    Examples:
        >>> from deepcomp_jax.streams import bits
        >>> bits.get_varint(bytes.fromhex("ff ac 02"), 1, clause="C3")
        (3, 300)
    """
    value = 0
    for size, byte in enumerate(data[pos : pos + MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * size
        if byte < 0x80:
            if byte == 0 and size > 0:
                raise FormatError(
                    "a number is not in its shortest form", offset=pos, clause=clause
                )
            return pos + size + 1, value
    if len(data) - pos < MAX_VARINT_BYTES:
        raise FormatError("a number is cut off", offset=pos, clause=clause)
    raise FormatError("a number has more than nine bytes", offset=pos, clause=clause)
