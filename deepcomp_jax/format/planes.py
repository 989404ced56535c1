"""Values without loss, as planes of bytes: for leaves that have no codebook.

The exponents of the weights of a network take about 2.6 bits of their 8; signs and
mantissas are noise. So the bytes of all values are regrouped into planes, the first one
of which holds the exponents, and a plane is coded by rANS wherever that makes it
smaller. As ZipNN does (Hershcovitch et al., arXiv 2411.05239) and DFloat11 (Zhang et
al., arXiv 2504.11651), with Huffman codes.

    body  = head of each plane | bytes that are stored, plane after plane
            | rANS stream, if a plane has two symbols or more: those of each plane
    head  = varint 0                                           all of it is stored
          | varint n, u8 first, frequencies if n > 1, flags    some blocks are coded

    float32    s eeeeeeee mmmmmmm...   ->   eeeeeeee | s mmmmmmm | mmmmmmmm | mmmmmmmm
    bfloat16   s eeeeeeee mmmmmmm      ->   eeeeeeee | s mmmmmmm

Format notes:

- A *word* is a value as bits, or a part of a complex one. The sign of a floating word
  goes behind its exponent; of a negative integer all bits but the sign are flipped.
- Plane p holds byte p of each word, the most significant one first.
- A block is 16,384 words, the last one perhaps fewer. If there are several, flags are a
  bit for each, 1 where it is coded.
- Frequencies: 6 bits for each symbol from the first to the last that is coded.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import symbol_models
from deepcomp_jax.codings.common import Measured, Take, zeros
from deepcomp_jax.streams import bits, lane_index, rans
from deepcomp_jax.streams.counting import bincount

BLOCK = 1 << 14  # words that are stored or coded together
_SYMBOLS = 256  # of a plane
_BYTES = np.arange(_SYMBOLS, dtype=np.uint8)
_EXPONENTS = {  # bits of an exponent
    "float16": 5, "bfloat16": 8, "float32": 8, "float64": 11,
    "complex64": 8, "complex128": 11,
}  # fmt: skip
_WORTH = 1 / 64  # of its size that coding must save of a block, for the time it takes
_MARGIN = 1.02, 64  # what a stream adds to its ideal length at most: a factor, and bits

# Writes a rANS stream, as `rans.encode` does.
Encode: TypeAlias = Callable[[Sequence[rans.Segment]], bytes]


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
        edges = np.flatnonzero(np.diff(self.coded == coded, prepend=False, append=False))
        ends = np.minimum(edges * BLOCK, words).tolist()
        return list(map(slice, ends[::2], ends[1::2]))

    def count(self, words: int, *, coded: bool) -> int:
        """Bytes of the plane that are coded, or of those that are stored."""
        return sum(own.stop - own.start for own in self.parts(words, coded=coded))


# ---- both ---------------------------------------------------------------------------


def _word(dtype: np.dtype) -> np.dtype:
    """The words of a dtype, as unsigned integers: of complex values, of a half."""
    return np.dtype(f"<u{dtype.itemsize // (2 if dtype.kind == 'c' else 1)}")


def _blocks(words: np.ndarray) -> Iterator[np.ndarray]:
    """Views of so few words that all that is made of them fits a cache."""
    for first in range(0, words.size, BLOCK):
        yield words[first : first + BLOCK]


def _grouped(words: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Words whose bits are in another order, or flipped (V2, V3)."""
    if dtype.name in _EXPONENTS:
        sign, mantissa, low, high = _fields(words.dtype, dtype)
        return (words << 1) & high | (words >> sign) << mantissa | words & low
    return _flipped(words) if dtype.kind == "i" else words


def _ungroup(words: np.ndarray, dtype: np.dtype) -> None:
    """The inverse of `_grouped`, in place."""
    if dtype.name in _EXPONENTS:
        sign, mantissa, low, high = _fields(words.dtype, dtype)
        exponents = (words & high) >> 1
        words[:] = exponents | (words >> mantissa) << sign | words & low
    elif dtype.kind == "i":
        words[:] = _flipped(words)


def _fields(word: np.dtype, dtype: np.dtype) -> tuple[np.ndarray, ...]:
    """Place of the sign, bits and mask of the mantissa, and mask of what is above."""
    sign = 8 * word.itemsize - 1
    mantissa = sign - _EXPONENTS[dtype.name]
    low, high = (1 << mantissa) - 1, (2 << sign) - (2 << mantissa)
    return tuple(np.array(number, word) for number in (sign, mantissa, low, high))


def _flipped(words: np.ndarray) -> np.ndarray:
    """Words of integers: of negative ones, all bits but the sign are flipped."""
    sign = 8 * words.dtype.itemsize - 1
    negative = words.view(words.dtype.str.replace("u", "i")) >> sign
    return words ^ negative.view(words.dtype) & np.array((1 << sign) - 1, words.dtype)


