"""The head of a plane of bytes: which of its blocks are coded, and their model.

    head = varint 0                                            no block is coded
         | varint n, u8 first, frequencies if n > 1, flags     some are

Format notes:

- Frequencies: 6 bits for each byte from the first to the last that is coded.
- If there are several blocks, flags are a bit for each, 1 where it is coded.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import symbol_models
from deepcomp_jax.format.plane_words import BLOCK
from deepcomp_jax.streams import bits, lane_index, rans

SYMBOLS = 256  # of a plane


class Plane(NamedTuple):
    """How a plane is written.

    Attributes:
        codes: Of the frequency of each byte in blocks that are coded, uint8[256]; all 0
            if there are none.
        coded: Which blocks are coded, bool[blocks].
    """

    codes: NDArray[np.uint8]
    coded: NDArray[np.bool_]

    @property
    def symbols(self) -> tuple[int, int]:
        """The first byte that is coded, and how many there are up to the last one."""
        used = np.flatnonzero(self.codes)
        return (int(used[0]), int(used[-1] - used[0]) + 1) if used.size else (0, 0)

    @property
    def models(self) -> rans.Models:
        """The model of the bytes."""
        return rans.models(symbol_models.frequencies(self.codes[None]))

    def parts(self, words: int, *, coded: bool) -> list[slice]:
        """The blocks that are coded, or those that are stored, neighbors as one."""
        edges = np.flatnonzero(
            np.diff(self.coded == coded, prepend=False, append=False)
        )
        ends = np.minimum(edges * BLOCK, words).tolist()
        return list(map(slice, ends[::2], ends[1::2]))

    def length(self, words: int, *, coded: bool) -> int:
        """Bytes of the plane that are coded, or of those that are stored."""
        return sum(own.stop - own.start for own in self.parts(words, coded=coded))


def put(plane: Plane) -> bytes:
    """Writes the head of a plane."""
    first, count = plane.symbols
    out = bits.put_varint(count)
    if count:
        out += bytes([first])
    if count > 1:
        out += symbol_models.put(plane.codes[first : first + count])
    if count and plane.coded.size > 1:
        out += np.packbits(plane.coded).tobytes()
    return out


def get(body: bytes, pos: int, blocks: int) -> tuple[int, Plane]:
    """Reads the head of a plane.

    Args:
        body: What it is in.
        pos: Where it begins, in bytes.
        blocks: Number of blocks of the plane.

    Returns:
        The position after it, and the plane.

    Raises:
        FormatError: V1, V5 to V9.
    """
    codes, coded = np.zeros(SYMBOLS, np.uint8), np.zeros(blocks, bool)
    start = pos
    pos, count = bits.get_varint(body, pos, clause="V5")
    if not count:
        return pos, Plane(codes, coded)
    if pos == len(body):
        raise lane_index.cut_off(body, "V1")
    pos, first = pos + 1, body[pos]
    if first + count > SYMBOLS:
        raise FormatError(f"{count} symbols from {first} on", offset=start, clause="V6")
    codes[first] = 1
    if count > 1:
        pos, found = _get_fields(body, pos, count, symbol_models.CODE_BITS)
        if not found[0] or not found[-1]:
            raise FormatError(
                "the first or the last symbol is not used", offset=start, clause="V7"
            )
        codes[first : first + count] = found
    if blocks == 1:
        return pos, Plane(codes, ~coded)
    pos, flags = _get_fields(body, pos, blocks, 1)
    if not flags.any():
        raise FormatError("symbols without a block", offset=start, clause="V8")
    return pos, Plane(codes, flags.astype(bool))


def _get_fields(
    body: bytes, pos: int, count: int, width: int
) -> tuple[int, NDArray[np.uint8]]:
    """The position after numbers of `width` bits and their padding, and the numbers."""
    end = lane_index.after_bits(body, pos, count * width, padding="V9", cut="V1")
    return end, bits.unpack_fixed(body[pos:end], count, width, dtype=np.uint8)
