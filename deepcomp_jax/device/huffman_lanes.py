"""The lanes of a Huffman stream, decoded side by side on the device.

The same as `huffman.decode`, as one jitted loop: at each step every lane looks up its
next 15 bits or fewer in a table that holds all of them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.device import rounding
from deepcomp_jax.streams import huffman, huffman_code, huffman_header

_SMALL_TABLE = 12  # bits; a table of this size fits the fastest cache
_MAX_BITS = 1 << 31  # of the words; positions are uint32 and may run on


def decode(data: bytes, pos: int, count: int) -> tuple[int, jax.Array]:
    """Reads a stream, like `huffman.decode`, with the loop over symbols on the device.

    Streams of few lanes, or of more than 2**31 bits, are decoded on the host.

    Args:
        data: The bytes read from.
        pos: Where the stream begins, in bytes.
        count: Number of symbols in the stream.

    Returns:
        The position after the stream, and the symbols, uint16[count].

    Raises:
        FormatError: if the stream breaks a clause, with the clause and the offset.
    """
    end, symbols = padded(data, pos, count, None)
    return end, symbols[:count]


def decode_on_cpu(data: bytes, pos: int, count: int) -> tuple[int, np.ndarray]:
    """The same as `huffman.decode`, with the loop compiled if there is much to decode.

    Blocks of symbols are decoded one after the other, so that the shapes of the program
    are those of lanes, words and tables only: at most 11 x 9 x 2 programs for all
    streams, of which those of one network need a few.
    """
    if count < rounding.WORTH_COMPILING:
        return huffman.decode(data, pos, count)
    stream = huffman_header.read(data, pos, count)
    real = stream.starts.size - 1
    if real < huffman.WORTH_LOCK_STEP or stream.starts[-1] > _MAX_BITS:
        return huffman.decode(data, pos, count)
    place = jax.local_devices(backend="cpu")[0]
    ahead = huffman.windows(data[stream.words : stream.end])
    ahead = rounding.extended(ahead, rounding.words(ahead.size), place)
    starts = stream.starts[:-1].astype(np.uint32)
    here = rounding.extended(starts, rounding.lanes(real), place)
    lookup = jax.device_put(_lookup(stream.lengths), place)
    found = np.empty(count, np.uint16)
    for first, whole, left in rounding.blocks(count, real):
        until = first + whole * real + left
        sizes = jnp.array([whole, left, real], jnp.int32)
        room = max(rounding.BLOCK, here.size) + here.size
        block, here = _lock_step(ahead, lookup, here, sizes, size=room)
        found[first:until] = np.asarray(block)[: until - first]
    huffman.check_ends(stream, np.asarray(here)[:real].astype(np.int64))
    return stream.end, found


def padded(data: bytes, pos: int, count: int, place: Any) -> tuple[int, jax.Array]:
    """The same, with symbols of no meaning after the others.

    Args:
        data: The bytes read from.
        pos: Where the stream begins, in bytes.
        count: Number of symbols in the stream.
        place: Device or sharding; None takes the default.

    Returns:
        The position after the stream, and the symbols, uint16[count or more].

    Raises:
        FormatError: if the stream breaks a clause.
    """
    stream = huffman_header.read(data, pos, count)
    lanes = stream.starts.size - 1
    if lanes < huffman.WORTH_LOCK_STEP or stream.starts[-1] > _MAX_BITS:
        end, symbols = huffman.decode(data, pos, count)
        return end, rounding.padded(symbols, place)
    starts = rounding.padded(stream.starts[:-1].astype(np.uint32), place)
    symbols, ends = _lock_step(
        rounding.padded(huffman.windows(data[stream.words : stream.end]), place),
        jax.device_put(_lookup(stream.lengths), place),
        starts,
        jnp.array([*divmod(count, lanes), lanes], jnp.int32),
        size=rounding.rounded(count) + starts.size,
    )
    huffman.check_ends(stream, np.asarray(ends)[:lanes].astype(np.int64))
    return stream.end, symbols


def _lookup(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """`huffman_code.table`, for words of the 12 or 15 bits that are enough."""
    table = huffman_code.table(lengths)
    longest = table.size.bit_length() - 1
    size = _SMALL_TABLE if longest <= _SMALL_TABLE else huffman_code.MAX_LENGTH
    return np.repeat(table, 1 << (size - longest))


@functools.partial(jax.jit, static_argnames="size")
def _lock_step(
    ahead: jax.Array,
    lookup: jax.Array,
    starts: jax.Array,
    sizes: jax.Array,
    *,
    size: int,
) -> tuple[jax.Array, jax.Array]:
    """Decodes a symbol of every lane at each step.

    Args:
        ahead: The 32 bits after each 16-bit boundary of the words, uint32[windows].
        lookup: Symbol and length for the next bits, uint32[4096 or 32768].
        starts: Where the lanes begin, in bits, uint32[L]; some do not exist.
        sizes: Steps that all lanes take, lanes that take one more, and lanes; int32[3].
        size: Of the result; each step writes L of it, and the next one goes over those
            of lanes that do not exist.

    Returns:
        The symbols, uint16[size], and where the lanes end, in bits.
    """
    shift = jnp.uint32(32 - (lookup.size.bit_length() - 1))
    steps, left, count = sizes

    def step(
        index: jax.Array, state: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        symbols, here = state
        # Lanes of a damaged stream may run beyond the data; "clip" reads its end.
        word = jnp.take(ahead, (here >> 4).astype(jnp.int32), mode="clip")
        word = word << (here & 15) >> shift
        entry = lookup.at[word.astype(jnp.int32)].get(mode="promise_in_bounds")
        row = (entry >> 4).astype(jnp.uint16)
        symbols = jax.lax.dynamic_update_slice(symbols, row, (index * count,))
        return symbols, here + (entry & 15)

    state = jnp.zeros(size, jnp.uint16), starts
    symbols, whole = jax.lax.fori_loop(0, steps, step, state)
    symbols, more = step(steps, (symbols, whole))
    takes = jnp.arange(starts.size, dtype=jnp.int32) < left
    return symbols, jnp.where(takes, more, whole)
