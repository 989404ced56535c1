"""Values without loss, as planes of bytes: for leaves that have no codebook.

The exponents of the weights of a network take about 2.6 bits of their 8; signs and
mantissas are noise. So the bytes of all values are regrouped into planes, the first one
of which holds the exponents, and a plane is coded by rANS wherever that makes it
smaller. As ZipNN does (Hershcovitch et al., arXiv 2411.05239) and DFloat11 (Zhang et
al., arXiv 2504.11651), with Huffman codes.

    body = head of each plane (`plane_heads`)
           | bytes that are stored, plane after plane
           | rANS stream, if a plane has two symbols or more: those of each such plane

`plane_words` has the planes. A plane is stored or coded block by block: an embedding
may have rows that were never trained, and are not noise.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import symbol_models
from deepcomp_jax.codings.common import Measured, Take, zeros
from deepcomp_jax.format import plane_heads, plane_words
from deepcomp_jax.format.plane_heads import Plane
from deepcomp_jax.streams import lane_index, rans
from deepcomp_jax.streams.counting import bincount

_BYTES = np.arange(plane_heads.SYMBOLS, dtype=np.uint8)
_WORTH = 1 / 64  # of its size that coding must save of a block, for the time it takes
# One of so many bytes of a block is looked at first; few rows are a multiple of it. In
# blocks that are worth coding, these have no more bits each at their own entropy.
_SAMPLE, _NOISE = 7, 7.84
_MARGIN = 1.02, 64  # what a stream adds to its ideal length at most: a factor, and bits

# Writes a rANS stream, as `rans.encode` does.
Encode: TypeAlias = Callable[[Sequence[rans.Segment]], bytes]


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
        (20000, 16584)
        >>> back = planes.get(body, 5000, weights.dtype)
        >>> back.tobytes() == weights.tobytes()
        True
    """
    planes = plane_words.split(values)
    plans = [_plan(plane) for plane in planes]
    heads = [plane_heads.put(plan) for plan, _ in plans]
    stored: list[memoryview] = []
    segments: list[rans.Segment] = []
    for plane, (plan, counts) in zip(planes, plans, strict=True):
        stored += [plane[own].data for own in plan.parts(plane.size, coded=False)]
        if plan.symbols[1] > 1:
            own = [plane[own] for own in plan.parts(plane.size, coded=True)]
            symbols = own[0] if len(own) == 1 else np.concatenate(own)
            one = np.broadcast_to(np.uint8(0), symbols.size)
            segments.append(rans.Segment(symbols, plan.models, one, counts[None]))
    return b"".join([*heads, *stored, encode(segments) if segments else b""])


def estimate(values: np.ndarray) -> float:
    """About how many bits `put` would take, in a fraction of its time."""
    coded, others = 0.0, 0
    for plane in plane_words.split(values):
        plan, counts = _plan(plane)
        coded += rans.estimate(counts[None], plan.models)
        others += len(plane_heads.put(plan)) + plan.length(plane.size, coded=False)
    return coded + (rans.overhead(coded) if coded else 0) + 8 * others


def _plan(plane: NDArray[np.uint8]) -> tuple[Plane, NDArray[np.int64]]:
    """How a plane takes the fewest bits, but for gains that are not worth the time.

    Returns:
        The plane, and how often each byte is in the blocks that are coded, int64[256].
    """
    sizes = np.array([own.size for own in plane_words.blocks(plane)])
    coded = np.ones(sizes.size, bool)
    # Most blocks of mantissas are noise, and a few of their bytes tell.
    for step, most in ((_SAMPLE, _NOISE), (1, 8 * (1 - _WORTH))):
        counts = _counts(plane, coded, step)
        coded &= _entropies(counts) < most * counts.sum(axis=1)
    # Blocks that one model for all of them does not suit are stored after all.
    coded[coded] = _ideal(counts[coded]) < 8 * (1 - _WORTH) * sizes[coded]
    total = counts[coded].sum(axis=0)
    plan = Plane(symbol_models.quantize(total), coded)
    bits_of = rans.estimate(total[None], plan.models) * _MARGIN[0] + _MARGIN[1]
    if bits_of + 8 * len(plane_heads.put(plan)) < 8 * total.sum():
        return plan, total
    nothing = np.zeros_like(total)
    return Plane(nothing.astype(np.uint8), np.zeros_like(coded)), nothing


def _counts(
    plane: NDArray[np.uint8], counted: NDArray[np.bool_], step: int
) -> NDArray[np.int64]:
    """How often each byte is among every so many of some blocks, int64[blocks, 256]."""
    counts = np.zeros((counted.size, plane_heads.SYMBOLS), np.int64)
    for block, own in enumerate(plane_words.blocks(plane)):
        if counted[block]:
            counts[block] = np.bincount(own[::step], minlength=plane_heads.SYMBOLS)
    return counts


