"""The lanes of a rANS stream, decoded side by side in a compiled loop.

The same as `rans.take`, as one jitted loop over the steps.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax.codings.common import zeros
from deepcomp_jax.device import rounding
from deepcomp_jax.streams import rans

WORTH_LOCK_STEP = 8  # lanes; fewer are faster one after the other, on the host

_NARROW = 256  # symbols of models, at most, that fit an entry beside all else


class State(NamedTuple):
    """Where a decoder stands.

    Attributes:
        words: Of all lanes and zeros, uint16[w].
        lanes: State of each lane, and of some that do not exist, uint32[L].
        here: The next word of each, int32[L].
        ends: Where its words end, int32[L].
        real: Number of lanes that exist.
        place: The CPU that holds the arrays.
    """

    words: jax.Array
    lanes: jax.Array
    here: jax.Array
    ends: jax.Array
    real: int
    place: Any


def take_on_cpu(
    state: rans.State,
    table: rans.Models,
    chosen: np.ndarray,
    lookup: np.ndarray | None = None,
) -> tuple[rans.State, np.ndarray]:
    """The same as `rans.take`, with the loop compiled if there is much to decode.

    Blocks of symbols are decoded one after the other, so that the shapes of the program
    are those of lanes, words and tables only. There is one program for each width of
    lanes and each power of 4 of words, for one model or several, of up to 256 symbols
    or more: the number grows with the logarithm of the longest stream, not with the
    number of leaves.
    """
    real, count = state.lanes.size, chosen.size
    few = count < rounding.WORTH_COMPILING or real < WORTH_LOCK_STEP
    if few or rans.find_certain(table) is not None:
        return rans.take(state, table, chosen, lookup)
    if lookup is None:
        lookup = np.arange(table.frequencies.shape[1], dtype=np.uint16)
    here = _begin_on_cpu(state)
    tables = _tables(table, here.place)
    size = max(rounding.BLOCK, here.lanes.size) + here.lanes.size
    found = zeros(count, lookup.dtype)
    for first, whole, left in rounding.blocks(count, real):
        until = first + whole * real + left
        models = None
        if len(table.frequencies) > 1:
            models = rounding.extended(chosen[first:until], size, here.place)
        block, lanes, at = _lock_step(
            (here.words, here.ends),
            tables,
            models,
            (here.lanes, here.here),
            jax.device_put(np.array([whole, left, real], np.int32), here.place),
            size=size,
        )
        here = here._replace(lanes=lanes, here=at)
        own = np.asarray(block)[: until - first]
        lookup.take(own, out=found[first:until], mode="clip")
    return _back(here, state), found


def _tables(table: rans.Models, place: Any) -> tuple[jax.Array, ...]:
    """What `_lock_step` looks up, in arrays of few sizes."""
    symbols, steps = rans.tables(table)
    entries = ((steps >> rans.PRECISION) - 1) << 20 | (steps & rans.TOTAL - 1) << 8
    slots = rounding.power(steps.size, base=64, least=rans.TOTAL)
    if table.frequencies.shape[1] <= _NARROW:
        return (rounding.extended(entries | symbols, slots, place),)
    return tuple(rounding.extended(own, slots, place) for own in (entries, symbols))


def _begin_on_cpu(state: rans.State) -> State:
    """A decoder in arrays of few sizes, on the CPU."""
    place = jax.local_devices(backend="cpu")[0]
    size = rounding.lanes(state.lanes.size)
    lanes = rounding.extended(state.lanes.astype(np.uint32), size, place)
    here = rounding.extended(state.here.astype(np.int32), size, place)
    ends = rounding.extended(state.ends.astype(np.int32), size, place)
    words = rounding.extended(state.words, rounding.words(state.words.size), place)
    return State(words, lanes, here, ends, state.lanes.size, place)


def _back(state: State, host: rans.State) -> rans.State:
    """The state of a decoder on the host, from the compiled one that began there."""
    lanes, here = jax.device_get((state.lanes, state.here))
    return host._replace(
        lanes=lanes[: state.real].astype(np.int64),
        here=here[: state.real].astype(np.int64),
    )


@functools.partial(jax.jit, static_argnames="size")
def _lock_step(
    words: tuple[jax.Array, jax.Array],
    tables: tuple[jax.Array, ...],
    chosen: jax.Array | None,
    lanes: tuple[jax.Array, jax.Array],
    sizes: jax.Array,
    *,
    size: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Decodes a symbol of every lane at each step.

    Args:
        words: Of all lanes, and where those of each end, int32[L].
        tables: By model and remainder, [at least models * 4096]: (frequency - 1) *
            2**20 + (remainder - start) * 2**8 + symbol, uint32; where symbols have
            more than 8 bits, 0 in place of them, and the symbols, uint16.
        chosen: Model of each symbol, uint8[size]; None if there is one.
        lanes: State of each lane, uint32[L], and its next word, int32[L].
        sizes: Steps that all lanes take, lanes that take one more, and lanes; int32[3].
        size: Of the result; each step writes L of it, and the next one goes over those
            of lanes that do not exist.

    Returns:
        The symbols, uint8[size] or uint16[size], the states and the next words.
    """
    steps, left, count = sizes

    def step(
        index: jax.Array, carry: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        values, x, here = carry
        slot = (x & (rans.TOTAL - 1)).astype(jnp.int32)
        if chosen is not None:
            models = jax.lax.dynamic_slice(chosen, (index * count,), x.shape)
            slot = slot + (models.astype(jnp.int32) << rans.PRECISION)
        entry = jnp.take(tables[0], slot, mode="clip")
        x = (x >> rans.PRECISION) * ((entry >> 20) + 1) + (entry >> 8 & rans.TOTAL - 1)
        low = (x < rans.LOW) & (here < words[1])
        word = jnp.take(words[0], here, mode="clip").astype(jnp.uint32)
        x = jnp.where(low, x << 16 | word, x)
        row = entry.astype(jnp.uint8)
        if len(tables) > 1:
            row = jnp.take(tables[1], slot, mode="clip")
        values = jax.lax.dynamic_update_slice(values, row, (index * count,))
        return values, x, here + low.astype(jnp.int32)

    start = jnp.zeros(size, jnp.uint8 if len(tables) == 1 else jnp.uint16), *lanes
    values, x, here = jax.lax.fori_loop(0, steps, step, start)
    values, more_x, more_here = step(steps, (values, x, here))
    takes = jnp.arange(x.size, dtype=jnp.int32) < left
    return values, jnp.where(takes, more_x, x), jnp.where(takes, more_here, here)