# ---- writing ------------------------------------------------------------------------


def put(values: np.ndarray, encode: Encode = rans.encode) -> bytes:
    """Writes values.

    Args:
        values: [n], n >= 1, any dtype that a file can hold, in native byte order.
        encode: What writes a rANS stream.

    Returns:
        The body: at most a byte for each plane more than the values take.

    Examples:
        >>> import numpy as np
        >>> from deepcomp_jax.format import planes
        >>> weights = np.random.default_rng(0).normal(size=5000).astype(np.float32)
        >>> body = planes.put(weights)
        >>> weights.nbytes, len(body)
        (20000, 16590)
        >>> back = planes.get(body, 5000, weights.dtype)
        >>> back.tobytes() == weights.tobytes()
        True
    """
    planes = _planes(values)
    plans = list(map(_plan, planes))
    heads = [_put_head(plan) for plan in plans]
    stored: list[bytes] = []
    segments: list[rans.Segment] = []
    for plane, plan in zip(planes, plans, strict=True):
        stored += [plane[own].tobytes() for own in plan.parts(plane.size, coded=False)]
        if plan.symbols[1] > 1:
            own = [plane[own] for own in plan.parts(plane.size, coded=True)]
            symbols = own[0] if len(own) == 1 else np.concatenate(own)
            one = np.broadcast_to(np.uint8(0), symbols.size)
            segments.append(rans.Segment(symbols, plan.models, one))
    return b"".join([*heads, *stored, encode(segments) if segments else b""])


def estimate(values: np.ndarray) -> float:
    """About how many bits `put` would take, in a fraction of its time."""
    planes = _planes(values)
    return sum(_size(plane, _plan(plane)) for plane in planes)


def _planes(values: np.ndarray) -> NDArray[np.uint8]:
    """The planes of values, uint8[bytes of a word, words]."""
    word = _word(values.dtype)
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    words = np.ascontiguousarray(little).view(word)
    planes = np.empty((word.itemsize, words.size), np.uint8)
    first = 0
    for block in _blocks(words):
        raw = _grouped(block, values.dtype).view(np.uint8).reshape(block.size, -1)
        planes[:, first : first + block.size] = raw.T[::-1]
        first += block.size
    return planes


def _plan(plane: NDArray[np.uint8]) -> Plane:
    """How a plane takes the fewest bits, but for gains that are not worth the time."""
    counts = np.array([np.bincount(own, minlength=_SYMBOLS) for own in _blocks(plane)])
    sizes = counts.sum(axis=1)
    worth = 8 * sizes * (1 - _WORTH)
    lengths = np.log2(sizes[:, None] / np.maximum(counts, 1))
    coded = (counts * lengths).sum(axis=1) < worth
    # Blocks that one model for all of them does not suit are stored after all.
    coded[coded] = _ideal(counts[coded]) < worth[coded]
    nothing = Plane(np.zeros(_SYMBOLS, np.uint8), np.zeros(sizes.size, bool))
    if not coded.any():
        return nothing
    plan = Plane(symbol_models.quantize(counts[coded].sum(axis=0)), coded)
    bits_of = _ideal(counts[coded]).sum() * _MARGIN[0] + _MARGIN[1]
    is_smaller = bits_of + 8 * len(_put_head(plan)) < 8 * sizes[coded].sum()
    return plan if is_smaller else nothing


