"""The lanes of a Huffman stream, decoded side by side on the device.

The same as `huffman.decode`, as one jitted loop: at each step every lane looks up its
next 15 bits or fewer in a table that holds all of them. Sizes are rounded up, mostly to
powers of two, so that streams of about one size share a compiled program.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax import huffman

_SMALL_TABLE = 12  # bits; a table of this size fits the fastest cache
_ROUNDINGS = 8  # numbers of steps, of those with as many bits, that have a program
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
    stream = huffman.read(data, pos, count)
    lanes = stream.starts.size - 1
    if lanes < huffman.WORTH_LOCK_STEP or stream.starts[-1] > _MAX_BITS:
        end, symbols = huffman.decode(data, pos, count)
        return end, jnp.asarray(symbols)
    starts = _rounded(stream.starts[:-1].astype(np.uint32))
    steps, left = divmod(count, lanes)
    grain = max(1, (1 << steps.bit_length()) // _ROUNDINGS)
    symbols, ends = _lock_step(
        jnp.asarray(_rounded(huffman.windows(data[stream.words : stream.end]))),
        jnp.asarray(_lookup(stream.lengths)),
        jnp.asarray(starts),
        jnp.array([steps, left]),
        rows=-(-(steps + 1) // grain) * grain,
    )
    huffman.check_ends(stream, np.asarray(ends)[:lanes].astype(np.int64))
    return stream.end, _flat(symbols, lanes=lanes, count=count)


def _rounded(values: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The values, with zeros after them up to the next power of two."""
    size = 1 << (values.size - 1).bit_length()
    return np.append(values, np.zeros(size - values.size, np.uint32))


def _lookup(lengths: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """`huffman.table`, for words of the 12 or 15 bits that are enough."""
    table = huffman.table(lengths)
    longest = table.size.bit_length() - 1
    size = _SMALL_TABLE if longest <= _SMALL_TABLE else huffman.MAX_LENGTH
    return np.repeat(table, 1 << (size - longest))


@functools.partial(jax.jit, static_argnames="rows")
def _lock_step(
    ahead: jax.Array,
    lookup: jax.Array,
    starts: jax.Array,
    sizes: jax.Array,
    *,
    rows: int,
) -> tuple[jax.Array, jax.Array]:
    """Decodes a symbol of every lane at each step.

    Args:
        ahead: The 32 bits after each 16-bit boundary of the words, uint32[windows].
        lookup: Symbol and length for the next bits, uint32[4096 or 32768].
        starts: Where the lanes begin, in bits, uint32[lanes].
        sizes: Steps that all lanes take, and lanes that take one more, int[2].
        rows: Steps rounded up; more than all lanes take.

    Returns:
        The symbols, uint16[rows, lanes], and where the lanes end, in bits.
    """
    shift = jnp.uint32(32 - (lookup.size.bit_length() - 1))
    steps, left = sizes

    def step(
        index: jax.Array, state: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        symbols, here = state
        # Lanes of a damaged stream may run beyond the data; "clip" reads its end.
        word = jnp.take(ahead, (here >> 4).astype(jnp.int32), mode="clip")
        word = word << (here & 15) >> shift
        entry = lookup.at[word.astype(jnp.int32)].get(mode="promise_in_bounds")
        symbols = symbols.at[index].set((entry >> 4).astype(jnp.uint16))
        return symbols, here + (entry & 15)

    state = jnp.zeros((rows, starts.size), jnp.uint16), starts
    symbols, whole = jax.lax.fori_loop(0, steps, step, state)
    symbols, more = step(steps, (symbols, whole))
    return symbols, jnp.where(jnp.arange(starts.size) < left, more, whole)


@functools.partial(jax.jit, static_argnames=("lanes", "count"))
def _flat(symbols: jax.Array, *, lanes: int, count: int) -> jax.Array:
    """The symbols in order, without the lanes and steps that were rounded up to."""
    return symbols[:, :lanes].reshape(-1)[:count]
