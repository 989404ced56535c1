"""The lanes of a rANS stream, coded side by side in a compiled loop.

The same as `rans.put`, as one jitted loop over the steps, the last one first. A step
takes as long for a few lanes as for a hundred, and XLA divides those of much more than
a thousand among threads, which costs more than it gains: so lanes are coded in slices
of three widths, and there are three programs whatever is coded.

The numbers of a step have 32 bits. With f the frequency of a symbol, c its start and x
the state of its lane, below f * 2**20 once a word is given off,

    x = f q + r,  q = floor(x / f)   becomes   4096 q + r + c = x + (4096 - f) q + c

and a quotient of float32 less a quarter is q or q - 1 if it is cut to a whole number:
q is below 2**20, and the quotient is wrong by less than q * 2**-22. A lane that has no
symbol in a step gets one of frequency 4096 that starts at 0, which changes nothing.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from deepcomp_jax.device import rounding
from deepcomp_jax.streams import rans

WORTH_COMPILING = 1 << 15  # symbols; a network that has such a leaf has more of them
WORTH_LOCK_STEP = 8  # lanes; fewer are faster one after the other, on the host

_WIDTHS = rounding.WIDTHS[:3]  # lanes of a slice
_STEPS = 1024  # of a call at most: so many words a lane gives off, at most
# Words of a lane in the buffer of its slice. The lanes write at about the same place
# each: with a power of 2 they would drive each other out of the cache.
_ROOM = 1696
_TABLE = 1 << 14  # symbols of all models, at most, and the one that changes nothing
_SAME = rans.TOTAL << rans.PRECISION

# State of each lane, uint32[W]; where its next word goes, int32[W]; and the words,
# uint16[W * _ROOM]: those of each lane have a row, which is filled from its end.
_State: TypeAlias = tuple[jax.Array, jax.Array, jax.Array]


class _Slice(NamedTuple):
    """Some lanes.

    Attributes:
        lanes: Which they are.
        state: What the program makes of them.
        given: The words of each that were taken from the buffer, the last ones first.
    """

    lanes: slice
    state: _State
    given: list[list[NDArray[np.uint16]]]


def put_on_cpu(segments: Sequence[rans.Segment], lanes: int) -> rans.Emitted:
    """The same as `rans.put`, with the loop compiled if there is much to code."""
    size = sum(segment.symbols.size for segment in segments)
    pairs = max((segment.models.frequencies.size for segment in segments), default=0)
    few = size < WORTH_COMPILING or lanes < WORTH_LOCK_STEP
    if few or pairs >= _TABLE:
        return rans.put(segments, lanes)
    place = jax.local_devices(backend="cpu")[0]
    slices = [
        _begin(slice(first, min(first + _WIDTHS[-1], lanes)), place)
        for first in range(0, lanes, _WIDTHS[-1])
    ]
    for segment in reversed(segments):
        slices = _put_segment(segment, slices, lanes, place)
    given = [[*own.given, _words(own.state, own.lanes)] for own in slices]
    states = [
        np.asarray(own.state[0])[: own.lanes.stop - own.lanes.start] for own in slices
    ]
    by_lane = [parts for own in given for parts in zip(*own[::-1], strict=True)]
    sizes = np.array([sum(map(len, parts)) for parts in by_lane])
    words = np.concatenate([part for parts in by_lane for part in parts])
    return rans.Emitted(np.concatenate(states), sizes, words)


def _begin(lanes: slice, place: Any) -> _Slice:
    """Lanes in state 0."""
    width = next(width for width in _WIDTHS if width >= lanes.stop - lanes.start)
    state = (
        np.zeros(width, np.uint32),
        np.full(width, _ROOM - 1, np.int32),
        np.empty(width * _ROOM, np.uint16),
    )
    return _Slice(lanes, jax.device_put(state, place, may_alias=False), [])


def _put_segment(
    segment: rans.Segment, slices: list[_Slice], lanes: int, place: Any
) -> list[_Slice]:
    """Codes a segment, some steps at a time, the last ones first."""
    frequencies, starts = (column.ravel() for column in segment.models)
    table = np.full(_TABLE, _SAME, np.uint32)
    table[: starts.size] = frequencies << np.uint32(rans.PRECISION) | starts
    table = jax.device_put(table, place)
    for first in reversed(range(0, segment.symbols.size, _STEPS * lanes)):
        pairs = _pairs(segment, slice(first, first + _STEPS * lanes), lanes)
        slices = [_put_steps(own, table, pairs[:, own.lanes]) for own in slices]
    return slices


def _pairs(segment: rans.Segment, part: slice, lanes: int) -> NDArray[np.uint16]:
    """Places in the table of symbols under their models, uint16[steps, L]."""
    symbols = segment.symbols[part]
    pairs = np.empty(-(-symbols.size // lanes) * lanes, np.uint16)
    pairs[symbols.size :] = _TABLE - 1
    own = pairs[: symbols.size]
    models, alphabet = segment.models.frequencies.shape
    if models > 1:
        own[:] = segment.chosen[part]
        own *= np.uint16(alphabet)
        own += symbols.astype(np.uint16, copy=False)
    else:
        own[:] = symbols
    return pairs.reshape(-1, lanes)


def _put_steps(own: _Slice, table: jax.Array, pairs: NDArray[np.uint16]) -> _Slice:
    """Codes some steps of a slice, pairs uint16[steps, lanes]."""
    if int(np.asarray(own.state[1]).min()) < _STEPS:
        own = _drained(own)
    width = own.state[0].size
    symbols = np.empty((_STEPS + 1) * width, np.uint16)
    symbols[: pairs.size].reshape(pairs.shape)[:] = pairs
    symbols[pairs.size : pairs.size + width] = 0  # is read, for lanes beyond the last
    state = _lock_step(table, symbols, own.state, np.array(pairs.shape, np.int32))
    return own._replace(state=state)


def _words(state: _State, lanes: slice) -> list[NDArray[np.uint16]]:
    """The words of each lane of a slice that are in the buffer."""
    places = np.asarray(state[1])[: lanes.stop - lanes.start].tolist()
    rows = np.asarray(state[2]).reshape(-1, _ROOM)[: len(places)]
    return [row[at + 1 :] for row, at in zip(rows, places, strict=True)]


def _drained(own: _Slice) -> _Slice:
    """A slice with an empty buffer, its words on the host."""
    x, here, words = own.state
    # Copies, for the buffer is written over.
    given = [row.copy() for row in _words(own.state, own.lanes)]
    here = jax.device_put(np.full(here.size, _ROOM - 1, np.int32), here.device)
    return own._replace(state=(x, here, words), given=[*own.given, given])


@functools.partial(jax.jit, donate_argnames="state")
def _lock_step(
    table: jax.Array, symbols: jax.Array, state: _State, sizes: jax.Array
) -> _State:
    """Codes a symbol of every lane at each step.

    Args:
        table: Frequency * 4096 + start of each symbol of each model, uint32[_TABLE].
        symbols: Places in the table, step after step, uint16[(_STEPS + 1) * W].
        state: The lanes.
        sizes: Steps, and lanes that exist; int32[2].
    """
    steps, lanes = sizes
    lane = jnp.arange(state[0].size, dtype=jnp.int32)

    def step(index: jax.Array, carry: _State) -> _State:
        x, here, words = carry
        at = (steps - 1 - index) * lanes
        own = jax.lax.dynamic_slice(symbols, (at,), x.shape)
        entry = table.at[own].get(mode="promise_in_bounds")
        entry = jnp.where(lane < lanes, entry, _SAME)
        frequency = entry >> rans.PRECISION
        is_full = (x >> 32 - rans.PRECISION) >= frequency
        # Each lane writes at each step, and what was no word is written over.
        words = words.at[lane * _ROOM + here].set(
            x.astype(jnp.uint16), mode="promise_in_bounds", unique_indices=True
        )
        x = jnp.where(is_full, x >> 16, x)
        quotient = x.astype(jnp.float32) / frequency.astype(jnp.float32) - 0.25
        q = quotient.astype(jnp.int32).astype(jnp.uint32)
        q += (x - q * frequency >= frequency).astype(jnp.uint32)
        x += q * (rans.TOTAL - frequency) + (entry & (rans.TOTAL - 1))
        return x, here - is_full.astype(jnp.int32), words

    return jax.lax.fori_loop(0, steps, step, state)
