"""Decoding on the device gives what decoding on the host gives, errors included."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import codings, device
from deepcomp_jax._errors import FormatError
from deepcomp_jax.device import rans_lanes, rounding
from deepcomp_jax.streams import rans


def values(name: str, body: bytes, leaf: codings.Leaf, lookup: np.ndarray) -> jax.Array:
    """What a body of labels stands for, by the compiled loop, on the device."""
    flat = codings.decode(name, body, leaf, lookup, device.take_on_cpu)
    return device.to_device(flat.reshape(leaf.shape))


def outcome(read: Callable[[], Any]) -> tuple[Any, ...]:
    """What a reader gives: the bytes of an array, or where it finds which error."""
    try:
        array = np.asarray(read())
    except FormatError as error:
        return error.clause, error.offset, str(error)
    return array.dtype, array.shape, array.tobytes()


# ---- rANS streams -------------------------------------------------------------------


def segment(rng: np.random.Generator, size: int, models: int) -> rans.Segment:
    """Symbols drawn from random models."""
    weights = rng.integers(1, 100, (models, 20))
    frequencies = weights * 4096 // weights.sum(axis=1, keepdims=True)
    frequencies[:, 0] += 4096 - frequencies.sum(axis=1)
    table = rans.models(frequencies)
    chosen = rng.integers(0, models, size).astype(np.uint8)
    slots = chosen.astype(np.int64) * 4096 + rng.integers(0, 4096, size)
    return rans.Segment(rans.tables(table)[0][slots], table, chosen)


@pytest.mark.spec("E1", "E8")
@pytest.mark.parametrize("sizes", [(5000, 0, 130), (129, 64, 4999)])
@pytest.mark.parametrize("count", [64, 65, 130])
@pytest.mark.usefixtures("even_few_lanes")
def test_segments_come_back(sizes: tuple[int, ...], count: int) -> None:
    rng = np.random.default_rng(count)
    parts = [segment(rng, size, models) for models, size in enumerate(sizes, 1)]
    _, state = rans.begin(rans.encode(parts, lanes=count), 0)
    for part in parts:
        state, symbols = rans_lanes.take_on_cpu(state, part.models, part.chosen)
        assert symbols.tolist() == part.symbols.tolist()
    rans.finish(state)


# ---- leaves -------------------------------------------------------------------------


def labels(shape: tuple[int, ...], entries: int, kept: float, seed: int) -> np.ndarray:
    """Labels of which rows and columns are unequally dense, uint[size]."""
    rng = np.random.default_rng(seed)
    size = np.abs(rng.laplace(size=shape))
    for axis, count in enumerate(shape):
        scale = rng.lognormal(0, 1, count)
        size *= np.expand_dims(scale, [a for a in range(len(shape)) if a != axis])
    chosen = size >= np.quantile(size, 1 - kept)
    found = np.where(chosen, rng.integers(1, entries + 1, shape), 0)
    return found.ravel().astype(np.min_scalar_type(entries))


CASES = [
    ((400, 300), 16, 0.1),
    ((64, 3, 3, 200), 5, 0.4),
    ((100_003,), 31, 0.05),
    ((257, 500), 300, 1.0),
]


@pytest.mark.spec("L15")
@pytest.mark.parametrize("name", codings.ALL)
@pytest.mark.parametrize(("shape", "entries", "kept"), CASES)
@pytest.mark.usefixtures("even_few_lanes")
def test_leaves_come_back(
    name: str, shape: tuple[int, ...], entries: int, kept: float
) -> None:
    leaf = codings.Leaf(shape, entries, entries // 2)
    own = labels(shape, entries, kept, entries)
    _, body = codings.encode(own, leaf, name)
    dtype = jnp.bfloat16 if entries == 5 else np.float32
    lookup = np.linspace(-1, 1, entries + 1).astype(dtype)
    lookup[0] = 0
    back = values(name, body, leaf, lookup)
    assert (back.dtype, back.shape) == (lookup.dtype, shape)
    np.testing.assert_array_equal(np.asarray(back).ravel(), lookup[own])
    host = codings.decode(name, body, leaf, lookup)
    assert host.tobytes() == np.asarray(back).tobytes()


@pytest.mark.parametrize("name", codings.ALL)
def test_small_and_empty_leaves_come_back(name: str) -> None:
    for own in ([0], [1], [0] * 70, [3] * 70, [0, 2, 0, 1] * 40):
        leaf = codings.Leaf((len(own), 1), 3, 1)
        flat = np.array(own, np.uint8)
        _, body = codings.encode(flat, leaf, name)
        lookup = np.array([0, -1, 2, 4], np.float32)
        back = values(name, body, leaf, lookup)
        assert np.asarray(back).ravel().tolist() == lookup[flat].tolist()


@pytest.mark.spec("E8", "G5", "G6", "L1", "L2", "L4", "L7")
@pytest.mark.parametrize("name", codings.ALL)
@pytest.mark.parametrize(("shape", "entries", "kept"), CASES[:2])
@pytest.mark.usefixtures("even_few_lanes")
def test_damaged_bodies_give_the_same_error(
    name: str, shape: tuple[int, ...], entries: int, kept: float
) -> None:
    leaf = codings.Leaf(shape, entries, entries // 2)
    _, body = codings.encode(labels(shape, entries, kept, 1), leaf, name)
    lookup = np.arange(entries + 1).astype(np.float32)
    rng = np.random.default_rng(2)
    bodies = [body[:-1], body + b"\0", body[: len(body) // 2]]
    for place in rng.integers(0, len(body), 25).tolist():
        bodies.append(body[:place] + bytes([body[place] ^ 0x41]) + body[place + 1 :])
    errors = 0
    for damaged in bodies:
        expected = outcome(
            lambda body=damaged: codings.decode(name, body, leaf, lookup).reshape(shape)
        )
        assert expected == outcome(
            lambda body=damaged: values(name, body, leaf, lookup)
        )
        errors += isinstance(expected[0], str)
    assert errors >= 3


@pytest.mark.parametrize("name", codings.ALL)
def test_small_leaves_compile_nothing(
    name: str, compiled: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rans_lanes, "WORTH_LOCK_STEP", 1)
    for rows in range(1, 400, 57):
        leaf = codings.Leaf((rows, 300), 7, 3)
        own = labels(leaf.shape, 7, 0.3, rows)
        body = codings.encode(own, leaf, name)[1]
        values(name, body, leaf, np.arange(8, dtype=np.float32))
    assert compiled() == 0


@pytest.mark.parametrize("name", codings.ALL)
@pytest.mark.usefixtures("even_few_lanes")
def test_leaves_of_many_sizes_and_dtypes_share_few_programs(
    name: str, compiled: Callable[[], int]
) -> None:
    """At most one for each pair of rounded lanes and words, and one or many models."""
    for number, rows in enumerate(range(20, 420, 40)):
        leaf = codings.Leaf((rows, 301), 7, 3)
        own = labels(leaf.shape, 7, 0.3, rows)
        body = codings.encode(own, leaf, name)[1]
        dtype = (np.float32, np.float16, jnp.bfloat16)[number % 3]
        lookup = np.arange(8).astype(dtype)
        back = values(name, body, leaf, lookup)
        assert np.asarray(back).tobytes() == lookup[own].tobytes()
    assert (compiled() > 0) == (name in ("order0", "grouped"))
    assert compiled() <= 4


@pytest.mark.spec("C47")
@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize("models", [1, 64])
def test_the_compiled_loop_takes_memory_for_a_block_only(
    models: int, wide: bool
) -> None:
    """Whatever a stream decodes to: its words and tables, and two bytes a symbol."""
    lanes, words, size = 160, 1 << 17, rounding.BLOCK + 160
    slots = 4096 if models == 1 else 4096 * 64

    def shape(count: int, dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((count,), dtype)

    entries = shape(slots, np.uint32)
    program = rans_lanes._lock_step.lower(
        (shape(words, np.uint16), shape(lanes, np.int32)),
        (entries, shape(slots, np.uint16)) if wide else (entries,),
        None if models == 1 else shape(size, np.uint8),
        (shape(lanes, np.uint32), shape(lanes, np.int32)),
        shape(3, np.int32),
        size=size,
    ).compile()
    used = program.memory_analysis()
    assert used is not None
    assert used.temp_size_in_bytes + used.output_size_in_bytes < 3 * size


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
)
@pytest.mark.usefixtures("even_few_lanes")
def test_loops_carry_bits_and_no_narrow_floats(
    dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loops over narrow floats take as long for a step as for the whole array."""
    carried: list[str] = []
    loop = rans_lanes._lock_step

    def noted(*args: Any, **kwargs: Any) -> Any:
        out = loop(*args, **kwargs)
        carried.append(out[0].dtype.kind)
        return out

    monkeypatch.setattr(rans_lanes, "_lock_step", noted)
    leaf = codings.Leaf((100, 301), 7, 3)
    own = labels(leaf.shape, 7, 0.3, 1)
    lookup = np.arange(8).astype(dtype)
    for name in ("order0", "grouped"):
        body = codings.encode(own, leaf, name)[1]
        back = values(name, body, leaf, lookup)
        assert back.dtype == dtype
        assert np.asarray(back).tobytes() == lookup[own].tobytes()
    assert set(carried) == {"u"}
