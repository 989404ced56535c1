"""Decoding on the device gives what decoding on the host gives, errors included."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from deepcomp_jax import codings, device
from deepcomp_jax._errors import FormatError
from deepcomp_jax.device import huffman_lanes, leaves, rans_lanes, rounding
from deepcomp_jax.streams import huffman, huffman_header, rans
from tests.support import (
    laws,
)


def outcome(read: Callable[[], Any]) -> tuple[Any, ...]:
    """What a reader gives: the bytes of an array, or where it finds which error."""
    try:
        array = np.asarray(read())
    except FormatError as error:
        return error.clause, error.offset, str(error)
    return array.dtype, array.shape, array.tobytes()


# ---- Huffman streams ----------------------------------------------------------------


def check_stream(symbols: np.ndarray, count: int | None) -> bytes:
    return laws.check_codec(
        lambda value: huffman.encode(value, lanes=count),
        lambda data, pos: device.decode(data, pos, symbols.size),
        symbols,
    )


@pytest.mark.spec("H12", "H15")
@pytest.mark.parametrize("size", [4096, 5000, 5007])
@pytest.mark.parametrize("count", [128, 200, 255])
def test_streams_come_back(size: int, count: int) -> None:
    # The longest words have at most 12 bits, and more: both sizes of table occur.
    for skew in (0.5, 0.05):
        rng = np.random.default_rng(size)
        check_stream(rng.geometric(skew, size).astype(np.uint16), count)


@pytest.mark.parametrize("symbols", [[], [7], [7] * 9, [1, 2], range(3000)])
def test_streams_of_few_lanes_come_back(symbols: list[int]) -> None:
    check_stream(np.array(symbols, np.uint16), None)


def test_streams_of_about_one_size_share_a_program() -> None:
    rng = np.random.default_rng(1)
    before = huffman_lanes._lock_step._cache_size()
    for size in (6250, 6300, 6350, 6400):
        check_stream(rng.permutation(size).astype(np.uint16) % 7, 130)
    assert huffman_lanes._lock_step._cache_size() <= before + 1


@pytest.mark.spec("H16", "H17")
def test_damage_is_found_as_on_the_host() -> None:
    symbols = np.random.default_rng(0).geometric(0.05, 5000).astype(np.uint16)
    data = huffman.encode(symbols, lanes=200)
    stream = huffman_header.read(data, 0, symbols.size)
    for place in range(stream.words, stream.end, 97):
        damaged = bytearray(data)
        damaged[place] ^= 0x10
        found, expected = (
            outcome(lambda read=read, raw=bytes(damaged): read(raw, 0, 5000)[1])
            for read in (device.decode, huffman.decode)
        )
        assert found == expected
    laws.check_prefixes(
        lambda data, pos: device.decode(data, pos, symbols.size), data, most=20
    )


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
def test_segments_come_back(sizes: tuple[int, ...], count: int) -> None:
    rng = np.random.default_rng(count)
    parts = [segment(rng, size, models) for models, size in enumerate(sizes, 1)]
    _, host = rans.begin(rans.encode(parts, lanes=count), 0)
    state, palette = rans_lanes.begin(host, None), np.arange(20, dtype=np.uint16)
    for models, part in enumerate(parts, 1):
        chosen, size = None, part.symbols.size
        if models > 1:
            missing = rans_lanes.room(state, size) - size
            chosen = jnp.asarray(np.append(part.chosen, np.zeros(missing, np.uint8)))
        state, symbols = rans_lanes.take(state, part.models, size, chosen, palette)
        assert symbols[:size].tolist() == part.symbols.tolist()
    rans_lanes.finish(state, host)


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


@pytest.fixture
def even_few_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves of few lanes are decoded on the device too."""
    monkeypatch.setattr(rans_lanes, "WORTH_LOCK_STEP", 1)
    monkeypatch.setattr(rounding, "WORTH_COMPILING", 1)
    monkeypatch.setattr(rounding, "BLOCK", 1 << 12)


