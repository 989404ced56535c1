"""Whole leaves decoded on the device, from their bodies."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from deepcomp_jax import codings
from deepcomp_jax._errors import FormatError
from deepcomp_jax.codings import (
    common,
    grouped_header,
    order0,
    relative,
    symbol_models,
)
from deepcomp_jax.codings.common import Leaf
from deepcomp_jax.device import huffman_lanes, rans_lanes, rounding, scatter
from deepcomp_jax.streams import gaps, rans

_MAX_SIZE = 1 << 28  # values; gaps of more would overflow 32 bits
_MAX_SYMBOLS = 1 << 24  # of a Huffman stream of gaps, for the same reason
_BLOCK = 1 << 16  # packed fields unpacked at a time
_MAX_BYTES = 1 << 28  # of a body; positions of bits have 32 bits


def values(
    coding: str, body: bytes, leaf: Leaf, palette: np.ndarray, place: Any = None
) -> jax.Array:
    """Reads a leaf, like `codings.ALL[coding].decode`, straight into a device array.

    On a CPU the loops are compiled, and NumPy does the rest, in memory that JAX takes
    over. On other devices all is done there, but for small leaves, those of few lanes,
    of very wide gaps, or of 2**28 values and more.

    Args:
        coding: A name in `codings.ALL`.
        body: Its bytes in the file.
        leaf: What is known of it.
        palette: What each label is decoded to, [entries + 1]: zero, and the codebook.
        place: Device or sharding of one device; None takes the default.

    Returns:
        The values, in the shape of the leaf and the dtype of the palette.

    Raises:
        FormatError: The body breaks a clause; the same as on the host.
    """
    # Bits are carried about: XLA computes with narrow floats in wider ones, and a loop
    # over an array of them would convert the whole of it at every step.
    dtype = jax.dtypes.canonicalize_dtype(palette.dtype)
    own = palette.astype(dtype)
    own = own.view(f"u{own.itemsize}")
    if leaf.size >= rounding.WORTH_COMPILING and _platform(place) != "cpu":
        found = on_device(coding, body, leaf, own, place)
        if found is not None:
            return jax.lax.bitcast_convert_type(found, dtype)
    flat = codings.ALL[coding].decode(body, leaf, own, _COMPILED).view(dtype)
    return jax.device_put(flat.reshape(leaf.shape), place, may_alias=True)


def _platform(place: Any) -> str:
    """The kind of device at a place."""
    if place is None:
        return jax.default_backend()
    return next(iter(getattr(place, "device_set", [place]))).platform


def on_device(
    coding: str, body: bytes, leaf: Leaf, palette: np.ndarray, place: Any
) -> jax.Array | None:
    """`values` with all the work on the device; None if that is not for this leaf."""
    if leaf.size >= _MAX_SIZE or len(body) >= _MAX_BYTES:
        return None
    return _DECODERS[coding](body, leaf, palette, place)


def _packed(
    body: bytes, leaf: Leaf, palette: np.ndarray, place: Any
) -> jax.Array | None:
    width = leaf.entries.bit_length()
    if not width:
        return None
    end = common.after_bits(body, 0, leaf.size * width)
    common.check_end(body, end)
    words = np.frombuffer(body + bytes(-len(body) % 4), ">u4").astype(np.uint32)
    found, most = _unpack(
        rounding.padded(words, place, more=_BLOCK // 32 * width + 1),
        jax.device_put(palette, place),
        width=width,
        shape=leaf.shape,
    )
    if int(most) > leaf.entries:
        raise FormatError(f"label {int(most)} of {leaf.entries}", offset=0, clause="L4")
    return found


@functools.partial(jax.jit, static_argnames=("width", "shape"))
def _unpack(
    words: jax.Array, palette: jax.Array, *, width: int, shape: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """What fields of `width` bits stand for, [shape], and the greatest of them.

    Block after block: arrays of all fields would take more memory than the result.
    """
    size = int(np.prod(shape, dtype=np.int64))
    items = np.arange(_BLOCK)
    bit = items % 32 * width  # 32 fields take as many words as a field has bits
    at, shift = items // 32 * width + bit // 32, (bit % 32).astype(np.uint32)
    length = _BLOCK // 32 * width

    def read(most: jax.Array, block: jax.Array) -> tuple[jax.Array, jax.Array]:
        own = jax.lax.dynamic_slice(words, (block * length,), (length + 1,))
        second = jnp.where(shift > 0, own[at + 1] >> np.minimum(32 - shift, 31), 0)
        fields = (own[at] << shift | second) >> jnp.uint32(32 - width)
        values = jnp.take(palette, fields.astype(jnp.int32), mode="clip")
        return jnp.maximum(most, fields.max()), values

    blocks = jnp.arange(-(-size // _BLOCK), dtype=jnp.int32)
    most, values = jax.lax.scan(read, jnp.uint32(0), blocks)
    return values.reshape(-1)[:size].reshape(shape), most


def _order0(
    body: bytes, leaf: Leaf, palette: np.ndarray, place: Any
) -> jax.Array | None:
    start, table = order0.get_model(body, leaf)
    end, host = rans.begin(body, start)
    order0.check_states(host, table, start)
    if host.lanes.size < rans_lanes.WORTH_LOCK_STEP:
        return None
    state = rans_lanes.begin(host, place)
    state, flat = rans_lanes.take(state, table, leaf.size, None, palette)
    rans_lanes.finish(state, host)
    common.check_end(body, end)
    return _shaped(flat, shape=leaf.shape)


@functools.partial(jax.jit, static_argnames="shape")
def _shaped(flat: jax.Array, *, shape: tuple[int, ...]) -> jax.Array:
    """The first values, in a shape."""
    return flat[: int(np.prod(shape, dtype=np.int64))].reshape(shape)


def _grouped(
    body: bytes, leaf: Leaf, palette: np.ndarray, place: Any
) -> jax.Array | None:
    front = grouped_header.get_front(body, leaf)
    groups, several = front.groups, front.groups.sizes.size > 1
    if not front.gaps.any() or front.widths.max() > scatter.MAX_WIDTH:
        return None
    end, host = rans.begin(body, front.stream_at)
    if host.lanes.size < rans_lanes.WORTH_LOCK_STEP or (
        several and groups.rows.size * scatter.GROUPS_SIZE > leaf.size
    ):
        return None
    state, symbols, ends = _gap_symbols(rans_lanes.begin(host, place), front)
    found = scatter.weights(symbols, ends, symbol_models.CAP)
    kept = np.diff(np.asarray(found.kept, np.int64), prepend=0)[: front.gaps.size]
    state, own = _indices(state, found.kept, front, palette[1:])
    rans_lanes.finish(state, host)
    low = common.after_bits(body, end, int(kept @ front.widths))
    places, last, _ = scatter.ranks(
        symbols,
        found,
        scatter.windows(body[end:low], place),
        jax.device_put(scatter.by_group(front.widths), place),
        symbol_models.CAP,
    )
    grouped_header.check_groups(front, np.asarray(found.last), np.asarray(last))
    common.check_end(body, low)
    if several:
        places = scatter.locate(places, ends, scatter.matrix(groups, place))
    return scatter.scatter(
        symbols, found, places, own, shape=leaf.shape, cap=symbol_models.CAP
    )


def _gap_symbols(
    state: rans_lanes.State, front: grouped_header.Front
) -> tuple[rans_lanes.State, jax.Array, jax.Array]:
    """The state after the first segment, its symbols, and where those of groups end."""
    until = np.cumsum(front.gaps)
    count = int(until[-1])
    ends = jax.device_put(scatter.by_group(until, count), state.place)
    chosen = None
    if front.gaps.size > 1:
        own = np.minimum(np.arange(scatter.GROUPS_SIZE), front.gaps.size - 1)
        chosen = _choose(state, ends, own, count)
    table = grouped_header.gap_models(front.groups.sizes, front.gaps)
    symbols = np.arange(symbol_models.CAP + 1, dtype=np.uint8)
    state, found = rans_lanes.take(state, table, count, chosen, symbols)
    return state, found, ends


def _indices(
    state: rans_lanes.State,
    kept: jax.Array,
    front: grouped_header.Front,
    palette: np.ndarray,
) -> tuple[rans_lanes.State, jax.Array]:
    """The state after the second segment, and what its symbols stand for."""
    count, chosen = int(kept[-1]), None
    if len(front.frequencies) > 1:
        chosen = _choose(state, kept, scatter.by_group(front.tables), count)
    table = rans.models(front.frequencies)
    return rans_lanes.take(state, table, count, chosen, palette)


def _choose(
    state: rans_lanes.State, ends: jax.Array, own: np.ndarray, count: int
) -> jax.Array:
    """The model of each symbol, from where groups end and the models of those."""
    of_group = jax.device_put(own.astype(np.uint8), state.place)
    return scatter.choose(ends, of_group, size=rans_lanes.room(state, count))


def _relative(
    body: bytes, leaf: Leaf, palette: np.ndarray, place: Any
) -> jax.Array | None:
    front = relative.get_front(body, leaf.size)
    if front.symbols > _MAX_SYMBOLS or front.low_bits > scatter.MAX_WIDTH:
        return None
    low_at, symbols = huffman_lanes.padded(body, front.stream, front.symbols, place)
    cap = (1 << front.gap_bits) - 1
    ends = jax.device_put(scatter.by_group(np.zeros(0, np.int32), front.symbols), place)
    found = scatter.weights(symbols, ends, cap)
    kept = int(found.kept[0])
    end = common.after_bits(body, low_at, kept * front.low_bits)
    if front.symbols:
        gaps.check(int(found.most), int(found.last[0]), cap, front.stream)
    places, _, rests = scatter.ranks(
        symbols,
        found,
        scatter.windows(body[low_at:end], place),
        jax.device_put(scatter.by_group(np.array([front.low_bits])), place),
        cap,
    )
    units, rest = (int(low) + 256 * int(high) for low, high in (found.bytes, rests))
    gaps.check_end((units << front.low_bits) + rest + kept, leaf.size, front.stream)
    stop, indices = huffman_lanes.padded(body, end, kept, place)
    common.check_end(body, stop)
    if kept:
        most = int(scatter.greatest(indices, found.kept[0]))
        common.check_index(most, leaf, end)
    own = jnp.take(jax.device_put(palette[1:], place), indices, mode="clip")
    return scatter.scatter(symbols, found, places, own, shape=leaf.shape, cap=cap)


_COMPILED = common.Loops(rans_lanes.take_on_cpu, huffman_lanes.decode_on_cpu)
_DECODERS = {
    "packed": _packed,
    "relative": _relative,
    "order0": _order0,
    "grouped": _grouped,
}
