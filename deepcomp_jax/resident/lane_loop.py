"""The lanes of a leaf, decoded side by side in a loop that can be part of any program.

The loop is that of `device.rans_lanes`, with lanes that begin and end where `lanes`
has put them.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax.streams import rans

_NARROW = 256  # labels, at most, of which one fits a byte


def take(
    words: jax.Array,
    states: jax.Array,
    ends: tuple[jax.Array, jax.Array],
    frequencies: jax.Array,
    values: jax.Array,
    steps: int,
) -> jax.Array:
    """Decodes the symbols of all lanes, and looks up what they stand for.

    Args:
        words: Of all lanes, uint16[w].
        states: State of each lane, uint32[L].
        ends: Where the words of each begin and end, int32[L] both.
        frequencies: Of each symbol, of 4096; uint16[alphabet].
        values: What each symbol stands for, [alphabet].
        steps: Symbols of each lane.

    Returns:
        The values of one lane after the other, [L, steps].
    """
    table, symbols = _tables(frequencies)
    begin, end = ends
    narrow = values.size <= _NARROW

    def step(index: Any, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        x, here, found = carry
        slot = x & (rans.TOTAL - 1)
        entry = jnp.take(table, slot.astype(jnp.int32), mode="clip")
        x = (x >> rans.PRECISION) * ((entry >> 20) + 1) + (entry >> 8 & rans.TOTAL - 1)
        low = (x < rans.LOW) & (here < end)
        word = jnp.take(words, here, mode="clip").astype(jnp.uint32)
        x = jnp.where(low, x << 16 | word, x)
        row = entry.astype(jnp.uint8) if narrow else slot.astype(jnp.uint16)
        found = jax.lax.dynamic_update_index_in_dim(found, row, index, 0)
        return x, here + low.astype(jnp.int32), found

    # It is all written over. Of zeros, the buffers of all leaves would be made at once.
    first = states.astype(jnp.uint8 if narrow else jnp.uint16)
    start = states, begin, jnp.broadcast_to(first, (steps, states.size))
    _, _, found = jax.lax.fori_loop(0, steps, step, start)
    lookup = values if narrow else jnp.take(values, symbols, mode="clip")
    return jnp.take(lookup, found.T.astype(jnp.int32), mode="clip")


def _tables(frequencies: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the remainders of a state stand for.

    Returns:
        (frequency - 1) * 2**20 + (remainder - start) * 2**8 + the low bits of the
        symbol, uint32[4096]; and the symbols, int32[4096].
    """
    wide = frequencies.astype(jnp.uint32)
    symbols = jnp.repeat(
        jnp.arange(wide.size), wide.astype(jnp.int32), total_repeat_length=rans.TOTAL
    )
    starts = (jnp.cumsum(wide, dtype=jnp.uint32) - wide)[symbols]
    rest = jnp.arange(rans.TOTAL, dtype=jnp.uint32) - starts
    low = symbols.astype(jnp.uint32) & (_NARROW - 1)
    return (wide[symbols] - 1) << 20 | rest << 8 | low, symbols


def flat(words: jax.Array, starts: jax.Array) -> tuple[jax.Array, jax.Array]:
    """All words one after the other, [w], and where those of each lane begin in them.

    Args:
        words: With or without axes in front, as `lanes.Lanes` has them.
        starts: Where those of each lane begin, int32[*rows, pieces].
    """
    *own, most = words.shape
    before = np.arange(math.prod(own), dtype=np.int32) * np.int32(most)
    before = before.reshape(*own, *[1] * (starts.ndim - len(own)))
    return words.reshape(-1), starts + before