def _ideal(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of blocks with one model for all of them, from int64[blocks, 256]."""
    codes = symbol_models.quantize(counts.sum(axis=0, keepdims=True))
    shares = symbol_models.frequencies(codes)[0]
    return counts @ (rans.PRECISION - np.log2(np.maximum(shares, 1)))


def _size(plane: NDArray[np.uint8], plan: Plane) -> float:
    """About how many bits a plane takes."""
    coded = plan.parts(plane.size, coded=True)
    counts = sum(bincount(plane[own], _SYMBOLS) for own in coded)
    ideal = rans.estimate(np.atleast_2d(counts), plan.models) if coded else 0.0
    stored = plan.count(plane.size, coded=False)
    return ideal + rans.overhead(ideal) + 8 * (stored + len(_put_head(plan)))


def _put_head(plan: Plane) -> bytes:
    first, count = plan.symbols
    out = bits.put_varint(count)
    if count:
        out += bytes([first])
    if count > 1:
        out += symbol_models.put(plan.codes[first : first + count])
    if count and plan.coded.size > 1:
        out += np.packbits(plan.coded).tobytes()
    return out


# ---- reading ------------------------------------------------------------------------


class _Body(NamedTuple):
    """What is where in a body.

    Attributes:
        planes: The planes.
        stored: Where the bytes that are stored begin.
        stream: Where the stream begins.
        state: The decoder of it; None if there is no stream.
    """

    planes: list[Plane]
    stored: int
    stream: int
    state: rans.State | None


def get(
    body: bytes, size: int, dtype: np.dtype, take: Take = rans.take
) -> np.ndarray:
    """Reads values.

    Args:
        body: As `put` wrote it.
        size: Number of values, at least 1.
        dtype: Of the values.
        take: What decodes rANS streams.

    Returns:
        The values, [size]; of bool, any byte.

    Raises:
        FormatError: A clause of the planes (V) or of the stream (E).
    """
    word = _word(dtype)
    count = size * dtype.itemsize // word.itemsize
    found = _get_body(body, count, word.itemsize)
    words = zeros(count, word)
    raw = words.view(np.uint8).reshape(count, -1)
    stored = np.frombuffer(body, np.uint8, found.stream - found.stored, found.stored)
    state = found.state
    for plane, column in zip(found.planes, raw.T[::-1], strict=True):
        for own in plane.parts(count, coded=False):
            length = own.stop - own.start
            column[own], stored = stored[:length], stored[length:]
        if plane.symbols[1]:
            state, symbols = _take(plane, count, state, take)
            for own in plane.parts(count, coded=True):
                length = own.stop - own.start
                column[own], symbols = symbols[:length], symbols[length:]
    if state is not None:
        rans.finish(state)
    for block in _blocks(words):
        _ungroup(block, dtype)
    return words.view(dtype.newbyteorder("<")).astype(dtype, copy=False)


def _take(
    plane: Plane, words: int, state: rans.State | None, take: Take
) -> tuple[rans.State | None, NDArray[np.uint8]]:
    """The bytes of the blocks of a plane that are coded, and the state after them."""
    size = plane.count(words, coded=True)
    first, count = plane.symbols
    if state is None or count == 1:
        return state, np.broadcast_to(np.uint8(first), size)
    return take(state, plane.models, np.broadcast_to(np.uint8(0), size), _BYTES)


def _get_body(body: bytes, words: int, width: int) -> _Body:
    """Finds the parts of a body, and checks all that can be checked before decoding."""
    pos, planes = 0, list[Plane]()
    for _ in range(width):
        pos, plane = _get_head(body, pos, -(-words // BLOCK))
        planes.append(plane)
    stream = pos + sum(plane.count(words, coded=False) for plane in planes)
    if stream > len(body):
        raise lane_index.cut_off(body, "V1")
    end, state = stream, None
    if any(plane.symbols[1] > 1 for plane in planes):
        end, state = rans.begin(body, stream)
    if end != len(body):
        raise FormatError(f"{len(body) - end} bytes too many", offset=end, clause="V1")
    return _Body(planes, pos, stream, state)


def _get_head(body: bytes, pos: int, blocks: int) -> tuple[int, Plane]:
    """The position after the head of a plane, and the plane."""
    codes, coded = np.zeros(_SYMBOLS, np.uint8), np.zeros(blocks, bool)
    start = pos
    pos, count = bits.get_varint(body, pos, clause="V5")
    if not count:
        return pos, Plane(codes, coded)
    if pos == len(body):
        raise lane_index.cut_off(body, "V1")
    pos, first = pos + 1, body[pos]
    if first + count > _SYMBOLS:
        raise FormatError(
            f"{count} symbols from {first} on", offset=start, clause="V6"
        )
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


def measure(body: bytes, size: int, dtype: np.dtype) -> Measured:
    """What the bits of a valid body are spent on, but for the bytes that are stored."""
    word = _word(dtype)
    count = size * dtype.itemsize // word.itemsize
    found = _get_body(body, count, word.itemsize)
    lengths = [plane.symbols[1] for plane in found.planes]
    codes = [symbol_models.CODE_BITS * own for own in lengths if own > 1]
    flags = [plane.coded.size for plane in found.planes if plane.coded.any()]
    fields = [*codes, *(own for own in flags if own > 1)]
    padding = sum(-own % 8 for own in fields)
    state, words, ideal = found.state, 0, 0.0
    if state is not None:
        words = 16 * int(state.ends[-1])
        for plane in found.planes:
            state, symbols = _take(plane, count, state, rans.take)
            if symbols.size:
                ideal += rans.estimate(bincount(symbols, _SYMBOLS)[None], plane.models)
    return Measured(
        indices=words,
        tables=sum(codes),
        lanes=8 * (len(body) - found.stream) - words,
        header=8 * found.stored - sum(codes) - padding,
        padding=padding,
        ideal=ideal,
    )