def _entropies(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of each block at its own entropy."""
    sizes = counts.sum(axis=1, keepdims=True)
    lengths = np.log2(np.maximum(sizes, 1) / np.maximum(counts, 1))
    return (counts * lengths).sum(axis=1)


def _ideal(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Bits of blocks with one model for all of them, from int64[blocks, 256]."""
    codes = symbol_models.quantize(counts.sum(axis=0, keepdims=True))
    shares = symbol_models.frequencies(codes)[0]
    return counts @ (rans.PRECISION - np.log2(np.maximum(shares, 1)))


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


def get(body: bytes, size: int, dtype: np.dtype, take: Take = rans.take) -> np.ndarray:
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
    word = plane_words.word_of(dtype)
    count = size * dtype.itemsize // word.itemsize
    found = _get_body(body, count, word.itemsize)
    words = zeros(count, word)
    raw = words.view(np.uint8).reshape(count, -1)
    stored = np.frombuffer(body, np.uint8, found.stream - found.stored, found.stored)
    state = found.state
    for plane, column in zip(found.planes, raw.T[::-1], strict=True):
        state, symbols = _take(plane, count, state, take)
        for own in plane.parts(count, coded=True):
            length = own.stop - own.start
            column[own], symbols = symbols[:length], symbols[length:]
        for own in plane.parts(count, coded=False):
            length = own.stop - own.start
            column[own], stored = stored[:length], stored[length:]
    if state is not None:
        rans.finish(state)
    return plane_words.join(words, dtype)


def _take(
    plane: Plane, words: int, state: rans.State | None, take: Take
) -> tuple[rans.State | None, NDArray[np.uint8]]:
    """The bytes of the blocks of a plane that are coded, and the state after them."""
    size = plane.length(words, coded=True)
    first, count = plane.symbols
    if state is None or count < 2:
        return state, np.broadcast_to(np.uint8(first), size)
    return take(state, plane.models, np.broadcast_to(np.uint8(0), size), _BYTES)


def _get_body(body: bytes, words: int, width: int) -> _Body:
    """Finds the parts of a body, and checks all that can be checked before decoding."""
    pos, planes = 0, list[Plane]()
    for _ in range(width):
        pos, plane = plane_heads.get(body, pos, -(-words // plane_words.BLOCK))
        planes.append(plane)
    stream = pos + sum(plane.length(words, coded=False) for plane in planes)
    if stream > len(body):
        raise lane_index.cut_off(body, "V1")
    end, state = stream, None
    if any(plane.symbols[1] > 1 for plane in planes):
        end, state = rans.begin(body, stream)
    if end != len(body):
        raise FormatError(f"{len(body) - end} bytes too many", offset=end, clause="V1")
    return _Body(planes, pos, stream, state)


def measure(body: bytes, values: np.ndarray) -> Measured:
    """What the bits of a body are spent on, but for the bytes that are stored.

    Args:
        body: The body.
        values: Those in it, [n].
    """
    word = plane_words.word_of(values.dtype)
    count = values.nbytes // word.itemsize
    found = _get_body(body, count, word.itemsize)
    lengths = [plane.symbols[1] for plane in found.planes]
    codes = [symbol_models.CODE_BITS * own for own in lengths if own > 1]
    flags = [plane.coded.size for plane in found.planes if plane.coded.any()]
    fields = [*codes, *(own for own in flags if own > 1)]
    padding = sum(-own % 8 for own in fields)
    words, ideal = 0, 0.0
    if found.state is not None:
        words = 16 * int(found.state.ends[-1])
        ideal = _ideal_of(values, found.planes)
    return Measured(
        indices=words,
        tables=sum(codes),
        lanes=8 * (len(body) - found.stream) - words,
        header=8 * found.stored - sum(codes) - padding,
        padding=padding,
        ideal=ideal,
    )


def _ideal_of(values: np.ndarray, planes: Sequence[Plane]) -> float:
    """Bits of the blocks that are coded, with the models of the planes."""
    counts = np.zeros((len(planes), plane_heads.SYMBOLS), np.int64)
    each = plane_words.BLOCK * len(planes) // values.itemsize  # values of a block
    for block, first in enumerate(range(0, values.size, each)):
        split = plane_words.split(values[first : first + each])
        for plane, own, symbols in zip(planes, counts, split, strict=True):
            if plane.coded[block]:
                own += bincount(symbols, plane_heads.SYMBOLS)
    return sum(
        rans.estimate(own[None], plane.models)
        for plane, own in zip(planes, counts, strict=True)
        if plane.symbols[1] > 1
    )