@pytest.fixture(params=["cpu", "gpu"])
def platform(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The work is shared out as on either, wherever it is done."""
    monkeypatch.setattr(leaves, "_platform", lambda place: request.param)


CASES = [
    ((400, 300), 16, 0.1),
    ((64, 3, 3, 200), 5, 0.4),
    ((100_003,), 31, 0.05),
    ((257, 500), 300, 1.0),
]


@pytest.mark.spec("L15")
@pytest.mark.parametrize("name", codings.ALL)
@pytest.mark.parametrize(("shape", "entries", "kept"), CASES)
def test_leaves_come_back(
    name: str,
    shape: tuple[int, ...],
    entries: int,
    kept: float,
    even_few_lanes: None,
    platform: None,
) -> None:
    leaf = codings.Leaf(shape, entries, entries // 2)
    own = labels(shape, entries, kept, entries)
    _, body = codings.encode(own, leaf, name)
    dtype = jnp.bfloat16 if entries == 5 else np.float32
    palette = np.linspace(-1, 1, entries + 1).astype(dtype)
    palette[0] = 0
    back = device.values(name, body, leaf, palette)
    assert (back.dtype, back.shape) == (palette.dtype, shape)
    np.testing.assert_array_equal(np.asarray(back).ravel(), palette[own])
    host = codings.decode(name, body, leaf, palette)
    assert host.tobytes() == np.asarray(back).tobytes()


@pytest.mark.parametrize("name", codings.ALL)
def test_small_and_empty_leaves_come_back(name: str, platform: None) -> None:
    for own in ([0], [1], [0] * 70, [3] * 70, [0, 2, 0, 1] * 40):
        leaf = codings.Leaf((len(own), 1), 3, 1)
        flat = np.array(own, np.uint8)
        _, body = codings.encode(flat, leaf, name)
        palette = np.array([0, -1, 2, 4], np.float32)
        back = device.values(name, body, leaf, palette)
        assert np.asarray(back).ravel().tolist() == palette[flat].tolist()


@pytest.mark.spec("E8", "G5", "G6", "L1", "L2", "L4", "L7")
@pytest.mark.parametrize("name", codings.ALL)
@pytest.mark.parametrize(("shape", "entries", "kept"), CASES[:2])
def test_damaged_bodies_give_the_same_error(
    name: str,
    shape: tuple[int, ...],
    entries: int,
    kept: float,
    even_few_lanes: None,
    platform: None,
) -> None:
    leaf = codings.Leaf(shape, entries, entries // 2)
    _, body = codings.encode(labels(shape, entries, kept, 1), leaf, name)
    palette = np.arange(entries + 1).astype(np.float32)
    rng = np.random.default_rng(2)
    bodies = [body[:-1], body + b"\0", body[: len(body) // 2]]
    for place in rng.integers(0, len(body), 25).tolist():
        bodies.append(body[:place] + bytes([body[place] ^ 0x41]) + body[place + 1 :])
    errors = 0
    for damaged in bodies:
        expected = outcome(
            lambda body=damaged: codings.decode(name, body, leaf, palette).reshape(
                shape
            )
        )
        assert expected == outcome(
            lambda body=damaged: device.values(name, body, leaf, palette)
        )
        errors += isinstance(expected[0], str)
    assert errors >= 3


def test_leaves_of_about_one_size_share_the_long_programs(
    even_few_lanes: None, platform: None
) -> None:
    before = None
    for shape in ((500, 200), (505, 200), (500, 203)):
        leaf = codings.Leaf(shape, 7, 3)
        rng = np.random.default_rng(0)
        own = np.where(rng.random(shape) < 0.2, rng.integers(1, 8, shape), 0)
        body = codings.encode(own.ravel().astype(np.uint8), leaf, "grouped")[1]
        device.values("grouped", body, leaf, np.arange(8, dtype=np.float32))
        before = before or rans_lanes._lock_step._cache_size()
    assert rans_lanes._lock_step._cache_size() == before


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How many programs the loops of the CPU's path have compiled since."""
    monkeypatch.setattr(leaves, "_platform", lambda place: "cpu")
    loops = rans_lanes._lock_step, huffman_lanes._lock_step
    before = sum(loop._cache_size() for loop in loops)
    return lambda: sum(loop._cache_size() for loop in loops) - before


@pytest.mark.parametrize("name", codings.ALL)
def test_small_leaves_compile_nothing(
    name: str, compiled: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rans_lanes, "WORTH_LOCK_STEP", 1)
    for rows in range(1, 400, 57):
        leaf = codings.Leaf((rows, 300), 7, 3)
        own = labels(leaf.shape, 7, 0.3, rows)
        body = codings.encode(own, leaf, name)[1]
        device.values(name, body, leaf, np.arange(8, dtype=np.float32))
    assert compiled() == 0


@pytest.mark.parametrize("name", ["order0", "grouped", "relative"])
def test_leaves_of_many_sizes_and_dtypes_share_few_programs(
    name: str, compiled: Callable[[], int], even_few_lanes: None
) -> None:
    """At most one for each pair of rounded lanes and words, and one or many models."""
    for number, rows in enumerate(range(20, 420, 40)):
        leaf = codings.Leaf((rows, 301), 7, 3)
        own = labels(leaf.shape, 7, 0.3, rows)
        body = codings.encode(own, leaf, name)[1]
        dtype = (np.float32, np.float16, jnp.bfloat16)[number % 3]
        palette = np.arange(8).astype(dtype)
        back = device.values(name, body, leaf, palette)
        assert np.asarray(back).tobytes() == palette[own].tobytes()
    assert compiled() <= 4


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
)
def test_loops_carry_bits_and_no_narrow_floats(
    dtype: str, platform: None, even_few_lanes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loops over narrow floats take as long for a step as for the whole array."""
    carried: list[str] = []
    for module in (rans_lanes, huffman_lanes):
        loop = module._lock_step

        def noted(*args: Any, loop: Any = loop, **kwargs: Any) -> Any:
            out = loop(*args, **kwargs)
            carried.append(out[0].dtype.kind)
            return out

        monkeypatch.setattr(module, "_lock_step", noted)
    leaf = codings.Leaf((100, 301), 7, 3)
    own = labels(leaf.shape, 7, 0.3, 1)
    palette = np.arange(8).astype(dtype)
    for name in ("order0", "grouped", "relative"):
        body = codings.encode(own, leaf, name)[1]
        back = device.values(name, body, leaf, palette)
        assert back.dtype == dtype
        assert np.asarray(back).tobytes() == palette[own].tobytes()
    assert set(carried) == {"u"}
