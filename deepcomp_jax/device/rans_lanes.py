"""The lanes of a rANS stream, decoded side by side on the device.

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

WORTH_LOCK_STEP = 64  # lanes; with fewer, the host is about as fast


class State(NamedTuple):
    """Where a decoder stands.

    Attributes:
        words: Of all lanes and zeros, uint16[w].
        lanes: State of each lane, and of some that do not exist, uint32[L].
        here: The next word of each, int32[L].
        ends: Where its words end, int32[L].
        real: Number of lanes that exist.
        place: Device or sharding of the arrays; None for the default.
    """

    words: jax.Array
    lanes: jax.Array
    here: jax.Array
    ends: jax.Array
    real: int
    place: Any


def begin(state: rans.State, place: Any) -> State:
    """A decoder on the device, from one on the host that has decoded nothing."""
    lanes = rounding.padded(state.lanes.astype(np.uint32), place)
    here = rounding.padded(state.here.astype(np.int32), place)
    ends = rounding.padded(state.ends.astype(np.int32), place)
    words = rounding.padded(state.words, place)
    return State(words, lanes, here, ends, state.lanes.size, place)


def room(state: State, count: int) -> int:
    """The size of arrays that hold `count` symbols: each step writes those of L."""
    return rounding.rounded(count) + state.lanes.size


def take(
    state: State,
    table: rans.Models,
    count: int,
    chosen: jax.Array | None,
    palette: np.ndarray,
) -> tuple[State, jax.Array]:
    """Decodes a segment.

    Args:
        state: Where the decoder stands.
        table: The models of the segment.
        count: Number of symbols.
        chosen: Which of the models each symbol has, uint8[room]; None if there is one.
        palette: What each symbol is decoded to, [alphabet].

    Returns:
        The state after the segment, and what the symbols stand for, [room]; those
        after the first `count` have no meaning.
    """
    size = room(state, count)
    certain = rans.find_certain(table)
    if certain is not None:  # such symbols change no state
        only = jax.device_put(palette[certain], state.place)
        if chosen is None:
            return state, jnp.broadcast_to(only[0], (size,))
        return state, jnp.take(only, chosen, mode="clip")
    symbols, steps = rans.tables(table)
    values, lanes, here = _lock_step(
        (state.words, state.ends),
        (
            rounding.padded(steps, state.place),
            rounding.padded(palette[symbols], state.place),
        ),
        chosen,
        (state.lanes, state.here),
        jnp.array([*divmod(count, state.real), state.real], jnp.int32),
        size=size,
    )
    return state._replace(lanes=lanes, here=here), values


def take_on_cpu(
    state: rans.State,
    table: rans.Models,
    chosen: np.ndarray,
    palette: np.ndarray | None = None,
) -> tuple[rans.State, np.ndarray]:
    """The same as `rans.take`, with the loop compiled if there is much to decode.

    Blocks of symbols are decoded one after the other, so that the shapes of the program
    are those of lanes, words and tables only: at most 11 x 9 x 2 programs for all
    streams, of which those of one network need a few.
    """
    real, count = state.lanes.size, chosen.size
    few = count < rounding.WORTH_COMPILING or real < WORTH_LOCK_STEP
    if few or rans.find_certain(table) is not None:
        return rans.take(state, table, chosen, palette)
    if palette is None:
        palette = np.arange(table.frequencies.shape[1], dtype=np.uint16)
    here = _begin_on_cpu(state)
    symbols, steps = rans.tables(table)
    slots = rounding.power(steps.size, base=64, least=rans.TOTAL)
    tables = tuple(
        rounding.extended(values, slots, here.place)
        for values in (steps, symbols.astype(np.uint16))
    )
    size = max(rounding.BLOCK, here.lanes.size) + here.lanes.size
    found = zeros(count, palette.dtype)
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
            jnp.array([whole, left, real], jnp.int32),
            size=size,
        )
        here = here._replace(lanes=lanes, here=at)
        own = np.asarray(block)[: until - first]
        palette.take(own, out=found[first:until], mode="clip")
    return back(here, state), found


def _begin_on_cpu(state: rans.State) -> State:
    """A decoder in arrays of few sizes, on the CPU."""
    place = jax.local_devices(backend="cpu")[0]
    size = rounding.lanes(state.lanes.size)
    lanes = rounding.extended(state.lanes.astype(np.uint32), size, place)
    here = rounding.extended(state.here.astype(np.int32), size, place)
    ends = rounding.extended(state.ends.astype(np.int32), size, place)
    words = rounding.extended(state.words, rounding.words(state.words.size), place)
    return State(words, lanes, here, ends, state.lanes.size, place)


def back(state: State, host: rans.State) -> rans.State:
    """The state of a decoder on the host, from one on the device that began there."""
    lanes, here = jax.device_get((state.lanes, state.here))
    return host._replace(
        lanes=lanes[: state.real].astype(np.int64),
        here=here[: state.real].astype(np.int64),
    )


def finish(state: State, host: rans.State) -> None:
    """Rejects a stream that does not end where its symbols do.

    Args:
        state: Of the decoder on the device.
        host: From which it began.

    Raises:
        FormatError: E8.
    """
    rans.finish(back(state, host))


@functools.partial(jax.jit, static_argnames="size")
def _lock_step(
    words: tuple[jax.Array, jax.Array],
    tables: tuple[jax.Array, jax.Array],
    chosen: jax.Array | None,
    lanes: tuple[jax.Array, jax.Array],
    sizes: jax.Array,
    *,
    size: int,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Decodes a symbol of every lane at each step.

    Args:
        words: Of all lanes, and where those of each end, int32[L].
        tables: Frequency * 4096 + (remainder - start), and what the symbol stands for,
            by model and remainder, [at least models * 4096].
        chosen: Model of each symbol, uint8[size]; None if there is one.
        lanes: State of each lane, uint32[L], and its next word, int32[L].
        sizes: Steps that all lanes take, lanes that take one more, and lanes; int32[3].
        size: Of the result; each step writes L of it, and the next one goes over those
            of lanes that do not exist.

    Returns:
        What the symbols stand for, [size], the states and the next words.
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
        x = (x >> rans.PRECISION) * (entry >> rans.PRECISION) + (
            entry & (rans.TOTAL - 1)
        )
        low = (x < rans.LOW) & (here < words[1])
        word = jnp.take(words[0], here, mode="clip").astype(jnp.uint32)
        x = jnp.where(low, x << 16 | word, x)
        row = jnp.take(tables[1], slot, mode="clip")
        values = jax.lax.dynamic_update_slice(values, row, (index * count,))
        return values, x, here + low.astype(jnp.int32)

    start = jnp.zeros(size, tables[1].dtype), *lanes
    values, x, here = jax.lax.fori_loop(0, steps, step, start)
    values, more_x, more_here = step(steps, (values, x, here))
    takes = jnp.arange(x.size, dtype=jnp.int32) < left
    return values, jnp.where(takes, more_x, x), jnp.where(takes, more_here, here)
